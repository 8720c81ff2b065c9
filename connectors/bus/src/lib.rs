//! An event bus: publish, subscribe in groups, acknowledge; in memory, on Kafka or on Redis.
//!
//! ```
//! use tidemill_bus::{Event, connect};
//!
//! # fn main() -> Result<(), tidemill_bus::BusError> {
//! # tidemill_bus::conformance::wait(async {
//! let bus = connect("memory://shop")?;
//! let mut billing = bus.subscribe(&["orders"], "billing").await?;
//! bus.publish("orders", Event::keyed("order-1", r#"{"total": 30}"#)).await?;
//! if let Some(delivery) = billing.next().await {
//!     let delivery = delivery?;
//!     println!("{}/{}: {:?}", delivery.topic, delivery.partition, delivery.event.body());
//!     delivery.ack();
//! }
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `bus`, `event`, `subscription`, `error` | the interface |
//! | [`envelope`] | what an event says about itself |
//! | `address` | which bus an address means |
//! | `connector` | `'connector' = 'bus'` |
//! | [`memory`], [`kafka`], [`redis`] | the buses |
//! | `mailbox`, `permits`, `progress` | what those on servers share: bounds, and what is acknowledged |
//! | [`mod@conformance`] | what every bus must do, as tests |
//!
//! This crate stands above connectors: it knows those of Kafka and Redis, and is known by none.

#![deny(missing_docs)]

mod address;
mod bus;
pub mod conformance;
mod connector;
pub mod envelope;
mod error;
mod event;
pub mod kafka;
mod mailbox;
pub mod memory;
mod permits;
mod progress;
pub mod redis;
mod subscription;

pub use address::{BusAddress, connect};
pub use bus::{EventBus, Replay, Start};
pub use connector::BusFactory;
pub use envelope::{Envelope, EventType};
pub use error::BusError;
pub use event::{Delivery, Event, Receipt, partition_of};
pub use kafka::KafkaBus;
pub use memory::MemoryBus;
pub use redis::RedisBus;
pub use subscription::{Feed, Subscription, UNACKNOWLEDGED_MAX};
