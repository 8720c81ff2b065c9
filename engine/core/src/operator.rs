//! What an operator must do, and in which order it is called.
//!
//! ```text
//! restore* ─▶ ( (process | receive)* ─▶ watermark* ─▶ barrier )*
//! ```
//!
//! One shard's thread calls all methods of an operator; none may block. Whatever an operator
//! emits has reached everything downstream, or waits in order, before its next element comes.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::dead_letter::DeadLetter;
use crate::element::{Batch, Epoch, Parcel};
use crate::error::{Error, Result};
use crate::key::KeyGroup;
use crate::part::Part;
use crate::time::{Clock, EventTime};

/// An operator on one shard.
pub trait Operator: Send {
    /// Takes a batch from input number `input`.
    fn process(&mut self, input: usize, batch: Batch, out: &mut dyn Output) -> Result<()>;

    /// Takes what the operator before the exchange has handed over to this shard.
    ///
    /// # Errors
    /// An operator that is behind no exchange gets none: an internal error.
    fn receive(&mut self, parcel: Parcel, _out: &mut dyn Output) -> Result<()> {
        Err(Error::internal(format!("{parcel:?} came to an operator that takes none")))
    }

    /// The minimum watermark over all inputs has risen to `watermark`. Results that it completes
    /// are emitted here; the runtime forwards the watermark itself afterwards.
    ///
    /// Returning [`Progress::More`] stops for now: the runtime lets what was emitted drain and
    /// calls again with the same watermark. Firing many windows a few at a time this way keeps memory
    /// bounded.
    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress>;

    /// A barrier has come on all inputs: what is buffered for downstream must be emitted now, and
    /// state handed over. The runtime forwards the barrier itself afterwards.
    fn barrier(&mut self, barrier: Barrier, out: &mut dyn Output) -> Result<StateChange>;

    /// Takes back a fragment that an earlier [`Operator::barrier`] handed over, perhaps on another
    /// shard: rows outside this shard's key groups must be left out. Fragments of one schema may come
    /// back joined into one, and with them rows that are needed no longer: by the fragment's watermark
    /// the operator knows what it had completed.
    fn restore(&mut self, fragment: StateFragment) -> Result<()>;

    /// Bytes of state held now, for metrics and the memory budget.
    fn state_bytes(&self) -> usize;
}

/// Whether an operator has emitted all that a watermark completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All of it.
    Done,
    /// Call again with the same watermark.
    More,
}

/// A barrier, as an operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// The epoch that ends here.
    pub epoch: Epoch,
    /// The state must be handed over whole ([`StateChange::Replace`]), not as an increment.
    pub full: bool,
    /// Whether the state is going to be kept at all; without checkpoints an operator may return
    /// [`StateChange::default`] and keep nothing for increments.
    pub checkpointed: bool,
}

/// How an operator's state changed in an epoch.
#[derive(Debug)]
pub enum StateChange {
    /// These fragments on top of all that came before.
    Append(Vec<StateFragment>),
    /// These fragments instead of all that came before.
    Replace(Vec<StateFragment>),
}

impl Default for StateChange {
    fn default() -> Self {
        Self::Append(Vec::new())
    }
}

/// A piece of state: rows that the operator can merge back.
#[derive(Debug, Clone)]
pub struct StateFragment {
    /// The rows, in a schema of the operator's own.
    pub rows: RecordBatch,
    /// The fragment may be dropped once the operator's watermark has reached this; it may also come
    /// back later, together with others that are needed longer.
    pub needed_until: EventTime,
    /// The operator's watermark when the fragment became part of a checkpoint: what it completed
    /// has been emitted. Filled in by the runtime when it restores.
    pub watermark: EventTime,
}

/// Where an operator's results, counts and rejects go.
pub trait Output {
    /// Rows for everything downstream.
    fn emit(&mut self, batch: Batch);

    /// Partial aggregates for the operator behind the exchange, on the shard that owns them. Only the
    /// operator before an exchange may do this.
    fn hand_over(&mut self, parcel: Parcel);

    /// These rows ended here, with this fate. Every row that enters an operator is emitted, counted
    /// into a window, or accounted for here: the sums must add up.
    fn account(&mut self, fate: Fate, rows: usize);

    /// Late rows, for the late output where one is connected. Does not account for them.
    fn late(&mut self, rows: RecordBatch);

    /// Rows that a function declined ([`ErrorKind::Business`](crate::ErrorKind::Business)), with the
    /// columns of [`declined_schema`](crate::graph::declined_schema), for the side output where one is
    /// connected. Does not account for them.
    fn declined(&mut self, batch: Batch);

    /// Rows that could not be processed, for the dead-letter output. Accounts for them as
    /// [`Fate::DeadLettered`]; an error where the source of the rows says `'on-error' = 'fail'`.
    fn dead_letter(&mut self, letter: DeadLetter) -> Result<()>;
}

/// What became of a row that went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in at least one window's aggregates.
    Counted,
    /// All its windows had passed by its own split's watermark.
    Late,
    /// A predicate was not true for it, or a user's function dropped or declined it.
    Filtered,
    /// It could not be decoded or processed.
    DeadLettered,
    /// It came faster than rows could be processed, and its source is one that then drops some
    /// ([`Buffer`](crate::graph::Buffer)).
    Dropped,
}

/// What an operator gets from the shard that runs it.
#[derive(Clone)]
pub struct OperatorContext {
    /// The operator's name in the job, for metrics and messages.
    pub node: Arc<str>,
    /// This shard's number.
    pub shard: usize,
    /// How many shards there are.
    pub shards: usize,
    /// The key groups that this shard owns.
    pub key_groups: Range<KeyGroup>,
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
    /// Whether barriers will ask for increments of the state. Where not, an operator keeps none.
    pub checkpointed: bool,
}

/// Makes an operator for each shard.
pub trait OperatorFactory: Send + Sync {
    /// Columns of what it emits.
    fn schema(&self) -> SchemaRef;

    /// An operator for one shard.
    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>>;

    /// What the operator does, in one line for `explain`.
    fn describe(&self) -> String;

    /// All that its state depends on. A checkpoint whose fingerprint differs is refused.
    fn fingerprint(&self) -> String;

    /// What its results depend on, where it keeps no state and can say. `None`: its fingerprint
    /// stands for it, and it needs every column of its input.
    fn parts(&self) -> Option<Vec<Part>> {
        None
    }
}

/// Makes the operators of a keyed aggregation, which the runtime lays out to suit the shards:
/// one operator where there is nothing to exchange, else a combiner before the exchange and a
/// merger behind it. State of either layout restores into the other.
pub trait KeyedFactory: Send + Sync {
    /// Columns of what it emits.
    fn schema(&self) -> SchemaRef;

    /// Columns of the partial aggregates by which the exchange routes: a row's key group is that of
    /// these columns' hash. Empty: all rows have one owner.
    fn key_columns(&self) -> Vec<usize>;

    /// The operator before the exchange: rows in, partial aggregates out, empty at every barrier.
    fn combiner(&self, context: &OperatorContext) -> Result<Box<dyn Operator>>;

    /// The operator behind the exchange: partial aggregates in, results out.
    fn merger(&self, context: &OperatorContext) -> Result<Box<dyn Operator>>;

    /// Both in one, for a single shard.
    fn fused(&self, context: &OperatorContext) -> Result<Box<dyn Operator>>;

    /// What it does, in one line for `explain`, and all that its state depends on.
    fn describe(&self) -> KeyedDescription;
}

/// What a [`KeyedFactory`] says of itself.
#[derive(Debug, Clone)]
pub struct KeyedDescription {
    /// One line for `explain`.
    pub line: String,
    /// All that its state depends on. A checkpoint whose fingerprint differs is refused.
    pub fingerprint: String,
    /// The same, part by part: a checkpoint with other parts is refused.
    pub parts: Vec<Part>,
    /// By how many microseconds the event time of its results may lie below the watermark that it
    /// has passed on before them: watermarks are forwarded so much lower.
    pub hold_back: i64,
}
