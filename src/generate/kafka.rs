//! Events to a Kafka topic: keyed, with headers, idempotent, every delivery report counted.
//!
//! Records carry the broker's idea of now as their timestamp rather than their event time: a broker
//! deletes by it, and refuses what lies in the future.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::util::Timeout;
use tidemill_core::{Error, Result};
use tidemill_generator::events::Event;
use tidemill_kafka::client::error::{describe, from_code, from_kafka};
use tidemill_kafka::client::{ClientProperties, Events};
use tidemill_kafka::dead_letter::Address;

use super::{Delivered, Target, Wants};

/// Creates topics.
type Admin = AdminClient<Deliveries>;

/// How long the broker may take for an answer about topics.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How long a stopped generator waits for deliveries that are under way.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// How long one look for delivery reports waits.
const LOOK: Duration = Duration::from_millis(100);

/// A new topic has so many partitions where nothing is said.
const PARTITIONS: i32 = 1;

/// How batches of records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    None,
    /// Fast.
    Lz4,
    /// Small.
    Zstd,
}

/// Where events go, and how.
pub struct KafkaSettings {
    /// The topic and its brokers.
    pub address: Address,
    /// Partitions of the topic where it does not exist yet.
    pub partitions: Option<i32>,
    /// How batches are compressed.
    pub compression: Compression,
    /// Whether records have headers.
    pub headers: bool,
    /// Properties of librdkafka, which win over all others.
    pub properties: Vec<(String, String)>,
}

/// What the producer is configured with where no property says otherwise. Its queue holds at most
/// 128 MiB.
const PRODUCER: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    ("partitioner", "murmur2_random"),
    ("linger.ms", "20"),
    ("batch.num.messages", "100000"),
    ("queue.buffering.max.messages", "500000"),
    ("queue.buffering.max.kbytes", "131072"),
];

impl KafkaSettings {
    /// How the brokers are reached, as tables say it too.
    fn client(&self) -> Result<ClientProperties> {
        let brokers = &self.address.brokers;
        let brokers = (!brokers.is_empty()).then_some(("bootstrap.servers", brokers));
        let given = self.properties.iter().map(|(name, value)| (name.as_str(), value));
        let option = |(name, value): (&str, &String)| (format!("properties.{name}"), value.clone());
        ClientProperties::parse(&brokers.into_iter().chain(given).map(option).collect())
    }

    fn compression(&self) -> (&'static str, &'static str) {
        let codec = match self.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        ("compression.type", codec)
    }
}

/// A Kafka topic.
pub struct KafkaTarget {
    producer: BaseProducer<Deliveries>,
    topic: String,
    headers: bool,
    stop: Arc<AtomicBool>,
    /// Taken while there was no room for them, and given up.
    given_up: u64,
}

/// Hears what the producer says, and counts delivery reports.
struct Deliveries {
    events: Events,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    why: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.events.token()
    }
}

impl Deliveries {
    fn new(properties: &ClientProperties) -> Self {
        Self {
            events: Events::new("generate", properties),
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            why: Mutex::new(None),
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                self.why.lock().get_or_insert_with(|| describe(code));
            }
        }
    }
}

impl KafkaTarget {
    /// The topic, created where it does not exist. Waiting for room ends when `stop` is set.
    ///
    /// # Errors
    /// Brokers that cannot be reached, settings that they or the client refuse.
    pub fn open(settings: KafkaSettings, stop: Arc<AtomicBool>) -> Result<Self> {
        let client = settings.client()?;
        let topic = settings.address.topic()?.to_owned();
        create_topic(&client, &topic, settings.partitions)?;
        let defaults: Vec<_> = PRODUCER.into_iter().chain([settings.compression()]).collect();
        let producer = client
            .config(&defaults)
            .create_with_context(Deliveries::new(&client))
            .map_err(|error| from_kafka(&error, "generate: the producer cannot be created"))?;
        Ok(Self { producer, topic, headers: settings.headers, stop, given_up: 0 })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn record<'a>(&'a self, event: &Event<'a>) -> BaseRecord<'a, [u8], [u8]> {
        let record = BaseRecord::to(&self.topic).key(event.key).payload(event.value);
        if !self.headers {
            return record;
        }
        let add = |headers: OwnedHeaders, (key, value): (&str, &[u8])| {
            headers.insert(Header { key, value: Some(value) })
        };
        record.headers(event.headers.iter().fold(OwnedHeaders::new_with_capacity(6), add))
    }
}

impl Target for KafkaTarget {
    fn write(&mut self, event: &Event<'_>) -> Result<()> {
        let mut record = self.record(event);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if is_full(&error) => record = back,
                Err((error, _)) => {
                    return Err(from_kafka(&error, format!("generate: topic {}", self.topic)));
                }
            }
            if self.stopped() {
                break;
            }
            self.producer.poll(LOOK);
        }
        self.given_up += 1;
        Ok(())
    }

    fn poll(&mut self) -> Result<Wants> {
        self.producer.poll(Duration::ZERO);
        if let Some(refusal) = self.producer.context().events.refusal() {
            return Err(refusal);
        }
        match self.producer.client().fatal_error() {
            None => Ok(Wants::More),
            Some((code, reason)) => {
                let what = format!("generate: topic {} ({reason})", self.topic);
                Err(from_code(code, what))
            }
        }
    }

    fn finish(&mut self) -> Result<Delivered> {
        let begun = Instant::now();
        while self.producer.in_flight_count() > 0 {
            if self.stopped() && begun.elapsed() > STOP_WITHIN {
                self.producer.purge(PurgeConfig::default().queue().inflight());
            }
            self.producer.poll(LOOK);
        }
        let deliveries = self.producer.context();
        let stopped = || "it was stopped while the brokers took no more".to_owned();
        let why = deliveries.why.lock().clone();
        Ok(Delivered {
            acknowledged: deliveries.acknowledged.load(Ordering::Relaxed),
            failed: deliveries.failed.load(Ordering::Relaxed) + self.given_up,
            why: why.or_else(|| (self.given_up > 0).then(stopped)),
        })
    }
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// Creates a topic that does not exist; says so where it exists with other partitions.
fn create_topic(client: &ClientProperties, topic: &str, partitions: Option<i32>) -> Result<()> {
    let admin: Admin = client
        .config(&[])
        .create_with_context(Deliveries::new(client))
        .map_err(|error| from_kafka(&error, "generate: the admin client cannot be created"))?;
    match (partitions_of(&admin, topic)?, partitions) {
        (0, wanted) => create(&admin, topic, wanted.unwrap_or(PARTITIONS)),
        (found, Some(wanted)) if found != wanted => {
            tracing::warn!("topic {topic} exists with {found} partitions, not {wanted}: they stay");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// How many partitions a topic has; 0 where it does not exist. Asking for one topic alone could
/// create it, so all are asked for.
fn partitions_of(admin: &Admin, topic: &str) -> Result<i32> {
    let client = admin.inner();
    let metadata = client.fetch_metadata(None, ANSWER_WITHIN).map_err(|error| {
        let events = &client.context().events;
        match events.refusal() {
            Some(refusal) => refusal,
            None => events.silence(ANSWER_WITHIN).caused_by(error),
        }
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(found.map_or(0, |found| found.partitions().len() as i32))
}

fn create(admin: &Admin, topic: &str, partitions: i32) -> Result<()> {
    let failed = |why: String| {
        Error::external(format!(
            "topic {topic} with {partitions} partitions was not created: {why}"
        ))
    };
    // -1: as many replicas as the broker gives a topic by default.
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let options = AdminOptions::new()
        .request_timeout(Some(ANSWER_WITHIN))
        .operation_timeout(Some(Timeout::After(ANSWER_WITHIN)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let answers = runtime.block_on(admin.create_topics([&new], &options));
    match answers.map_err(|e| failed(e.to_string()))?.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) => {}
        Some(Err((_, code))) => return Err(failed(code.to_string())),
        None => return Err(failed("the broker did not say why".to_owned())),
    }
    let begun = Instant::now();
    while partitions_of(admin, topic)? == 0 {
        if begun.elapsed() > ANSWER_WITHIN {
            return Err(failed("it does not appear among the topics".to_owned()));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
