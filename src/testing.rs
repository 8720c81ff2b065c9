//! A test kit: sources that a test feeds by hand, a clock that it moves, crashes where it wants them.
//!
//! ```
//! use std::time::Duration;
//!
//! use std::sync::Arc;
//!
//! use tidemill::prelude::*;
//! use tidemill::testing::{feed, wait_for};
//!
//! # fn main() -> tidemill::Result<()> {
//! let schema = schema([("ts", TIMESTAMP)]);
//! let at = |second: i64| {
//!     let ts = arrow::array::TimestampMicrosecondArray::from(vec![second * 1_000_000]);
//!     RecordBatch::try_new(schema.clone(), vec![Arc::new(ts)]).expect("one column of one row")
//! };
//! let (source, feed) = feed(schema.clone(), 1);
//! let (results, sink) = collect();
//! let mut job = Job::named("fed-by-hand");
//! job.source(source)
//!     .event_time("ts", Watermarks::bounded(Duration::ZERO))
//!     .window(Tumbling::of(Duration::from_secs(10)))
//!     .aggregate([count().alias("n")])
//!     .sink(sink);
//! let running = job.start()?;
//! feed.push(0, at(1));
//! feed.push(0, at(11)); // the watermark passes the first window's end: it fires
//! wait_for(|| running.status().nodes.iter().any(|n| n.kind == "window" && n.counts.records_out == 1));
//! feed.end(0);
//! running.wait()?;
//! assert_eq!(results.rows(), 2);
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tidemill_core::source::{Offset, Read, ReadBatch, ReaderContext, Source, SplitId, SplitReader};
pub use tidemill_core::time::VirtualClock;
use tidemill_core::{Epoch, Error, Result};
pub use tidemill_runtime::{Crash, CrashPoint};

use crate::Job;

/// How long [`wait_for`] waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A source with `splits` splits, and the handle that feeds it.
pub fn feed(schema: SchemaRef, splits: usize) -> (FedSource, Feed) {
    let log = Arc::new(Mutex::new(vec![Log::default(); splits]));
    (FedSource { schema, log: log.clone() }, Feed { log })
}

/// Feeds a [`FedSource`]: rows come when a test says so.
#[derive(Clone)]
pub struct Feed {
    log: Arc<Mutex<Vec<Log>>>,
}

/// A source that a test feeds by hand. It remembers all rows, so that a job that has crashed reads
/// them again.
#[derive(Clone)]
pub struct FedSource {
    schema: SchemaRef,
    log: Arc<Mutex<Vec<Log>>>,
}

#[derive(Clone, Default)]
struct Log {
    batches: Vec<RecordBatch>,
    ended: bool,
    waker: Option<Waker>,
}

impl Feed {
    /// Gives rows to a split.
    ///
    /// # Panics
    /// When there is no such split.
    pub fn push(&self, split: usize, rows: RecordBatch) {
        let mut log = self.log.lock();
        log[split].batches.push(rows);
        if let Some(waker) = &log[split].waker {
            waker.wake_by_ref();
        }
    }

    /// Adds a split; a running job finds it when it looks for new ones. Returns its number.
    pub fn add_split(&self) -> usize {
        let mut log = self.log.lock();
        log.push(Log::default());
        log.len() - 1
    }

    /// Nothing more will come from a split.
    ///
    /// # Panics
    /// When there is no such split.
    pub fn end(&self, split: usize) {
        let mut log = self.log.lock();
        log[split].ended = true;
        if let Some(waker) = &log[split].waker {
            waker.wake_by_ref();
        }
    }
}

impl Source for FedSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok((0..self.log.lock().len()).map(|n| SplitId::new(format!("fed/{n}"))).collect())
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        let unknown = || Error::internal(format!("{split} is no split of this source"));
        let number = split.as_str().strip_prefix("fed/").and_then(|n| n.parse().ok());
        let split: usize = number.ok_or_else(unknown)?;
        let next = match from {
            None => 0,
            Some(offset) => offset.0.parse().map_err(|_| unknown())?,
        };
        let mut log = self.log.lock();
        log.get_mut(split).ok_or_else(unknown)?.waker = Some(context.waker.clone());
        drop(log);
        Ok(Box::new(FedReader { log: self.log.clone(), split, next }))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "fed by a test".to_owned()
    }
}

/// Reads one split; the offset is the number of rows before it.
struct FedReader {
    log: Arc<Mutex<Vec<Log>>>,
    split: usize,
    next: usize,
}

impl SplitReader for FedReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        let log = self.log.lock();
        let log = &log[self.split];
        let mut before = 0;
        for batch in &log.batches {
            if self.next < before + batch.num_rows() {
                let start = self.next - before;
                let rows = batch.slice(start, max_rows.min(batch.num_rows() - start));
                self.next += rows.num_rows();
                return Ok(Read::Batch(ReadBatch::clean(rows)));
            }
            before += batch.num_rows();
        }
        Ok(if log.ended { Read::End } else { Read::Pending })
    }

    fn offset(&self) -> Offset {
        Offset(self.next.to_string())
    }

    fn progress(&self) -> Option<(u64, u64)> {
        None
    }
}

/// Lets a job crash in its `epoch`-th checkpoint (1 is the first of the run): it ends with an error
/// there, as if the process had died.
pub fn crash_at(job: &mut Job, epoch: Epoch, at: CrashPoint) {
    job.settings().crash = Some(Crash { epoch, at });
}

/// Waits until a condition holds.
///
/// # Panics
/// When it does not hold after a minute.
pub fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited for {PATIENCE:?} in vain");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
