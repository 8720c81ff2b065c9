//! One shard's writer where records wait for their checkpoint: exactly once.
//!
//! Invariant: nothing reaches the topic from here. What a shard wrote since the last barrier is what it
//! stages, in order.

use std::task::Poll;

use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::sink::{SinkWriter, Staged};
use tidemill_core::{Batch, Epoch, Result};

use super::record::RecordEncoder;
use super::refusals::Refusals;
use super::staged::StagedRecords;

/// See the module.
pub(crate) struct StagingWriter {
    encoder: Box<dyn RecordEncoder>,
    refusals: Refusals,
    staged: StagedRecords,
}

impl StagingWriter {
    pub fn new(shard: usize, encoder: Box<dyn RecordEncoder>, refusals: Refusals) -> Self {
        Self { encoder, refusals, staged: StagedRecords::new(shard) }
    }
}

impl SinkWriter for StagingWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let Self { encoder, refusals, staged } = self;
        encoder.encode(batch, &mut |row, record| match refusals.check(batch, row, record) {
            Some(record) => staged.push(&record),
            None => Ok(()),
        })
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        self.staged.finish().map(Poll::Ready)
    }

    fn buffered_bytes(&self) -> usize {
        self.staged.held_bytes()
    }

    fn take_refused(&mut self) -> Vec<DeadLetter> {
        self.refusals.take()
    }
}
