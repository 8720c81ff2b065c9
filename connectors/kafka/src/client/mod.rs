//! What source, sink and tools share to talk to a cluster: configuration, errors, callbacks.
//!
//! | module | what it does |
//! |---|---|
//! | [`properties`] | `properties.*`, environment and files into librdkafka's configuration |
//! | `java` | the Java client's names, as Flink's users write them |
//! | [`error`] | librdkafka's error codes by what to do about them |
//! | [`events`] | what a client says unasked: log lines, errors, the wish for a token |
//! | `connection` | a consumer, the thread that serves it, questions asked again |
//! | `topics` | topics with their partitions and ids |
//! | `token` | OAUTHBEARER tokens |
//!
//! Invariant: no secret is in a message, a log line or a `Debug` text; what is not understood is
//! refused, never dropped.

pub(crate) mod connection;
pub mod error;
pub mod events;
mod java;
pub mod properties;
#[cfg(test)]
mod tests;
mod token;
pub(crate) mod topics;

pub use error::Failure;
pub use events::Events;
pub use properties::ClientProperties;
