//! What a client says unasked: log lines, errors, the wish for a token. Every client of this crate has
//! [`Events`], and its context hands them what librdkafka calls it with.
//!
//! Brokers that do not answer are no error here: librdkafka connects again by itself. They are said
//! once, and once more when they are back. Credentials that are refused are another matter: see
//! [`Events::refusal`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{counter, gauge};
use parking_lot::Mutex;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_core::{Error, ErrorKind};

use super::error::Failure;
use super::properties::ClientProperties;
use super::token::TokenSource;

/// How often in a row a cluster that has let the client in before may refuse it.
const PATIENCE: u32 = 3;

/// After how many hang-ups of brokers that have never answered it is said what that may mean. It is no
/// refusal: what listens for a broker that is about to start hangs up as well.
const HANG_UPS: u32 = 2;

/// What brokers may want that hang up.
const TLS_HINT: &str = "they hang up: do they want TLS ('properties.security.protocol'), or do they \
                        just start?";

/// What a client has said.
pub struct Events {
    /// Who: `source orders`.
    name: String,
    brokers: String,
    token: Option<Arc<TokenSource>>,
    /// Whether there is anything that an answer would change.
    is_uneasy: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether brokers have ever answered.
    has_answered: bool,
    /// Whether none does now.
    down: bool,
    /// How often in a row credentials or certificates were refused, and why.
    refused: u32,
    refusal: String,
    /// How often brokers have hung up before they had said anything.
    hung_up: u32,
    /// The last trouble, in librdkafka's words.
    last: Option<String>,
}

impl Events {
    /// For a client called `name` in messages.
    pub fn new(name: impl Into<String>, properties: &ClientProperties) -> Self {
        Self {
            name: name.into(),
            brokers: properties.brokers().to_owned(),
            token: properties.token_source(),
            is_uneasy: AtomicBool::new(true),
            state: Mutex::default(),
        }
    }

    /// The client's name in messages.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// A log line of librdkafka.
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // A connection that ends is no error to the library, and yet may be all there is to say.
        if facility == "FAIL" {
            let line = line.split_once("]: ").map_or(line, |(_, line)| line);
            self.connection_failed(line);
        }
        let name = &self.name;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!("{name}: {facility} {line}");
            }
            RDKafkaLogLevel::Debug => tracing::trace!("{name}: {facility} {line}"),
            // Trouble with single connections, mostly: what it amounts to is said by `error`.
            _ => tracing::debug!("{name}: {facility} {line}"),
        }
    }

    /// A connection has failed or was closed.
    fn connection_failed(&self, line: &str) {
        let mut state = self.state.lock();
        self.is_uneasy.store(true, Ordering::Relaxed);
        // Brokers hang up on a client that speaks in the clear where they expect TLS.
        if !state.has_answered && line.contains("in state APIVERSION_QUERY") {
            state.hung_up += 1;
            if state.hung_up == HANG_UPS {
                let Self { name, brokers, .. } = self;
                tracing::warn!("{name}: brokers {brokers}: {line}; {TLS_HINT}");
            }
        }
        state.last = Some(line.to_owned());
    }

    /// An error that is nobody's answer.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        counter!("tidemill_kafka_errors_total", "client" => self.name.clone()).increment(1);
        let mut state = self.state.lock();
        self.is_uneasy.store(true, Ordering::Relaxed);
        // With a wrong protocol a broker just hangs up; librdkafka guesses that in words.
        let is_refusal = Failure::of(code) == Failure::Authentication
            || !state.has_answered && reason.contains("security.protocol");
        if is_refusal {
            state.refused += 1;
            state.refusal = reason.to_owned();
            tracing::warn!("{}: {reason}", self.name);
        } else if code == RDKafkaErrorCode::AllBrokersDown {
            if !state.down && state.has_answered {
                tracing::warn!("{}: no broker answers any more; waiting for one", self.name);
            }
            state.down = true;
            self.brokers_up(false);
        } else {
            tracing::debug!("{}: {reason}", self.name);
        }
        if code != RDKafkaErrorCode::AllBrokersDown {
            state.last = Some(reason.to_owned());
        }
    }

    /// A broker has answered.
    pub fn answered(&self) {
        if !self.is_uneasy.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state.lock();
        if state.down && state.has_answered {
            tracing::info!("{}: brokers answer again", self.name);
        }
        if state.down || !state.has_answered {
            self.brokers_up(true);
        }
        self.is_uneasy.store(false, Ordering::Relaxed);
        *state = State { has_answered: true, ..State::default() };
    }

    fn brokers_up(&self, up: bool) {
        gauge!("tidemill_kafka_brokers_up", "client" => self.name.clone()).set(if up {
            1.0
        } else {
            0.0
        });
    }

    /// The error that the client ends with, where the cluster does not let it in: at once when it
    /// never has, else when it has refused several times in a row.
    pub fn refusal(&self) -> Option<Error> {
        if !self.is_uneasy.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state.lock();
        let patience = if state.has_answered { PATIENCE } else { 1 };
        (state.refused >= patience).then(|| {
            let Self { name, brokers, .. } = self;
            let why = &state.refusal;
            let message = format!(
                "{name}: the brokers {brokers} ('properties.bootstrap.servers') do not let the \
                 client in: {why}: check 'properties.security.protocol', 'properties.sasl.*' and \
                 'properties.ssl.*'"
            );
            Error::new(ErrorKind::Configuration, message)
        })
    }

    /// The error of brokers that have not answered for `waited`.
    pub fn silence(&self, waited: std::time::Duration) -> Error {
        let Self { name, brokers, .. } = self;
        let state = self.state.lock();
        let last = state.last.as_ref().map_or_else(String::new, |last| format!(": {last}"));
        let hint = if state.hung_up > 0 { format!("; {TLS_HINT}") } else { String::new() };
        Error::transient(format!(
            "{name}: no answer from the brokers {brokers} ('properties.bootstrap.servers') within \
             {} s{last}{hint}",
            waited.as_secs()
        ))
    }

    /// A token for OAUTHBEARER.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        match &self.token {
            Some(source) => Ok(source.token()?),
            None => Err("no OAUTHBEARER token is configured".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::table::Options;

    use super::*;

    fn events() -> Events {
        let options = Options::from_iter([("properties.bootstrap.servers", "kafka:9092")]);
        let properties = ClientProperties::with_environment(&options, &|_| None).unwrap();
        Events::new("source orders", &properties)
    }

    #[test]
    fn a_refusal_ends_a_new_client_at_once_and_an_old_one_when_it_lasts() {
        let events = events();
        let wrong = KafkaError::Global(RDKafkaErrorCode::Authentication);
        assert!(events.refusal().is_none());
        events.error(&wrong, "Invalid username or password");
        let refusal = events.refusal().unwrap();
        assert_eq!(refusal.kind(), ErrorKind::Configuration);
        assert!(refusal.to_string().contains("kafka:9092"), "{refusal}");
        events.answered();
        events.error(&wrong, "Invalid username or password");
        assert!(events.refusal().is_none());
        events.error(&wrong, "Invalid username or password");
        events.error(&wrong, "Invalid username or password");
        assert!(events.refusal().is_some());
    }

    #[test]
    fn brokers_that_hang_up_may_be_about_to_start() {
        let events = events();
        for _ in 0..20 {
            events.connection_failed("kafka:9092: Disconnected (in state APIVERSION_QUERY)");
        }
        assert!(events.refusal().is_none());
        let silence = events.silence(std::time::Duration::from_secs(15)).to_string();
        assert!(silence.contains("'properties.security.protocol'"), "{silence}");
        events.answered();
        let silence = events.silence(std::time::Duration::from_secs(15)).to_string();
        assert!(!silence.contains("hang up"), "{silence}");
    }

    #[test]
    fn brokers_that_are_down_are_no_refusal() {
        let events = events();
        events.error(&KafkaError::Global(RDKafkaErrorCode::Resolve), "cannot resolve kafka");
        events.error(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert!(events.refusal().is_none());
        let silence = events.silence(std::time::Duration::from_secs(5)).to_string();
        assert!(silence.contains("cannot resolve kafka"), "{silence}");
    }
}
