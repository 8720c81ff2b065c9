//! A source whose rows become due by a schedule.
//!
//! Stands where a broker would: what is due and was not asked for has piled up, and is given in full
//! batches as fast as it is asked for.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tidemill_core::element::Epoch;
use tidemill_core::source::{Offset, Read, ReadBatch, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::time::Clock;
use tidemill_core::{Error, Result};

use super::schedule::Schedule;

/// The source; split `n` is called `open-loop/n`, and an offset is the number of a row.
pub struct OpenLoopSource {
    schedule: Arc<Schedule>,
}

impl OpenLoopSource {
    /// Rows by this schedule, which begins when the first split is opened.
    pub fn new(schedule: Arc<Schedule>) -> Self {
        Self { schedule }
    }
}

impl Source for OpenLoopSource {
    fn schema(&self) -> SchemaRef {
        self.schedule.schema()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        let name = |n| SplitId::new(format!("open-loop/{n}"));
        Ok((0..self.schedule.splits()).map(name).collect())
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        let unknown = || Error::internal(format!("the schedule has no split {split}"));
        let number = split.as_str().strip_prefix("open-loop/").and_then(|n| n.parse().ok());
        let number: usize = number.ok_or_else(unknown)?;
        if from.is_some() {
            return Err(Error::configuration("an open-loop run cannot be resumed: start it anew"));
        }
        self.schedule.begin(context.clock.elapsed());
        Ok(Box::new(OpenLoopReader {
            schedule: self.schedule.clone(),
            split: number,
            next: 0,
            clock: context.clock.clone(),
        }))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "open-loop".to_owned()
    }
}

struct OpenLoopReader {
    schedule: Arc<Schedule>,
    split: usize,
    /// The next row.
    next: u64,
    clock: Arc<dyn Clock>,
}

impl SplitReader for OpenLoopReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        let now = self.clock.elapsed();
        if self.next == self.schedule.total() {
            return Ok(Read::End);
        }
        let due = self.schedule.due_rows(self.split, now).saturating_sub(self.next);
        let rows = due.min(max_rows as u64);
        if rows == 0 {
            return Ok(Read::Pending);
        }
        let batch = self.schedule.rows(self.split, self.next, rows as usize)?;
        self.next += rows;
        if self.next == self.schedule.total() {
            self.schedule.ended(self.split, now);
        }
        Ok(Read::Batch(ReadBatch::clean(batch)))
    }

    fn offset(&self) -> Offset {
        Offset(self.next.to_string())
    }

    fn progress(&self) -> Option<(u64, u64)> {
        Some((self.next, self.schedule.total()))
    }
}
