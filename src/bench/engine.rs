//! The engine under measurement: the workload as a job, its results added up by a sink.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::cast::AsArray;
use arrow::array::types::{Int64Type, TimestampMicrosecondType};
use arrow::array::{ArrayRef, RecordBatch};
use parking_lot::Mutex;
use tidemill_core::element::Epoch;
use tidemill_core::graph::NodeKind;
use tidemill_core::operator::KeyedFactory;
use tidemill_core::sink::{
    Delivered, Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill_core::source::Source;
use tidemill_core::{Batch, Error, Result};
use tidemill_memory::MemorySource;
use tidemill_runtime::{JobSummary, StartFrom};

use super::batch::add_results;
use super::checksum::{Checksum, WindowResult, key_codes};
use super::input;
use super::workload::{Query, Workload};
use crate::prelude::{Hopping, Job, Session, Tumbling, Watermarks, avg, col, count, max, min, sum};

/// From one checkpoint to the next, where there are any.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the workload's query over a source on so many shards, with a checkpoint every second under a
/// folder where one is given.
///
/// # Errors
/// Whatever ends the job.
pub fn run(
    workload: &Workload,
    source: impl Source + 'static,
    shards: usize,
    checkpoints: Option<&str>,
) -> Result<(Checksum, JobSummary)> {
    let sink = ChecksumSink::default();
    let total = sink.total.clone();
    let mut job = job(workload, source, sink);
    job.parallelism(shards);
    if let Some(folder) = checkpoints {
        job.checkpoints(folder, CHECKPOINT_INTERVAL);
        if let Some(checkpoints) = &mut job.settings().checkpoints {
            checkpoints.start = StartFrom::Beginning;
        }
    }
    let summary = job.run_blocking()?;
    let checksum = *total.lock();
    Ok((checksum, summary))
}

/// The workload's windowed aggregation by itself.
///
/// # Errors
/// A window that cannot be: a slide that does not divide the size, say.
pub fn aggregate(workload: &Workload) -> Result<Arc<dyn KeyedFactory>> {
    let source = MemorySource::new(input::schema(workload), Vec::new());
    let graph = job(workload, source, ChecksumSink::default()).graph()?;
    let keyed = graph.nodes().iter().find_map(|node| match &node.kind {
        NodeKind::Keyed(keyed) => Some(keyed.clone()),
        _ => None,
    });
    keyed.ok_or_else(|| Error::internal("the workload's job has no window"))
}

/// The workload as a job from any source of its rows into any sink.
pub(super) fn job(
    workload: &Workload,
    source: impl Source + 'static,
    sink: impl Sink + 'static,
) -> Job {
    let micros = |length: i64| Duration::from_micros(length.unsigned_abs());
    let mut job = Job::named(format!("bench-{}", workload.query.name()));
    let rows = job.source(source);
    let rows = rows.event_time("ts", Watermarks::bounded(micros(workload.disorder_us)));
    let rows = rows.key_by(["key"]);
    let n = count().alias("n");
    let value = || col("value");
    let totals = [
        n.clone(),
        sum(value()).alias("sum"),
        min(value()).alias("min"),
        max(value()).alias("max"),
        avg(value()).alias("avg"),
    ];
    let results = match workload.query {
        Query::Tumbling { size_us } => rows.window(Tumbling::of(micros(size_us))).aggregate(totals),
        Query::Hopping { size_us, slide_us } => {
            rows.window(Hopping::of(micros(size_us), micros(slide_us))).aggregate([n])
        }
        Query::Session { gap_us } => rows.window(Session::gap(micros(gap_us))).aggregate(totals),
    };
    results.sink(sink);
    job
}

/// A sink that adds up the results.
#[derive(Default)]
struct ChecksumSink {
    total: Arc<Mutex<Checksum>>,
}

impl Sink for ChecksumSink {
    fn guarantee(&self, _: bool) -> Guarantee {
        let why = "results are added up in memory".to_owned();
        Guarantee { delivery: Delivery::AtLeastOnce, why }
    }

    fn writer(&self, _: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(ChecksumWriter { total: self.total.clone() }))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        "checksum".to_owned()
    }
}

struct ChecksumWriter {
    total: Arc<Mutex<Checksum>>,
}

impl SinkWriter for ChecksumWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let part = add_up(&batch.rows)?;
        self.total.lock().merge(&part);
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged::default()))
    }
}

fn add_up(batch: &RecordBatch) -> Result<Checksum> {
    let column = |name: &str| {
        batch
            .column_by_name(name)
            .ok_or_else(|| Error::internal(format!("the results have no column `{name}`")))
    };
    let times = |name| column(name).map(|c| c.as_primitive::<TimestampMicrosecondType>().values());
    let (starts, ends) = (times("window_start")?, times("window_end")?);
    let mut checksum = Checksum::default();
    if batch.column_by_name("sum").is_some() {
        let names = ["key", "n", "sum", "min", "max", "avg"];
        let columns: Vec<ArrayRef> =
            names.into_iter().map(|name| column(name).cloned()).collect::<Result<_>>()?;
        add_results(&columns, |row| (starts[row], ends[row]), &mut checksum)?;
        return Ok(checksum);
    }
    let counts = column("n")?.as_primitive::<Int64Type>().values();
    for (row, key) in key_codes(column("key")?)?.into_iter().enumerate() {
        let (window_start, window_end, count) = (starts[row], ends[row], counts[row]);
        let result =
            WindowResult { window_start, window_end, key, count, ..WindowResult::default() };
        checksum.add(&result);
    }
    Ok(checksum)
}
