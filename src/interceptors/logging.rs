//! Says from time to time what goes by. Invariant: nothing of what is in a record reaches the log.

use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_core::interceptor::Interceptor;
use tidemill_core::source::{ReadBatch, SplitId};
use tidemill_core::{Batch, Result};

/// How many batches a line stands for, if nothing is said.
const EVERY: u64 = 1_000;

/// A line of log, at level info, for every so many batches.
#[derive(Debug)]
pub struct Logging {
    every: u64,
    read: Passed,
    written: Passed,
}

impl Default for Logging {
    /// For every thousand batches.
    fn default() -> Self {
        Self::every(EVERY)
    }
}

impl Logging {
    /// For every `batches` batches.
    pub fn every(batches: u64) -> Self {
        Self { every: batches.max(1), read: Passed::default(), written: Passed::default() }
    }
}

/// What went by, over all shards.
#[derive(Debug, Default)]
struct Passed {
    batches: AtomicU64,
    rows: AtomicU64,
    dead_letters: AtomicU64,
}

impl Passed {
    /// Counts a batch; whether a line is due, with the rows and dead letters so far.
    fn count(&self, rows: usize, dead_letters: usize, every: u64) -> Option<(u64, u64, u64)> {
        let add = |to: &AtomicU64, n: usize| to.fetch_add(n as u64, Ordering::Relaxed) + n as u64;
        let (rows, dead_letters) = (add(&self.rows, rows), add(&self.dead_letters, dead_letters));
        let batches = add(&self.batches, 1);
        batches.is_multiple_of(every).then_some((batches, rows, dead_letters))
    }
}

impl Interceptor for Logging {
    fn name(&self) -> String {
        "logging".to_owned()
    }

    fn read(&self, split: &SplitId, batch: ReadBatch) -> Result<ReadBatch> {
        let (rows, bad) = (batch.rows.num_rows(), batch.dead_letters.len());
        if let Some((batches, rows, bad)) = self.read.count(rows, bad, self.every) {
            tracing::info!(
                "read {rows} rows and {bad} bad records in {batches} batches, now {split}"
            );
        }
        Ok(batch)
    }

    fn write(&self, node: &str, batch: Batch) -> Result<Batch> {
        if let Some((batches, rows, _)) = self.written.count(batch.len(), 0, self.every) {
            tracing::info!("{node}: {rows} rows written in {batches} batches");
        }
        Ok(batch)
    }
}
