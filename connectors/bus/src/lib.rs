//! An event bus: publish, subscribe in groups, acknowledge; in memory, on Kafka or on Redis.

#![deny(missing_docs)]
