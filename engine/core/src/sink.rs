//! What a sink must do: write on every shard, stage at a barrier, commit once.
//!
//! ```text
//! write* ─▶ stage(e) ─▶ [manifest of e is published] ─▶ commit(e) ─▶ …
//!   └── each shard's writer ──┘                          └ one committer ┘
//! ```
//!
//! # A call that fails for a while
//!
//! An error of kind [`Transient`](crate::ErrorKind::Transient) from any of these calls says: nothing has come of
//! it, and it may be made again. The runtime makes it again, with what the table or the builder says
//! ([`SinkContext::retry`]): waits that grow, a circuit breaker that all shards of the sink share, and an end
//! of patience, when the job fails with the last error. Meanwhile the sink's input waits, and barriers with it;
//! status, metrics and stopping do not.
//!
//! | call | what a transient error means |
//! |---|---|
//! | [`write`](SinkWriter::write) | nothing of the batch was taken: `poll_ready`, then `write` with the same batch come again |
//! | [`poll_ready`](SinkWriter::poll_ready), [`poll_stage`](SinkWriter::poll_stage) | it is asked again; what was written stands |
//! | [`commit`](SinkCommitter::commit), [`committed`](SinkCommitter::committed) | nothing, or all, of the epoch is visible: the same call comes again |
//!
//! A sink whose deliveries fail later than the call that took them (it has I/O of its own behind a queue)
//! retries them itself, by the same settings, and says `Pending` meanwhile. Every other kind of error ends the
//! job at once.

use std::sync::Arc;
use std::task::{Poll, Waker};

use arrow::datatypes::SchemaRef;

use crate::dead_letter::DeadLetter;
use crate::element::{Batch, Epoch};
use crate::error::Result;
use crate::retry::RetrySettings;
use crate::time::Clock;

/// How often a result may arrive outside, with the reason in words for `explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantee {
    /// The guarantee.
    pub delivery: Delivery,
    /// Why this one, and what would make it stronger.
    pub why: String,
}

/// How often a result may arrive outside when the job crashes and recovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Once: staged output is committed together with its epoch.
    ExactlyOnce,
    /// Several times with the same content under the same key, so that the last write wins.
    EffectivelyOnce,
    /// Once, or again after a crash.
    AtLeastOnce,
    /// Perhaps never.
    AtMostOnce,
}

impl std::fmt::Display for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "exactly once",
            Self::EffectivelyOnce => "effectively once",
            Self::AtLeastOnce => "at least once",
            Self::AtMostOnce => "at most once",
        })
    }
}

/// Somewhere that results go.
pub trait Sink: Send + Sync {
    /// What happens to results in a crash, with (`checkpointed`) or without checkpoints.
    fn guarantee(&self, checkpointed: bool) -> Guarantee;

    /// The writer of one shard.
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>>;

    /// The committer, one for the whole job. A sink whose writers have already delivered by the
    /// time they stage returns [`Delivered`].
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>>;

    /// One line for `explain`: the connector and where it writes, without secrets. What was staged is given
    /// only to a committer of a sink whose first word is the same.
    fn describe(&self) -> String;
}

/// What writers and committers get from the job.
#[derive(Clone)]
pub struct SinkContext {
    /// The job's name.
    pub job: String,
    /// The sink's name in the job, for metrics and messages.
    pub node: String,
    /// Shard of this writer; 0 for the committer.
    pub shard: usize,
    /// The epoch that this run starts in: one more than the checkpoint it was restored from.
    pub first_epoch: Epoch,
    /// Columns of every batch.
    pub schema: SchemaRef,
    /// Wakes the shard: call it when a writer that was not ready has become so.
    pub waker: Waker,
    /// Whether the job makes checkpoints.
    pub checkpointed: bool,
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
    /// The results on their way out are for a machine (`-o json`) rather than for a person.
    pub machine_output: bool,
    /// When calls that fail for a while are made again: for sinks with I/O of their own. What a sink's
    /// calls return as transient is made again by the runtime.
    pub retry: RetrySettings,
}

/// Writes one shard's results. Called from one thread, never concurrently.
pub trait SinkWriter: Send {
    /// Whether [`SinkWriter::write`] may be called. A writer that says `Pending` wakes the shard
    /// when it has room; meanwhile its input waits, and so, link by link, the source.
    fn poll_ready(&mut self) -> Result<Poll<()>>;

    /// Takes a batch. Called only after `poll_ready` said `Ready`. Rows that are still one record of
    /// a source each have that record's headers ([`Batch::headers`]).
    fn write(&mut self, batch: &Batch) -> Result<()>;

    /// Hands over what was written since the last barrier. `Pending` means that some of it is not
    /// yet acknowledged: the shard asks again when woken, and writes nothing in between.
    ///
    /// The bytes go into the checkpoint and come back in [`SinkCommitter::commit`]: they must be
    /// all that it takes to deliver (or to finish delivering) the epoch.
    fn poll_stage(&mut self, epoch: Epoch) -> Result<Poll<Staged>>;

    /// Rows written since the last call that the outside refuses for good (too large, not allowed):
    /// the job's policy decides what becomes of them. Asked for after every other call; what belongs
    /// to an epoch is returned by the time it is staged.
    fn take_refused(&mut self) -> Vec<DeadLetter> {
        Vec::new()
    }

    /// Bytes that it holds of what was written (on their way, or to be staged), for metrics and the
    /// memory budget. Asked for after every batch, so it must cost next to nothing.
    fn buffered_bytes(&self) -> usize {
        0
    }
}

/// What one shard's writer handed over at a barrier. Empty where nothing is left to commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staged(pub Vec<u8>);

/// Makes staged output visible, once its epoch exists.
pub trait SinkCommitter: Send {
    /// The last epoch that is visible outside; `None` where the outside does not say, and then
    /// [`SinkCommitter::commit`] is called again for the restored epoch.
    fn committed(&mut self) -> Result<Option<Epoch>>;

    /// Makes the staged output of `epoch` visible, all shards' in one go. Idempotent: after a
    /// crash it is called again with the same bytes.
    fn commit(&mut self, epoch: Epoch, staged: &[Staged]) -> Result<()>;
}

/// The committer of a sink whose writers have delivered by the time they stage.
pub struct Delivered;

impl SinkCommitter for Delivered {
    fn committed(&mut self) -> Result<Option<Epoch>> {
        Ok(None)
    }

    fn commit(&mut self, _: Epoch, _: &[Staged]) -> Result<()> {
        Ok(())
    }
}

/// A sink behind a pointer that graphs share.
pub type SinkRef = Arc<dyn Sink>;
