//! Kafka transactions, step by step, and what each way to fail means.
//!
//! Invariant: what is reported as transient has left nothing visible, or is at [`Step::Commit`]. After
//! an abort the next transaction starts from nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::statistics::Statistics;
use tidemill_core::record::Header;
use tidemill_core::{Epoch, Error, ErrorKind, Result};

use super::produce::{JAVA_DELIVERY_TIMEOUT, TOPIC_PATIENCE, headers, is_bystander, is_record};
use super::record::Outgoing;
use super::staged::StagedReader;
use super::topic::{START_TIMEOUT, partitions};
use super::witness::{Witnesses, tag};
use crate::client::error::{Failure, describe, from_kafka};
use crate::client::events::Events;
use crate::client::properties::ClientProperties;

/// How long one call may take; then it is called again, which librdkafka allows.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Before a call that failed at once is made again.
const CALL_PAUSE: Duration = Duration::from_millis(100);

/// How long a transaction may take where the properties do not say: then brokers abort it themselves.
/// It bounds how much a checkpoint may write, and how long readers of committed records wait for a
/// job that died in the middle of a commit and does not come back.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(300);

/// A step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Begin,
    Produce,
    Mark,
    Commit,
}

impl Step {
    pub const ALL: [Self; 4] = [Self::Begin, Self::Produce, Self::Mark, Self::Commit];
}

/// A step that failed. The error is `Transient` where the transaction may be redone, and `Permanent` where
/// the topic does not take a record.
#[derive(Debug)]
pub(crate) struct Failed {
    pub at: Step,
    pub error: Error,
    /// The same call may be made again, and goes on where it was.
    pub resumable: bool,
}

/// The partition of every record of an epoch, in order.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    partitions: Vec<i32>,
    /// The last record in each partition.
    last: BTreeMap<i32, usize>,
}

impl Assigned {
    pub fn push(&mut self, partition: i32) {
        self.last.insert(partition, self.partitions.len());
        self.partitions.push(partition);
    }

    pub fn len(&self) -> usize {
        self.partitions.len()
    }
}

/// The transactional producer.
pub(crate) struct Transactions {
    name: String,
    topic: String,
    transactional_id: String,
    producer: ThreadedProducer<Delivering>,
    /// How long a transaction may take.
    timeout: Duration,
}

impl Transactions {
    /// Fences older producers of the same id.
    ///
    /// # Errors
    /// The id is not granted, or no broker answers.
    pub fn open(
        name: &str,
        topic: &str,
        transactional_id: &str,
        properties: &ClientProperties,
    ) -> Result<Self> {
        let given = properties.get("transaction.timeout.ms").and_then(|millis| millis.parse().ok());
        let timeout = given.map_or(TRANSACTION_TIMEOUT, Duration::from_millis);
        let millis = timeout.as_millis().to_string();
        let mut config = properties
            .config(&[("linger.ms", "5"), ("topic.metadata.propagation.max.ms", TOPIC_PATIENCE)]);
        config
            .remove(JAVA_DELIVERY_TIMEOUT)
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", &millis)
            .set("message.timeout.ms", &millis);
        let context =
            Delivering { events: Events::new(name, properties), failed: Mutex::default() };
        let producer = config
            .create_with_context(context)
            .map_err(|error| from_kafka(&error, format!("{name}: cannot make a producer")))?;
        let (name, topic) = (name.to_owned(), topic.to_owned());
        let transactional_id = transactional_id.to_owned();
        let transactions = Self { name, topic, transactional_id, producer, timeout };
        transactions.init()?;
        Ok(transactions)
    }

    fn init(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let error = match self.producer.init_transactions(CALL_TIMEOUT) {
                Ok(()) => {
                    self.events().answered();
                    return Ok(());
                }
                Err(error) => error,
            };
            if let Some(refusal) = self.events().refusal() {
                return Err(refusal);
            }
            let failed = self.failed(Step::Begin, &error);
            let may_pass = failed.error.kind() == ErrorKind::Transient;
            if !may_pass {
                return Err(failed.error);
            }
            if start.elapsed() > START_TIMEOUT {
                return Err(self.events().silence(START_TIMEOUT));
            }
        }
    }

    fn events(&self) -> &Events {
        &self.producer.client().context().events
    }

    /// How many partitions the topic has.
    pub fn partitions(&self, patience: Duration) -> Result<i32> {
        partitions(&self.producer, self.events(), &self.topic, patience)
            .map_err(|error| error.at(format!("{}, topic '{}'", self.name, self.topic)))
    }

    pub fn begin(&self) -> Result<(), Failed> {
        *self.producer.client().context().failed.lock() = None;
        self.producer.begin_transaction().map_err(|error| self.failed(Step::Begin, &error))
    }

    /// Gives all records to librdkafka. Whether they arrive shows when the transaction is committed.
    pub fn produce(
        &self,
        epoch: Epoch,
        staged: &[StagedReader],
        assigned: &Assigned,
    ) -> Result<(), Failed> {
        let tag = tag(&self.transactional_id, epoch);
        let mut n = 0;
        for staged in staged {
            let sent = staged.each(|record| {
                let partition = assigned.partitions[n];
                let is_last = assigned.last.get(&partition) == Some(&n);
                n += 1;
                self.send(&record, partition, is_last.then_some(&tag))
            });
            sent.map_err(|error| Failed { at: Step::Produce, error, resumable: false })?;
        }
        Ok(())
    }

    fn send(&self, record: &Outgoing<'_>, partition: i32, tag: Option<&Header>) -> Result<()> {
        let mut out = BaseRecord::to(&self.topic).partition(partition);
        (out.key, out.payload, out.timestamp) = (record.key, record.payload, record.timestamp);
        out.headers = match tag {
            Some(tag) => {
                let mut tagged = record.headers.to_vec();
                tagged.push(tag.clone());
                Some(headers(&tagged))
            }
            None if record.headers.is_empty() => None,
            None => Some(headers(record.headers)),
        };
        let start = Instant::now();
        loop {
            let (error, back) = match self.producer.send(out) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if !is_full || start.elapsed() > self.timeout {
                return Err(self.failed(Step::Produce, &error).error);
            }
            out = back;
            self.producer.poll(Duration::from_millis(10));
        }
    }

    /// Moves the marker within the transaction.
    pub fn mark(&self, marker: &TopicPartitionList, of: &Witnesses) -> Result<(), Failed> {
        let group =
            of.group().map_err(|error| Failed { at: Step::Mark, error, resumable: false })?;
        self.step(Step::Mark, || {
            self.producer.send_offsets_to_transaction(marker, &group, CALL_TIMEOUT)
        })
    }

    /// Makes all of it visible.
    pub fn commit(&self) -> Result<(), Failed> {
        self.step(Step::Commit, || self.producer.commit_transaction(CALL_TIMEOUT))
    }

    /// Waits until what was produced is in the log.
    #[cfg(test)]
    pub fn flush(&self) {
        self.producer.flush(self.timeout).unwrap();
    }

    /// Leaves nothing of the transaction behind.
    ///
    /// # Errors
    /// The brokers do not answer: they will abort it themselves when it times out.
    pub fn abort(&self) -> Result<()> {
        let aborted = self.step(Step::Begin, || self.producer.abort_transaction(CALL_TIMEOUT));
        match aborted {
            // There is none: it failed before it began.
            Err(failed) if failed.error.kind() == ErrorKind::Internal => Ok(()),
            result => result.map_err(|failed| failed.error),
        }
    }

    /// Calls again what may be called again, for as long as it takes brokers to move house. What takes
    /// longer is the runtime's to repeat.
    pub(super) fn step(
        &self,
        at: Step,
        call: impl Fn() -> Result<(), KafkaError>,
    ) -> Result<(), Failed> {
        let start = Instant::now();
        loop {
            let Err(error) = call() else { return Ok(()) };
            let resumable = may_be_repeated(&error);
            if resumable && start.elapsed() < CALL_TIMEOUT {
                std::thread::sleep(CALL_PAUSE);
                continue;
            }
            return Err(Failed { resumable, ..self.failed(at, &error) });
        }
    }

    /// What a failure means: redo, stop for a newer instance, or end.
    fn failed(&self, at: Step, error: &KafkaError) -> Failed {
        let delivery = self.producer.client().context().failed.lock().filter(|c| !is_bystander(*c));
        let code = match error.rdkafka_error_code() {
            // It has failed meanwhile, in a thread of its own: what that was is asked for.
            Some(RDKafkaErrorCode::Fatal) => {
                self.producer.client().fatal_error().map_or(RDKafkaErrorCode::Fatal, |(of, _)| of)
            }
            code => code.unwrap_or(RDKafkaErrorCode::Fail),
        };
        let what = format!(
            "{}, topic '{}', transaction '{}'",
            self.name, self.topic, self.transactional_id
        );
        let mut kind = kind_of(error, code);
        let mut why = match error {
            KafkaError::Transaction(error) => error.string(),
            _ => describe(code),
        };
        // What is wrong with a record is the cause; that the transaction must be aborted follows.
        if let Some(code) = delivery
            && !matches!(Failure::of(code), Failure::Transient)
            && kind != ErrorKind::Fenced
        {
            kind = Failure::of(code).kind();
            why = describe(code);
        }
        let refused = delivery.unwrap_or(code);
        if is_record(refused) && kind != ErrorKind::Fenced {
            kind = ErrorKind::Permanent;
            let settings = settings_of(refused);
            why = format!(
                "a record is refused: {}: change the topic's {settings}",
                describe(refused)
            );
        }
        let error = match kind {
            ErrorKind::Fenced => Error::new(
                kind,
                format!(
                    "{what}: another instance of this job has taken over ({why}): this one stops"
                ),
            ),
            kind => Error::new(kind, format!("{what}: {why}")),
        };
        Failed { at, error, resumable: false }
    }
}

fn may_be_repeated(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => is_retriable(error),
        // The flush in front of a commit.
        KafkaError::Flush(code) => Failure::of(*code) == Failure::Transient,
        _ => false,
    }
}

fn is_retriable(error: &RDKafkaError) -> bool {
    error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort()
}

fn kind_of(error: &KafkaError, code: RDKafkaErrorCode) -> ErrorKind {
    if Failure::of(code) == Failure::Fenced || code == RDKafkaErrorCode::ProducerFenced {
        return ErrorKind::Fenced;
    }
    match error {
        KafkaError::Transaction(error) if error.is_fatal() => ErrorKind::External,
        KafkaError::Transaction(error) if error.txn_requires_abort() => ErrorKind::Transient,
        KafkaError::Transaction(error) if error.is_retriable() => ErrorKind::Transient,
        KafkaError::Transaction(_) if code == RDKafkaErrorCode::State => ErrorKind::Internal,
        KafkaError::MessageProduction(_) if code == RDKafkaErrorCode::State => ErrorKind::Transient,
        _ => Failure::of(code).kind(),
    }
}

/// Which settings of a topic decide whether it takes such a record.
fn settings_of(code: RDKafkaErrorCode) -> &'static str {
    match code {
        RDKafkaErrorCode::InvalidTimestamp => {
            "'message.timestamp.before.max.ms' or 'message.timestamp.after.max.ms'"
        }
        RDKafkaErrorCode::InvalidRecord => {
            "'cleanup.policy' (a compacted topic takes no record without a key)"
        }
        _ => "'max.message.bytes'",
    }
}

/// Keeps the first failed delivery of a transaction that did not fail for another's sake.
pub(crate) struct Delivering {
    events: Events,
    failed: Mutex<Option<RDKafkaErrorCode>>,
}

impl ClientContext for Delivering {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.log(level, facility, line);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(&error, reason);
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.events.token()
    }
}

impl ProducerContext for Delivering {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            let mut failed = self.failed.lock();
            if failed.is_none_or(is_bystander) {
                *failed = Some(code);
            }
        }
    }
}
