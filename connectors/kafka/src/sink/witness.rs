//! Which epoch the topic has: asked of two witnesses.
//!
//! The first is a consumer group of the committer's own whose committed offset is the epoch. It moves in the
//! transaction that writes the records, so it cannot disagree with them; but brokers forget the offsets of
//! groups that are silent for a week. The second is in the records: the last one of every transaction in
//! each partition has a header with the epoch.
//!
//! Invariant: an epoch is reported only if its transaction was committed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde::Serialize;
use tidemill_core::record::Header;
use tidemill_core::{Epoch, Error, Result};

use super::topic::Asking;
use crate::client::error::{Failure, from_code, from_kafka};
use crate::client::events::Events;
use crate::client::properties::ClientProperties;

/// The header of the last record of a transaction in a partition: `57 tidemill-orders-per_minute`.
pub(crate) const EPOCH_HEADER: &str = "tidemill-epoch";

/// The marker's partition, of the sink's topic.
const MARKER_PARTITION: i32 = 0;

/// How far back from the end of a partition the header is looked for. The committer's own
/// transactions end with it; other writers of the topic may have added records behind.
const LOOK_BACK: i64 = 2_000;

/// How long a single question may take, so that a refusal is noticed in between.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// The header of the last record of `epoch`'s transaction in a partition.
pub(crate) fn tag(transactional_id: &str, epoch: Epoch) -> Header {
    Header::new(EPOCH_HEADER, format!("{epoch} {transactional_id}"))
}

/// What the header costs on the wire, at most.
pub(crate) fn tag_bytes(transactional_id: &str) -> usize {
    EPOCH_HEADER.len() + transactional_id.len() + 40
}

/// What the group's offset is accompanied by, for people who look at it.
#[derive(Serialize)]
struct Marking<'a> {
    job: &'a str,
    epoch: Epoch,
    records: u64,
}

/// Asks both witnesses.
pub(crate) struct Witnesses {
    topic: String,
    transactional_id: String,
    consumer: BaseConsumer<Asking>,
}

impl Witnesses {
    /// For the committer with this transactional id.
    ///
    /// # Errors
    /// The properties are refused.
    pub fn open(
        name: &str,
        topic: &str,
        transactional_id: &str,
        properties: &ClientProperties,
    ) -> Result<Self> {
        let mut config = properties.config(&[]);
        config
            .set("group.id", format!("{transactional_id}-epoch"))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest");
        let consumer = config
            .create_with_context(Asking(Events::new(name, properties)))
            .map_err(|error| from_kafka(&error, format!("{name}: cannot make a consumer")))?;
        let (topic, transactional_id) = (topic.to_owned(), transactional_id.to_owned());
        Ok(Self { topic, transactional_id, consumer })
    }

    /// The group of the marker, for the transaction that moves it.
    pub fn group(&self) -> Result<ConsumerGroupMetadata> {
        let group = self.consumer.group_metadata();
        group.ok_or_else(|| Error::internal("a consumer with a group id has a group"))
    }

    /// The marker at `epoch`.
    pub fn marker(&self, job: &str, epoch: Epoch, records: u64) -> Result<TopicPartitionList> {
        let marking = serde_json::to_string(&Marking { job, epoch, records })
            .map_err(|error| Error::internal("a marker is always JSON").caused_by(error))?;
        let mut list = TopicPartitionList::new();
        let mut marker = list.add_partition(&self.topic, MARKER_PARTITION);
        let offset = i64::try_from(epoch)
            .map_err(|_| Error::internal("there are fewer epochs than offsets"))?;
        marker
            .set_offset(Offset::Offset(offset))
            .map_err(|error| from_kafka(&error, "the epoch marker"))?;
        marker.set_metadata(marking);
        Ok(list)
    }

    /// The marker where it is known, else the newest epoch at the ends of the partitions.
    ///
    /// # Errors
    /// The brokers do not answer within `patience`, or do not allow it.
    pub fn committed(&self, partitions: i32, patience: Duration) -> Result<Option<Epoch>> {
        let deadline = Instant::now() + patience;
        match self.marked(deadline)? {
            Some(epoch) => Ok(Some(epoch)),
            None => self.tagged(partitions, deadline),
        }
    }

    /// What the first witness says.
    fn marked(&self, deadline: Instant) -> Result<Option<Epoch>> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, MARKER_PARTITION);
        let answer = self.ask(deadline, "the group of the epoch marker", || {
            self.consumer.committed_offsets(list.clone(), ASK_TIMEOUT)
        })?;
        let marker = answer.find_partition(&self.topic, MARKER_PARTITION);
        Ok(match marker.map(|marker| marker.offset()) {
            Some(Offset::Offset(offset)) => u64::try_from(offset).ok(),
            _ => None,
        })
    }

    /// What the second witness says: reads the end of every partition.
    fn tagged(&self, partitions: i32, deadline: Instant) -> Result<Option<Epoch>> {
        let mut list = TopicPartitionList::new();
        let mut left = BTreeSet::new();
        for partition in 0..partitions {
            let (low, high) = self.ask(deadline, "the ends of the partitions", || {
                self.consumer.fetch_watermarks(&self.topic, partition, ASK_TIMEOUT)
            })?;
            if low < high {
                let from = Offset::Offset(low.max(high - LOOK_BACK));
                list.add_partition_offset(&self.topic, partition, from)
                    .map_err(|error| from_kafka(&error, "the ends of the partitions"))?;
                left.insert(partition);
            }
        }
        let reading = |error: KafkaError| from_kafka(&error, "reading the ends of the partitions");
        self.consumer.assign(&list).map_err(reading)?;
        let mut newest = None;
        while !left.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => newest = newest.max(self.epoch_of(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    left.remove(&partition);
                }
                Some(Err(error)) if !is_transient(&error) => return Err(reading(error)),
                _ if Instant::now() > deadline => {
                    return Err(self.consumer.context().0.silence(ASK_TIMEOUT));
                }
                _ => {}
            }
        }
        self.consumer.unassign().map_err(reading)?;
        Ok(newest)
    }

    /// The epoch in a record's header, where it is this committer's.
    fn epoch_of(&self, message: &rdkafka::message::BorrowedMessage<'_>) -> Option<Epoch> {
        // A dead letter may have the tag of whoever wrote its record, too.
        let tags = message.headers()?.iter().filter(|header| header.key == EPOCH_HEADER);
        let mut own = tags.filter_map(|tag| {
            let (epoch, id) = std::str::from_utf8(tag.value?).ok()?.split_once(' ')?;
            if id == self.transactional_id { epoch.parse().ok() } else { None }
        });
        own.next()
    }

    /// Asks until there is an answer.
    fn ask<T>(
        &self,
        deadline: Instant,
        what: &str,
        question: impl Fn() -> Result<T, KafkaError>,
    ) -> Result<T> {
        let events = &self.consumer.context().0;
        loop {
            // Errors and the wish for a token come through the queue that this serves.
            let _ = self.consumer.poll(Duration::ZERO);
            let error = match question() {
                Ok(answer) => {
                    events.answered();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if let Some(refusal) = events.refusal() {
                return Err(refusal);
            }
            if !is_transient(&error) {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                return Err(from_code(code, format!("{what} of topic '{}'", self.topic)));
            }
            if Instant::now() > deadline {
                return Err(events.silence(ASK_TIMEOUT));
            }
        }
    }
}

fn is_transient(error: &KafkaError) -> bool {
    let transient = |code| {
        Failure::of(code) == Failure::Transient || code == RDKafkaErrorCode::UnstableOffsetCommit
    };
    error.rdkafka_error_code().is_some_and(transient)
}
