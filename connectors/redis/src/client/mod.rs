//! What sources, sinks and tools share to talk to Redis: where it is, connections, errors.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | `url`, credentials and certificates, from options, environment and files |
//! | `address` | the text of `url` |
//! | [`connection`] | a server, or a cluster whose keys are on several; versions |
//! | [`error`] | Redis's errors by what to do about them |
//!
//! Invariant: no secret is in a message, a log line or a `Debug` text.

mod address;
pub mod config;
pub mod connection;
pub mod error;

pub use config::Config;
pub use connection::{Connection, Version};
pub use error::Failure;
