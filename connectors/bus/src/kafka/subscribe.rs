//! Reading from Kafka on a thread: a member of a group, or a replay.
//!
//! Invariant: the group's offset of a partition is behind the last event before which none is left
//! unacknowledged; what was not acknowledged when a partition goes to another member comes again there.

use std::collections::{BTreeMap, BTreeSet};
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
    /// The offset to commit, once it has moved.
    next: Option<u64>,
    /// Whether brokers were asked to commit it; nobody knows that they did.
    is_sent: bool,
}

/// The offsets to commit, which count as sent then: those that have moved, or all, where it is the last time.
fn due(places: &mut BTreeMap<Split, Place>, is_last: bool) -> Vec<(Split, u64)> {
    let due = places.iter_mut().filter_map(|(split, place)| {
        let was_sent = std::mem::replace(&mut place.is_sent, true);
        place.next.filter(|_| is_last || !was_sent).map(|next| (split.clone(), next))
    });
    due.collect()
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
    /// Notes what was acknowledged.
    fn settle(&self, places: &mut BTreeMap<Split, Place>) {
        for (split, offset) in self.mailbox.take_acknowledged() {
            // A partition that has gone to another member is its business now.
            let Some(place) = places.get_mut(&split) else { continue };
            if let Some(next) = place.progress.acknowledged(offset) {
                (place.next, place.is_sent) = (Some(next), false);
            }
        }
    }

    /// Commits what was acknowledged. Whether brokers have taken it is known where that is waited for
    /// ([`CommitMode::Sync`]); so everything is sent once more then.
    fn commit(&self, consumer: &BaseConsumer<Self>, mode: CommitMode) -> KafkaResult<()> {
        let mut places = self.places.lock();
        self.settle(&mut places);
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), next) in due(&mut places, matches!(mode, CommitMode::Sync)) {
            let offset = KafkaOffset::Offset(next as i64);
            offsets.add_partition_offset(&topic, partition as i32, offset)?;
        }
        if offsets.count() == 0 {
            return Ok(());
        }
        consumer.commit(&offsets, mode)
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
            stalled: BTreeSet::new(),
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
    /// Partitions of which the subscriber must acknowledge some first.
    stalled: BTreeSet<Split>,
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
                    self.deliver(&message)?;
                }
                Some(Err(error)) => self.trouble(&error)?,
                None => {}
            }
            if is_group && committed.elapsed() >= COMMIT {
                committed = Instant::now();
                if let Err(error) = self.member().commit(&self.consumer, CommitMode::Async) {
                    self.trouble(&error)?;
                }
                self.go_on()?;
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
            true if is_low => self.consumer.assignment().and_then(|all| {
                let mut free = TopicPartitionList::new();
                for element in all.elements() {
                    let split = (element.topic().into(), element.partition().unsigned_abs());
                    if !self.stalled.contains(&split) {
                        free.add_partition(element.topic(), element.partition());
                    }
                }
                self.consumer.resume(&free)
            }),
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

    /// Hands an event to the subscriber; the last, until it acknowledges, where it has too many.
    fn deliver(&mut self, message: &BorrowedMessage<'_>) -> Result<(), BusError> {
        let consumer = self.consumer.clone();
        let member: &Member = consumer.context();
        member.heard.answered();
        let offset = message.offset().unsigned_abs();
        let split: Split = (message.topic().into(), message.partition().unsigned_abs());
        let mut places = member.places.lock();
        let place = places.entry(split.clone()).or_default();
        let (mailbox, of) = (self.is_group.then(|| member.mailbox.clone()), split.clone());
        if mailbox.is_some() {
            place.progress.delivered(offset);
        }
        let acknowledge = move || {
            if let Some(mailbox) = mailbox {
                mailbox.acknowledge(of, offset);
            }
        };
        let at = Offset(offset.to_string());
        let delivery = Delivery::new(split.0.clone(), split.1, at, event(message), acknowledge);
        member.mailbox.put(&split, Ok(delivery));
        if !places.get(&split).is_some_and(|place| place.progress.is_full()) {
            return Ok(());
        }
        member.settle(&mut places);
        let Some(place) = places.get_mut(&split).filter(|place| place.progress.is_full()) else {
            return Ok(());
        };
        if let Some((oldest, count)) = place.progress.reminder() {
            let (topic, offset) = (split.0.to_string(), oldest.to_string());
            let partition = split.1;
            let held = BusError::Unacknowledged { topic, partition, offset, count };
            member.mailbox.put(&split, Err(held));
        }
        drop(places);
        let paused = self.consumer.pause(&list([&split]));
        self.stalled.insert(split);
        paused.map_err(|error| self.failed(&error))
    }

    /// Reads on where the subscriber has acknowledged.
    fn go_on(&mut self) -> Result<(), BusError> {
        if self.stalled.is_empty() {
            return Ok(());
        }
        let consumer = self.consumer.clone();
        let places = consumer.context().places.lock();
        let is_full =
            |split: &Split| places.get(split).is_some_and(|place| place.progress.is_full());
        let (stalled, free): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.stalled).into_iter().partition(is_full);
        drop(places);
        self.stalled = stalled;
        if self.is_paused || free.is_empty() {
            return Ok(());
        }
        let resumed = self.consumer.resume(&list(&free));
        resumed.map_err(|error| self.failed(&error))
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

fn list<'a>(splits: impl IntoIterator<Item = &'a Split>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in splits {
        list.add_partition(topic, *partition as i32);
    }
    list
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_saw_arrive_is_committed_again_at_the_end() {
        let split = |partition| -> Split { ("orders".into(), partition) };
        let place = |next| Place { next, ..Place::default() };
        let mut places: BTreeMap<_, _> =
            [(split(0), place(Some(5))), (split(1), place(None))].into();
        assert_eq!(due(&mut places, false), [(split(0), 5)]);
        assert_eq!(due(&mut places, false), [], "it is under way");
        assert_eq!(due(&mut places, true), [(split(0), 5)], "and perhaps was refused");
    }
}
