//! Reads the letters of a topic, and remembers which of them were replayed.
//!
//! Invariant: reading ends at what the topic held when it began; nothing is committed but what a caller says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tidemill_core::record::{Header, SourceRecord};
use tidemill_core::{Error, Result};

use super::address::Address;
use super::headers;
use super::letter::Letter;
use super::progress::Progress;
use crate::client::connection::{Connection, PATIENCE};
use crate::client::{Events, error, topics};

/// How long a record is waited for at a time.
const POLL: Duration = Duration::from_millis(200);

/// A letter in its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The letter.
    pub letter: Letter,
    /// How many bytes the payload had, where the topic was too small for it.
    pub omitted_bytes: Option<u64>,
}

/// A topic of dead letters.
pub struct LetterTopic {
    connection: Connection,
    topic: String,
    partitions: i32,
}

impl LetterTopic {
    /// Connects to the topic; `group` is who remembers what was replayed.
    ///
    /// # Errors
    /// Brokers that do not answer or do not let the client in, and a topic that is not there.
    pub fn open(address: &Address, group: &str) -> Result<Self> {
        let topic = address.topic()?.to_owned();
        let properties = address.properties()?;
        let name = format!("dead letters in {topic}");
        let config = properties.config(&[
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "earliest"),
        ]);
        let connection = Connection::open(&config, Arc::new(Events::new(&name, &properties)))?;
        let found = topics::describe(&connection, std::slice::from_ref(&topic))?.pop().flatten();
        let partitions = found.map(|topic| topic.partitions).ok_or_else(|| {
            Error::configuration(format!("{address}: there is no topic '{topic}'"))
        })?;
        Ok(Self { connection, topic, partitions })
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The letters of a partition from `start` on, up to what it holds now, in order, until `each` says
    /// that it has enough (`false`). Returns the offset behind the last.
    ///
    /// # Errors
    /// Brokers that fail, and whatever `each` returns.
    pub fn read(
        &self,
        partition: i32,
        start: i64,
        each: &mut dyn FnMut(Stored) -> Result<bool>,
    ) -> Result<i64> {
        let consumer = self.connection.consumer();
        let (first, end) = self.connection.ask("where its letters end", |timeout| {
            consumer.fetch_watermarks(&self.topic, partition, timeout)
        })?;
        let start = start.max(first);
        if start >= end {
            return Ok(end);
        }
        let queue = consumer.split_partition_queue(&self.topic, partition);
        let queue = queue.ok_or_else(|| Error::internal("a partition without a queue"))?;
        let mut assignment = TopicPartitionList::new();
        self.place(&mut assignment, partition, start)?;
        consumer.assign(&assignment).map_err(|error| self.failed(&error))?;
        let mut heard = Instant::now();
        loop {
            let message = match queue.poll(POLL) {
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => return Err(self.failed(&error)),
                None if heard.elapsed() > PATIENCE => {
                    return Err(self.connection.silence(heard.elapsed()));
                }
                None => continue,
            };
            heard = Instant::now();
            let offset = message.offset();
            if offset >= end || !each(stored(&message))? || offset + 1 >= end {
                break;
            }
        }
        consumer.unassign().map_err(|error| self.failed(&error))?;
        Ok(end)
    }

    /// What was replayed of a partition; `None` where the group remembers nothing: it is new, or was not used
    /// for as long as brokers keep its offsets.
    ///
    /// # Errors
    /// Brokers that fail, and a group that is somebody else's.
    pub fn progress(&self, partition: i32) -> Result<Option<Progress>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, partition);
        let committed = self.connection.ask("what was replayed", |timeout| {
            self.connection.consumer().committed_offsets(asked.clone(), timeout)
        })?;
        let found = committed.find_partition(&self.topic, partition);
        match found.as_ref().map(|found| (found.offset(), found.metadata())) {
            Some((Offset::Offset(offset), metadata)) => {
                Progress::committed(offset, metadata).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Remembers what was replayed of a partition.
    ///
    /// # Errors
    /// Brokers that fail.
    pub fn save(&self, partition: i32, progress: &Progress) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        self.place(&mut offsets, partition, progress.offset())?;
        if let Some(mut element) = offsets.find_partition(&self.topic, partition) {
            element.set_metadata(progress.metadata());
        }
        self.connection.ask("remembering what was replayed", |_| {
            self.connection.consumer().commit(&offsets, CommitMode::Sync)
        })
    }

    fn place(&self, list: &mut TopicPartitionList, partition: i32, offset: i64) -> Result<()> {
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, failure: &KafkaError) -> Error {
        error::from_kafka(failure, self.connection.events().name())
    }
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let header = |header: rdkafka::message::Header<'_, &[u8]>| Header {
        name: header.key.to_owned(),
        value: header.value.map(<[u8]>::to_vec),
    };
    let headers: Vec<Header> =
        message.headers().map(|headers| headers.iter().map(header).collect()).unwrap_or_default();
    let timestamp = message.timestamp().to_millis();
    let record = SourceRecord {
        position: String::new(),
        payload: message.payload().map(<[u8]>::to_vec),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        timestamp: timestamp.and_then(|millis| millis.checked_mul(1_000)),
    };
    Stored {
        partition: message.partition(),
        offset: message.offset(),
        omitted_bytes: headers::omitted_bytes(&record.headers),
        letter: headers::read(record),
    }
}
