//! What a source must do: list its splits, read each in order from any offset.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::dead_letter::DeadLetter;
use crate::element::Epoch;
use crate::error::Result;
use crate::need::Need;
use crate::record::Records;
use crate::time::Clock;

/// Name of a split, unique and stable within its source: `orders/3`, `data/a.csv`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SplitId(Arc<str>);

impl SplitId {
    /// A split of this name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Position in a split, in the source's own notation: the **next** record to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub String);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A replayable input: an ordered set of splits.
///
/// The engine calls [`Source::splits`] (or [`Source::splits_again`]) when a job starts, spreads the splits over its shards and
/// opens a reader for each on the shard that owns it. While the job runs it asks an unbounded source
/// again from time to time, off the shards' threads, and opens what is new.
pub trait Source: Send + Sync {
    /// The columns of every batch that its readers return.
    fn schema(&self) -> SchemaRef;

    /// Whether every split ends.
    fn is_bounded(&self) -> bool;

    /// The splits there are now. The same call later may return more, never fewer. While the job
    /// runs, an error of kind [`Transient`](crate::ErrorKind::Transient) means that it could not be
    /// found out this time; any other ends the job.
    fn splits(&self) -> Result<Vec<SplitId>>;

    /// As [`Source::splits`], for a job that goes on from a checkpoint with offsets of the splits
    /// `known`: what is read in several splits must be cut as it was then. By default splits do not
    /// depend on it.
    fn splits_again(&self, known: &[SplitId]) -> Result<Vec<SplitId>> {
        let _ = known;
        self.splits()
    }

    /// A reader of `split` that starts at `from`, or at the source's own start where it is `None`.
    ///
    /// Reading again from an offset must give the same records in the same order: the engine's
    /// exactly-once rests on it.
    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>>;

    /// Checkpoint `epoch` exists and holds everything before these offsets, so the outside may be
    /// told (commit group offsets, acknowledge). Idempotent; called off the shards' threads. A
    /// source with nobody to tell returns `Ok(())`.
    fn checkpointed(&self, epoch: Epoch, offsets: &[(SplitId, Offset)]) -> Result<()>;

    /// One line for `explain`: the connector and what it reads, without secrets. Offsets of a checkpoint
    /// are given only to a source whose first word is the same.
    fn describe(&self) -> String;

    /// The same source for a job that looks at no more than this of its columns, in the schema's order: the
    /// same schema, splits, offsets and records, but what is not needed may be null where the schema
    /// allows it. `None`, as by default, where that would save nothing: the job reads this one.
    fn reading(&self, _: &[Need]) -> Option<Arc<dyn Source>> {
        None
    }
}

/// What a reader gets from the shard that runs it.
#[derive(Clone)]
pub struct ReaderContext {
    /// Wakes the shard: call it when a reader that said [`Read::Pending`] has something.
    pub waker: Waker,
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
    /// The job's name.
    pub job: Arc<str>,
    /// The split was not there when the job first started: it begins at its beginning, wherever the
    /// source was told to start.
    pub discovered: bool,
    /// Whether the job makes checkpoints.
    pub checkpointed: bool,
}

/// Reads one split, in order, on one thread.
pub trait SplitReader: Send {
    /// The next records, at most `max_rows` of them; what is there now, without waiting for more.
    ///
    /// An error ends the job. A bad record is no error: it goes into [`Records read`](ReadBatch).
    fn read(&mut self, max_rows: usize) -> Result<Read>;

    /// The offset behind the last record that [`SplitReader::read`] returned.
    fn offset(&self) -> Offset;

    /// How many of how many units (bytes, or rows) are read, for a progress bar; `None` where the
    /// end is not known.
    fn progress(&self) -> Option<(u64, u64)>;

    /// How far the reader is behind what its split holds; `None` where the source cannot tell.
    fn lag(&self) -> Option<Lag> {
        None
    }

    /// Whether there are records that cannot be read yet through no fault of their own (a server that
    /// is needed to decode them is away). Such a split is not idle: its rows come, and must not be
    /// late. Asked after [`Read::Pending`].
    fn waits(&self) -> bool {
        false
    }

    /// Whether all records of the split are there already, as in memory or in a file: a read that found
    /// less than it was asked for is followed by the next at once. Other splits are left alone for the
    /// linger time then, so that rows gather.
    fn is_at_hand(&self) -> bool {
        false
    }
}

/// How far a reader is behind the end of its split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Behind the end: the record that is read next.
    pub position: Behind,
    /// Behind the end: what the outside has been told ([`Source::checkpointed`]); `None` before that.
    pub committed: Option<Behind>,
}

/// A distance from the end of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Behind {
    /// In records.
    pub records: u64,
    /// In time: the age of the oldest record that is not read; zero where there is none.
    pub time: Duration,
}

/// What a read returned.
pub enum Read {
    /// Records.
    Batch(ReadBatch),
    /// Nothing now: the shard asks again after its linger time, or when woken.
    Pending,
    /// Nothing will come any more.
    End,
}

/// Records as they were read.
pub struct ReadBatch {
    /// The decoded rows, in the split's order. May be empty when every record was bad.
    pub rows: RecordBatch,
    /// Records that could not be decoded; with [`Self::rows`] and [`Self::skipped`] they are all
    /// records read.
    pub dead_letters: Vec<DeadLetter>,
    /// How many records carry no row by design, such as tombstones. They count as filtered.
    pub skipped: usize,
    /// The bytes behind the rows, where the reader keeps them.
    pub records: Option<Arc<dyn Records>>,
}

impl ReadBatch {
    /// Rows with no bad record among them.
    pub fn clean(rows: RecordBatch) -> Self {
        Self { rows, dead_letters: Vec::new(), skipped: 0, records: None }
    }
}
