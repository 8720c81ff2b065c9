//! Rows that will never be records of the topic: what cannot be encoded, what is too large, and what
//! has a timestamp that the topic does not take.
//!
//! Invariant: a refused row is handed on exactly once, with its bytes where it has any.

use std::sync::Arc;

use tidemill_core::Batch;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::SourceRecord;
use tidemill_core::source::SplitId;
use tidemill_core::time::Clock;

use super::lane::Refused;
use super::record::{Encoded, Outgoing};
use super::topic::Topic;

/// Collects what one writer refuses.
pub(crate) struct Refusals {
    topic: String,
    limits: Topic,
    /// Where timestamps are looked at: what they are compared with.
    clock: Option<Arc<dyn Clock>>,
    letters: Vec<DeadLetter>,
}

impl Refusals {
    pub fn new(topic: &str, limits: Topic) -> Self {
        Self { topic: topic.to_owned(), limits, clock: None, letters: Vec::new() }
    }

    /// Refuses for their timestamps too what brokers would refuse: in a transaction they would refuse all
    /// of it, again and again.
    pub fn of_times(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// The record of a row, where the topic can take it.
    pub fn check<'a>(
        &mut self,
        batch: &Batch,
        row: usize,
        record: Encoded<'a>,
    ) -> Option<Outgoing<'a>> {
        let (record, reason) = match record {
            Ok(record) => match self.wrong_with(&record) {
                None => return Some(record),
                Some(reason) => (record.to_record(&self.topic), reason),
            },
            Err(reason) => {
                // There are no bytes of its own: those that it came from, where they are at hand.
                let origin = batch.origin.as_ref().and_then(|origin| origin.record(row));
                let record = origin.unwrap_or_else(|| SourceRecord {
                    position: format!("to {}", self.topic),
                    ..SourceRecord::default()
                });
                (record, reason)
            }
        };
        let split = batch.origin.as_ref().map(|origin| origin.split.clone());
        let split = split.unwrap_or_else(|| SplitId::new(&self.topic));
        self.letters.push(DeadLetter::new(split, record, reason));
        None
    }

    fn wrong_with(&self, record: &Outgoing<'_>) -> Option<String> {
        let Self { topic, limits, .. } = self;
        let (bytes, limit) = (record.wire_size(), limits.max_bytes);
        if bytes > limit {
            return Some(format!(
                "topic '{topic}' takes records of at most {limit} bytes, and this one has {bytes}: raise \
                 the topic's 'max.message.bytes' and 'properties.max.request.size'"
            ));
        }
        if limits.is_compacted && record.key.is_none() {
            return Some(format!("topic '{topic}' is compacted, and the record has no key"));
        }
        let (clock, timestamp) = (self.clock.as_ref()?, record.timestamp?);
        let age = (clock.now().div_euclid(1000)).saturating_sub(timestamp);
        let (limit, side) = match age {
            ..0 => (limits.times.after, "after"),
            0.. => (limits.times.before, "before"),
        };
        let age = age.saturating_abs();
        (age > limit).then(|| {
            format!(
                "topic '{topic}' takes timestamps of at most {limit} ms {side} the record is written, with \
                 some room for its checkpoint, and this one is {age} ms {side}: raise the topic's \
                 'message.timestamp.{side}.max.ms', or set its 'message.timestamp.type' to \
                 'LogAppendTime'"
            )
        })
    }

    /// A record that the broker has refused.
    pub fn letter(&self, refused: Refused) -> DeadLetter {
        let Refused { record, reason, attempts } = refused;
        DeadLetter { attempts, ..DeadLetter::new(SplitId::new(&self.topic), record, reason) }
    }

    pub fn take(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.letters)
    }
}
