//! Results on standard output, or nowhere: the sinks for looking at a job and for measuring one.
//!
//! [`Print`] writes an aligned table for a person and NDJSON for a machine; [`Blackhole`] drops
//! everything. Both are at least once: what is on a screen cannot be taken back.

#![deny(missing_docs)]

mod blackhole;
mod cell;
mod console;
mod json;
mod layout;
mod print;

pub use blackhole::{Blackhole, BlackholeFactory};
pub use console::{Console, reader_is_gone};
pub use print::{Print, PrintFactory};

#[cfg(test)]
mod tests;
