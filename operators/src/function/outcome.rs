//! What a function made of a batch. Invariant: a row that failed has no results.

use arrow::array::RecordBatch;
use tidemill_core::Error;

/// What a function made of a batch.
#[derive(Debug)]
pub struct Outcome {
    /// The results, in the order of the rows that they were made from.
    pub rows: RecordBatch,
    /// Which rows those are.
    pub lineage: Lineage,
    /// The rows that the function failed for, ascending, each with why. An error of class fatal ends the
    /// job.
    pub failed: Vec<(usize, Error)>,
}

/// Which rows results were made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lineage {
    /// One result for each row that did not fail.
    OneToOne,
    /// For each result the number of its row, ascending.
    Rows(Vec<u32>),
    /// Not known: for [`Function::flat_map`](super::Function::flat_map) alone.
    Unknown,
}
