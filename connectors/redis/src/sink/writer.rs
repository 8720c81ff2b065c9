//! One shard's writers: one that sends what it is given, and one that keeps it for the checkpoint.
//!
//! Invariants: the first stages nothing, and says `Ready` at a barrier only when all that it wrote before is
//! acknowledged or refused; from the second nothing reaches Redis, and what it wrote since the last barrier
//! is what it stages, in order.

use std::sync::Arc;
use std::task::Poll;

use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::sink::{SinkWriter, Staged};
use tidemill_core::{Batch, Epoch, Result};

use super::encode::WriteEncoder;
use super::lane::Lane;
use super::refusals::Refusals;
use super::sender::{Sender, SenderSettings};
use super::staged::StagedWrites;
use super::writes::Writes;

/// At least once.
pub(crate) struct SendingWriter {
    encoder: Box<dyn WriteEncoder>,
    lane: Arc<Lane>,
    refusals: Refusals,
}

impl SendingWriter {
    /// # Errors
    /// As for [`Sender::spawn`].
    pub fn open(
        encoder: Box<dyn WriteEncoder>,
        settings: SenderSettings,
        lane: Lane,
    ) -> Result<Self> {
        let refusals = Refusals::new(&settings.place);
        let lane = Arc::new(lane);
        Sender::spawn(settings, lane.clone())?;
        Ok(Self { encoder, lane, refusals })
    }
}

impl SinkWriter for SendingWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        self.lane.check()?;
        Ok(if self.lane.is_full() { Poll::Pending } else { Poll::Ready(()) })
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let Self { encoder, lane, refusals } = self;
        let mut writes = Writes::default();
        encoder.encode(batch, &mut |row, write| {
            refusals.check(batch, row, write).into_iter().for_each(|write| writes.push(write));
            Ok(())
        })?;
        lane.push(writes);
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        self.lane.check()?;
        Ok(if self.lane.is_empty() { Poll::Ready(Staged::default()) } else { Poll::Pending })
    }

    fn take_refused(&mut self) -> Vec<DeadLetter> {
        self.lane.take_refused().into_iter().for_each(|refused| self.refusals.refused(refused));
        self.refusals.take()
    }

    fn buffered_bytes(&self) -> usize {
        self.lane.bytes()
    }
}

impl Drop for SendingWriter {
    fn drop(&mut self) {
        self.lane.close();
    }
}

/// Exactly once.
pub(crate) struct StagingWriter {
    encoder: Box<dyn WriteEncoder>,
    refusals: Refusals,
    staged: StagedWrites,
}

impl StagingWriter {
    /// `place` says where results go.
    pub fn new(encoder: Box<dyn WriteEncoder>, place: &str) -> Self {
        Self { encoder, refusals: Refusals::new(place), staged: StagedWrites::default() }
    }
}

impl SinkWriter for StagingWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let Self { encoder, refusals, staged } = self;
        encoder.encode(batch, &mut |row, write| match refusals.check(batch, row, write) {
            Some(write) => staged.push(write),
            None => Ok(()),
        })
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        self.staged.finish().map(Poll::Ready)
    }

    fn take_refused(&mut self) -> Vec<DeadLetter> {
        self.refusals.take()
    }

    fn buffered_bytes(&self) -> usize {
        self.staged.size()
    }
}
