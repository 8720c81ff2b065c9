//! Delivery as a real broker judges it: what a job leaves in its output topic, read back by a consumer
//! that shares nothing with Tidemill, against an oracle over what the broker holds of the input.
//!
//! The broker is that of `KAFKA_BROKERS`, which `scripts/test` brings up; every test has topics of its
//! own. Outages happen to brokers of their own.

#[path = "kafka/broker.rs"]
pub mod broker;
#[path = "kafka/clicks.rs"]
mod clicks;
#[path = "kafka/exactly_once.rs"]
mod exactly_once;
#[path = "kafka/job.rs"]
mod job;
#[path = "kafka/oracle.rs"]
mod oracle;
#[path = "kafka/outages.rs"]
mod outages;
#[path = "kafka/partitions.rs"]
mod partitions;
#[cfg(feature = "failpoints")]
#[path = "kafka/phases.rs"]
mod phases;
#[path = "kafka/secrets.rs"]
mod secrets;
#[path = "kafka/services.rs"]
pub mod services;
#[path = "kafka/zombies.rs"]
mod zombies;

/// A number that makes a test longer or shorter: an environment variable, or what CI has time for.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
    })
}
