//! Yardstick: DataFusion's batch `GROUP BY` over the whole input.
//!
//! ```text
//! one split       scan ─▶ AggregateExec(Single)
//! several splits  scan ─▶ AggregateExec(Partial) ─▶ by hash ─▶ AggregateExec(FinalPartitioned)
//!                 └────────── a thread each ─────────┘         └────── a thread each ───────┘
//! ```
//!
//! The plans are those that DataFusion makes for `SELECT …, COUNT(*), SUM(value), MIN(value),
//! MAX(value), AVG(value) GROUP BY ts / 10 s, key`. Files of text are read by Arrow's own CSV and JSON
//! readers, which are DataFusion's.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
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

use super::WINDOW;
use super::checksum::{Checksum, WindowResult};
use super::input::{Split, TextFiles, TextFormat};

/// Rows in a batch that is read from a file.
const BATCH_ROWS: usize = 8192;

/// Groups rows in memory, one thread for each split.
///
/// # Errors
/// Whatever DataFusion reports.
pub fn memory(splits: &[Split]) -> Result<Checksum> {
    let Some(first) = splits.first().and_then(|split| split.first()) else {
        return Ok(Checksum::default());
    };
    let schema = first.schema();
    let scan = |split: &Split| Scan::Memory { schema: schema.clone(), batches: split.clone() };
    group(splits.iter().map(scan).collect()).map_err(failed)
}

/// Groups the rows of files, one thread for each.
///
/// # Errors
/// A file that cannot be read, or whatever else DataFusion reports.
pub fn text(files: &TextFiles, schema: &SchemaRef) -> Result<Checksum> {
    let scan = |path: &PathBuf| Scan::Text {
        schema: schema.clone(),
        path: path.clone(),
        format: files.format,
    };
    group(files.paths().iter().map(scan).collect()).map_err(failed)
}

fn failed(error: DataFusionError) -> Error {
    Error::internal(format!("DataFusion: {}", error.strip_backtrace()))
}

/// Rows of one split, as DataFusion reads them.
#[derive(Debug)]
enum Scan {
    Memory { schema: SchemaRef, batches: Split },
    Text { schema: SchemaRef, path: PathBuf, format: TextFormat },
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

impl Scan {
    fn batches(&self) -> Result<Batches, ArrowError> {
        Ok(match self {
            Self::Memory { batches, .. } => Box::new(batches.clone().into_iter().map(Ok)),
            Self::Text { schema, path, format: TextFormat::Csv } => {
                let csv = arrow::csv::ReaderBuilder::new(schema.clone());
                Box::new(csv.with_batch_size(BATCH_ROWS).build(File::open(path)?)?)
            }
            Self::Text { schema, path, format: TextFormat::Json } => {
                let json = arrow::json::ReaderBuilder::new(schema.clone());
                let file = BufReader::with_capacity(1 << 20, File::open(path)?);
                Box::new(json.with_batch_size(BATCH_ROWS).build(file)?)
            }
        })
    }
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        match self {
            Self::Memory { schema, .. } | Self::Text { schema, .. } => schema,
        }
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches().unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        let batches = batches.map(|batch| batch.map_err(DataFusionError::from));
        let stream = futures::stream::iter(batches);
        Box::pin(RecordBatchStreamAdapter::new(self.schema().clone(), stream))
    }
}

fn group(scans: Vec<Scan>) -> DataFusionResult<Checksum> {
    let splits = scans.len();
    let mut checksum = Checksum::default();
    let query = Query::new(scans[0].schema().clone())?;
    if splits == 1 {
        for scan in scans {
            let plan = query.aggregate(AggregateMode::Single, scan)?;
            run(Arc::new(plan), &mut |batch| add(&batch, &mut checksum))?;
        }
        return Ok(checksum);
    }
    let parts = on_threads(scans, |scan| query.partial(scan, splits))?;
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

/// The query's expressions over the benchmark's columns.
struct Query {
    schema: SchemaRef,
    group_by: PhysicalGroupBy,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
}

impl Query {
    fn new(schema: SchemaRef) -> DataFusionResult<Self> {
        let integer = |value: i64| Arc::new(Literal::new(ScalarValue::Int64(Some(value))));
        let value: Arc<dyn PhysicalExpr> = Arc::new(Column::new("value", 2));
        let one: Arc<dyn PhysicalExpr> = integer(1);
        let time = CastExpr::new(Arc::new(Column::new("ts", 1)), DataType::Int64, None);
        // A window more, since division rounds towards zero and the first rows lie before 1970.
        let shifted = BinaryExpr::new(Arc::new(time), Operator::Plus, integer(WINDOW));
        let slice = BinaryExpr::new(Arc::new(shifted), Operator::Divide, integer(WINDOW));
        let aggregate = |function: Arc<AggregateUDF>, arg: &Arc<dyn PhysicalExpr>| {
            let name = function.name().to_owned();
            let builder = AggregateExprBuilder::new(function, vec![arg.clone()]);
            builder.schema(schema.clone()).alias(name).build().map(Arc::new)
        };
        let aggregates = vec![
            aggregate(count_udaf(), &one)?,
            aggregate(sum_udaf(), &value)?,
            aggregate(min_udaf(), &value)?,
            aggregate(max_udaf(), &value)?,
            aggregate(avg_udaf(), &value)?,
        ];
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("key", 0));
        let slice: Arc<dyn PhysicalExpr> = Arc::new(slice);
        let group_by =
            PhysicalGroupBy::new_single(vec![(slice, "slice".to_owned()), (key, "key".to_owned())]);
        Ok(Self { schema, group_by, aggregates })
    }

    fn aggregate(&self, mode: AggregateMode, scan: Scan) -> DataFusionResult<AggregateExec> {
        let group_by = match mode {
            AggregateMode::Single | AggregateMode::Partial => self.group_by.clone(),
            _ => self.group_by.as_final(),
        };
        let schema = scan.schema().clone();
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
            let scan = Scan::Memory { schema: first.schema(), batches };
            let plan = self.aggregate(AggregateMode::FinalPartitioned, scan)?;
            run(Arc::new(plan), &mut |batch| add(&batch, &mut checksum))?;
        }
        Ok(checksum)
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

/// Adds the results in a batch: slice, key, count, sum, min, max, avg.
fn add(batch: &RecordBatch, checksum: &mut Checksum) -> DataFusionResult<()> {
    fn integers(column: &ArrayRef) -> &[i64] {
        column.as_primitive::<Int64Type>().values()
    }
    fn floats(column: &ArrayRef) -> &[f64] {
        column.as_primitive::<Float64Type>().values()
    }
    let columns = batch.columns();
    let (slices, keys, counts) =
        (integers(&columns[0]), integers(&columns[1]), integers(&columns[2]));
    let (sums, mins) = (floats(&columns[3]), floats(&columns[4]));
    let (maxs, avgs) = (floats(&columns[5]), floats(&columns[6]));
    for row in 0..batch.num_rows() {
        checksum.add(&WindowResult {
            window_end: slices[row] * WINDOW,
            key: keys[row],
            count: counts[row],
            sum: sums[row],
            min: mins[row],
            max: maxs[row],
            avg: avgs[row],
        });
    }
    Ok(())
}
