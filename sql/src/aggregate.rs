//! Windowed aggregation: which window a `GROUP BY` means, and what is grouped and aggregated.
//!
//! ```text
//! GROUP BY window_start, window_end, k     over a windowing call: that window
//! GROUP BY window_start, window_end        over a windowed aggregation: the same windows again
//! GROUP BY TUMBLE(ts, …), k                the older spelling of the first
//! ```

use std::sync::Arc;

use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::expr::{AggregateFunction, NullTreatment};
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::{Expr, SortExpr};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::PhysicalSortExpr;
use datafusion_physical_expr::expressions::Column as PhysicalColumn;
use datafusion_sql::sqlparser::tokenizer::Span;
use tidemill_core::graph::{Edge, NodeKind};
use tidemill_core::window::{AlignedWindow, WindowSpec};
use tidemill_operators::{AggregateSpec, WindowAggregate, WindowAggregateSpec};

use crate::diagnostic::{Fallible, Problem};
use crate::lower::{Query, span_of};
use crate::relation::{Assigned, Column, Fired, Rows, Value};
use crate::windowing::{Part, Sessions};

/// What a grouping column is.
enum Group {
    Assigned(Part, Assigned),
    Fired(Fired, Arc<dyn PhysicalExpr>),
    Key(Arc<dyn PhysicalExpr>),
}

/// The window of an aggregation.
struct Window {
    spec: WindowSpec,
    /// The stored time column.
    time: usize,
}

const HELP: &str = "group by a window: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' \
                    MINUTE)) GROUP BY window_start, window_end, …";

/// Adds the aggregation to the graph.
pub(crate) fn lower(
    query: &mut Query<'_>,
    aggregate: &Aggregate,
    rows: Rows,
    name: &str,
) -> Fallible<Rows> {
    let input = aggregate.input.schema();
    let groups = aggregate
        .group_expr
        .iter()
        .map(|expr| group(query, &rows, input, expr))
        .collect::<Fallible<Vec<_>>>()?;
    let window = window(query, aggregate, &groups)?;
    let mut output = Output { keys: Vec::new(), columns: Vec::new() };
    for (position, group) in groups.into_iter().enumerate() {
        let field = aggregate.schema.field(position);
        output.add_group(group, &window, field.name());
    }
    let mut aggregates = Vec::new();
    for (position, expr) in aggregate.aggr_expr.iter().enumerate() {
        let field = aggregate.schema.field(aggregate.group_expr.len() + position);
        aggregates.push(call(query, &rows, input, expr, field.name())?);
    }
    let keys = output.keys.len();
    let spec = WindowAggregateSpec {
        input: query.schema(rows.node),
        window: window.spec,
        time: window.time,
        keys: output.keys,
        aggregates,
    };
    let count = spec.aggregates.len();
    let operator = WindowAggregate::new(spec).map_err(|error| query.operator_failed(&error))?;
    let kind = NodeKind::Keyed(Arc::new(operator));
    let node =
        query.lowering.graph.add(format!("window({name})"), vec![Edge::local(rows.node)], kind);
    let mut columns = output.columns;
    columns.extend((0..count).map(|number| Column::stored(BOUNDS + keys + number)));
    Ok(Rows { node, columns })
}

/// `window_start`, `window_end` and `window_time` come before the keys.
const BOUNDS: usize = 3;

/// The columns of the result, while the grouping columns are gone through.
struct Output {
    keys: Vec<(Arc<dyn PhysicalExpr>, String)>,
    columns: Vec<Column>,
}

impl Output {
    fn add_group(&mut self, group: Group, window: &Window, name: &str) {
        let time = Part::Time as usize;
        let bound = |part: Part, spec| Column {
            is_time: part == Part::Time,
            fired: Some(Fired { part, spec, time }),
            ..Column::stored(part as usize)
        };
        let column = match group {
            Group::Assigned(part, _) => bound(part, window.spec),
            // The end and the time are those of the steps by which rows are grouped again; the
            // start may lie further back, and is carried along as a key.
            Group::Fired(Fired { part: Part::Start, spec, .. }, start) => {
                let fired = Some(Fired { part: Part::Start, spec, time });
                Column { fired, ..self.add_key(start, name) }
            }
            Group::Fired(Fired { part, spec, .. }, _) => bound(part, spec),
            Group::Key(key) => self.add_key(key, name),
        };
        self.columns.push(column);
    }

    fn add_key(&mut self, key: Arc<dyn PhysicalExpr>, name: &str) -> Column {
        self.keys.push((key, name.to_owned()));
        Column::stored(BOUNDS + self.keys.len() - 1)
    }
}

fn group(query: &Query<'_>, rows: &Rows, schema: &DFSchema, expr: &Expr) -> Fallible<Group> {
    let column = query.as_column(rows, schema, expr)?;
    Ok(match column {
        Some(Column { value: Value::Assigned(part, assigned), .. }) => {
            Group::Assigned(part, assigned)
        }
        Some(Column { fired: Some(fired), .. }) => {
            Group::Fired(fired, query.over(rows, schema, expr)?)
        }
        _ => Group::Key(query.over(rows, schema, expr)?),
    })
}

fn window(query: &Query<'_>, aggregate: &Aggregate, groups: &[Group]) -> Fallible<Window> {
    let span = aggregate.group_expr.iter().find_map(span_of);
    let span = span.unwrap_or_else(|| {
        let word = if aggregate.group_expr.is_empty() { "SELECT" } else { "GROUP" };
        query.word(word)
    });
    let mut assigned = groups.iter().filter_map(|group| match group {
        Group::Assigned(part, assigned) => Some((*part, assigned)),
        _ => None,
    });
    if let Some((_, first)) = assigned.clone().next() {
        if assigned.any(|(_, other)| !first.same_window(other)) {
            return Err(Problem::new(span, "GROUP BY names two different windows")
                .help("group by one window; another query can aggregate its result"));
        }
        let parts: Vec<Part> = groups
            .iter()
            .filter_map(|group| match group {
                Group::Assigned(part, _) => Some(*part),
                _ => None,
            })
            .collect();
        both_bounds(&parts, span)?;
        session_keys(first, groups, span)?;
        return Ok(Window { spec: first.spec, time: first.time });
    }
    let fired: Vec<&Fired> = groups
        .iter()
        .filter_map(|group| match group {
            Group::Fired(fired, _) => Some(fired),
            _ => None,
        })
        .collect();
    let Some(first) = fired.first() else {
        let message = if aggregate.group_expr.is_empty() {
            "an aggregate over an endless stream never ends"
        } else {
            "GROUP BY without a window would keep every group for ever"
        };
        return Err(Problem::new(span, message).help(HELP));
    };
    let parts: Vec<Part> = fired.iter().map(|fired| fired.part).collect();
    both_bounds(&parts, span)?;
    same_windows_again(query, first, span)
}

fn both_bounds(parts: &[Part], span: Span) -> Fallible<()> {
    for part in [Part::Start, Part::End] {
        if !parts.contains(&part) {
            let message = format!("GROUP BY lacks {}", part.column());
            return Err(Problem::new(span, message)
                .help("a window's groups need both: GROUP BY window_start, window_end, …"));
        }
    }
    Ok(())
}

/// Sessions are told apart by what they are partitioned by, so rows must be grouped by just that.
fn session_keys(assigned: &Assigned, groups: &[Group], span: Span) -> Fallible<()> {
    let is_session = matches!(assigned.spec, WindowSpec::Session { .. });
    if !is_session || assigned.sessions == Sessions::ByGroupKeys {
        return Ok(());
    }
    let mut keys = Vec::new();
    for group in groups {
        let Group::Key(key) = group else { continue };
        keys.push(key.downcast_ref::<PhysicalColumn>().map(PhysicalColumn::index));
    }
    let covers = assigned.partition.iter().all(|column| keys.contains(&Some(*column)));
    let covered = keys.iter().all(|key| key.is_some_and(|key| assigned.partition.contains(&key)));
    if covers && covered {
        return Ok(());
    }
    Err(Problem::new(span, "sessions must be grouped by exactly what they are partitioned by")
        .help("write SESSION(TABLE t PARTITION BY k, …) and GROUP BY window_start, window_end, k"))
}

/// Results of windows, grouped by those windows: tumbling by the distance between window ends,
/// over the time that the results carry.
fn same_windows_again(query: &Query<'_>, fired: &Fired, span: Span) -> Fallible<Window> {
    let WindowSpec::Aligned(inner) = fired.spec else {
        return Err(Problem::new(span, "sessions cannot be grouped again by their bounds")
            .help("put a TUMBLE window over their window_time"));
    };
    let step = inner.step();
    // The offset of the window ends: of the end that follows the epoch.
    let offset = inner.slice_end(0).unwrap_or_default();
    let again = AlignedWindow::tumbling(step, offset);
    let spec = WindowSpec::Aligned(again.map_err(|error| query.operator_failed(&error))?);
    Ok(Window { spec, time: fired.time })
}

fn call(
    query: &Query<'_>,
    rows: &Rows,
    schema: &DFSchema,
    expr: &Expr,
    name: &str,
) -> Fallible<AggregateSpec> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) =
        expr.clone().unalias_nested().data
    else {
        let error = DataFusionError::Plan(format!("'{expr}' is no aggregate"));
        return Err(crate::explain_error::problem(&error, query.tokens));
    };
    let over = |expr: &Expr| query.over(rows, schema, expr);
    let counts_rows = func.name() == "count" && !params.distinct && counts_all(&params.args);
    let args = if counts_rows { &[][..] } else { &params.args[..] };
    let order_by = |sort: &SortExpr| {
        Ok(PhysicalSortExpr {
            expr: over(&sort.expr)?,
            options: arrow::compute::SortOptions::new(!sort.asc, sort.nulls_first),
        })
    };
    Ok(AggregateSpec {
        function: func,
        args: args.iter().map(over).collect::<Fallible<_>>()?,
        distinct: params.distinct,
        filter: params.filter.as_deref().map(over).transpose()?,
        order_by: params.order_by.iter().map(order_by).collect::<Fallible<_>>()?,
        ignore_nulls: params.null_treatment == Some(NullTreatment::IgnoreNulls),
        name: name.to_owned(),
    })
}

/// `COUNT(*)` comes as the count of a literal.
fn counts_all(args: &[Expr]) -> bool {
    matches!(args, [Expr::Literal(value, _)] if !matches!(value, ScalarValue::Null) && !value.is_null())
}
