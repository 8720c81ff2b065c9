//! In-memory tables as source and sink: for tests, examples and programs that embed the engine.
//!
//! [`MemorySource`] serves batches it was given, split by split; [`MemorySink`] collects results
//! and shows them, epoch by epoch, once they are committed; [`MemoryTables`] makes both reachable
//! from SQL as `'connector' = 'memory'`. Knows the contracts of the engine and Arrow only.

#![deny(missing_docs)]

mod sink;
mod source;
mod tables;

pub use sink::{MemoryHandle, MemorySink};
pub use source::MemorySource;
pub use tables::MemoryTables;

#[cfg(test)]
mod tests;
