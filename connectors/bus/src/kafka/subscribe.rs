//! Reading from Kafka on a thread: a member of a group, or a replay.
//!
//! Invariant: the group's offset of a partition is behind the last event before which none is left
//! unacknowledged; what was not acknowledged when a partition goes to another member comes again there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use tidemill_core::record::Header;
use tidemill_core::source::Offset;
use tidemill_kafka::client::{ClientProperties, Failure};

use super::client::{Heard, client_context, code};
use crate::mailbox::{Mailbox, MailboxFeed, Split};
use crate::progress::Progress;
use crate::{BusError, Delivery, Event, Start, Subscription};

/// How long the thread waits for an event before it looks after everything else.
const POLL: Duration = Duration::from_millis(50);

/// How often what was acknowledged is committed.
const COMMIT: Duration = Duration::from_millis(200);

/// How long brokers may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a topic that was just created may be unknown.
const TOPIC_PATIENCE: Duration = Duration::from_secs(2);

/// What is read.
pub(super) enum Reading {
    /// As a member of a group.
    Group { topics: Vec<String>, group: String },
    /// As nobody.
    Replay { topic: String, from: From },
}

/// Where a replay begins.
pub(super) enum From {
    Earliest,
    /// Milliseconds.
    Time(i64),
    Offsets(BTreeMap<i32, i64>),
}

/// The places of a replay in Kafka's numbers.
pub(super) fn offsets(topic: &str, from: Start) -> Result<From, BusError> {
    Ok(match from {
        Start::Earliest => From::Earliest,
        Start::Time(micros) => From::Time(micros.div_euclid(1000) + i64::from(micros % 1000 != 0)),
        Start::Offsets(offsets) => {
            let parse = |(partition, offset): (u32, Offset)| {
                let number = offset.0.parse().ok().filter(|number: &i64| *number >= 0);
                let number = number.zip(i32::try_from(partition).ok());
                number.map(|(number, partition)| (partition, number)).ok_or_else(|| {
                    let topic = topic.to_owned();
                    BusError::InvalidOffset { topic, partition, offset: offset.0 }
                })
            };
            From::Offsets(offsets.into_iter().map(parse).collect::<Result<_, _>>()?)
        }
    })
}

/// The consumer's context.
struct Member {
    heard: Heard,
    mailbox: Arc<Mailbox<u64>>,
    places: Mutex<BTreeMap<Split, Place>>,
}

client_context!(Member, heard);

/// How far the member is in a partition.
#[derive(Default)]
struct Place {
    progress: Progress,
    /// The offset to commit, where it has moved.
    next: Option<u64>,
}

impl ConsumerContext for Member {
    /// What is acknowledged of a partition is committed before it goes to another member.
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(revoked) = rebalance else { return };
        if let Err(error) = self.commit(consumer, CommitMode::Sync) {
            tracing::warn!("acknowledgements of revoked partitions were not committed: {error}");
        }
        let mut places = self.places.lock();
        for element in revoked.elements() {
            let split: Split = (element.topic().into(), element.partition().unsigned_abs());
            self.mailbox.purge(&split);
            places.remove(&split);
        }
    }
}

impl Member {
    /// Commits what was acknowledged.
    fn commit(&self, consumer: &BaseConsumer<Self>, mode: CommitMode) -> KafkaResult<()> {
        let mut places = self.places.lock();
        for (split, offset) in self.mailbox.take_acknowledged() {
            // A partition that has gone to another member is its business now.
            let Some(place) = places.get_mut(&split) else { continue };
            place.next = place.progress.acknowledged(offset).or(place.next);
        }
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), place) in &*places {
            if let Some(next) = place.next {
                let offset = KafkaOffset::Offset(next as i64);
                offsets.add_partition_offset(topic, *partition as i32, offset)?;
            }
        }
        if offsets.count() == 0 {
            return Ok(());
        }
        consumer.commit(&offsets, mode)?;
        places.values_mut().for_each(|place| place.next = None);
        Ok(())
    }
}

/// The stream of what is read; ready when the brokers have answered.
pub(super) async fn subscription(
    properties: &ClientProperties,
    reading: Reading,
) -> Result<Subscription, BusError> {
    let mailbox = Mailbox::new();
    let heard = Heard::new("bus subscriber", properties);
    let address = heard.address();
    let group = match &reading {
        Reading::Group { group, .. } => group.as_str(),
        // librdkafka wants a name; nothing is committed under it.
        Reading::Replay { .. } => "tidemill-bus-replay",
    };
    let config = properties.config(&[
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "earliest"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "1000"),
        ("queued.max.messages.kbytes", "16384"),
        ("fetch.queue.backoff.ms", "50"),
    ]);
    let places = Mutex::new(BTreeMap::new());
    let context = Member { heard, mailbox: mailbox.clone(), places };
    let failed = |reason: String| BusError::Failed { address: address.clone(), reason };
    let consumer: BaseConsumer<Member> =
        config.create_with_context(context).map_err(|error| failed(error.to_string()))?;
    let (started, starting) = oneshot::channel();
    let feed = MailboxFeed(mailbox.clone());
    let thread = std::thread::Builder::new().name("bus-subscriber".to_owned());
    let run = move || {
        let worker = Worker {
            consumer: Arc::new(consumer),
            is_paused: false,
            is_group: false,
            begins: BTreeMap::new(),
        };
        let ended = worker.run(reading, started);
        mailbox.end(ended);
    };
    thread.spawn(run).map_err(|error| failed(error.to_string()))?;
    starting.await.unwrap_or(Err(BusError::Closed))?;
    Ok(Subscription::new(feed))
}

/// The thread.
struct Worker {
    consumer: Arc<BaseConsumer<Member>>,
    /// Whether the subscriber has all it can take.
    is_paused: bool,
    is_group: bool,
    /// Of a replay: where partitions that have given nothing yet are to begin.
    begins: BTreeMap<i32, i64>,
}

impl Worker {
    fn member(&self) -> &Member {
        self.consumer.context()
    }

    fn run(
        mut self,
        reading: Reading,
        started: oneshot::Sender<Result<(), BusError>>,
    ) -> Result<(), BusError> {
        let begun = self.begin(&reading);
        let is_begun = begun.is_ok();
        // The subscriber may have gone in the meantime.
        let _ = started.send(begun);
        if !is_begun {
            return Ok(());
        }
        let is_group = matches!(reading, Reading::Group { .. });
        let mut committed = Instant::now();
        self.is_group = is_group;
        let consumer = self.consumer.clone();
        while !self.member().mailbox.is_closing() {
            self.hold_back()?;
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    if let Some(begin) = self.new_partition(&message) {
                        self.tell_lost(&message, begin);
                    }
                    self.deliver(&message);
                }
                Some(Err(error)) => self.trouble(&error)?,
                None => {}
            }
            if is_group && committed.elapsed() >= COMMIT {
                committed = Instant::now();
                if let Err(error) = self.member().commit(&self.consumer, CommitMode::Async) {
                    self.trouble(&error)?;
                }
            }
        }
        let last =
            if is_group { self.member().commit(&self.consumer, CommitMode::Sync) } else { Ok(()) };
        let heard = &self.member().heard;
        last.map_err(|error| {
            let reason = format!("acknowledgements were not committed: {error}");
            BusError::Failed { address: heard.address(), reason }
        })
    }

    fn begin(&mut self, reading: &Reading) -> Result<(), BusError> {
        match reading {
            Reading::Group { topics, .. } => {
                for topic in topics {
                    self.partitions(topic)?;
                }
                let names: Vec<&str> = topics.iter().map(String::as_str).collect();
                self.consumer.subscribe(&names).map_err(|error| self.failed(&error))
            }
            Reading::Replay { topic, from } => {
                let partitions = self.partitions(topic)?;
                self.assign(topic, partitions, from).map_err(|error| self.failed(&error))
            }
        }
    }

    fn failed(&self, error: &KafkaError) -> BusError {
        let heard = &self.member().heard;
        BusError::Failed { address: heard.address(), reason: error.to_string() }
    }

    /// How many partitions a topic has.
    fn partitions(&self, topic: &str) -> Result<i32, BusError> {
        let (heard, begun) = (&self.member().heard, Instant::now());
        loop {
            let asked = self.consumer.fetch_metadata(Some(topic), PATIENCE / 5);
            let code = match &asked {
                Ok(metadata) => {
                    heard.answered();
                    let found = metadata.topics().iter().find(|found| found.name() == topic);
                    match found.map(|found| (found.error(), found.partitions().len())) {
                        Some((None, partitions)) if partitions > 0 => return Ok(partitions as i32),
                        Some((Some(error), _)) => error.into(),
                        _ => RDKafkaErrorCode::UnknownTopicOrPartition,
                    }
                }
                Err(error) => code(error),
            };
            let failure = Failure::of(code);
            let is_new = failure == Failure::UnknownTopic && begun.elapsed() < TOPIC_PATIENCE;
            let is_over = heard.events.refusal().is_some() || begun.elapsed() >= PATIENCE;
            match heard.error(code, topic) {
                _ if is_over && failure == Failure::Transient => {
                    return Err(heard.silence(begun.elapsed()));
                }
                Some(error) if !is_new => return Err(error),
                // Asked again, and while that waits nothing else is to be done.
                _ => self.member().mailbox.wait(POLL),
            }
        }
    }

    fn assign(&mut self, topic: &str, partitions: i32, from: &From) -> KafkaResult<()> {
        let mut places = TopicPartitionList::new();
        for partition in 0..partitions {
            let offset = match from {
                From::Earliest => KafkaOffset::Beginning,
                From::Time(millis) => KafkaOffset::Offset(*millis),
                From::Offsets(offsets) => match offsets.get(&partition) {
                    Some(offset) => KafkaOffset::Offset(*offset),
                    None => KafkaOffset::Beginning,
                },
            };
            places.add_partition_offset(topic, partition, offset)?;
        }
        if let From::Time(_) = from {
            places = self.consumer.offsets_for_times(places, PATIENCE)?;
        }
        if let From::Offsets(offsets) = from {
            self.begins = offsets.clone();
        }
        self.consumer.assign(&places)
    }

    /// Reads no further while the subscriber has all it can take.
    fn hold_back(&mut self) -> Result<(), BusError> {
        let room = self.member().mailbox.room();
        let (is_full, is_low) = (room == 0, room > crate::mailbox::CAPACITY / 2);
        let changed = match self.is_paused {
            false if is_full => {
                self.consumer.assignment().and_then(|all| self.consumer.pause(&all))
            }
            true if is_low => self.consumer.assignment().and_then(|all| self.consumer.resume(&all)),
            _ => return Ok(()),
        };
        changed.map_err(|error| self.failed(&error))?;
        self.is_paused = is_full;
        Ok(())
    }

    /// Where a partition that gives its first event was to begin, as far as somebody has said so.
    fn new_partition(&mut self, message: &BorrowedMessage<'_>) -> Option<i64> {
        let (topic, partition) = (message.topic(), message.partition());
        let split: Split = (topic.into(), partition.unsigned_abs());
        if self.member().places.lock().contains_key(&split) {
            return None;
        }
        // It may have come while the others are paused.
        self.is_paused = false;
        if !self.is_group {
            return self.begins.remove(&partition);
        }
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let committed = self.consumer.committed_offsets(asked, PATIENCE).ok()?;
        committed.elements().first()?.offset().to_raw().filter(|offset| *offset >= 0)
    }

    /// Tells the subscriber of events that retention took before they were read. Offsets may have other
    /// gaps, but only behind the oldest event there is.
    fn tell_lost(&self, message: &BorrowedMessage<'_>, begin: i64) {
        let (topic, partition) = (message.topic(), message.partition());
        if message.offset() <= begin {
            return;
        }
        let Ok((low, _)) = self.consumer.fetch_watermarks(topic, partition, PATIENCE) else {
            return;
        };
        if low > begin {
            let lost = BusError::EventsLost {
                topic: topic.to_owned(),
                partition: partition.unsigned_abs(),
                count: low.abs_diff(begin),
                reason: "the topic keeps them no longer: raise its retention.ms or retention.bytes"
                    .to_owned(),
            };
            let split: Split = (topic.into(), partition.unsigned_abs());
            self.member().mailbox.put(&split, Err(lost));
        }
    }

    fn deliver(&self, message: &BorrowedMessage<'_>) {
        let member = self.member();
        member.heard.answered();
        let offset = message.offset().unsigned_abs();
        let split: Split = (message.topic().into(), message.partition().unsigned_abs());
        member.places.lock().entry(split.clone()).or_default().progress.delivered(offset);
        let (mailbox, of) = (member.mailbox.clone(), split.clone());
        let acknowledge = move || mailbox.acknowledge(of, offset);
        let place = Offset(offset.to_string());
        let delivery = Delivery::new(split.0.clone(), split.1, place, event(message), acknowledge);
        member.mailbox.put(&split, Ok(delivery));
    }

    /// Tells the subscriber what does not pass by itself.
    fn trouble(&self, error: &KafkaError) -> Result<(), BusError> {
        let member = self.member();
        if let Some(refusal) = member.heard.events.refusal() {
            let address = member.heard.address();
            return Err(BusError::Unauthorised { address, reason: refusal.to_string() });
        }
        match member.heard.error(code(error), "") {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}

fn event(message: &BorrowedMessage<'_>) -> Event {
    let header = |header: rdkafka::message::Header<'_, &[u8]>| Header {
        name: header.key.to_owned(),
        value: header.value.map(<[u8]>::to_vec),
    };
    let headers = message.headers().map(|headers| headers.iter().map(header).collect());
    Event {
        key: message.key().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp: message.timestamp().to_millis().and_then(|millis| millis.checked_mul(1000)),
        payload: message.payload().map(<[u8]>::to_vec),
    }
}
