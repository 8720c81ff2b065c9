//! Generated input: for trying a job out, for tests that need much data, and for benchmarks.
//!
//! | what | as |
//! |---|---|
//! | [`DatagenFactory`] | `'connector' = 'datagen'`: random and sequential columns, Flink's options |
//! | [`NexmarkFactory`] | `'connector' = 'nexmark'`: the events of the Nexmark benchmark |
//! | [`events`] | keyed events with headers, for topics and files (`tidemill generate`) |
//! | [`workload`] | rows in memory for measuring windows |
//!
//! Every value is a pure function of the seed and of the row's number. So a split can be read
//! again from any offset, and neither batch size nor timing changes what is generated.

#![deny(missing_docs)]

mod datagen;
pub mod events;
mod nexmark;
mod numbered;
mod random;
pub mod workload;

pub use datagen::DatagenFactory;
pub use nexmark::NexmarkFactory;

#[cfg(test)]
mod tests;
