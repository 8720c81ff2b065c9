//! The engine under measurement: the workload as a job, its results added up by a sink.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::datatypes::SchemaRef;
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

use super::checksum::{Checksum, WindowResult};
use super::{DISORDER, WINDOW};
use crate::prelude::{Job, Tumbling, Watermarks, avg, col, count, max, min, sum};

/// From one checkpoint to the next, where there are any.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the workload over a source on so many shards, with a checkpoint every second under a folder
/// where one is given.
///
/// # Errors
/// Whatever ends the job.
pub fn run(
    source: impl Source + 'static,
    shards: usize,
    checkpoints: Option<&str>,
) -> Result<(Checksum, JobSummary)> {
    let sink = ChecksumSink::default();
    let total = sink.total.clone();
    let mut job = job(source, sink);
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

/// The workload's windowed aggregation by itself, over rows of this schema.
///
/// # Errors
/// A schema that has not the workload's columns.
pub fn aggregate(schema: SchemaRef) -> Result<Arc<dyn KeyedFactory>> {
    let job = job(MemorySource::new(schema, Vec::new()), ChecksumSink::default());
    let graph = job.graph()?;
    let keyed = graph.nodes().iter().find_map(|node| match &node.kind {
        NodeKind::Keyed(keyed) => Some(keyed.clone()),
        _ => None,
    });
    keyed.ok_or_else(|| Error::internal("the workload's job has no window"))
}

fn job(source: impl Source + 'static, sink: ChecksumSink) -> Job {
    let micros = |length: i64| Duration::from_micros(length.unsigned_abs());
    let mut job = Job::named("bench-tumbling");
    job.source(source)
        .event_time("ts", Watermarks::bounded(micros(DISORDER)))
        .key_by(["key"])
        .window(Tumbling::of(micros(WINDOW)))
        .aggregate([
            count().alias("n"),
            sum(col("value")).alias("sum"),
            min(col("value")).alias("min"),
            max(col("value")).alias("max"),
            avg(col("value")).alias("avg"),
        ])
        .sink(sink);
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
    let integers = |name| column(name).map(|c| c.as_primitive::<Int64Type>().values());
    let floats = |name| column(name).map(|c| c.as_primitive::<Float64Type>().values());
    let ends = column("window_end")?.as_primitive::<TimestampMicrosecondType>().values();
    let (keys, counts) = (integers("key")?, integers("n")?);
    let (sums, avgs) = (floats("sum")?, floats("avg")?);
    let (mins, maxs) = (floats("min")?, floats("max")?);
    let mut checksum = Checksum::default();
    for row in 0..batch.num_rows() {
        checksum.add(&WindowResult {
            window_end: ends[row],
            key: keys[row],
            count: counts[row],
            sum: sums[row],
            min: mins[row],
            max: maxs[row],
            avg: avgs[row],
        });
    }
    Ok(checksum)
}
