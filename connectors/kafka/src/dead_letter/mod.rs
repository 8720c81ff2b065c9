//! Dead letters in a topic: as the other output of a job, and back again for `tidemill dlq`.
//!
//! | module | what it is for |
//! |---|---|
//! | [`letter`] | a letter with all of its provenance |
//! | [`headers`] | the provenance as headers, under names that other tools know |
//! | [`address`] | where a topic is, as a URL |
//! | [`sink`], `encode` | letters on their way into a topic |
//! | [`topic`], [`progress`] | reading a topic of letters, and remembering what was replayed of it |
//!
//! A letter's record has the key, the payload and the headers of the record that failed, byte for byte, and its
//! provenance in headers behind them.

pub mod address;
mod encode;
pub mod headers;
pub mod letter;
pub mod progress;
pub mod sink;
#[cfg(test)]
mod tests;
pub mod topic;

pub use address::Address;
pub use headers::HeaderNames;
pub use letter::{Coordinates, Letter};
pub use progress::Progress;
pub use sink::DeadLetterSink;
pub use topic::{LetterTopic, Stored};
