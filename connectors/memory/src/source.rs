//! A bounded source over batches in memory.
//!
//! First link of the data path. A split is a list of batches and an offset is a row number within
//! it, so a reader may start at any row and gives the same rows in the same order every time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use tidemill_core::element::Epoch;
use tidemill_core::prefetch::prefetch;
use tidemill_core::source::{Offset, Read, ReadBatch, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::{Error, Result};

/// A bounded source whose splits are lists of batches. Split `n` is called `memory/n`; an offset
/// is the number of the next row of its split. Reads are slices, never copies.
#[derive(Debug, Clone)]
pub struct MemorySource {
    schema: SchemaRef,
    splits: Vec<Split>,
}

/// The batches of a split that have rows, under the source's own schema; or what is wrong with one.
type Split = std::result::Result<Arc<[RecordBatch]>, Misfit>;

/// A batch that has not the columns of its source.
#[derive(Debug, Clone)]
struct Misfit {
    number: usize,
    why: Arc<ArrowError>,
}

impl MemorySource {
    /// A source of these splits. Every batch has the columns of `schema`, which may be nullable where theirs are not;
    /// one that has not is reported when its split is opened.
    pub fn new(schema: SchemaRef, splits: Vec<Vec<RecordBatch>>) -> Self {
        let fit = |(number, batch): (usize, RecordBatch)| {
            let misfit = |why| Misfit { number, why: Arc::new(why) };
            batch.with_schema(schema.clone()).map_err(misfit)
        };
        let with_rows = |(_, batch): &(usize, RecordBatch)| batch.num_rows() > 0;
        let split = |batches: Vec<RecordBatch>| {
            batches.into_iter().enumerate().filter(with_rows).map(fit).collect()
        };
        Self { splits: splits.into_iter().map(split).collect(), schema }
    }

    /// The batches of a split.
    fn batches(&self, id: &SplitId) -> Result<Arc<[RecordBatch]>> {
        let number = id.as_str().strip_prefix("memory/").and_then(|n| n.parse::<usize>().ok());
        let split = number.and_then(|number| self.splits.get(number)).ok_or_else(|| {
            Error::configuration(format!(
                "the in-memory table has no split {id}: it has {}, and must have those of the \
                 checkpoint that the job resumes from",
                self.splits.len()
            ))
        })?;
        split.clone().map_err(|Misfit { number, why }| {
            Error::configuration(format!(
                "batch {number} of split {id} does not have the columns of its source"
            ))
            .caused_by(why)
        })
    }
}

impl Source for MemorySource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok((0..self.splits.len()).map(|n| SplitId::new(format!("memory/{n}"))).collect())
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        _: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        let from = match from {
            None => 0,
            Some(offset) => offset.0.parse().map_err(|_| {
                Error::corrupt(format!("offset '{offset}' of split {split} is not a row number"))
            })?,
        };
        Ok(Box::new(MemoryReader::open(self.batches(split)?, from).map_err(|e| e.at(split))?))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        let batches = self.splits.iter().flatten().flat_map(|batches| batches.iter());
        let rows: usize = batches.map(RecordBatch::num_rows).sum();
        format!("memory: {rows} rows in {} splits", self.splits.len())
    }
}

/// Reads one split. `batches[batch]` from `row` on is what comes next.
struct MemoryReader {
    batches: Arc<[RecordBatch]>,
    rows: usize,
    offset: usize,
    batch: usize,
    row: usize,
}

impl MemoryReader {
    fn open(batches: Arc<[RecordBatch]>, offset: usize) -> Result<Self> {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        if offset > rows {
            return Err(Error::configuration(format!(
                "offset {offset} is beyond its {rows} rows: the table has shrunk since the \
                 checkpoint that the job resumes from"
            )));
        }
        let (mut batch, mut row) = (0, offset);
        while batches.get(batch).is_some_and(|b| b.num_rows() <= row) {
            row -= batches[batch].num_rows();
            batch += 1;
        }
        Ok(Self { batches, rows, offset, batch, row })
    }

    /// Has what describes the next batches brought into the cache, while rows of this one are worked
    /// on: where the columns of one are, and what they say of the one before.
    fn look_ahead(&self) {
        if let Some(batch) = self.batches.get(self.batch + 1)
            && let Some(first) = batch.columns().first()
        {
            prefetch(first);
        }
        if let Some(batch) = self.batches.get(self.batch) {
            batch.columns().iter().for_each(|column| prefetch(column.as_ref()));
        }
    }
}

impl SplitReader for MemoryReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        let Some(batch) = self.batches.get(self.batch) else { return Ok(Read::End) };
        let length = max_rows.max(1).min(batch.num_rows() - self.row);
        let rows = batch.slice(self.row, length);
        self.offset += length;
        self.row += length;
        if self.row == batch.num_rows() {
            (self.batch, self.row) = (self.batch + 1, 0);
            self.look_ahead();
        }
        Ok(Read::Batch(ReadBatch::clean(rows)))
    }

    fn offset(&self) -> Offset {
        Offset(self.offset.to_string())
    }

    fn progress(&self) -> Option<(u64, u64)> {
        Some((self.offset as u64, self.rows as u64))
    }

    fn is_at_hand(&self) -> bool {
        true
    }
}
