//! What a sink must know of its topic before it writes: that it is there, how many partitions it has, and
//! how large and how old a record may be.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tidemill_core::{Error, Result};

use super::witness::tag_bytes;
use crate::client::error::{Failure, from_code, from_kafka};
use crate::client::events::Events;
use crate::client::properties::ClientProperties;

/// How long brokers may be silent when a job starts.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a single question may take, so that a refusal is noticed in between.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// What librdkafka allows a record where nothing is said.
const DEFAULT_MAX_BYTES: usize = 1_000_000;

/// How many milliseconds a record may wait for its checkpoint, and clocks may differ, without its
/// timestamp becoming one that the topic does not take; a tenth of what it allows where that is less.
const TIME_MARGIN: i64 = 300_000;

/// A topic as it was when it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topic {
    /// How many partitions it has.
    pub partitions: i32,
    /// How large a record may be on the wire, uncompressed.
    pub max_bytes: usize,
    /// Whether it keeps only the last record of each key, so that every record needs one.
    pub is_compacted: bool,
    /// How far a record's own timestamp may be from the moment it is written.
    pub times: Times,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Before that moment, at most.
    pub before: i64,
    /// After it, at most.
    pub after: i64,
}

impl Times {
    /// Any time will do.
    const ANY: Self = Self { before: i64::MAX, after: i64::MAX };
}

/// What a topic's own settings say.
struct Limits {
    max_bytes: usize,
    is_compacted: bool,
    times: Times,
}

impl Topic {
    /// Asks the cluster.
    ///
    /// # Errors
    /// The topic is not there, the client is not let in, or no broker answers.
    pub fn look_up(name: &str, topic: &str, properties: &ClientProperties) -> Result<Self> {
        let producer: ThreadedProducer<Asking> = properties
            .config(&[])
            .create_with_context(Asking(Events::new(name, properties)))
            .map_err(|error| from_kafka(&error, name))?;
        let events = &producer.client().context().0;
        let partitions = partitions(&producer, events, topic, START_TIMEOUT)
            .map_err(|error| error.at(format!("{name}, topic '{topic}'")))?;
        let own = properties.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
        let own = own.unwrap_or(DEFAULT_MAX_BYTES);
        // Who may not ask is told by the broker when a record is too large.
        let unknown = Limits { max_bytes: own, is_compacted: false, times: Times::ANY };
        let limits = limits(name, topic, properties).unwrap_or(unknown);
        let Limits { max_bytes, is_compacted, times } = limits;
        Ok(Self { partitions, max_bytes: own.min(max_bytes), is_compacted, times })
    }

    /// The same, for records that get the header that tells their epoch, and wait for their checkpoint
    /// before they are written.
    pub fn for_staged(self, transactional_id: &str) -> Self {
        let max_bytes = self.max_bytes.saturating_sub(tag_bytes(transactional_id));
        let less = |limit: i64| limit - (limit / 10).min(TIME_MARGIN);
        let times = Times { before: less(self.times.before), after: less(self.times.after) };
        Self { max_bytes, times, ..self }
    }
}

/// How many partitions a topic has.
///
/// # Errors
/// As for [`Topic::look_up`].
pub(crate) fn partitions<C: ProducerContext, P: Producer<C>>(
    producer: &P,
    events: &Events,
    topic: &str,
    patience: Duration,
) -> Result<i32> {
    let start = Instant::now();
    loop {
        let error = match ask_partitions(producer, topic) {
            Ok(partitions) => {
                events.answered();
                return Ok(partitions);
            }
            Err(error) => error,
        };
        if let Some(refusal) = events.refusal() {
            return Err(refusal);
        }
        let failure = Failure::of(error);
        // A topic that the broker creates when it is asked for is there a moment later.
        let may_come = failure == Failure::UnknownTopic && start.elapsed() < ASK_TIMEOUT;
        if may_come || failure == Failure::Transient && start.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        return Err(match failure {
            Failure::Transient => events.silence(patience),
            Failure::UnknownTopic => {
                Error::option("topic", "the topic is not there: create it, or correct its name")
            }
            _ => from_code(error, "cannot be looked up"),
        });
    }
}

fn ask_partitions<C: ProducerContext, P: Producer<C>>(
    producer: &P,
    topic: &str,
) -> Result<i32, RDKafkaErrorCode> {
    let code = |error: KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
    let metadata = producer.client().fetch_metadata(Some(topic), ASK_TIMEOUT).map_err(code)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or(RDKafkaErrorCode::UnknownTopic)?;
    match found.error() {
        Some(error) => Err(error.into()),
        None if found.partitions().is_empty() => Err(RDKafkaErrorCode::UnknownTopic),
        None => Ok(found.partitions().len() as i32),
    }
}

/// The topic's settings, where the client may see them.
fn limits(name: &str, topic: &str, properties: &ClientProperties) -> Option<Limits> {
    // rdkafka's admin client does not serve the wish for a token, and would only wait.
    let mechanism = properties.get("sasl.mechanism").unwrap_or_default();
    if mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
        return None;
    }
    let context = Asking(Events::new(name, properties));
    let admin: AdminClient<Asking> = properties.config(&[]).create_with_context(context).ok()?;
    let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
    let resource = [ResourceSpecifier::Topic(topic)];
    let config = block_on(admin.describe_configs(&resource, &options)).ok()?.pop()?.ok()?;
    let value = |name| config.get(name)?.value.as_deref();
    let millis = |name| value(name).and_then(|millis| millis.parse().ok()).unwrap_or(i64::MAX);
    // Brokers before 3.6 know only one for both.
    let either = millis("message.timestamp.difference.max.ms");
    let times = match value("message.timestamp.type") {
        Some("LogAppendTime") => Times::ANY,
        _ => Times {
            before: either.min(millis("message.timestamp.before.max.ms")),
            after: either.min(millis("message.timestamp.after.max.ms")),
        },
    };
    Some(Limits {
        max_bytes: value("max.message.bytes")?.parse().ok()?,
        is_compacted: value("cleanup.policy")?.contains("compact"),
        times,
    })
}

/// Waits for an answer of the admin client, which has a thread of its own.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// The context of a client that only asks.
pub(crate) struct Asking(pub Events);

impl ClientContext for Asking {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.token()
    }
}

impl ProducerContext for Asking {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl ConsumerContext for Asking {}
