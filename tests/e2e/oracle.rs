//! The batch oracle: windows assigned by brute force in plain Rust, then DataFusion's `GROUP BY`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use datafusion_execution::TaskContext;
use datafusion_functions_aggregate as f;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::{col, lit};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use tidemill::prelude::{SchemaRef, TIMESTAMP};

use crate::pipelines::{Case, Kind, Row, batch, sorted_rows};

/// What the job must put out, and how many rows are late for all their windows.
pub fn expected(case: &Case) -> (Vec<String>, usize) {
    let mut late = 0;
    let mut assigned: Vec<(i64, i64, Row)> = Vec::new();
    let mut on_time: Vec<Row> = Vec::new();
    for split in &case.splits {
        let mut newest = None;
        for row in split {
            let watermark = newest.map_or(i64::MIN, |newest: i64| newest - case.bound);
            newest = Some(newest.unwrap_or(i64::MIN).max(row.ts));
            if row.n == 7 {
                continue;
            }
            let windows = windows(case.kind, row.ts);
            let open: Vec<_> = windows.into_iter().filter(|(_, end)| *end > watermark).collect();
            match case.kind {
                Kind::Session { .. } if row.ts < watermark => late += 1,
                Kind::Session { .. } => on_time.push(row.clone()),
                _ if open.is_empty() => late += 1,
                _ => {
                    assigned.extend(open.into_iter().map(|(start, end)| (start, end, row.clone())))
                }
            }
        }
    }
    if let Kind::Session { gap } = case.kind {
        assigned = sessions(on_time, gap, case.keys);
    }
    (group_by(&assigned, case.keys), late)
}

/// Every window over a time, by trying all ends nearby.
fn windows(kind: Kind, ts: i64) -> Vec<(i64, i64)> {
    let (size, step, offset) = match kind {
        Kind::Tumbling { size, offset } => (size, size, offset),
        Kind::Hopping { size, slide, offset } => (size, slide, offset),
        Kind::Cumulating { size, step } => (size, step, 0),
        Kind::Session { .. } => return Vec::new(),
    };
    let first = (ts - offset).div_euclid(step) * step + offset + step;
    let ends = (0..).map(|n| first + n * step).take_while(|end| *end <= ts + size);
    let start = |end: i64| match kind {
        Kind::Cumulating { size, .. } => (end - 1).div_euclid(size) * size,
        _ => end - size,
    };
    ends.map(|end| (start(end), end)).filter(|(start, _)| *start <= ts).collect()
}

fn key_of(row: &Row, keys: usize) -> (Option<i64>, Option<&'static str>) {
    (row.key.filter(|_| keys > 0), row.name.filter(|_| keys > 1))
}

/// Rows of a key at a distance of at most the gap are one session.
fn sessions(rows: Vec<Row>, gap: i64, keys: usize) -> Vec<(i64, i64, Row)> {
    let mut by_key: BTreeMap<_, Vec<Row>> = BTreeMap::new();
    for row in rows {
        by_key.entry(key_of(&row, keys)).or_default().push(row);
    }
    let mut assigned = Vec::new();
    for mut rows in by_key.into_values() {
        rows.sort_by_key(|row| row.ts);
        for session in rows.chunk_by(|a, b| b.ts - a.ts <= gap) {
            let (start, end) = (session[0].ts, session[session.len() - 1].ts + gap);
            assigned.extend(session.iter().map(|row| (start, end, row.clone())));
        }
    }
    assigned
}

/// DataFusion's aggregation of rows that know their window.
fn group_by(assigned: &[(i64, i64, Row)], keys: usize) -> Vec<String> {
    if assigned.is_empty() {
        return Vec::new();
    }
    let rows: Vec<Row> = assigned.iter().map(|(_, _, row)| row.clone()).collect();
    let rows = batch(&rows);
    let time = |of: &dyn Fn(&(i64, i64, Row)) -> i64| {
        Arc::new(TimestampMicrosecondArray::from_iter_values(assigned.iter().map(of)))
    };
    let mut fields: Vec<Field> = ["window_start", "window_end", "window_time"]
        .iter()
        .map(|name| Field::new(*name, TIMESTAMP, true))
        .collect();
    fields.extend(rows.schema().fields().iter().map(|field| field.as_ref().clone()));
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let mut columns: Vec<arrow::array::ArrayRef> =
        vec![time(&|a| a.0), time(&|a| a.1), time(&|a| a.1 - 1000)];
    columns.extend(rows.columns().iter().cloned());
    let input = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let names = ["window_start", "window_end", "window_time", "key", "name"];
    let group: Vec<_> = names[..3 + keys]
        .iter()
        .map(|name| (col(name, &schema).unwrap(), (*name).to_owned()))
        .collect();
    let aggregates = aggregates(&schema);
    let filters = vec![None; aggregates.len()];
    let plan = AggregateExec::try_new(
        AggregateMode::Single,
        PhysicalGroupBy::new_single(group),
        aggregates,
        filters,
        one_batch(input),
        schema,
    )
    .unwrap();
    let stream = plan.execute(0, Arc::new(TaskContext::default())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(datafusion_physical_plan::common::collect(stream)).unwrap();
    sorted_rows(&batches)
}

fn one_batch(input: RecordBatch) -> Arc<dyn ExecutionPlan> {
    datafusion_physical_plan::test::TestMemoryExec::try_new_exec(
        &[vec![input.clone()]],
        input.schema(),
        None,
    )
    .unwrap()
}

fn aggregates(schema: &SchemaRef) -> Vec<Arc<AggregateFunctionExpr>> {
    let value = || col("value", schema).unwrap();
    let build = |udaf, args, distinct: bool, name: &str| {
        let builder = AggregateExprBuilder::new(udaf, args).schema(schema.clone()).alias(name);
        Arc::new(builder.with_distinct(distinct).build().unwrap())
    };
    vec![
        build(f::count::count_udaf(), vec![lit(1i64)], false, "rows"),
        build(f::sum::sum_udaf(), vec![value()], false, "total"),
        build(f::average::avg_udaf(), vec![value()], false, "mean"),
        build(f::min_max::min_udaf(), vec![value()], false, "low"),
        build(f::min_max::max_udaf(), vec![col("n", schema).unwrap()], false, "high"),
        build(f::count::count_udaf(), vec![col("name", schema).unwrap()], true, "names"),
        build(f::stddev::stddev_udaf(), vec![value()], false, "spread"),
    ]
}
