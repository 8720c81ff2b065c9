//! The windowed aggregations that are measured, and how an operator is fed.
//!
//! The workload's query is `COUNT(*), SUM(value), MIN(value), MAX(value), AVG(value)` by `key`; a
//! hopping window counts only. Invariant: what an operator emits is dropped at once and counted.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_functions_aggregate::{average, count, min_max, sum};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::operator::{
    Fate, Operator, OperatorContext, Output, StateChange, StateFragment,
};
use tidemill_core::testing::{self, advance, context};
use tidemill_core::window::{AlignedWindow, WindowSpec};
use tidemill_core::{Batch, Parcel, Result};
use tidemill_operators::{AggregateSpec, WindowAggregate, WindowAggregateSpec};

use crate::input::Steps;

const SECOND: i64 = 1_000_000;

/// Tumbling windows of 10 s.
///
/// # Errors
/// None, for a length that is positive.
pub fn tumbling() -> Result<WindowSpec> {
    AlignedWindow::tumbling(10 * SECOND, 0).map(WindowSpec::Aligned)
}

/// Hopping windows of 10 s by 2 s.
///
/// # Errors
/// None, for lengths that go into one another.
pub fn hopping() -> Result<WindowSpec> {
    AlignedWindow::hopping(10 * SECOND, 2 * SECOND, 0).map(WindowSpec::Aligned)
}

/// The workload's five aggregates over rows of this schema.
///
/// # Errors
/// A schema that has not the workload's columns.
pub fn five_aggregates(input: &SchemaRef, window: WindowSpec) -> Result<WindowAggregate> {
    let value = column(input, "value")?;
    let over_value = |function, name| call(function, vec![value.clone()], name);
    let aggregates = vec![
        call(count::count_udaf(), vec![], "n"),
        over_value(sum::sum_udaf(), "sum"),
        over_value(min_max::min_udaf(), "min"),
        over_value(min_max::max_udaf(), "max"),
        over_value(average::avg_udaf(), "avg"),
    ];
    aggregate(input, window, aggregates)
}

/// `COUNT(*)` over rows of this schema.
///
/// # Errors
/// A schema that has not the workload's columns.
pub fn counting(input: &SchemaRef, window: WindowSpec) -> Result<WindowAggregate> {
    aggregate(input, window, vec![call(count::count_udaf(), vec![], "n")])
}

fn aggregate(
    input: &SchemaRef,
    window: WindowSpec,
    aggregates: Vec<AggregateSpec>,
) -> Result<WindowAggregate> {
    let keys = vec![(column(input, "key")?, "key".to_owned())];
    let time = input.index_of("ts")?;
    let input = input.clone();
    WindowAggregate::new(WindowAggregateSpec { input, window, time, keys, aggregates })
}

fn column(schema: &SchemaRef, name: &str) -> Result<Arc<dyn PhysicalExpr>> {
    Ok(Arc::new(Column::new(name, schema.index_of(name)?)))
}

fn call(
    function: Arc<datafusion_expr::AggregateUDF>,
    args: Vec<Arc<dyn PhysicalExpr>>,
    name: &str,
) -> AggregateSpec {
    AggregateSpec {
        function,
        args,
        distinct: false,
        filter: None,
        order_by: Vec::new(),
        ignore_nulls: false,
        name: name.to_owned(),
    }
}

/// The only shard of a job, with or without checkpoints.
pub fn only_shard(checkpointed: bool) -> OperatorContext {
    OperatorContext { checkpointed, ..context(0, 1) }
}

/// An output that keeps nothing.
#[derive(Debug, Default)]
pub struct Counter {
    /// Rows that were emitted.
    pub rows: usize,
}

impl Output for Counter {
    fn emit(&mut self, batch: Batch) {
        self.rows += batch.len();
    }

    fn hand_over(&mut self, _: Parcel) {}

    fn account(&mut self, _: Fate, _: usize) {}

    fn late(&mut self, _: RecordBatch) {}

    fn declined(&mut self, _: Batch) {}

    fn dead_letter(&mut self, _: DeadLetter) -> Result<()> {
        Ok(())
    }
}

/// Gives an operator batches and the watermarks between them.
///
/// # Errors
/// Whatever the operator says.
pub fn feed(operator: &mut dyn Operator, steps: &Steps, out: &mut dyn Output) -> Result<()> {
    for (batch, watermark) in steps {
        operator.process(0, Batch::new(batch.clone()), out)?;
        advance(operator, *watermark, out)?;
    }
    Ok(())
}

/// All of an operator's state.
///
/// # Errors
/// Whatever the operator says.
pub fn state(operator: &mut dyn Operator) -> Result<Vec<StateFragment>> {
    match testing::barrier(operator, 1, true, &mut Counter::default())? {
        StateChange::Append(fragments) | StateChange::Replace(fragments) => Ok(fragments),
    }
}
