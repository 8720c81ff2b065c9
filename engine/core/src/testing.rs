//! A harness that drives one operator by hand.

use std::sync::Arc;
use std::task::Waker;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::dead_letter::DeadLetter;
use crate::element::{Batch, Epoch, Parcel};
use crate::error::Result;
use crate::key;
use crate::operator::{Barrier, Fate, Operator, OperatorContext, Output, Progress, StateChange};
use crate::retry::RetrySettings;
use crate::sink::SinkContext;
use crate::source::ReaderContext;
use crate::time::{Clock, EventTime, SystemClock, VirtualClock};

/// Everything that an operator put out.
#[derive(Debug, Default)]
pub struct Collected {
    /// Emitted batches, in order.
    pub batches: Vec<Batch>,
    /// What was handed over to shards, in order.
    pub parcels: Vec<Parcel>,
    /// Late rows, in order.
    pub late: Vec<RecordBatch>,
    /// Declined rows, in order.
    pub declined: Vec<Batch>,
    /// Dead letters, in order.
    pub dead_letters: Vec<DeadLetter>,
    /// Rows by fate: counted, late, filtered, dead-lettered, dropped.
    pub fates: [usize; 5],
}

impl Collected {
    /// How many rows had this fate.
    pub fn fate(&self, fate: Fate) -> usize {
        self.fates[index(fate)]
    }

    /// Emitted rows, and groups handed over.
    pub fn rows(&self) -> usize {
        let groups: usize = self.parcels.iter().map(|parcel| parcel.groups).sum();
        groups + self.batches.iter().map(Batch::len).sum::<usize>()
    }
}

impl Output for Collected {
    fn emit(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    fn hand_over(&mut self, parcel: Parcel) {
        self.parcels.push(parcel);
    }

    fn account(&mut self, fate: Fate, rows: usize) {
        self.fates[index(fate)] += rows;
    }

    fn late(&mut self, rows: RecordBatch) {
        self.late.push(rows);
    }

    fn declined(&mut self, batch: Batch) {
        self.declined.push(batch);
    }

    fn dead_letter(&mut self, letter: DeadLetter) -> Result<()> {
        self.account(Fate::DeadLettered, 1);
        self.dead_letters.push(letter);
        Ok(())
    }
}

fn index(fate: Fate) -> usize {
    match fate {
        Fate::Counted => 0,
        Fate::Late => 1,
        Fate::Filtered => 2,
        Fate::DeadLettered => 3,
        Fate::Dropped => 4,
    }
}

/// The context of shard `shard` of `shards` for an operator called `operator`, with a clock that stands still at 0 and checkpoints on.
pub fn context(shard: usize, shards: usize) -> OperatorContext {
    let clock = Arc::new(VirtualClock::default());
    let key_groups = key::owned(shard, shards);
    let node = "operator".into();
    OperatorContext { node, shard, shards, key_groups, clock, checkpointed: true }
}

/// What a reader gets in a job called `test` with checkpoints, with nobody to wake.
pub fn reader_context(clock: Arc<dyn Clock>) -> ReaderContext {
    ReaderContext {
        waker: Waker::noop().clone(),
        clock,
        job: "test".into(),
        discovered: false,
        checkpointed: true,
    }
}

/// What the writer of shard `shard` gets in a job called `test` with checkpoints, whose sink is
/// called `sink`, with nobody to wake.
pub fn sink_context(shard: usize, first_epoch: Epoch, schema: SchemaRef) -> SinkContext {
    SinkContext {
        job: "test".to_owned(),
        node: "sink".to_owned(),
        shard,
        first_epoch,
        schema,
        waker: Waker::noop().clone(),
        checkpointed: true,
        clock: Arc::new(SystemClock::default()),
        machine_output: false,
        retry: RetrySettings::default(),
    }
}

/// Raises an operator's watermark and lets it emit all that this completes.
pub fn advance(operator: &mut dyn Operator, to: EventTime, out: &mut dyn Output) -> Result<()> {
    while operator.watermark(to, out)? == Progress::More {}
    Ok(())
}

/// Sends an operator a barrier with checkpoints on.
pub fn barrier(
    operator: &mut dyn Operator,
    epoch: Epoch,
    full: bool,
    out: &mut dyn Output,
) -> Result<StateChange> {
    operator.barrier(Barrier { epoch, full, checkpointed: true }, out)
}
