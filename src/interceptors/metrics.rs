//! Counts what goes by, finer than the engine's own metrics: by split. Invariant: every row is counted once.

use metrics::counter;
use tidemill_core::interceptor::Interceptor;
use tidemill_core::source::{ReadBatch, SplitId};
use tidemill_core::{Batch, Result};

/// Counters of what is read and written.
///
/// | metric | labels |
/// |---|---|
/// | `tidemill_read_rows_total` | `split`: records that became rows |
/// | `tidemill_read_dead_letters_total` | `split`: records that could not be decoded |
/// | `tidemill_read_skipped_total` | `split`: records without a row, such as tombstones |
/// | `tidemill_written_rows_total` | `node`: rows on their way into a sink |
#[derive(Debug, Clone, Copy)]
pub struct Metrics;

impl Interceptor for Metrics {
    fn name(&self) -> String {
        "metrics".to_owned()
    }

    fn read(&self, split: &SplitId, batch: ReadBatch) -> Result<ReadBatch> {
        let counted = [
            ("tidemill_read_rows_total", batch.rows.num_rows()),
            ("tidemill_read_dead_letters_total", batch.dead_letters.len()),
            ("tidemill_read_skipped_total", batch.skipped),
        ];
        for (name, count) in counted.into_iter().filter(|(_, count)| *count > 0) {
            counter!(name, "split" => split.to_string()).increment(count as u64);
        }
        Ok(batch)
    }

    fn write(&self, node: &str, batch: Batch) -> Result<Batch> {
        let rows = batch.len() as u64;
        counter!("tidemill_written_rows_total", "node" => node.to_owned()).increment(rows);
        Ok(batch)
    }
}
