//! Yardstick: DataFusion's batch `GROUP BY` over the whole input.
//!
//! ```text
//! one split       scan ─▶ AggregateExec(Single)
//! several splits  scan ─▶ AggregateExec(Partial) ─▶ by hash ─▶ AggregateExec(FinalPartitioned)
//!                 └────────── a thread each ─────────┘         └────── a thread each ───────┘
//! ```
//!
//! The plans are those that DataFusion makes for `SELECT …, COUNT(value), SUM(value), MIN(value),
//! MAX(value), AVG(value) GROUP BY ts / 10 s, key`. Files of text are read by Arrow's own CSV and JSON
//! readers, which are DataFusion's.

use std::sync::Arc;
use std::thread;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::{DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_expr::{AggregateUDF, Operator};
use datafusion_functions_aggregate::average::avg_udaf;
use datafusion_functions_aggregate::count::count_udaf;
use datafusion_functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion_functions_aggregate::sum::sum_udaf;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion_physical_plan::metrics::Time;
use datafusion_physical_plan::repartition::BatchPartitioner;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::StreamExt;
use tidemill_core::{Error, Result};

use super::checksum::{Checksum, WindowResult, key_codes};
use super::hand::Windows;
use super::input::Split;
use super::scan::{Place, Scan};

/// Groups the rows of tumbling windows, one thread for each split.
///
/// # Errors
/// Whatever DataFusion reports, a file that cannot be read included.
pub fn tumbling(scans: &[Scan], windows: Windows) -> Result<Checksum> {
    group(scans, windows).map_err(failed)
}

fn failed(error: DataFusionError) -> Error {
    Error::internal(format!("DataFusion: {}", error.strip_backtrace()))
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches().unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        let batches = batches.map(|batch| batch.map_err(DataFusionError::from));
        let stream = futures::stream::iter(batches);
        Box::pin(RecordBatchStreamAdapter::new(self.schema().clone(), stream))
    }
}

fn group(scans: &[Scan], windows: Windows) -> DataFusionResult<Checksum> {
    let splits = scans.len();
    let mut checksum = Checksum::default();
    let Some(first) = scans.first() else { return Ok(checksum) };
    let query = Query::new(first.schema.clone(), windows)?;
    if let [scan] = scans {
        let plan = query.aggregate(AggregateMode::Single, scan.clone())?;
        run(Arc::new(plan), &mut |batch| query.add(&batch, &mut checksum))?;
        return Ok(checksum);
    }
    let parts = on_threads(scans.to_vec(), |scan| query.partial(scan, splits))?;
    let mut owned: Vec<Split> = (0..splits).map(|_| Vec::new()).collect();
    for (owner, batches) in parts.into_iter().flat_map(|parts| parts.into_iter().enumerate()) {
        owned[owner].extend(batches);
    }
    let results = on_threads(owned, |batches| query.merge(batches))?;
    results.iter().for_each(|part| checksum.merge(part));
    Ok(checksum)
}

/// Does the work for each item on a thread of its own.
fn on_threads<I: Send, O: Send>(
    items: Vec<I>,
    work: impl Fn(I) -> DataFusionResult<O> + Sync,
) -> DataFusionResult<Vec<O>> {
    let work = &work;
    thread::scope(|scope| {
        let threads = items.into_iter().map(|item| scope.spawn(move || work(item)));
        let threads: Vec<_> = threads.collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

/// Count, sum, minimum, maximum and mean of the benchmark's values.
///
/// # Errors
/// Whatever DataFusion reports.
pub(super) fn aggregates(rows: &SchemaRef) -> DataFusionResult<Vec<Arc<AggregateFunctionExpr>>> {
    let value: Arc<dyn PhysicalExpr> = Arc::new(Column::new("value", 2));
    let aggregate = |function: Arc<AggregateUDF>| {
        let name = function.name().to_owned();
        let builder = AggregateExprBuilder::new(function, vec![value.clone()]);
        builder.schema(rows.clone()).alias(name).build().map(Arc::new)
    };
    [count_udaf(), sum_udaf(), min_udaf(), max_udaf(), avg_udaf()]
        .into_iter()
        .map(aggregate)
        .collect()
}

/// The query's expressions over the benchmark's columns.
struct Query {
    schema: SchemaRef,
    windows: Windows,
    /// Added to times, since division rounds towards zero and the first rows lie before 1970.
    shift: i64,
    group_by: PhysicalGroupBy,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
}

impl Query {
    fn new(schema: SchemaRef, windows: Windows) -> DataFusionResult<Self> {
        let shift = (windows.disorder / windows.size + 1) * windows.size;
        let integer = |value: i64| Arc::new(Literal::new(ScalarValue::Int64(Some(value))));
        let time = CastExpr::new(Arc::new(Column::new("ts", 1)), DataType::Int64, None);
        let shifted = BinaryExpr::new(Arc::new(time), Operator::Plus, integer(shift));
        let slice = BinaryExpr::new(Arc::new(shifted), Operator::Divide, integer(windows.size));
        let aggregates = aggregates(&schema)?;
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("key", 0));
        let slice: Arc<dyn PhysicalExpr> = Arc::new(slice);
        let group_by =
            PhysicalGroupBy::new_single(vec![(slice, "slice".to_owned()), (key, "key".to_owned())]);
        Ok(Self { schema, windows, shift, group_by, aggregates })
    }

    fn aggregate(&self, mode: AggregateMode, scan: Scan) -> DataFusionResult<AggregateExec> {
        let group_by = match mode {
            AggregateMode::Single | AggregateMode::Partial => self.group_by.clone(),
            _ => self.group_by.as_final(),
        };
        let schema = scan.schema.clone();
        let scan: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(scan)];
        let scan = StreamingTableExec::try_new(schema, scan, None, [], false, None)?;
        let filters = vec![None; self.aggregates.len()];
        let (aggregates, input) = (self.aggregates.clone(), self.schema.clone());
        AggregateExec::try_new(mode, group_by, aggregates, filters, Arc::new(scan), input)
    }

    /// Partial aggregates of a split, by the owner of their groups.
    fn partial(&self, scan: Scan, owners: usize) -> DataFusionResult<Vec<Split>> {
        let plan = self.aggregate(AggregateMode::Partial, scan)?;
        let by = self.group_by.as_final().input_exprs();
        let mut partitioner = BatchPartitioner::new_hash_partitioner(by, owners, Time::new())?;
        let mut parts: Vec<Split> = (0..owners).map(|_| Vec::new()).collect();
        run(Arc::new(plan), &mut |batch| {
            partitioner.partition(batch, |owner, batch| {
                parts[owner].push(batch);
                Ok(())
            })
        })?;
        Ok(parts)
    }

    /// Results from all partial aggregates of an owner.
    fn merge(&self, batches: Split) -> DataFusionResult<Checksum> {
        let mut checksum = Checksum::default();
        if let Some(first) = batches.first() {
            let scan = Scan { schema: first.schema(), place: Place::Memory(batches) };
            let plan = self.aggregate(AggregateMode::FinalPartitioned, scan)?;
            run(Arc::new(plan), &mut |batch| self.add(&batch, &mut checksum))?;
        }
        Ok(checksum)
    }

    /// Adds the results in a batch: slice, key, count, sum, min, max, avg.
    fn add(&self, batch: &RecordBatch, checksum: &mut Checksum) -> DataFusionResult<()> {
        let slices = batch.column(0).as_primitive::<Int64Type>().values();
        let window = |row: usize| {
            let start = slices[row] * self.windows.size - self.shift;
            (start, start + self.windows.size)
        };
        add_results(&batch.columns()[1..], window, checksum)
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

/// Runs a plan of one partition on this thread.
fn run(
    plan: Arc<dyn ExecutionPlan>,
    each: &mut dyn FnMut(RecordBatch) -> DataFusionResult<()>,
) -> DataFusionResult<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut batches = plan.execute(0, Arc::new(TaskContext::default()))?;
        while let Some(batch) = batches.next().await {
            each(batch?)?;
        }
        Ok(())
    })
}

/// Adds results: key, count, sum, min, max, avg. `window` gives a row's window.
///
/// # Errors
/// Keys of a type that the benchmark has not.
pub(super) fn add_results(
    columns: &[ArrayRef],
    window: impl Fn(usize) -> (i64, i64),
    checksum: &mut Checksum,
) -> Result<()> {
    let floats = |column: usize| columns[column].as_primitive::<Float64Type>().values();
    let counts = columns[1].as_primitive::<Int64Type>().values();
    let (sums, mins, maxs, avgs) = (floats(2), floats(3), floats(4), floats(5));
    for (row, key) in key_codes(&columns[0])?.into_iter().enumerate() {
        let (window_start, window_end) = window(row);
        checksum.add(&WindowResult {
            window_start,
            window_end,
            key,
            count: counts[row],
            sum: sums[row],
            min: mins[row],
            max: maxs[row],
            avg: avgs[row],
        });
    }
    Ok(())
}
