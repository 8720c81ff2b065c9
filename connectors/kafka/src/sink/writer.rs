//! One shard's writer where records go out as they come: at least once, or without a guarantee.
//!
//! Invariant: a writer stages nothing, and says `Ready` at a barrier only when all that it wrote before is
//! acknowledged or refused. So a checkpoint never passes an undelivered record.

use std::task::Poll;

use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::sink::{SinkWriter, Staged};
use tidemill_core::{Batch, Epoch, Result};

use super::produce::RecordProducer;
use super::record::{Outgoing, RecordEncoder};
use super::refusals::Refusals;
use crate::partitioner::{Partitioner, Partitioning};

/// See the module.
pub(crate) struct SendingWriter {
    pub topic: String,
    pub encoder: Box<dyn RecordEncoder>,
    pub producer: RecordProducer,
    /// Chooses partitions where librdkafka's hash of the key is not wanted, and among how many.
    pub partitioner: Option<(Partitioner, i32)>,
    /// Whether a barrier waits for acknowledgements.
    pub waits: bool,
    pub refusals: Refusals,
}

/// The partitioner of a shard: librdkafka's own for hashes of keys, which follows the topic as it grows.
pub(crate) fn partitioner(
    partitioning: Partitioning,
    shard: usize,
    partitions: i32,
) -> Option<(Partitioner, i32)> {
    let own = partitioning != Partitioning::KeyHash;
    own.then(|| (Partitioner::new(partitioning, shard), partitions))
}

impl SinkWriter for SendingWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        self.producer.check()?;
        Ok(if self.producer.is_full() { Poll::Pending } else { Poll::Ready(()) })
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let Self { topic, encoder, producer, partitioner, refusals, .. } = self;
        encoder.encode(batch, &mut |row, record| {
            let Some(record) = refusals.check(batch, row, record) else { return Ok(()) };
            let partition = partitioner.as_mut().map(|(partitioner, partitions)| {
                partitioner.choose(record.key, record.wire_size(), *partitions)
            });
            producer.send(topic, &Outgoing { partition: record.partition.or(partition), ..record })
        })
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        self.producer.check()?;
        let delivered = !self.waits || self.producer.outstanding() == 0;
        Ok(if delivered { Poll::Ready(Staged::default()) } else { Poll::Pending })
    }

    fn buffered_bytes(&self) -> usize {
        self.producer.outstanding_bytes()
    }

    fn take_refused(&mut self) -> Vec<DeadLetter> {
        let refused = self.producer.take_refused();
        let mut letters = self.refusals.take();
        letters.extend(refused.into_iter().map(|refused| self.refusals.letter(refused)));
        letters
    }
}
