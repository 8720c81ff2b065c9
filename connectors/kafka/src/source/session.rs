//! What the readers of one source share: the connections to the cluster, and what is known of its topics.
//!
//! Two connections: one asks about topics, which nobody's group needs to be known for; the other, of the
//! job's consumer group, fetches for all partitions and commits. Partitions are assigned to it one by
//! one, as the shards open them; it never joins the group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tidemill_core::source::SplitId;
use tidemill_core::{Error, Result};

use super::config::{SourceConfig, Topics};
use super::offset::Position;
use crate::client::Events;
use crate::client::connection::{Connection, PATIENCE};
use crate::client::error;
use crate::client::topics::{self, Topic};

/// Fetched and not read yet: of all partitions together, and the bounds for each.
const PREFETCH_KB: usize = 65_536;
const PREFETCH_KB_OF_ONE: std::ops::RangeInclusive<usize> = 1_024..=16_384;
const PREFETCH_RECORDS: usize = 200_000;
const PREFETCH_RECORDS_OF_ONE: std::ops::RangeInclusive<usize> = 1_000..=32_768;

/// How long a topic that does not exist is looked for again: brokers take a moment to tell each other
/// of a new one, and one that has just started may know less than the others.
const MISSING_TOPIC: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct Session {
    pub config: SourceConfig,
    events: Arc<Events>,
    asking: Mutex<Option<Arc<Connection>>>,
    reading: Mutex<Option<Arc<Connection>>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    topics: BTreeMap<String, Topic>,
    asked: Option<Instant>,
}

impl Session {
    pub fn new(config: SourceConfig) -> Self {
        let name = format!("kafka source {}", config.topics);
        Self {
            events: Arc::new(Events::new(name, &config.client)),
            config,
            asking: Mutex::default(),
            reading: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The partitions there are now.
    ///
    /// # Errors
    /// Brokers that do not answer or refuse, a topic that is not there, or is another than before.
    pub fn splits(&self) -> Result<Vec<SplitId>> {
        let mut known = self.known.lock();
        let is_due = match (known.asked, self.config.discovery) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(asked), Some(interval)) => asked.elapsed() >= interval,
        };
        if is_due {
            let found = self.find(known.asked.is_none())?;
            known.learn(found, &self.events.name())?;
            known.asked = Some(Instant::now());
        }
        let of_topic = |topic: &Topic| {
            let name = topic.name.clone();
            (0..topic.partitions).map(move |n| SplitId::new(format!("{name}/{n}")))
        };
        Ok(known.topics.values().flat_map(of_topic).collect())
    }

    /// The topics as they are now; those of a list that are missing are an error.
    fn find(&self, first: bool) -> Result<Vec<Topic>> {
        let connection = self.asking()?;
        let Topics::List(names) = &self.config.topics else {
            return self.matching(&connection);
        };
        let start = Instant::now();
        loop {
            let found = topics::describe(&connection, names)?;
            let missing = found.iter().zip(names).find(|(topic, _)| topic.is_none());
            let Some((_, missing)) = missing else {
                return Ok(found.into_iter().flatten().collect());
            };
            if start.elapsed() >= MISSING_TOPIC {
                if !first {
                    let message = format!(
                        "topic '{missing}' is gone: it was deleted while the job read it; create it \
                         again and start the job with --fresh"
                    );
                    return Err(Error::external(message));
                }
                let brokers = self.config.client.brokers();
                let message = format!(
                    "topic '{missing}' does not exist at {brokers}: create it, or correct the name"
                );
                return Err(Error::option("topic", message));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The topics whose names match the pattern.
    fn matching(&self, connection: &Connection) -> Result<Vec<Topic>> {
        let Topics::Pattern(pattern) = &self.config.topics else { return Ok(Vec::new()) };
        let consumer = connection.consumer();
        let all = connection
            .ask("topics cannot be listed", |timeout| consumer.fetch_metadata(None, timeout))?;
        let names = all.topics().iter().map(|topic| topic.name());
        let names: Vec<String> =
            names.filter(|name| pattern.is_match(name)).map(str::to_owned).collect();
        if names.is_empty() {
            let message = format!(
                "no topic at {} matches the pattern '{}'",
                self.config.client.brokers(),
                self.config.topics.joined()
            );
            return Err(Error::option("topic-pattern", message));
        }
        Ok(topics::describe(connection, &names)?.into_iter().flatten().collect())
    }

    /// What is known of a topic that a split is of.
    ///
    /// # Errors
    /// As for [`Session::splits`], or a split of none of the topics.
    pub fn topic(&self, name: &str) -> Result<Topic> {
        if self.known.lock().asked.is_none() {
            self.splits()?;
        }
        self.known.lock().topics.get(name).cloned().ok_or_else(|| {
            let message = format!(
                "topic '{name}' is in the checkpoint, and there is no such topic any more; start \
                 the job with --fresh"
            );
            Error::external(message)
        })
    }

    /// The connection that asks about topics: an answer there waits behind no fetch.
    ///
    /// # Errors
    /// As for [`Connection::open`].
    pub fn asking(&self) -> Result<Arc<Connection>> {
        let mut asking = self.asking.lock();
        if let Some(connection) = asking.as_ref() {
            return Ok(connection.clone());
        }
        let config = self.config.client.config(&[]);
        let connection = Arc::new(Connection::open(&config, self.events.clone())?);
        *asking = Some(connection.clone());
        Ok(connection)
    }

    /// The connection that reads, for job `job`.
    ///
    /// # Errors
    /// As for [`Connection::open`].
    pub fn reading(&self, job: &str) -> Result<Arc<Connection>> {
        let mut reading = self.reading.lock();
        if let Some(connection) = reading.as_ref() {
            return Ok(connection.clone());
        }
        let partitions: i32 = self.known.lock().topics.values().map(|t| t.partitions).sum();
        let partitions = usize::try_from(partitions).unwrap_or(1).max(1);
        let share = |all: usize, of_one: &std::ops::RangeInclusive<usize>| {
            (all / partitions).clamp(*of_one.start(), *of_one.end()).to_string()
        };
        let config = self.config.client.config(&[
            ("group.id", &self.config.group(job)),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", &share(PREFETCH_KB, &PREFETCH_KB_OF_ONE)),
            ("queued.min.messages", &share(PREFETCH_RECORDS, &PREFETCH_RECORDS_OF_ONE)),
            // A full queue is tried again soon, not after the second that is the default.
            ("fetch.queue.backoff.ms", "10"),
        ]);
        let connection = Arc::new(Connection::open(&config, self.events.clone())?);
        *reading = Some(connection.clone());
        Ok(connection)
    }

    /// Tells the group how far a checkpoint has come, without waiting for the answer.
    ///
    /// # Errors
    /// An offset that is none.
    pub fn commit(&self, offsets: &[(SplitId, tidemill_core::source::Offset)]) -> Result<()> {
        let Some(connection) = self.reading.lock().clone() else { return Ok(()) };
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (split, offset) in offsets {
            let (topic, partition) = topic_partition(split)?;
            let next = Position::parse(&offset.0)?.next;
            if let Err(error) = list.add_partition_offset(topic, partition, Offset::Offset(next)) {
                return Err(error::from_kafka(&error, split));
            }
        }
        if let Err(error) = connection.commit(&list) {
            // The group's offsets are for people to look at; the next checkpoint tells them again.
            tracing::warn!(
                "{}: the group's offsets were not committed: {error}",
                self.events.name()
            );
        }
        Ok(())
    }
}

impl Known {
    /// Takes in what the brokers say now.
    fn learn(&mut self, found: Vec<Topic>, place: &str) -> Result<()> {
        for topic in &found {
            if let Some(before) = self.topics.get(&topic.name) {
                before.check_is(topic.id.as_deref()).map_err(|error| error.at(place))?;
                if topic.partitions > before.partitions {
                    tracing::info!(
                        "{place}: topic '{}' has {} partitions now, {} before",
                        topic.name,
                        topic.partitions,
                        before.partitions
                    );
                }
            }
        }
        if let Some(gone) = self.topics.keys().find(|name| found.iter().all(|t| t.name != **name)) {
            let message = format!(
                "{place}: topic '{gone}' is gone: it was deleted while the job read it; start the \
                 job with --fresh"
            );
            return Err(Error::external(message));
        }
        self.topics = found.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        Ok(())
    }
}

impl Topic {
    /// Whether the topic is the one with this id, as far as the brokers tell.
    ///
    /// # Errors
    /// It is another: it was created again.
    pub fn check_is(&self, id: Option<&str>) -> Result<()> {
        match (self.id.as_deref(), id) {
            (Some(mine), Some(other)) if mine != other => {
                let message = format!(
                    "topic '{}' was deleted and created again (its ids are {mine} and {other}): \
                     offsets of the one mean nothing in the other; start the job with --fresh to \
                     read the topic that there is now",
                    self.name
                );
                Err(Error::external(message))
            }
            _ => Ok(()),
        }
    }
}

/// Topic and partition of a split.
///
/// # Errors
/// A split of another connector.
pub(crate) fn topic_partition(split: &SplitId) -> Result<(&str, i32)> {
    let parts = split.as_str().rsplit_once('/');
    let parts = parts.and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
    parts.ok_or_else(|| Error::internal(format!("'{split}' is no partition of a topic")))
}

/// Questions about one partition.
pub(crate) struct Partition<'a> {
    /// Answers questions about the partition.
    pub asking: &'a Connection,
    /// Answers questions about the group.
    pub reading: &'a Connection,
    pub topic: &'a str,
    pub partition: i32,
}

impl Partition<'_> {
    /// The oldest offset there is, and the one behind the newest that may be read.
    ///
    /// # Errors
    /// As for [`Connection::ask`].
    pub fn range(&self) -> Result<(i64, i64)> {
        let what = format!("the offsets of {}/{} cannot be found out", self.topic, self.partition);
        self.asking.ask(what, |timeout| {
            self.asking.consumer().fetch_watermarks(self.topic, self.partition, timeout)
        })
    }

    /// The offset that the group has committed.
    ///
    /// # Errors
    /// As for [`Connection::ask`].
    pub fn committed(&self) -> Result<Option<i64>> {
        let what = format!("the group's offset of {}/{} is not told", self.topic, self.partition);
        self.reading.ask(what, |timeout| {
            let mut list = TopicPartitionList::new();
            list.add_partition(self.topic, self.partition);
            // A coordinator that is being elected answers late.
            let timeout = timeout.max(Duration::from_secs(2)).min(PATIENCE);
            only(self.reading.consumer().committed_offsets(list, timeout))
        })
    }

    /// The offset of the first record whose timestamp is not older than `millis`; `None` where there
    /// is none yet.
    ///
    /// # Errors
    /// As for [`Connection::ask`].
    pub fn at_time(&self, millis: i64) -> Result<Option<i64>> {
        let what = format!("the offset of {}/{} by time is not told", self.topic, self.partition);
        self.asking.ask(what, |timeout| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(self.topic, self.partition, Offset::Offset(millis))?;
            only(self.asking.consumer().offsets_for_times(list, timeout))
        })
    }
}

/// The offset of the list's only element.
fn only(list: KafkaResult<TopicPartitionList>) -> KafkaResult<Option<i64>> {
    let list = list?;
    let elements = list.elements();
    let element = elements.first().ok_or(KafkaError::Canceled)?;
    element.error()?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}
