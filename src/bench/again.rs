//! The rows of any source again and again, each time with later event times: runs that are long enough for
//! several checkpoints, from rows that fit into memory.
//!
//! ```text
//! source   ├── rows ──┤
//! again    ├── rows ──┤ gap ├── rows + span ──┤ gap ├── rows + 2 span ──┤
//! ```
//!
//! Invariant: no window has rows of two passes, and every pass has the windows of the first, later by a multiple
//! of the span. So each pass gives the same results.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::TimestampMicrosecondType;
use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use tidemill_core::element::Epoch;
use tidemill_core::source::{Offset, Read, ReadBatch, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::{Error, Result};

use super::workload::{Query, Workload};

/// From one row to the next, in microseconds.
const STEP_US: i64 = 10;

/// How often the rows are gone through, and by how much event times move each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passes {
    /// How often; at least once.
    pub times: u32,
    /// Microseconds from a pass to the next.
    span: i64,
    /// No window of the first pass starts before this.
    first: i64,
}

impl Passes {
    /// So many passes over the workload's rows.
    pub fn new(workload: &Workload, times: u32) -> Self {
        let (reach, step) = match workload.query {
            Query::Tumbling { size_us } => (size_us, size_us),
            Query::Hopping { size_us, slide_us } => (size_us, slide_us),
            Query::Session { gap_us } => (gap_us, 1),
        };
        let first = -(workload.disorder_us + reach + step);
        let length = workload.rows as i64 * STEP_US + reach + step - first;
        Self { times, span: (length / step + 1) * step, first }
    }

    /// The pass in which a window starts, and by how much it is later than that of the first pass.
    pub fn of(self, window_start: i64) -> (usize, i64) {
        let pass = (window_start - self.first).div_euclid(self.span);
        (usize::try_from(pass).unwrap_or_default(), pass * self.span)
    }
}

/// A source whose rows are gone through again and again.
pub struct Again<S> {
    source: Arc<S>,
    passes: Passes,
}

impl<S: Source> Again<S> {
    /// These passes over a source.
    pub fn new(source: S, passes: Passes) -> Self {
        Self { source: Arc::new(source), passes }
    }
}

impl<S: Source + 'static> Source for Again<S> {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        self.source.splits()
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        if from.is_some() {
            return Err(Error::configuration("a benchmark cannot be resumed: start it anew"));
        }
        Ok(Box::new(AgainReader {
            reader: self.source.open(split, None, context)?,
            source: self.source.clone(),
            split: split.clone(),
            context: context.clone(),
            passes: self.passes,
            pass: 0,
        }))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}

struct AgainReader<S> {
    source: Arc<S>,
    split: SplitId,
    context: ReaderContext,
    reader: Box<dyn SplitReader>,
    passes: Passes,
    pass: u32,
}

impl<S: Source> SplitReader for AgainReader<S> {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        loop {
            match self.reader.read(max_rows)? {
                Read::End if self.pass + 1 < self.passes.times => {
                    self.pass += 1;
                    self.reader = self.source.open(&self.split, None, &self.context)?;
                }
                Read::Batch(batch) if self.pass > 0 => {
                    let rows = later(&batch.rows, i64::from(self.pass) * self.passes.span)?;
                    return Ok(Read::Batch(ReadBatch { rows, ..batch }));
                }
                read => return Ok(read),
            }
        }
    }

    fn offset(&self) -> Offset {
        Offset(format!("{} {}", self.pass, self.reader.offset()))
    }

    fn progress(&self) -> Option<(u64, u64)> {
        None
    }

    fn is_at_hand(&self) -> bool {
        self.reader.is_at_hand()
    }
}

/// The rows, so many microseconds later.
pub(in crate::bench) fn later(rows: &RecordBatch, by: i64) -> Result<RecordBatch> {
    let at = rows.schema_ref().index_of("ts")?;
    let times = rows.column(at).as_primitive::<TimestampMicrosecondType>();
    let moved: TimestampMicrosecondArray = times.unary(|time| time + by);
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(moved.with_data_type(times.data_type().clone()));
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_in_one_pass_each() {
        let second = 1_000_000;
        let hopping = Query::Hopping { size_us: 10 * second, slide_us: 2 * second };
        let workload = Workload { query: hopping, rows: 600_000, ..Workload::default() };
        let passes = Passes::new(&workload, 3);
        assert_eq!(passes.span % (2 * second), 0, "windows of a pass are those of the first");
        // Rows lie in [-1 s, 6 s): the first window starts at -10 s, the last ends at 16 s.
        assert_eq!(passes.of(-10 * second), (0, 0));
        assert_eq!(passes.of(4 * second), (0, 0));
        assert!(passes.span > 26 * second, "they do not overlap");
        assert_eq!(passes.of(-10 * second + 2 * passes.span), (2, 2 * passes.span));
        assert_eq!(passes.of(4 * second + passes.span), (1, passes.span));
    }
}
