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

use super::again::{Again, Passes};
use super::batch::add_results;
use super::checksum::{Checksum, key_codes};
use super::input;
use super::workload::{Query, Workload};
use crate::prelude::{Hopping, Job, Session, Tumbling, Watermarks, avg, col, count, max, min, sum};

/// From one checkpoint to the next, where there are any.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the workload's query on so many shards over a source, whose rows are gone through so many times, with
/// a checkpoint every second under a folder where one is given. The checksum is that of each time.
///
/// # Errors
/// Whatever ends the job, or results that are not the same each time.
pub fn run(
    workload: &Workload,
    source: impl Source + 'static,
    shards: usize,
    checkpoints: Option<&str>,
    times: u32,
) -> Result<(Checksum, JobSummary)> {
    let passes = Passes::new(workload, times);
    let sink = ChecksumSink { passes, totals: Arc::default() };
    let totals = sink.totals.clone();
    let mut job = match times {
        1 => job(workload, source, sink, passes),
        _ => job(workload, Again::new(source, passes), sink, passes),
    };
    job.parallelism(shards);
    if let Some(folder) = checkpoints {
        job.checkpoints(folder, CHECKPOINT_INTERVAL);
        if let Some(checkpoints) = &mut job.settings().checkpoints {
            checkpoints.start = StartFrom::Beginning;
        }
    }
    let summary = job.run_blocking()?;
    let totals = totals.lock();
    let first = totals.first().copied().unwrap_or_default();
    match totals.iter().position(|total| !total.agrees_with(&first)) {
        None => Ok((first, summary)),
        Some(pass) => {
            let message = format!("the rows' pass {pass} has other results than the first");
            Err(Error::internal(message))
        }
    }
}

/// The workload's windowed aggregation by itself.
///
/// # Errors
/// A window that cannot be: a slide that does not divide the size, say.
pub fn aggregate(workload: &Workload) -> Result<Arc<dyn KeyedFactory>> {
    let source = MemorySource::new(input::schema(workload), Vec::new());
    let sink = ChecksumSink { passes: Passes::new(workload, 1), totals: Arc::default() };
    let passes = sink.passes;
    let graph = job(workload, source, sink, passes).graph()?;
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
    passes: Passes,
) -> Job {
    let micros = |length: i64| Duration::from_micros(length.unsigned_abs());
    let mut job = Job::named(format!("bench-{}", workload.query.name()));
    let rows = job.source(source);
    let mut rows = rows.event_time("ts", Watermarks::bounded(micros(workload.disorder_us)));
    if let Some(drift) = max_drift(workload, passes) {
        rows = rows.align("bench", micros(drift));
    }
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

/// How far apart splits may be, where they wait for each other: one that is some gaps ahead has as many sessions of
/// each key, and where the rows are gone through several times, one that is many windows ahead keeps all of them open,
/// for each checkpoint to hold.
fn max_drift(workload: &Workload, passes: Passes) -> Option<i64> {
    match workload.query {
        Query::Session { gap_us } => Some(gap_us),
        Query::Tumbling { size_us } => (passes.times > 1).then_some(size_us.saturating_mul(4)),
        Query::Hopping { slide_us, .. } => (passes.times > 1).then_some(slide_us.saturating_mul(4)),
    }
}

/// A sink that adds up the results of each pass over the rows.
struct ChecksumSink {
    passes: Passes,
    totals: Arc<Mutex<Vec<Checksum>>>,
}

impl Sink for ChecksumSink {
    fn guarantee(&self, _: bool) -> Guarantee {
        let why = "results are added up in memory".to_owned();
        Guarantee { delivery: Delivery::AtLeastOnce, why }
    }

    fn writer(&self, _: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(ChecksumWriter { passes: self.passes, totals: self.totals.clone() }))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        "checksum".to_owned()
    }
}

struct ChecksumWriter {
    passes: Passes,
    totals: Arc<Mutex<Vec<Checksum>>>,
}

impl ChecksumWriter {
    /// Adds results of one pass, their windows as they would be in the first.
    fn add(&self, rows: &RecordBatch, window_start: i64) -> Result<()> {
        let (pass, later) = self.passes.of(window_start);
        let part = add_up(rows, later)?;
        let mut totals = self.totals.lock();
        if totals.len() <= pass {
            totals.resize(pass + 1, Checksum::default());
        }
        totals[pass].merge(&part);
        Ok(())
    }
}

impl SinkWriter for ChecksumWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let starts = times(&batch.rows, "window_start")?;
        if let (1, Some(start)) = (self.passes.times, starts.first()) {
            return self.add(&batch.rows, *start);
        }
        let (Some(least), Some(greatest)) = (starts.iter().min(), starts.iter().max()) else {
            return Ok(());
        };
        let pass = |start: i64| self.passes.of(start).0;
        if pass(*least) == pass(*greatest) {
            return self.add(&batch.rows, *least);
        }
        let mut row = 0;
        for part in starts.chunk_by(|a, b| pass(*a) == pass(*b)) {
            self.add(&batch.rows.slice(row, part.len()), part[0])?;
            row += part.len();
        }
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged::default()))
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let missing = || Error::internal(format!("the results have no column `{name}`"));
    batch.column_by_name(name).ok_or_else(missing)
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [i64]> {
    Ok(column(batch, name)?.as_primitive::<TimestampMicrosecondType>().values())
}

/// The checksum of these results, with windows so much earlier.
fn add_up(batch: &RecordBatch, later: i64) -> Result<Checksum> {
    let (starts, ends) = (times(batch, "window_start")?, times(batch, "window_end")?);
    let mut checksum = Checksum::default();
    if batch.column_by_name("sum").is_some() {
        let names = ["key", "n", "sum", "min", "max", "avg"];
        let columns: Vec<ArrayRef> =
            names.into_iter().map(|name| column(batch, name).cloned()).collect::<Result<_>>()?;
        let window = |row: usize| (starts[row] - later, ends[row] - later);
        add_results(&columns, window, &mut checksum)?;
        return Ok(checksum);
    }
    let counts = column(batch, "n")?.as_primitive::<Int64Type>().values();
    checksum.add_counts([starts, ends], later, &key_codes(column(batch, "key")?)?, counts);
    Ok(checksum)
}
