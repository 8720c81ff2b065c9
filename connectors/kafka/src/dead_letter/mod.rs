//! Dead letters in a topic: as the other output of a job, and back again for `tidemill dlq`.
//!
//! | module | what it is for |
//! |---|---|
//! | [`letter`] | a letter with all of its provenance |
//! | [`headers`] | the provenance as headers, under names that other tools know |
//!
//! A letter's record has the key, the payload and the headers of the record that failed, byte for byte, and its
//! provenance in headers behind them.

pub mod headers;
pub mod letter;

pub use headers::HeaderNames;
pub use letter::{Coordinates, Letter};
