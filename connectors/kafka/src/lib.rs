//! Kafka-compatible brokers as source and sink.
#![deny(missing_docs)]
