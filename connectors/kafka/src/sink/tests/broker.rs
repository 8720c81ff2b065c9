//! Topics of a test's own, what is in them, and a shard's calls to a writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::SchemaRef;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tidemill_core::retry::RetrySettings;
use tidemill_core::sink::{SinkContext, SinkWriter, Staged};
use tidemill_core::time::SystemClock;
use tidemill_core::{Batch, Epoch};

use crate::sink::topic::block_on;

/// The broker of the tests.
pub fn brokers() -> String {
    std::env::var("KAFKA_BROKERS")
        .expect("KAFKA_BROKERS is not set: run scripts/test, or scripts/services up")
}

/// A name that no other test and no earlier run has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{what}-{nanos:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// A new topic with these settings.
pub fn topic(partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = unique("sink");
    let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    // It must live until the answer is there: without its thread nobody would take it.
    let admin = admin(&brokers());
    let made = admin.create_topics([&topic], &AdminOptions::new());
    // The answer may come before every broker knows the topic: who writes to it asks again.
    block_on(made).unwrap().remove(0).unwrap();
    name
}

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub key: Option<String>,
    pub payload: Option<String>,
    pub headers: Vec<(String, Option<String>)>,
    pub timestamp: i64,
}

/// All that a topic holds, partition by partition, for readers of this isolation.
pub fn read(brokers: &str, topic: &str, isolation: &str) -> Vec<Seen> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", unique("reader"))
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30)).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions as i32 {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut seen, mut left) = (Vec::new(), partitions);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let start = Instant::now();
    while left > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "{topic} is not read to its end");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(message)) => seen.push(Seen {
                partition: message.partition(),
                key: message.key().map(text),
                payload: message.payload().map(text),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    headers.iter().map(|h| (h.key.to_owned(), h.value.map(text))).collect()
                }),
                timestamp: message.timestamp().to_millis().unwrap(),
            }),
        }
    }
    seen.sort_by_key(|seen| seen.partition);
    seen
}

/// What readers of committed records see.
pub fn committed(topic: &str) -> Vec<Seen> {
    read(&brokers(), topic, "read_committed")
}

/// Rows `user`, `n`.
pub fn rows(users: &[&str], numbers: impl IntoIterator<Item = i64>) -> Batch {
    let users: ArrayRef = Arc::new(StringViewArray::from(users.to_vec()));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    Batch::new(RecordBatch::try_from_iter([("user", users), ("n", numbers)]).unwrap())
}

/// The context of shard `shard` of `job`'s sink `out`.
pub fn context(job: &str, shard: usize, first_epoch: Epoch, schema: SchemaRef) -> SinkContext {
    SinkContext {
        job: job.to_owned(),
        node: "out".to_owned(),
        shard,
        first_epoch,
        schema,
        waker: waker(),
        checkpointed: true,
        clock: Arc::new(SystemClock::default()),
        machine_output: false,
        retry: RetrySettings::default(),
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

/// Asks again whenever woken, as a shard does.
pub fn wait<T>(mut poll: impl FnMut() -> Poll<T>) -> T {
    let start = Instant::now();
    loop {
        if let Poll::Ready(value) = poll() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(90), "never ready");
        std::thread::park_timeout(Duration::from_secs(10));
    }
}

/// A shard that writes a batch and comes to a barrier.
pub fn write_epoch(writer: &mut dyn SinkWriter, epoch: Epoch, batch: &Batch) -> Staged {
    wait(|| writer.poll_ready().unwrap());
    writer.write(batch).unwrap();
    stage(writer, epoch)
}

pub fn stage(writer: &mut dyn SinkWriter, epoch: Epoch) -> Staged {
    wait(|| writer.poll_stage(epoch).unwrap())
}
