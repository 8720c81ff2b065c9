//! What a query hands to a sink: the table's columns in its order, cast where Flink casts of
//! itself, and refused with both types where it does not.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::ScalarValue;
use datafusion_expr::logical_plan::LogicalPlan;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{CastExpr, Literal};
use datafusion_sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};
use tidemill_core::graph::NodeId;

use crate::catalog::Table;
use crate::diagnostic::{Fallible, Problem};
use crate::lower::Query;
use crate::nested::physical_cast;
use crate::nullability::can_be_null;
use crate::relation::{NOT_AGGREGATED, Rows};
use crate::token::{Name, is_word};
use crate::types::sql_name;

/// For each column of the sink table the query's column that goes into it.
pub(crate) fn assign(
    table: &Table,
    columns: &[Name],
    query: &LogicalPlan,
    tokens: &[TokenWithSpan],
) -> Fallible<Vec<Option<usize>>> {
    let assigned = assign_names(table, columns, query.schema().fields().len(), tokens)?;
    for (field, from) in table.sink_spec.schema.fields().iter().zip(&assigned) {
        let Some(from) = from else { continue };
        check(query.schema().field(*from), field, &table.name.text)
            .and_then(|()| check_null(query, *from, field))
            .map_err(|problem| Problem { span: select_item(tokens, *from), ..problem })?;
    }
    Ok(assigned)
}

fn assign_names(
    table: &Table,
    columns: &[Name],
    given: usize,
    tokens: &[TokenWithSpan],
) -> Fallible<Vec<Option<usize>>> {
    let fields = table.sink_spec.schema.fields();
    let wanted = if columns.is_empty() { fields.len() } else { columns.len() };
    if wanted != given {
        let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        let span = tokens.first().map_or(table.name.span, |token| token.span);
        let message =
            format!("the query has {given} columns, table '{}' takes {wanted}", table.name.text);
        return Err(Problem::new(span, message).help(format!("its columns: {}", names.join(", "))));
    }
    if columns.is_empty() {
        return Ok((0..given).map(Some).collect());
    }
    let mut assigned = vec![None; fields.len()];
    for (position, name) in columns.iter().enumerate() {
        let Some(index) = fields.iter().position(|field| *field.name() == name.text) else {
            let names = fields.iter().map(|field| field.name().as_str());
            let message = format!("table '{}' has no column '{}'", table.name.text, name.text);
            return Err(
                Problem::new(name.span, message).suggest_or_list(&name.text, "columns", names)
            );
        };
        if assigned[index].replace(position).is_some() {
            return Err(Problem::new(name.span, format!("column '{}' is named twice", name.text)));
        }
    }
    let missing = fields.iter().zip(&assigned).find(|(f, a)| !f.is_nullable() && a.is_none());
    match missing {
        Some((field, _)) => {
            let message = format!("column '{}' is NOT NULL and gets no value", field.name());
            Err(Problem::new(columns[0].span, message))
        }
        None => Ok(assigned),
    }
}

/// A node with the sink's columns.
pub(crate) fn project(
    query: &mut Query<'_>,
    rows: &Rows,
    table: &Table,
    assigned: &[Option<usize>],
) -> Fallible<NodeId> {
    let input = query.schema(rows.node);
    let mut columns: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    let sink_fields = table.sink_spec.schema.fields();
    let mut as_is = sink_fields.len() == input.fields().len();
    for (position, (field, from)) in sink_fields.iter().zip(assigned).enumerate() {
        let expr = match from {
            None => null(field)?,
            Some(from) => {
                let span = || select_item(query.tokens, *from);
                let expr = rows
                    .expression(*from, input.fields())
                    .ok_or_else(|| Problem::new(span(), NOT_AGGREGATED))?;
                let given = expr
                    .data_type(&input)
                    .map_err(|error| crate::explain_error::problem(&error, query.tokens))?;
                let wanted = field.data_type();
                if given == *wanted {
                    expr
                } else if let Some(cast) = physical_cast(&expr, &given, wanted) {
                    cast
                } else {
                    Arc::new(CastExpr::new(expr, wanted.clone(), None))
                }
            }
        };
        let column = expr.downcast_ref::<datafusion_physical_expr::expressions::Column>();
        as_is &= column.is_some_and(|c| c.index() == position)
            && input.field(position).name() == field.name();
        columns.push((expr, field.name().clone()));
    }
    if as_is {
        return Ok(rows.node);
    }
    query.add_projection(rows.node, columns, &table.name.text)
}

fn null(field: &FieldRef) -> Fallible<Arc<dyn PhysicalExpr>> {
    let value = ScalarValue::try_from(field.data_type())
        .map_err(|error| Problem::new(Span::empty(), error.to_string()))?;
    Ok(Arc::new(Literal::new(value)))
}

/// Whether a column of the query can go into a column of the table.
fn check(given: &Field, wanted: &Field, table: &str) -> Fallible<()> {
    let (from, to) = (given.data_type(), wanted.data_type());
    if from == to || is_implicit(from, to) {
        return Ok(());
    }
    let (from, to) = (sql_name(from), sql_name(to));
    let column = wanted.name();
    let message =
        format!("{from} does not fit into column '{column}' of table '{table}', which is {to}");
    Err(Problem::new(Span::empty(), message).help(format!("write CAST(… AS {to})")))
}

/// Flink's job fails at the first NULL; what may be one is refused before the job starts.
fn check_null(query: &LogicalPlan, from: usize, wanted: &Field) -> Fallible<()> {
    if wanted.is_nullable() || !can_be_null(query, from) {
        return Ok(());
    }
    let message = format!("column '{}' is NOT NULL and may be given NULL", wanted.name());
    Err(Problem::new(Span::empty(), message).help(
        "declare the column without NOT NULL, or write COALESCE(…, 0) or WHERE … IS NOT NULL",
    ))
}

/// Whether Flink casts `from` to `to` of itself when it writes to a table.
fn is_implicit(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    let is_text = |t: &DataType| matches!(t, Utf8 | Utf8View | LargeUtf8);
    let is_bytes = |t: &DataType| matches!(t, Binary | BinaryView | LargeBinary);
    let rank = |t: &DataType| {
        Some(match t {
            Int8 | UInt8 => 1,
            Int16 | UInt16 => 2,
            Int32 | UInt32 => 3,
            // What counts distinct values is unsigned here and BIGINT in Flink.
            Int64 | UInt64 => 4,
            Decimal128(..) => 5,
            Float32 => 6,
            Float64 => 7,
            _ => return None,
        })
    };
    match (from, to) {
        (Null, _) => true,
        _ if is_text(from) && is_text(to) => true,
        _ if is_bytes(from) && is_bytes(to) => true,
        (Timestamp(..), Timestamp(..)) => true,
        (Date32, Timestamp(_, None)) => true,
        (Time32(_) | Time64(_), Time32(_) | Time64(_)) => true,
        (List(from) | LargeList(from), List(to)) | (Map(from, _), Map(to, _)) => {
            from.data_type() == to.data_type() || is_implicit(from.data_type(), to.data_type())
        }
        (Struct(from), Struct(to)) => {
            // Fields go by position, whatever they are called.
            from.len() == to.len()
                && from.iter().zip(to).all(|(from, to)| {
                    from.data_type() == to.data_type()
                        || is_implicit(from.data_type(), to.data_type())
                })
        }
        (Decimal128(_, scale), Decimal128(_, to_scale)) => {
            // A product has more digits by its type than its values need: one that does not fit is found
            // in its row.
            scale <= to_scale
        }
        _ => match (rank(from), rank(to)) {
            (Some(from), Some(to)) => from <= to,
            _ => false,
        },
    }
}

/// Where item `index` of the first SELECT list stands.
fn select_item(tokens: &[TokenWithSpan], index: usize) -> Span {
    let start = tokens.iter().position(|token| is_word(&token.token, "SELECT")).unwrap_or_default();
    let mut depth = 0usize;
    let mut item = 0;
    for token in tokens.iter().skip(start + 1) {
        if item == index {
            return token.span;
        }
        match token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => item += 1,
            _ if depth == 0 && is_word(&token.token, "FROM") => break,
            _ => {}
        }
    }
    tokens.get(start).map_or(Span::empty(), |token| token.span)
}
