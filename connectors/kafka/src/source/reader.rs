//! Reads one partition: what its queue holds, decoded where it lies.
//!
//! Invariant: the offset is behind every record that was returned and behind nothing else, but for what
//! no reader gets to see: markers and aborted records of transactions, records that were compacted away.

use std::collections::VecDeque;
use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use rdkafka::bindings as ffi;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use tidemill_core::retry::Backoff;
use tidemill_core::source::{Behind, Lag, Offset, Read, ReaderContext, SplitId, SplitReader};
use tidemill_core::time::Clock;
use tidemill_core::{Error, ErrorKind, EventTime, Result};

use super::decode::BatchDecoder;
use super::offset::Position;
use super::queue::{Messages, PartitionQueue};
use super::range;
use super::session::{Partition, Session, topic_partition};
use super::start;
use crate::client::Failure;
use crate::client::connection::Connection;
use crate::client::error;
use crate::client::topics;

/// Of so many batches that no checkpoint has committed yet the first record's time is remembered.
const MARKS_MAX: usize = 4096;

/// How records are tried again whose schema cannot be had at the moment.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    max: Duration::from_secs(5),
    deadline: Duration::MAX,
};

/// See the module.
pub(crate) struct Reader {
    session: Arc<Session>,
    connection: Arc<Connection>,
    topic: String,
    partition: i32,
    /// The topic's name for the library.
    native_topic: CString,
    queue: PartitionQueue,
    decoder: BatchDecoder,
    position: Position,
    first: i64,
    assigned: bool,
    held: Option<Held>,
    times: Times,
    clock: Arc<dyn Clock>,
}

/// Messages that could not be judged yet.
struct Held {
    messages: Messages,
    attempts: u32,
    again: Duration,
}

/// When records were written that have been read.
#[derive(Default)]
struct Times {
    /// Offset and time of the first record of each batch.
    marks: VecDeque<(i64, EventTime)>,
    /// Time of the last record.
    last: Option<EventTime>,
}

impl Reader {
    /// The reader of `split` from `from` on. Several may be opened at once: librdkafka's clients are
    /// thread-safe, and partitions are assigned one by one.
    ///
    /// # Errors
    /// As for [`start::position`].
    pub fn open(
        session: &Arc<Session>,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Self> {
        let (topic, partition) = topic_partition(split)?;
        let known = session.topic(topic)?;
        let connection = session.reading(&context.job)?;
        let asking = session.asking()?;
        let place = Partition { asking: &asking, reading: &connection, topic, partition };
        let position = start::position(&session.config, &place, &known, from, context.discovered)?;
        let waker = context.waker.clone();
        let layout = Arc::new(session.config.layout.clone());
        let native_topic = CString::new(topic)
            .map_err(|_| Error::option("topic", "a topic's name holds no zero byte"))?;
        let mut reader = Self {
            session: session.clone(),
            topic: topic.to_owned(),
            partition,
            native_topic,
            queue: PartitionQueue::open(connection.consumer(), topic, partition, waker)?,
            connection,
            decoder: BatchDecoder::new(split.clone(), topic, partition, layout)?,
            first: position.next,
            position,
            assigned: false,
            held: None,
            times: Times::default(),
            clock: context.clock.clone(),
        };
        if !reader.position.is_at_end() {
            reader.assign()?;
        }
        Ok(reader)
    }

    fn assign(&mut self) -> Result<()> {
        let mut list = TopicPartitionList::new();
        let next = KafkaOffset::Offset(self.position.next);
        let added = list.add_partition_offset(&self.topic, self.partition, next);
        let assigned = added.and_then(|()| self.connection.consumer().incremental_assign(&list));
        assigned.map_err(|error| error::from_kafka(&error, "the partition was not assigned"))?;
        self.assigned = true;
        Ok(())
    }

    fn unassign(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.assigned) {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, self.partition);
        let unassigned = self.connection.consumer().incremental_unassign(&list);
        unassigned.map_err(|error| error::from_kafka(&error, "the partition was not given back"))
    }

    /// What the queue holds, without what is no record of this reader.
    fn take(&mut self, max_rows: usize) -> Result<Messages> {
        let mut messages = self.queue.take(max_rows);
        let (mut position, stop) = (self.position.next, self.position.stop);
        let mut trouble = None;
        messages.retain(|message| match message.error() {
            None if stop.is_some_and(|stop| message.offset() >= stop) => {
                position = position.max(stop.unwrap_or(i64::MAX));
                false
            }
            None => {
                position = message.offset() + 1;
                true
            }
            // Markers and aborted records may stand between the last record and the end.
            Some(RDKafkaErrorCode::PartitionEOF) => {
                position = position.max(message.offset());
                false
            }
            Some(code) => {
                trouble = Some((code, message.text()));
                false
            }
        });
        if messages.len() > 0 || position > self.position.next {
            self.connection.events().answered();
        }
        self.position.next = position;
        match trouble {
            // What comes with it is read all the same: nothing is lost.
            Some((code, text)) => self.trouble(code, &text).map(|()| messages),
            None => Ok(messages),
        }
    }

    /// The library reports `code` for this partition.
    fn trouble(&mut self, code: RDKafkaErrorCode, text: &str) -> Result<()> {
        let labels = [("topic", self.topic.clone()), ("partition", self.partition.to_string())];
        counter!("tidemill_kafka_fetch_errors_total", &labels).increment(1);
        match Failure::of(code) {
            Failure::OutOfRange => self.out_of_range(),
            // The library tries again by itself.
            Failure::Transient => {
                tracing::warn!("{}/{}: {text}; trying again", self.topic, self.partition);
                Ok(())
            }
            Failure::UnknownTopic => Err(self.gone()),
            Failure::Record => Err(Error::external(format!(
                "{text}: raise 'properties.max.partition.fetch.bytes' and \
                 'properties.fetch.max.bytes'"
            ))),
            _ => Err(error::from_code(code, text)),
        }
    }

    fn gone(&self) -> Error {
        let message =
            format!("topic '{}' is gone: it was deleted while the job read it", self.topic);
        Error::external(message)
    }

    /// The next record is gone.
    fn out_of_range(&mut self) -> Result<()> {
        let next = {
            let (asking, reading) = (&self.session.asking()?, &self.connection);
            // In a topic that was created again no offset means anything, whatever is to be done
            // about records that are gone.
            let now = topics::describe(asking, std::slice::from_ref(&self.topic))?;
            let now = now.into_iter().flatten().next().ok_or_else(|| self.gone())?;
            now.check_is(self.position.topic_id.as_deref())?;
            let topic = self.topic.as_str();
            let partition = Partition { asking, reading, topic, partition: self.partition };
            let range = partition.range()?;
            range::within(self.session.config.out_of_range, &partition, self.position.next, range)?
        };
        self.unassign()?;
        self.position.next = next;
        self.assign()?;
        // What the queue still holds from before keeps it from telling of what comes now.
        self.queue.wake();
        Ok(())
    }

    /// Rows and dead letters of `messages`; keeps them where they cannot be judged yet.
    fn decode(&mut self, messages: Messages, attempts: u32) -> Result<Read> {
        match self.decoder.decode(&messages) {
            Ok(decoded) => {
                if attempts > 1 {
                    tracing::info!("{}/{}: goes on", self.topic, self.partition);
                }
                self.times.note(&messages);
                Ok(Read::Batch(decoded.with(messages, &self.session.config.layout.schema)))
            }
            Err(error) if error.kind() == ErrorKind::Transient => {
                let wait = BACKOFF.wait(attempts, Duration::ZERO, 0.0).unwrap_or(BACKOFF.max);
                if attempts == 1 {
                    tracing::warn!("{}/{}: {error}; waiting", self.topic, self.partition);
                }
                let labels =
                    [("topic", self.topic.clone()), ("partition", self.partition.to_string())];
                counter!("tidemill_kafka_decode_retries_total", &labels).increment(1);
                let again = self.clock.elapsed() + wait;
                self.held = Some(Held { messages, attempts, again });
                Ok(Read::Pending)
            }
            Err(error) => Err(error),
        }
    }

    /// Behind the newest record, as the last answer of the brokers has it.
    fn end(&self) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client lives as long as the connection, the name as long as the reader.
        let code = unsafe {
            ffi::rd_kafka_get_watermark_offsets(
                self.connection.consumer().client().native_ptr(),
                self.native_topic.as_ptr(),
                self.partition,
                ptr::from_mut(&mut low),
                ptr::from_mut(&mut high),
            )
        };
        let is_told = RDKafkaErrorCode::from(code) == RDKafkaErrorCode::NoError;
        (is_told && high >= 0).then_some(high)
    }
}

impl SplitReader for Reader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        if let Some(refusal) = self.connection.events().refusal() {
            return Err(refusal);
        }
        if let Some(held) = self.held.take() {
            if self.clock.elapsed() < held.again {
                self.held = Some(held);
                return Ok(Read::Pending);
            }
            return self.decode(held.messages, held.attempts + 1);
        }
        if self.position.is_at_end() {
            self.unassign()?;
            return Ok(Read::End);
        }
        let messages = self.take(max_rows)?;
        if messages.len() > 0 {
            return self.decode(messages, 1);
        }
        Ok(if self.position.is_at_end() { Read::End } else { Read::Pending })
    }

    fn offset(&self) -> Offset {
        match &self.held {
            // They are taken from the queue, and not returned yet.
            Some(held) => {
                let next = held.messages.get(0).offset();
                Offset::from(&Position { next, ..self.position.clone() })
            }
            None => Offset::from(&self.position),
        }
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let stop = self.position.stop?;
        let read = u64::try_from(self.position.next - self.first).ok()?;
        let all = u64::try_from(stop.max(self.first) - self.first).ok()?;
        Some((read.min(all), all))
    }

    fn lag(&self) -> Option<Lag> {
        let end = self.end()?;
        let now = self.clock.now();
        let next = self.position.next;
        let committed = self.connection.committed(&self.topic, self.partition);
        Some(Lag {
            position: behind(end, next, self.times.last, now),
            committed: committed.map(|at| behind(end, at, self.times.of(at), now)),
        })
    }

    fn waits(&self) -> bool {
        self.held.is_some()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Err(error) = self.unassign() {
            tracing::debug!("{}/{}: {error}", self.topic, self.partition);
        }
    }
}

impl Times {
    fn note(&mut self, messages: &Messages) {
        let micros = |index: usize| {
            let (millis, _) = messages.get(index).timestamp();
            millis.map(|millis| millis.saturating_mul(1000))
        };
        if let Some(time) = micros(0) {
            if self.marks.len() == MARKS_MAX {
                self.marks.pop_front();
            }
            self.marks.push_back((messages.get(0).offset(), time));
        }
        self.last = micros(messages.len() - 1).or(self.last);
    }

    /// When the record at `offset` was written, as far as that is remembered.
    fn of(&self, offset: i64) -> Option<EventTime> {
        let index = self.marks.partition_point(|(first, _)| *first < offset);
        self.marks.get(index).map(|(_, time)| *time).or(self.last)
    }
}

/// How far `at` is behind `end`, where the record at `at` was written at `written`.
fn behind(end: i64, at: i64, written: Option<EventTime>, now: EventTime) -> Behind {
    let records = u64::try_from(end - at).unwrap_or(0);
    let age = written.map_or(0, |written| now.saturating_sub(written));
    let time = if records == 0 { 0 } else { u64::try_from(age).unwrap_or(0) };
    Behind { records, time: Duration::from_micros(time) }
}
