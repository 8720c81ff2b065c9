//! What producers and consumers of the bus share: callbacks, and librdkafka's errors as those of a bus.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_kafka::client::error::describe;
use tidemill_kafka::client::{ClientProperties, Events, Failure};

use crate::BusError;

/// What a client has said unasked.
pub(super) struct Heard {
    pub events: Events,
    brokers: String,
    has_answered: AtomicBool,
}

impl Heard {
    pub fn new(name: &str, properties: &ClientProperties) -> Self {
        Self {
            events: Events::new(name, properties),
            brokers: properties.brokers().to_owned(),
            has_answered: AtomicBool::new(false),
        }
    }

    pub fn address(&self) -> String {
        format!("kafka://{}", self.brokers)
    }

    pub fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        self.events.answered();
    }

    /// The brokers that have not answered for `waited`, or have refused.
    pub fn silence(&self, waited: Duration) -> BusError {
        let address = self.address();
        match self.events.refusal() {
            Some(refusal) => BusError::Unauthorised { address, reason: refusal.to_string() },
            None => {
                let reason = self.events.silence(waited).to_string();
                BusError::ConnectionFailed { address, reason }
            }
        }
    }

    /// An error about a topic; `None` where it is no more than trouble that passes by itself.
    pub fn error(&self, code: RDKafkaErrorCode, topic: &str) -> Option<BusError> {
        let (address, reason) = (self.address(), describe(code));
        Some(match Failure::of(code) {
            Failure::Transient => return None,
            Failure::UnknownTopic => BusError::UnknownTopic {
                topic: topic.to_owned(),
                reason: format!("{reason}; create it on the brokers, or correct its name"),
            },
            Failure::Authentication | Failure::Authorisation => {
                BusError::Unauthorised { address, reason }
            }
            _ => BusError::Failed { address, reason },
        })
    }

    /// Why an event was not published.
    pub fn not_published(&self, code: RDKafkaErrorCode, topic: &str, waited: Duration) -> BusError {
        let has_answered = self.has_answered.load(Ordering::Relaxed);
        if code == RDKafkaErrorCode::MessageTimedOut && !has_answered {
            return self.silence(waited);
        }
        let failed = |may_pass| BusError::PublishFailed {
            topic: topic.to_owned(),
            reason: describe(code),
            may_pass,
        };
        match Failure::of(code) {
            Failure::Transient => failed(true),
            Failure::Record => failed(false),
            _ => self.error(code, topic).unwrap_or_else(|| failed(true)),
        }
    }
}

pub(super) fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
}

/// The four callbacks that every client's context has.
macro_rules! client_context {
    ($context:ty, $heard:ident) => {
        impl rdkafka::ClientContext for $context {
            const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

            fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, line: &str) {
                self.$heard.log(level, facility, line);
            }

            fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
                self.$heard.events.error(&error, reason);
            }

            fn generate_oauth_token(
                &self,
                _: Option<&str>,
            ) -> Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
                self.$heard.token()
            }
        }
    };
}
pub(super) use client_context;

impl Heard {
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.log(level, facility, line);
    }

    pub fn token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.events.token()
    }
}
