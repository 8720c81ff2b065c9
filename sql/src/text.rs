//! Values that become text, on the way from a query's logical plan to the one that runs.
//!
//! Invariant: text made of a value is what Flink makes of it; where it cannot be, the cast is
//! refused, also one that was not written but follows from the types.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::logical_plan::LogicalPlan;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Cast, Expr, ExprSchemable, TryCast, cast, lit, when};
use datafusion_sql::sqlparser::tokenizer::Span;

use crate::diagnostic::Problem;
use crate::lower::span_of;
use crate::types::sql_name;

/// Flink writes `TRUE` and `FALSE`.
pub(crate) fn spell_booleans(plan: LogicalPlan) -> Result<LogicalPlan> {
    let spelled = plan.transform_up(|node| {
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let spelled = expr.transform_up(|expr| spell_boolean(expr, &schema))?;
            Ok(spelled.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(spelled.data)
}

fn spell_boolean(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match cast_to_text(&expr, schema) {
        Some((value, DataType::Boolean, text)) => {
            let spelled = when(value.clone(), lit("TRUE"))
                .when(Expr::Not(Box::new(value.clone())), lit("FALSE"))
                .end()?;
            Ok(Transformed::yes(cast(spelled, text.clone())))
        }
        _ => Ok(Transformed::no(expr)),
    }
}

/// Refuses casts whose text differs from Flink's. The plan's types must fit already.
pub(crate) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply(|node| {
        let schema = merge_schema(&node.inputs());
        for expr in node.expressions() {
            expr.apply(|expr| match cast_to_text(expr, &schema) {
                Some((value, from, _)) => refusal(value, &from)
                    .map_or(Ok(TreeNodeRecursion::Continue), |problem| {
                        Err(DataFusionError::External(Box::new(problem)))
                    }),
                None => Ok(TreeNodeRecursion::Continue),
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// The value, its type, and the type of the text that it becomes.
fn cast_to_text<'a>(
    expr: &'a Expr,
    schema: &DFSchema,
) -> Option<(&'a Expr, DataType, &'a DataType)> {
    let (Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })) = expr else {
        return None;
    };
    let to = field.data_type();
    let is_text = matches!(to, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    is_text.then(|| expr.get_type(schema).ok()).flatten().map(|from| (expr.as_ref(), from, to))
}

fn refusal(value: &Expr, from: &DataType) -> Option<Problem> {
    let (why, help) = match from {
        DataType::Timestamp(..) => (
            "Flink writes as many digits as its precision has",
            "write DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss')",
        ),
        DataType::Float32 | DataType::Float64 => (
            "Flink writes it as Java does",
            "write CAST(CAST(x AS DECIMAL(20, 4)) AS STRING) with the digits that you want",
        ),
        DataType::Boolean => ("Flink writes it in capitals", "write CAST(b AS STRING)"),
        _ => return None,
    };
    let span = span_of(value).unwrap_or_else(Span::empty);
    let message = format!("{} cannot become text: {why}", sql_name(from));
    Some(Problem::new(span, message).help(help))
}
