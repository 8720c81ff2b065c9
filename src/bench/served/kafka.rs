//! The rows in a Kafka topic, a partition for each split.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;
use tidemill_core::table::Options;
use tidemill_core::{Error, Result};
use tidemill_kafka::client::ClientProperties;
use tidemill_kafka::{Kafka, KafkaSource, StartAt, StopAt};

use super::super::input;
use super::super::workload::Workload;
use super::{Split, records, unique_name};

/// How long a broker may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a producer whose queue is full waits.
const LOOK: Duration = Duration::from_millis(5);

/// The producer: records gather for a moment, and are compressed as they would be in use.
const PRODUCER: [(&str, &str); 4] = [
    ("enable.idempotence", "true"),
    ("linger.ms", "20"),
    ("batch.num.messages", "100000"),
    ("compression.type", "lz4"),
];

/// The consumer of the yardsticks. By default a queue that has been full is not filled again for a second, and
/// closing waits for a fetch behind the last record.
const CONSUMER: [(&str, &str); 4] = [
    ("group.id", "tidemill-bench"),
    ("enable.auto.commit", "false"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "10"),
];

type Admin = AdminClient<DefaultClientContext>;

/// A topic that is gone when this is dropped.
pub(crate) struct Topic {
    client: ClientProperties,
    name: String,
    partitions: usize,
    rows: Vec<i64>,
}

impl Topic {
    /// Makes a topic of so many partitions and deals out the rows to them in turns, a batch at a time.
    ///
    /// # Errors
    /// Brokers that are not named, cannot be reached, or do not take the rows.
    pub fn fill(
        brokers: Option<&str>,
        workload: &Workload,
        rows: &[RecordBatch],
        partitions: usize,
    ) -> Result<Self> {
        if brokers.is_none() && std::env::var_os("KAFKA_BROKERS").is_none() {
            return Err(Error::configuration(
                "--source kafka needs a broker: name it with --brokers HOST:PORT or KAFKA_BROKERS \
                 (`scripts/services up kafka`, then `scripts/services env`)",
            ));
        }
        let option =
            |brokers: &str| ("properties.bootstrap.servers".to_owned(), brokers.to_owned());
        let client =
            ClientProperties::parse(&brokers.into_iter().map(option).collect::<Options>())?;
        let topic = Self { client, name: unique_name(), partitions, rows: vec![0; partitions] };
        topic.create()?;
        topic.filled(workload, rows)
    }

    /// The whole of it, as the engine reads it.
    pub fn source(&self, workload: &Workload) -> KafkaSource {
        Kafka::topic(&self.name)
            .brokers(self.client.brokers())
            .group(&self.name)
            .start_at(StartAt::Earliest)
            .stop_at(StopAt::Latest)
            .json(input::schema(workload))
    }

    /// Its partitions.
    pub fn splits(self: &Arc<Self>) -> Vec<Partition> {
        (0..self.partitions).map(|number| Partition { topic: self.clone(), number }).collect()
    }

    fn admin(&self) -> Result<Admin> {
        self.client.config(&[]).create().map_err(|error| self.failed("reached", &error))
    }

    fn failed(&self, what: &str, error: &KafkaError) -> Error {
        let (name, brokers) = (&self.name, self.client.brokers());
        Error::external(format!("the topic {name} on {brokers} was not {what}: {error}"))
    }

    fn create(&self) -> Result<()> {
        let admin = self.admin()?;
        // -1: as many replicas as the broker gives a topic by default.
        let new = NewTopic::new(&self.name, self.partitions as i32, TopicReplication::Fixed(-1));
        let answers = wait(admin.create_topics([&new], &patient()))?;
        let answers = answers.map_err(|error| self.failed("created", &error))?;
        match answers.into_iter().next() {
            Some(Err((_, code))) => Err(self.failed("created", &KafkaError::AdminOp(code))),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    fn filled(mut self, workload: &Workload, rows: &[RecordBatch]) -> Result<Self> {
        let producer: ThreadedProducer<DefaultProducerContext> = self
            .client
            .config(&PRODUCER)
            .create()
            .map_err(|error| self.failed("filled", &error))?;
        let (name, partitions) = (self.name.clone(), self.partitions);
        let mut sent = vec![0; partitions];
        records(workload, rows, |batch, row| {
            let partition = batch % partitions;
            sent[partition] += 1;
            let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(&name).payload(row);
            let mut record = record.partition(partition as i32);
            let until = Instant::now() + PATIENCE;
            while let Err((error, refused)) = producer.send(record) {
                let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                if !is_full || Instant::now() > until {
                    return Err(self.failed("filled", &error));
                }
                std::thread::sleep(LOOK);
                record = refused;
            }
            Ok(())
        })?;
        producer.flush(PATIENCE).map_err(|error| self.failed("filled", &error))?;
        self.rows = sent;
        self.verify()?;
        Ok(self)
    }

    /// What was sent must be there: nobody listened to delivery reports.
    fn verify(&self) -> Result<()> {
        let consumer = self.consumer()?;
        for (number, sent) in self.rows.iter().enumerate() {
            let (first, behind) = consumer
                .fetch_watermarks(&self.name, number as i32, PATIENCE)
                .map_err(|error| self.failed("filled", &error))?;
            if (first, behind) != (0, *sent) {
                return Err(Error::external(format!(
                    "partition {number} of {} holds offsets {first} to {behind} where {sent} rows \
                     were sent: look at the broker's log",
                    self.name
                )));
            }
        }
        Ok(())
    }

    fn consumer(&self) -> Result<BaseConsumer> {
        self.client.config(&CONSUMER).create().map_err(|error| self.failed("read", &error))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let gone = self.admin().and_then(|admin| {
            let deleted = wait(admin.delete_topics(&[&self.name], &patient()))?;
            deleted.map_err(|error| self.failed("deleted", &error))
        });
        if let Err(error) = gone {
            eprintln!("warning: {error}");
        }
    }
}

fn patient() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Timeout::After(PATIENCE)))
}

fn wait<F: Future>(answer: F) -> Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(answer))
}

/// A partition, read by a consumer of its own.
pub(crate) struct Partition {
    topic: Arc<Topic>,
    number: usize,
}

impl Split for Partition {
    fn read(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let topic = &self.topic;
        let failed = |error| topic.failed("read", &error);
        let consumer = topic.consumer()?;
        // A consumer that does not know yet where a partition is, or its first offset, asks again half a second
        // later: too long to be counted.
        consumer.fetch_metadata(Some(&topic.name), PATIENCE).map_err(failed)?;
        let mut assignment = TopicPartitionList::new();
        let number = self.number as i32;
        assignment
            .add_partition_offset(&topic.name, number, Offset::Offset(0))
            .and_then(|()| consumer.assign(&assignment))
            .map_err(failed)?;
        for _ in 0..topic.rows[self.number] {
            let message = consumer.poll(PATIENCE).ok_or_else(|| {
                let seconds = PATIENCE.as_secs();
                let name = &topic.name;
                Error::external(format!("no record of {name} came for {seconds} s"))
            })?;
            each(message.map_err(failed)?.payload().unwrap_or_default())?;
        }
        Ok(())
    }
}
