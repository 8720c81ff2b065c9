//! Kafka-compatible brokers as source and sink.
//!
//! | module | what it does |
//! |---|---|
//! | [`client`] | configuration, security, errors: what source and sink share |
//! | [`dead_letter`] | dead letters in a topic |
//! | [`factory`] | the `kafka` connector of SQL |
//!
//! This crate knows records and their formats; of windows, checkpoints and jobs it knows what the
//! contracts of `tidemill-core` say.

#![deny(missing_docs)]

pub mod client;
pub mod dead_letter;
pub mod factory;

pub use factory::KafkaFactory;
