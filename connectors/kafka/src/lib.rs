//! Kafka-compatible brokers as source and sink.
//!
//! | module | what it does |
//! |---|---|
//! | [`builder`] | the typed way to a source |
//! | [`client`] | configuration, security, errors: what source and sink share |
//! | [`dead_letter`] | dead letters in a topic |
//! | [`factory`], [`upsert`] | the connectors `kafka` and `upsert-kafka` of SQL |
//! | `formats` | where the options of formats stand |
//! | `lag` | how far a consumer group is behind |
//! | [`partitioner`] | which partition a record goes to |
//! | [`source`] | topics that are read |
//! | [`sink`] | topics that results are written to |
//!
//! This crate knows records and their formats; of windows, checkpoints and jobs it knows what the
//! contracts of `tidemill-core` say.

#![deny(missing_docs)]

pub mod builder;
pub mod client;
pub mod dead_letter;
pub mod factory;
mod formats;
mod lag;
pub mod partitioner;
pub mod sink;
pub mod source;
pub mod upsert;

pub use builder::Kafka;
pub use factory::KafkaFactory;
pub use partitioner::Partitioning;
pub use sink::{DeliveryGuarantee, KafkaSink};
pub use source::{KafkaSource, OutOfRange, StartAt, StopAt};
pub use upsert::UpsertKafkaFactory;
