//! A connection to a cluster: a librdkafka consumer, a thread that serves what it says unasked, and
//! questions that are asked again while brokers are in trouble.
//!
//! Invariant: messages are never taken here. Every partition has a queue of its own, which is split
//! off before the partition is assigned.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::Mutex;
use rdkafka::bindings as ffi;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tidemill_core::{Error, Result};

use super::error::{self, Failure};
use super::events::Events;

/// How long the serving thread waits at a time, and so how long it takes to end it at most.
const SERVE: Duration = Duration::from_millis(100);

/// How long the first attempt at a question may take; each further one twice as long.
const FIRST_ATTEMPT: Duration = Duration::from_millis(500);

/// How long a question is asked again and again before the cluster counts as unreachable.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The consumer of this crate.
pub(crate) type Consumer = BaseConsumer<Context>;

/// What librdkafka calls back.
pub(crate) struct Context {
    pub events: Arc<Events>,
    /// What the brokers have confirmed as committed, by topic and partition.
    committed: Mutex<HashMap<(String, i32), i64>>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(&error, reason);
    }

    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.events.token()
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(error) = result {
            let why = error.rdkafka_error_code().map_or_else(|| error.to_string(), error::describe);
            counter!("tidemill_kafka_commit_failures_total", "client" => self.events.name())
                .increment(1);
            tracing::warn!(
                "{}: the group's offsets were not committed: {why}; the next checkpoint tries again",
                self.events.name()
            );
            return;
        }
        self.events.answered();
        let mut committed = self.committed.lock();
        for element in offsets.elements() {
            if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
                committed.insert((element.topic().to_owned(), element.partition()), offset);
            }
        }
    }
}

/// See the module.
pub(crate) struct Connection {
    consumer: Arc<Consumer>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Connection {
    /// A connection; nothing is sent before something is asked.
    ///
    /// # Errors
    /// A configuration that librdkafka does not take.
    pub fn open(config: &ClientConfig, events: Arc<Events>) -> Result<Self> {
        let name = events.name();
        let context = Context { events, committed: Mutex::default() };
        let consumer: Consumer =
            config.create_with_context(context).map_err(|e| error::from_kafka(&e, &name))?;
        let consumer = Arc::new(consumer);
        let stop = Arc::new(AtomicBool::new(false));
        let (served, stopped) = (consumer.clone(), stop.clone());
        let server =
            std::thread::Builder::new().name("kafka-events".to_owned()).spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    // Errors have gone to the context; messages come through queues of their own.
                    let _ = served.poll(SERVE);
                }
            })?;
        Ok(Self { consumer, stop, server: Some(server) })
    }

    pub fn consumer(&self) -> &Arc<Consumer> {
        &self.consumer
    }

    pub fn events(&self) -> &Events {
        &self.consumer.context().events
    }

    /// Commits offsets for the group, and does not wait for the answer: it comes to the context.
    ///
    /// # Errors
    /// What the library knows without asking a broker.
    pub fn commit(&self, offsets: &TopicPartitionList) -> KafkaResult<()> {
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client lives; the list is copied; the queue is the consumer's own, which the
        // serving thread polls, and the reference to it is given back. rdkafka's own way gives no
        // answer: librdkafka makes an event of it only where a queue is named.
        let code = unsafe {
            let queue = ffi::rd_kafka_queue_get_consumer(client);
            let code =
                ffi::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
            ffi::rd_kafka_queue_destroy(queue);
            code
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => Ok(()),
            code => Err(KafkaError::ConsumerCommit(code)),
        }
    }

    /// The offset that the brokers have confirmed for the group, since the connection was made.
    pub fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        let key = (topic.to_owned(), partition);
        self.consumer.context().committed.lock().get(&key).copied()
    }

    /// Asks until there is an answer: again while brokers are in trouble, for [`PATIENCE`] at most.
    /// `ask` gets the time that it may take.
    ///
    /// # Errors
    /// A refusal of the client, an answer that is an error, or silence. `what` says what was asked.
    pub fn ask<T>(
        &self,
        what: impl std::fmt::Display,
        mut ask: impl FnMut(Duration) -> KafkaResult<T>,
    ) -> Result<T> {
        let start = Instant::now();
        let mut attempt = FIRST_ATTEMPT;
        loop {
            let began = Instant::now();
            let failure = match ask(attempt.min(PATIENCE)) {
                Ok(answer) => {
                    self.events().answered();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            if let Some(refusal) = self.events().refusal() {
                return Err(refusal);
            }
            let code = failure.rdkafka_error_code();
            if !code.is_some_and(|code| Failure::of(code) == Failure::Transient) {
                let place = format!("{}: {what}", self.events().name());
                return Err(error::from_kafka(&failure, place));
            }
            if start.elapsed() >= PATIENCE {
                return Err(self.silence(start.elapsed()));
            }
            std::thread::sleep(FIRST_ATTEMPT.saturating_sub(began.elapsed()) / 2);
            attempt = (attempt * 2).min(PATIENCE.saturating_sub(start.elapsed()).max(SERVE));
        }
    }

    pub fn silence(&self, waited: Duration) -> Error {
        self.events().silence(waited)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take()
            && server.join().is_err()
        {
            tracing::error!("{}: the thread that serves the client has died", self.events().name());
        }
    }
}
