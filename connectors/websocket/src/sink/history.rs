//! The last rows of a stream, for whoever connects: the last of all, or the last of each key.
//!
//! Invariant: holds at most a few times as many rows as were asked for, copied out of their batches.

use std::collections::{HashMap, VecDeque};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use tidemill_core::Result;

use super::encode::Encodings;

/// Rows that wait to be thinned out: below this it is not worth the work.
const RECENT_ROWS: usize = 4096;

/// See the module.
pub(crate) struct History {
    rows_max: usize,
    /// Tells keys apart, where only the last row of a key counts.
    keys: Option<Encodings>,
    recent: VecDeque<RecordBatch>,
    rows: usize,
}

impl History {
    /// Of `rows_max` rows; with `keys`, of the last row of each key.
    pub fn new(rows_max: usize, keys: Option<Encodings>) -> Self {
        Self { rows_max, keys, recent: VecDeque::new(), rows: 0 }
    }

    /// Takes note of plain rows.
    ///
    /// # Errors
    /// A defect.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.rows_max == 0 || rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = self.last(rows)?;
        self.rows += rows.num_rows();
        self.recent.push_back(rows);
        if self.keys.is_some() {
            if self.rows >= self.rows_max.saturating_mul(2).max(RECENT_ROWS) {
                self.thin_out()?;
            }
            return Ok(());
        }
        while let Some(oldest) = self.recent.front()
            && self.rows - oldest.num_rows() >= self.rows_max
        {
            self.rows -= oldest.num_rows();
            self.recent.pop_front();
        }
        Ok(())
    }

    /// The rows that count, oldest first.
    ///
    /// # Errors
    /// A defect.
    pub fn rows(&mut self) -> Result<Option<RecordBatch>> {
        self.thin_out()?;
        Ok(self.recent.front().cloned())
    }

    fn thin_out(&mut self) -> Result<()> {
        let Some(first) = self.recent.front() else { return Ok(()) };
        let all = concat_batches(&first.schema(), &self.recent)?;
        let last = self.last(&all)?;
        self.rows = last.num_rows();
        self.recent = VecDeque::from([last]);
        Ok(())
    }

    /// Those of `rows` that count, in memory of their own.
    fn last(&mut self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut kept: Vec<u32> = (0..rows.num_rows() as u32).collect();
        if let Some(encodings) = &mut self.keys {
            let mut last = HashMap::new();
            for (row, key) in (0..).zip(encodings.keys(rows)?) {
                last.insert(key, row);
            }
            kept = last.into_values().collect();
            kept.sort_unstable();
        }
        let surplus = kept.len().saturating_sub(self.rows_max);
        kept.drain(..surplus);
        Ok(take_record_batch(rows, &UInt32Array::from(kept))?)
    }
}
