//! Producing records at least once: one client of librdkafka, shared by all who write to its cluster.
//!
//! librdkafka retries by itself, in order, for as long as an attempt may take; what it gives back is sent
//! again by the rules of `outbox`, until the delivery timeout. A thread of the producer's own
//! serves delivery reports.
//!
//! Invariant: every record that was sent is acknowledged, handed back as refused, or still outstanding;
//! a producer that has failed says so on every call and acknowledges nothing it does not know of.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use parking_lot::Mutex;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as KafkaHeader, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
};
use rdkafka::statistics::Statistics;
use tidemill_core::record::Header;
use tidemill_core::retry::{Backoff, RetrySettings};
use tidemill_core::time::{Clock, SystemClock};
use tidemill_core::{Error, ErrorKind, Result};

use super::lane::{Lane, Refused};
use super::outbox::{Held, Outbox, Returned, Ticket};
use super::record::{Outgoing, Owned};
use crate::client::error::{Failure, describe, from_code, from_kafka};
use crate::client::events::Events;
use crate::client::properties::ClientProperties;

/// How long librdkafka tries a record before it gives it back: brokers restart within this.
const ATTEMPT: Duration = Duration::from_secs(30);

/// How long a record may take where the properties do not say: the Java client's default.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// Another name of `message.timeout.ms`; of two names for one thing, the last one set would count.
pub(crate) const JAVA_DELIVERY_TIMEOUT: &str = "delivery.timeout.ms";

/// How many milliseconds a topic may be unknown to the brokers before its records are given back.
pub(crate) const TOPIC_PATIENCE: &str = "10000";

/// How long a producer whose records nobody waits for waits for them itself when it is closed.
const PARTING: Duration = Duration::from_secs(5);

/// How often the producer's thread looks after records that wait.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Sends records to one cluster, at least once, without blocking. Clones made with
/// [`RecordProducer::another`] share the connection and count for themselves.
pub struct RecordProducer {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
}

/// How a producer is set up.
#[derive(Clone)]
pub struct ProducerSettings {
    /// Its name in messages and metrics: `sink per_minute`.
    pub name: String,
    /// How the cluster is reached.
    pub properties: ClientProperties,
    /// Whether a record counts as delivered only when all replicas in sync have it. Where not, records
    /// may be lost, but not those of a run that ends in peace: the producer is closed when they are out,
    /// or after five seconds.
    pub acknowledged: bool,
    /// A record beyond this many bytes is refused; `None`: what the properties say.
    pub max_bytes: Option<usize>,
    /// What durations are measured with.
    pub clock: Arc<dyn Clock>,
    /// When the circuit breaker opens, and for how long. How long a record is tried is what
    /// `delivery.timeout.ms` says.
    pub retry: RetrySettings,
}

impl ProducerSettings {
    /// Acknowledged by all replicas in sync, with the machine's clock.
    pub fn new(name: impl Into<String>, properties: ClientProperties) -> Self {
        Self {
            name: name.into(),
            properties,
            acknowledged: true,
            max_bytes: None,
            clock: Arc::new(SystemClock::default()),
            retry: RetrySettings::default(),
        }
    }
}

impl RecordProducer {
    /// Opens a connection. Does not wait for it: brokers that are down show when records are sent.
    /// `waker` is called when there is room again, when nothing is outstanding any more, when records
    /// were refused and when the producer has failed.
    ///
    /// # Errors
    /// A configuration error where librdkafka refuses the properties.
    pub fn open(settings: &ProducerSettings, waker: Waker) -> Result<Self> {
        Ok(Self::of(Arc::new(Shared::open(settings)?), waker))
    }

    /// Another user of the same connection, with counts of its own.
    #[must_use]
    pub fn another(&self, waker: Waker) -> Self {
        Self::of(self.shared.clone(), waker)
    }

    fn of(shared: Arc<Shared>, waker: Waker) -> Self {
        let lane = Arc::new(Lane::new(waker));
        let mut lanes = shared.inner.lanes.lock();
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.push(Arc::downgrade(&lane));
        drop(lanes);
        Self { shared, lane }
    }

    /// Finds the connection again as long as it is in use.
    pub(crate) fn downgrade(&self) -> WeakProducer {
        WeakProducer(Arc::downgrade(&self.shared))
    }

    /// Sends a record. Takes it in any case: where there is no room it waits its turn, in order. A
    /// record that is too large comes back through [`RecordProducer::take_refused`].
    ///
    /// # Errors
    /// The producer has failed.
    pub fn send(&self, topic: &str, record: &Outgoing<'_>) -> Result<()> {
        self.shared.inner.send(topic, record, &self.lane)
    }

    /// Bytes of what is outstanding.
    pub fn outstanding_bytes(&self) -> usize {
        self.lane.bytes()
    }

    /// Whether so much is outstanding that the next record should wait until the waker is called.
    pub fn is_full(&self) -> bool {
        self.lane.is_full()
    }

    /// Records sent and neither acknowledged nor refused.
    pub fn outstanding(&self) -> usize {
        self.lane.outstanding()
    }

    /// Records that the cluster will never take, since the last call.
    pub fn take_refused(&self) -> Vec<Refused> {
        self.lane.take_refused()
    }

    /// Says why the producer has failed, if it has: what is outstanding then will not be delivered.
    ///
    /// # Errors
    /// That reason.
    pub fn check(&self) -> Result<()> {
        self.shared.inner.check()
    }

    /// Waits until nothing is outstanding, or for `patience`; whether nothing is. For those who may
    /// block.
    ///
    /// # Errors
    /// The producer has failed.
    pub fn flush(&self, patience: Duration) -> Result<bool> {
        let inner = &self.shared.inner;
        let done = self.lane.wait(patience, || self.outstanding() == 0 || inner.has_failed());
        self.check()?;
        Ok(done)
    }

    /// Waits until there is room for more, or for `patience`; whether there is. For those who may
    /// block.
    ///
    /// # Errors
    /// The producer has failed.
    pub fn wait_for_room(&self, patience: Duration) -> Result<bool> {
        let inner = &self.shared.inner;
        let done = self.lane.wait(patience, || !self.is_full() || inner.has_failed());
        self.check()?;
        Ok(done)
    }
}

/// A producer that may be closed by now.
#[derive(Clone)]
pub(crate) struct WeakProducer(Weak<Shared>);

impl WeakProducer {
    /// Another user of the connection, where it is still open.
    pub fn upgrade(&self, waker: Waker) -> Option<RecordProducer> {
        self.0.upgrade().map(|shared| RecordProducer::of(shared, waker))
    }
}

impl std::fmt::Debug for WeakProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakProducer")
    }
}

/// The connection with its thread; the thread ends with it.
struct Shared {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    fn open(settings: &ProducerSettings) -> Result<Self> {
        let inner = Arc::new(Inner::open(settings)?);
        let served = inner.clone();
        let thread = std::thread::Builder::new()
            .name("tidemill-kafka-producer".into())
            .spawn(move || served.serve())
            .map_err(|e| Error::external("a producer's thread cannot be started").caused_by(e))?;
        Ok(Self { inner, thread: Some(thread) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.inner.parts_slowly {
            let start = Instant::now();
            while !self.inner.is_done() && start.elapsed() < PARTING {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        self.inner.producer.context().closed.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics; and a panic would have been reported already.
            let _ = thread.join();
        }
    }
}

struct Inner {
    name: String,
    producer: BaseProducer<Reports>,
    /// Nobody waits for acknowledgements: so it does when it is closed.
    parts_slowly: bool,
    /// All lanes, to wake when the producer fails.
    lanes: Mutex<Vec<Weak<Lane>>>,
}

/// What delivery reports and errors change.
struct Reports {
    name: String,
    events: Events,
    clock: Arc<dyn Clock>,
    outbox: Mutex<Outbox>,
    /// [`Outbox::is_troubled`], for those who do not want to lock; true until the first answer.
    troubled: AtomicBool,
    closed: AtomicBool,
    random: RandomState,
}

impl Inner {
    fn open(settings: &ProducerSettings) -> Result<Self> {
        let ProducerSettings { name, properties, acknowledged, max_bytes, clock, retry } = settings;
        let timeout = delivery_timeout(properties);
        let attempt = ATTEMPT.min(timeout / 4).max(Duration::from_millis(10)).as_millis();
        let acks = if *acknowledged { "all" } else { "1" };
        // librdkafka knows no idempotence with fewer acknowledgements.
        let all = ["all", "-1"].contains(&properties.get("acks").unwrap_or(acks));
        let idempotent = if all { "true" } else { "false" };
        let mut config = properties.config(&[
            ("acks", acks),
            ("enable.idempotence", idempotent),
            ("partitioner", "murmur2_random"),
            ("linger.ms", "5"),
            ("topic.metadata.propagation.max.ms", TOPIC_PATIENCE),
            ("queue.buffering.max.kbytes", "131072"),
        ]);
        config.remove(JAVA_DELIVERY_TIMEOUT);
        config.set("message.timeout.ms", attempt.to_string());
        if let Some(limit) = max_bytes {
            config.set("message.max.bytes", limit.to_string());
        }
        let backoff = Backoff { deadline: timeout, ..Backoff::default() };
        let retry = RetrySettings { backoff, ..*retry };
        let reports = Reports {
            name: name.clone(),
            events: Events::new(name.as_str(), properties),
            clock: clock.clone(),
            outbox: Mutex::new(Outbox::new(retry)),
            troubled: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            random: RandomState::new(),
        };
        reports.show_breaker(0);
        let producer = config
            .create_with_context(reports)
            .map_err(|error| from_kafka(&error, format!("{name}: cannot make a producer")))?;
        let (name, parts_slowly) = (name.clone(), !acknowledged);
        Ok(Self { name, producer, parts_slowly, lanes: Mutex::default() })
    }

    fn reports(&self) -> &Reports {
        self.producer.context()
    }

    fn send(&self, topic: &str, record: &Outgoing<'_>, lane: &Arc<Lane>) -> Result<()> {
        let reports = self.reports();
        let mut outbox = reports.outbox.lock();
        if let Some(finished) = outbox.finished() {
            return Err(finished.error());
        }
        let ticket = Ticket {
            number: outbox.number(),
            lane: lane.clone(),
            bytes: record.wire_size(),
            attempts: 0,
            sent_at: reports.clock.elapsed(),
            timestamp: record.timestamp,
            alone: false,
        };
        lane.sent(ticket.bytes);
        if !outbox.passes() {
            outbox.hold(Held { record: Owned::new(topic, record), ticket });
        } else if let Err((code, ticket)) = self.hand_over(topic, record, ticket) {
            reports.not_taken(&mut outbox, code, Owned::new(topic, record), ticket);
        }
        Ok(())
    }

    /// Gives a record to librdkafka.
    fn hand_over(
        &self,
        topic: &str,
        record: &Outgoing<'_>,
        ticket: Ticket,
    ) -> Result<(), (RDKafkaErrorCode, Ticket)> {
        let mut out = BaseRecord::with_opaque_to(topic, Box::new(ticket));
        (out.partition, out.key, out.payload) = (record.partition, record.key, record.payload);
        out.timestamp = record.timestamp;
        if !record.headers.is_empty() {
            out.headers = Some(headers(record.headers));
        }
        self.producer.send(out).map_err(|(error, out)| {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::InvalidTopic);
            (code, *out.delivery_opaque)
        })
    }

    fn check(&self) -> Result<()> {
        self.reports().outbox.lock().finished().map_or(Ok(()), |finished| Err(finished.error()))
    }

    fn has_failed(&self) -> bool {
        self.reports().outbox.lock().finished().is_some()
    }

    /// Whether nothing is on its way any more, or nothing will get any further.
    fn is_done(&self) -> bool {
        let outbox = self.reports().outbox.lock();
        // Under the lock, since records go from one to the other.
        outbox.finished().is_some() || (outbox.is_empty() && self.producer.in_flight_count() == 0)
    }

    /// The producer's thread: delivery reports, and records that wait.
    fn serve(&self) {
        let reports = self.reports();
        let mut has_failed = false;
        while !reports.closed.load(Ordering::Acquire) {
            self.producer.poll(POLL_INTERVAL);
            self.look_after();
            if !has_failed && self.has_failed() {
                has_failed = true;
                self.lanes.lock().iter().filter_map(Weak::upgrade).for_each(|lane| lane.wake());
            }
        }
    }

    fn look_after(&self) {
        let reports = self.reports();
        let mut outbox = reports.outbox.lock();
        if let Some(refusal) = reports.events.refusal() {
            outbox.fail(refusal.kind(), refusal.to_string());
        }
        if let Some((_, why)) = self.producer.client().fatal_error() {
            let message = format!("{}: the producer cannot go on: {why}", self.name);
            outbox.fail(ErrorKind::External, message);
        }
        if outbox.take_recall() {
            // Under the lock: what is sent meanwhile would be recalled with the rest.
            self.producer.purge(PurgeConfig::default().queue());
        }
        outbox.expire(reports.clock.elapsed());
        let in_flight = || usize::try_from(self.producer.in_flight_count()).unwrap_or(0);
        while let Some(held) = outbox.next(reports.clock.elapsed(), in_flight()) {
            let Held { record, ticket } = held;
            match self.hand_over(&record.topic, &record.borrow(), ticket) {
                Ok(()) => {}
                Err((RDKafkaErrorCode::QueueFull, ticket)) => {
                    outbox.hold(Held { record, ticket });
                    break;
                }
                Err((code, ticket)) => reports.not_taken(&mut outbox, code, record, ticket),
            }
        }
        reports.show_breaker(outbox.breaker() as u32);
        reports.troubled.fetch_or(outbox.is_troubled(), Ordering::AcqRel);
    }
}

impl Reports {
    /// librdkafka did not take a record.
    fn not_taken(
        &self,
        outbox: &mut Outbox,
        code: RDKafkaErrorCode,
        record: Owned,
        ticket: Ticket,
    ) {
        match Failure::of(code) {
            _ if code == RDKafkaErrorCode::QueueFull => outbox.hold(Held { record, ticket }),
            Failure::Record => self.refuse(code, record, ticket),
            failure => self.finish(outbox, failure, code, &record),
        }
    }

    /// A record was not delivered.
    fn came_back(&self, code: RDKafkaErrorCode, record: Owned, ticket: Ticket) {
        let mut outbox = self.outbox.lock();
        let now = self.clock.elapsed();
        let returned = match Failure::of(code) {
            _ if is_bystander(code) => Returned::Bystander,
            _ if is_record(code) => {
                outbox.answered();
                if ticket.alone {
                    self.refuse(code, record, ticket);
                    return;
                }
                Returned::Suspect
            }
            Failure::Transient => Returned::Failed,
            failure => {
                self.finish(&mut outbox, failure, code, &record);
                return;
            }
        };
        counter!("tidemill_kafka_records_retried_total", "sink" => self.name.clone()).increment(1);
        outbox.returned(Held { record, ticket }, returned, now, self.jitter(now), &describe(code));
        self.troubled.store(true, Ordering::Release);
        self.show_breaker(outbox.breaker() as u32);
    }

    fn refuse(&self, code: RDKafkaErrorCode, record: Owned, ticket: Ticket) {
        let reason = format!("topic '{}' refuses the record: {}", record.topic, describe(code));
        let bytes = ticket.bytes;
        let source = record.borrow().to_record(&record.topic);
        let refused = Refused { record: source, reason, attempts: ticket.attempts + 1 };
        ticket.lane.refuse(refused, bytes);
    }

    fn finish(
        &self,
        outbox: &mut Outbox,
        failure: Failure,
        code: RDKafkaErrorCode,
        record: &Owned,
    ) {
        let what = format!("{}: cannot write to topic '{}'", self.name, record.topic);
        let message = from_code(code, what).message().to_owned();
        let kind = match failure.kind() {
            // Of a record's fate only the table above decides.
            ErrorKind::Transient | ErrorKind::Permanent => ErrorKind::External,
            kind => kind,
        };
        outbox.fail(kind, message);
    }

    fn jitter(&self, now: Duration) -> f64 {
        let mut hasher = self.random.build_hasher();
        hasher.write_u128(now.as_nanos());
        hasher.finish() as f64 / u64::MAX as f64
    }

    fn show_breaker(&self, state: u32) {
        gauge!("tidemill_circuit_breaker_state", "sink" => self.name.clone()).set(f64::from(state));
    }
}

/// The record came back for another one's sake.
pub(super) fn is_bystander(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::PurgeQueue
            | RDKafkaErrorCode::PurgeInflight
            | RDKafkaErrorCode::InvalidDifferentRecord
    )
}

/// Something about one record of its batch is wrong.
pub(super) fn is_record(code: RDKafkaErrorCode) -> bool {
    Failure::of(code) == Failure::Record || code == RDKafkaErrorCode::InvalidRecord
}

/// How long a record may take in all.
fn delivery_timeout(properties: &ClientProperties) -> Duration {
    let names = ["message.timeout.ms", JAVA_DELIVERY_TIMEOUT];
    let given = names.iter().find_map(|name| properties.get(name)?.parse().ok());
    given.map_or(DELIVERY_TIMEOUT, Duration::from_millis)
}

/// Headers as librdkafka wants them.
pub(crate) fn headers(headers: &[Header]) -> OwnedHeaders {
    let all = OwnedHeaders::new_with_capacity(headers.len());
    headers.iter().fold(all, |all, header| {
        all.insert(KafkaHeader { key: &header.name, value: header.value.as_ref() })
    })
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.log(level, facility, line);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(&error, reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            let mut outbox = self.outbox.lock();
            outbox.disconnected(self.clock.elapsed());
            self.troubled.store(true, Ordering::Release);
        }
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.events.token()
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(_) => {
                if self.troubled.swap(false, Ordering::AcqRel) {
                    self.events.answered();
                    let mut outbox = self.outbox.lock();
                    outbox.answered();
                    self.show_breaker(outbox.breaker() as u32);
                }
                ticket.lane.arrived(ticket.bytes);
            }
            Err((error, message)) => {
                if self.closed.load(Ordering::Acquire) {
                    return;
                }
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                let header = |header: KafkaHeader<'_, &[u8]>| Header {
                    name: header.key.to_owned(),
                    value: header.value.map(<[u8]>::to_vec),
                };
                let headers = message.headers();
                let record = Owned {
                    topic: message.topic().to_owned(),
                    partition: Some(message.partition()).filter(|partition| *partition >= 0),
                    key: message.key().map(<[u8]>::to_vec),
                    payload: message.payload().map(<[u8]>::to_vec),
                    headers: headers.map_or_else(Vec::new, |h| h.iter().map(header).collect()),
                    timestamp: ticket.timestamp,
                };
                self.came_back(code, record, *ticket);
            }
        }
    }
}
