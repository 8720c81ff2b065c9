//! Delivery as a real broker judges it: what a job leaves in its output topic, read back by a consumer
//! that shares nothing with Tidemill, against an oracle over what the broker holds of the input.
//!
//! The broker is that of `KAFKA_BROKERS`, which `scripts/test` brings up; every test has topics of its
//! own. Outages happen to brokers of their own.

#[path = "kafka/broker.rs"]
pub mod broker;
#[path = "kafka/exactly_once.rs"]
mod exactly_once;
#[path = "kafka/job.rs"]
mod job;
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
