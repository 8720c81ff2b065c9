//! Topics of a test's own, filled through rdkafka alone, and a shard's calls to a source.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset as KafkaOffset, TopicPartitionList};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::Records;
use tidemill_core::source::{Offset, Read, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::table::TableSpec;
use tidemill_core::time::SystemClock;
use tidemill_core::{Error, Result};

use crate::source::KafkaSource;

/// How long a broker may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run scripts/test, or scripts/services up"))
}

/// The broker of the tests.
pub fn brokers() -> String {
    variable("KAFKA_BROKERS")
}

/// A name that no other test and no earlier run has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{what}-{nanos:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for an answer of rdkafka's admin client.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = waker();
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    let start = Instant::now();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "no answer");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

/// Wakes the thread that made it.
pub fn waker() -> Waker {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers()).set_log_level(RDKafkaLogLevel::Emerg);
    config
}

fn admin() -> AdminClient<DefaultClientContext> {
    config().create().unwrap()
}

/// A topic.
pub struct Topic {
    pub name: String,
}

impl Topic {
    /// A new one.
    pub fn new(partitions: i32) -> Self {
        Self::called(unique("source"), partitions)
    }

    pub fn called(name: String, partitions: i32) -> Self {
        let topic = Self { name };
        topic.create(partitions);
        topic
    }

    pub fn create(&self, partitions: i32) {
        let topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        let start = Instant::now();
        // A topic of that name may still be being deleted.
        loop {
            let made = block_on(admin().create_topics([&topic], &AdminOptions::new())).unwrap();
            if made[0].is_ok() {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{:?}", made[0]);
        }
        self.wait_for_partitions(partitions as usize);
    }

    pub fn grow(&self, partitions: i32) {
        let more = NewPartitions::new(&self.name, partitions as usize);
        block_on(admin().create_partitions([&more], &AdminOptions::new())).unwrap();
        self.wait_for_partitions(partitions as usize);
    }

    pub fn delete(&self) {
        block_on(admin().delete_topics(&[&self.name], &AdminOptions::new())).unwrap();
        self.wait_for_partitions(0);
    }

    fn wait_for_partitions(&self, partitions: usize) {
        let consumer: BaseConsumer = config().create().unwrap();
        let start = Instant::now();
        loop {
            let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE).unwrap();
            if metadata.topics()[0].partitions().len() == partitions {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{} has not {partitions} partitions", self.name);
        }
    }

    /// Deletes the records of partition 0 before `offset`.
    pub fn cut(&self, offset: i64) {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(&self.name, 0, KafkaOffset::Offset(offset)).unwrap();
        block_on(admin().delete_records(&before, &AdminOptions::new())).unwrap();
    }

    /// Adds records, each of them a batch of its own.
    pub fn send<'a>(&self, records: impl IntoIterator<Item = Sent<'a>>) {
        let mut config = config();
        config.set("batch.num.messages", "1").set("linger.ms", "0");
        let producer: BaseProducer = config.create().unwrap();
        records.into_iter().for_each(|sent| sent.to(&producer, &self.name));
        producer.flush(PATIENCE).unwrap();
    }

    /// Adds JSON rows `{"n": …}` to partition 0.
    pub fn send_numbers(&self, numbers: impl IntoIterator<Item = i64>) {
        let payloads: Vec<String> =
            numbers.into_iter().map(|n| format!("{{\"n\": {n}}}")).collect();
        self.send(payloads.iter().map(|payload| Sent::json(payload)));
    }

    /// Adds records in a transaction, and ends it well or not.
    pub fn transact<'a>(&self, records: impl IntoIterator<Item = Sent<'a>>, commit: bool) {
        let mut config = config();
        config.set("transactional.id", unique("transaction"));
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        records.into_iter().for_each(|sent| sent.to(&producer, &self.name));
        producer.flush(PATIENCE).unwrap();
        if commit {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }

    /// The offsets of a group, by partition, as any other client sees them.
    pub fn committed(&self, group: &str, partitions: i32) -> HashMap<i32, i64> {
        let mut config = config();
        let consumer: BaseConsumer = config.set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.name, 0, partitions - 1);
        let list = consumer.committed_offsets(list, PATIENCE).unwrap();
        let elements = list.elements();
        let offsets = elements.iter().filter_map(|element| match element.offset() {
            KafkaOffset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        offsets.collect()
    }

    /// Sets a group's offset in partition 0.
    pub fn commit(&self, group: &str, offset: i64) {
        let mut config = config();
        let consumer: BaseConsumer = config.set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, 0, KafkaOffset::Offset(offset)).unwrap();
        consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();
    }

    pub fn split(&self, partition: i32) -> SplitId {
        SplitId::new(format!("{}/{partition}", self.name))
    }
}

/// A record that a test sends.
#[derive(Clone, Copy, Default)]
pub struct Sent<'a> {
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    pub timestamp: Option<i64>,
}

impl<'a> Sent<'a> {
    pub fn json(payload: &'a str) -> Self {
        Self { payload: Some(payload.as_bytes()), ..Self::default() }
    }

    fn to(&self, producer: &BaseProducer, topic: &str) {
        let mut record = BaseRecord::to(topic).partition(self.partition);
        record = match self.key {
            Some(key) => record.key(key),
            None => record,
        };
        record = match self.payload {
            Some(payload) => record.payload(payload),
            None => record,
        };
        record = match self.timestamp {
            Some(timestamp) => record.timestamp(timestamp),
            None => record,
        };
        if !self.headers.is_empty() {
            let headers = self.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: *value })
            });
            record = record.headers(headers);
        }
        let sent: Result<(), _> = producer.send::<[u8], [u8]>(record);
        sent.map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
    }
}

/// A table of these columns and options, at the broker of the tests, read from its beginning.
pub fn table(
    columns: Vec<Field>,
    metadata: &[(usize, &str)],
    topic: &str,
    options: &[(&str, &str)],
) -> TableSpec {
    let brokers = brokers();
    let mut all = HashMap::from([
        ("topic", topic),
        ("properties.bootstrap.servers", &brokers),
        ("format", "json"),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.topic-partition-discovery.interval", "1 ms"),
    ]);
    all.extend(options.iter().copied());
    TableSpec {
        name: "t".to_owned(),
        schema: Arc::new(Schema::new(columns)),
        metadata: metadata.iter().map(|(column, key)| (*column, (*key).to_owned())).collect(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: all.into_iter().filter(|(_, value)| *value != "-").collect(),
    }
}

pub fn numbers() -> Vec<Field> {
    vec![Field::new("n", DataType::Int64, true)]
}

/// A source of rows `n`.
pub fn source(topic: &Topic, options: &[(&str, &str)]) -> KafkaSource {
    KafkaSource::of_table(&table(numbers(), &[], &topic.name, options)).unwrap()
}

pub fn context() -> ReaderContext {
    ReaderContext {
        waker: waker(),
        clock: Arc::new(SystemClock::default()),
        job: "test".into(),
        discovered: false,
        checkpointed: true,
    }
}

/// What a reader has returned.
#[derive(Default)]
pub struct Got {
    pub rows: Vec<RecordBatch>,
    pub records: Vec<Option<Arc<dyn Records>>>,
    pub letters: Vec<DeadLetter>,
    pub skipped: usize,
}

impl Got {
    pub fn count(&self) -> usize {
        self.rows.iter().map(RecordBatch::num_rows).sum::<usize>()
            + self.letters.len()
            + self.skipped
    }

    /// The first column.
    pub fn numbers(&self) -> Vec<i64> {
        let column =
            |rows: &RecordBatch| rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        self.rows.iter().flat_map(column).collect()
    }

    /// All rows as one batch.
    pub fn batch(&self, schema: &SchemaRef) -> RecordBatch {
        arrow::compute::concat_batches(schema, &self.rows).unwrap()
    }
}

/// Reads `count` records, or to the end, as a shard does: waits to be woken where there is nothing.
pub fn read(reader: &mut dyn SplitReader, count: usize) -> Result<Got> {
    let mut got = Got::default();
    let start = Instant::now();
    while got.count() < count {
        match reader.read((count - got.count()).min(8192))? {
            Read::Batch(batch) => {
                got.rows.push(batch.rows);
                got.records.push(batch.records);
                got.letters.extend(batch.dead_letters);
                got.skipped += batch.skipped;
            }
            Read::End => return Ok(got),
            Read::Pending => {
                assert!(start.elapsed() < PATIENCE, "{} of {count} records", got.count());
                // Woken, not timed: a lost wake-up fails the test.
                std::thread::park_timeout(PATIENCE);
            }
        }
    }
    Ok(got)
}

/// All of a bounded partition.
pub fn read_to_end(source: &KafkaSource, split: &SplitId, from: Option<&Offset>) -> Result<Got> {
    let mut reader = source.open(split, from, &context())?;
    read(reader.as_mut(), usize::MAX)
}

/// The error of what must not work.
pub fn refused<T>(result: Result<T>) -> Error {
    result.err().expect("this is refused")
}
