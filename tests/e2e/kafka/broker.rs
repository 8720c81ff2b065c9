//! Topics for tests: made, filled, read back, grown and deleted through `rdkafka` alone, so that
//! nothing of Tidemill has a say in the verdict.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use crate::clicks::{Destination, fill};
use crate::totals::Log;

/// How long a broker may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions, and those of none.
    Committed,
    /// Those of open and aborted transactions too.
    Uncommitted,
}

/// A cluster.
#[derive(Debug, Clone)]
pub struct Broker {
    addresses: String,
}

impl Broker {
    /// The one that all tests share.
    pub fn shared() -> Self {
        let addresses = std::env::var("KAFKA_BROKERS").unwrap_or_else(|_| {
            panic!("KAFKA_BROKERS is not set: run scripts/test, which brings up a broker")
        });
        Self { addresses }
    }

    /// One at these addresses.
    pub fn at(addresses: impl Into<String>) -> Self {
        Self { addresses: addresses.into() }
    }

    /// What `bootstrap.servers` takes.
    pub fn addresses(&self) -> &str {
        &self.addresses
    }

    /// A new topic, its name made unique.
    pub fn topic(&self, name: &str, partitions: usize) -> Arc<Topic> {
        let name = format!("{name}-{:08x}", RandomState::new().build_hasher().finish() as u32);
        self.named_topic(&name, partitions)
    }

    /// A new topic of just this name.
    pub fn named_topic(&self, name: &str, partitions: usize) -> Arc<Topic> {
        let topic = Topic { broker: self.clone(), name: name.to_owned() };
        topic.create(partitions);
        Arc::new(topic)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.addresses).set("reconnect.backoff.max.ms", "500");
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }
}

/// A topic. Deleted when dropped, unless its test fails: it is evidence then.
#[derive(Debug)]
pub struct Topic {
    broker: Broker,
    name: String,
}

impl Topic {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lies.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Makes it, empty.
    pub fn create(&self, partitions: usize) {
        let topic = NewTopic::new(&self.name, partitions as i32, TopicReplication::Fixed(1));
        let admin = self.broker.admin();
        let made = block_on(admin.create_topics(&[topic], &options())).unwrap();
        made.into_iter().for_each(|result| assert_eq!(result, Ok(self.name.clone())));
        wait_for("a new topic", || self.partitions() == partitions);
    }

    /// Gives it more partitions.
    pub fn grow(&self, partitions: usize) {
        let admin = self.broker.admin();
        let grown = [NewPartitions::new(&self.name, partitions)];
        let grown = block_on(admin.create_partitions(&grown, &options())).unwrap();
        grown.into_iter().for_each(|result| assert_eq!(result, Ok(self.name.clone())));
        wait_for("new partitions", || self.partitions() == partitions);
    }

    /// Deletes it with all it holds.
    pub fn delete(&self) {
        let deleted =
            block_on(self.broker.admin().delete_topics(&[&self.name], &options())).unwrap();
        deleted.into_iter().for_each(|result| assert_eq!(result, Ok(self.name.clone())));
        wait_for("the end of a topic", || self.partitions() == 0);
    }

    /// How many partitions the broker says that it has; 0 for one that does not exist.
    pub fn partitions(&self) -> usize {
        let consumer = self.consumer(Isolation::Uncommitted);
        let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE).unwrap();
        metadata.topics()[0].partitions().len()
    }

    /// A producer.
    pub fn writer(&self) -> Writer {
        let mut config = self.broker.config();
        for (name, value) in [
            ("enable.idempotence", "true"),
            // A broker that is away comes back.
            ("message.timeout.ms", "0"),
            ("queue.buffering.max.messages", "200000"),
            ("linger.ms", "20"),
            ("batch.num.messages", "20000"),
            ("compression.type", "lz4"),
        ] {
            config.set(name, value);
        }
        let producer = config.create_with_context(Acknowledged::default()).unwrap();
        Writer { producer, topic: self.name.clone(), written: 0 }
    }

    /// A reader of all partitions from their beginning.
    pub fn reader(&self, isolation: Isolation) -> Reader {
        let consumer = self.consumer(isolation);
        let partitions = 0..self.partitions() as i32;
        let mut assignment = TopicPartitionList::new();
        for partition in partitions.clone() {
            assignment.add_partition_offset(&self.name, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        Reader { consumer, unread: partitions.collect() }
    }

    /// Writes so many clicks, evenly over its partitions.
    pub fn fill(&self, seed: u64, records: u64) {
        let mut writer = self.writer();
        fill(&mut writer, self.partitions(), seed, records);
        writer.finish();
    }

    /// The offsets behind the last record that can be read, by partition.
    pub fn ends(&self, isolation: Isolation) -> Vec<i64> {
        let consumer = self.consumer(isolation);
        let partitions = 0..self.partitions() as i32;
        let end = |partition| consumer.fetch_watermarks(&self.name, partition, PATIENCE).unwrap().1;
        partitions.map(end).collect()
    }

    /// A view of its ends that may be asked often.
    pub fn watch(&self) -> Watch {
        Watch {
            consumer: self.consumer(Isolation::Committed),
            topic: self.name.clone(),
            partitions: self.partitions() as i32,
        }
    }

    /// What a consumer group says about it.
    pub fn group(&self, id: &str) -> Group {
        let consumer = self.broker.config().set("group.id", id).create().unwrap();
        Group { consumer, topic: self.name.clone(), partitions: self.partitions() as i32 }
    }

    /// That no transaction is left open in it: nobody behind it would see anything any more.
    pub fn assert_no_open_transaction(&self, context: &str) {
        let (stable, all) = (self.ends(Isolation::Committed), self.ends(Isolation::Uncommitted));
        assert_eq!(stable, all, "{context}: a transaction is open in {}", self.name);
    }

    fn consumer(&self, isolation: Isolation) -> BaseConsumer {
        let mut config = self.broker.config();
        let level = match isolation {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        };
        for (name, value) in [
            ("isolation.level", level),
            ("group.id", "tidemill-e2e-reader"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            ("fetch.wait.max.ms", "20"),
            ("fetch.queue.backoff.ms", "10"),
            ("queued.max.messages.kbytes", "65536"),
        ] {
            config.set(name, value);
        }
        config.create().unwrap()
    }
}

/// What a reader of committed records sees.
impl Log for Topic {
    fn each(&self, mut take: impl FnMut(usize, &[u8])) {
        let records = self.reader(Isolation::Committed);
        records.rest(|partition, payload| take(partition as usize, payload));
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if !thread::panicking() {
            // Whether it is still there, and its broker too, is of no interest any more.
            let _ = block_on(self.broker.admin().delete_topics(&[&self.name], &options()));
        }
    }
}

/// Reads a topic on and on.
pub struct Reader {
    consumer: BaseConsumer,
    /// Partitions whose end has not been seen.
    unread: BTreeSet<i32>,
}

impl Reader {
    /// Reads up to the present end of every partition.
    pub fn rest(mut self, mut take: impl FnMut(i32, &[u8])) {
        let mut heard = Instant::now();
        while !self.unread.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => take(record.partition(), record.payload().unwrap_or_default()),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.unread.remove(&partition);
                }
                Some(Err(error)) => panic!("a topic cannot be read back: {error}"),
                None => {
                    assert!(heard.elapsed() < PATIENCE, "no end of {:?}", self.unread);
                    continue;
                }
            }
            heard = Instant::now();
        }
    }

    /// Passes on what is there by now; a broker that is away has nothing.
    pub fn more(&mut self, mut take: impl FnMut(i32, &[u8])) {
        while let Some(polled) = self.consumer.poll(Duration::ZERO) {
            if let Ok(record) = polled {
                take(record.partition(), record.payload().unwrap_or_default());
            }
        }
    }
}

/// Sees a topic grow.
pub struct Watch {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Watch {
    /// The sum of the offsets up to which a reader of committed records can read; `None` where the
    /// broker does not answer.
    pub fn committed(&self) -> Option<i64> {
        let answer_within = Duration::from_millis(500);
        let end =
            |partition| self.consumer.fetch_watermarks(&self.topic, partition, answer_within).ok();
        (0..self.partitions).map(|partition| end(partition).map(|(_, end)| end)).sum()
    }
}

/// A consumer group, as its administrators see it.
pub struct Group {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Group {
    /// The sum of the offsets that it has committed.
    pub fn committed(&self) -> u64 {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topic, 0, self.partitions - 1);
        let committed = self.consumer.committed_offsets(asked, PATIENCE).unwrap();
        let offset = |offset| match offset {
            Offset::Offset(offset) => offset as u64,
            _ => 0,
        };
        committed.elements().iter().map(|partition| offset(partition.offset())).sum()
    }
}

/// Counts delivery reports.
#[derive(Default)]
struct Acknowledged {
    records: AtomicU64,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        if report.is_ok() {
            self.records.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Fills a topic.
pub struct Writer {
    producer: ThreadedProducer<Acknowledged>,
    topic: String,
    written: u64,
}

impl Destination for Writer {
    fn write(&mut self, partition: usize, key: &[u8], payload: &[u8]) {
        let partition = partition as i32;
        let mut record = BaseRecord::to(&self.topic).partition(partition).key(key).payload(payload);
        let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
        while let Err((error, refused)) = self.producer.send(record) {
            assert_eq!(error, full, "a record cannot be written");
            thread::park_timeout(Duration::from_millis(1));
            record = refused;
        }
        self.written += 1;
    }
}

impl Writer {
    /// Waits until the broker has all of them.
    pub fn finish(self) {
        self.producer.flush(PATIENCE).unwrap();
        let acknowledged = self.producer.context().records.load(Ordering::SeqCst);
        assert_eq!(acknowledged, self.written, "records were not acknowledged");
    }
}

/// Waits for a condition that somebody else brings about.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited for {what} in vain");
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
