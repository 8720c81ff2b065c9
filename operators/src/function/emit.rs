//! What became of a batch, on its way out. Invariant: emitted, declined and dead-lettered rows and those that
//! are accounted for as filtered add up to the rows that came in, plus what was made beyond one each.

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch, StringViewArray, UInt32Array};
use arrow::compute::{interleave_record_batch, take};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::element::Origin;
use tidemill_core::graph::declined_schema;
use tidemill_core::operator::{Fate, Output};
use tidemill_core::{Batch, ErrorClass, Result};

use super::call::{Called, Piece, Rejected};
use crate::reject;

/// Emits what became of `batch`.
pub(super) struct Emitter<'a> {
    pub batch: &'a Batch,
    pub out: &'a mut dyn Output,
}

impl Emitter<'_> {
    pub fn emit(&mut self, called: Called) -> Result<()> {
        let Called { pieces, rejected } = called;
        let is_declined = |r: &Rejected| r.error.kind().class() == ErrorClass::Business;
        let (declined, bad) = rejected.into_iter().partition::<Vec<_>, _>(is_declined);
        self.dead_letters(bad)?;
        self.declined(&declined)?;
        self.account(&pieces);
        if pieces.len() > 1 && pieces.iter().all(|piece| piece.from.is_some()) {
            return self.piece(in_order(&pieces)?);
        }
        pieces.into_iter().try_for_each(|piece| self.piece(piece))
    }

    fn dead_letters(&mut self, bad: Vec<Rejected>) -> Result<()> {
        for Rejected { row, error, attempts, first_failed_at } in bad {
            let class = error.kind().class();
            let letter = reject::letter(self.batch, row, error.to_string());
            self.out.dead_letter(DeadLetter { class, attempts, first_failed_at, ..letter })?;
        }
        Ok(())
    }

    fn declined(&mut self, declined: &[Rejected]) -> Result<()> {
        if declined.is_empty() {
            return Ok(());
        }
        let mut mask = vec![false; self.batch.len()];
        declined.iter().for_each(|declined| mask[declined.row] = true);
        let rows = self.batch.filter(&BooleanArray::from(mask))?;
        let reasons = declined.iter().map(|declined| Some(declined.error.to_string()));
        let mut columns = rows.rows.columns().to_vec();
        columns.push(std::sync::Arc::new(reasons.collect::<StringViewArray>()));
        let with_reason = RecordBatch::try_new(declined_schema(&rows.rows.schema()), columns)?;
        self.out.account(Fate::Filtered, declined.len());
        self.out.declined(rows.with_rows(with_reason));
        Ok(())
    }

    /// Rows of which nothing was made were dropped by the function.
    fn account(&mut self, pieces: &[Piece]) {
        let dropped = |piece: &Piece| match &piece.from {
            Some(from) => piece.rows.len() - from.chunk_by(|a, b| a == b).count(),
            None => piece.rows.len().saturating_sub(piece.results.num_rows()),
        };
        let dropped: usize = pieces.iter().map(dropped).sum();
        if dropped > 0 {
            self.out.account(Fate::Filtered, dropped);
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<()> {
        let Piece { results: rows, rows: made_of, from } = piece;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let all = made_of.len() == self.batch.len() && from.as_ref() == Some(&made_of);
        self.out.emit(match from {
            Some(_) if all => self.batch.clone().with_rows(rows),
            Some(from) => {
                let floor = self.floors(&from)?;
                Batch { floor, origin: self.origin(from), ..Batch::new(rows) }
            }
            None => {
                // All rows that are given to such a function have one floor.
                let floor = self.batch.floor.as_ref().map(|floor| floor.value(0));
                let floor = floor.map(|floor| Int64Array::from(vec![floor; rows.num_rows()]));
                Batch { floor, origin: self.split_alone(), ..Batch::new(rows) }
            }
        });
        Ok(())
    }

    fn floors(&self, from: &[u32]) -> Result<Option<Int64Array>> {
        let Some(floor) = &self.batch.floor else { return Ok(None) };
        let floors = take(floor, &UInt32Array::from(from.to_vec()), None)?;
        let floors = floors.as_any().downcast_ref::<Int64Array>();
        Ok(Some(floors.expect("taking keeps an array's type").clone()))
    }

    fn origin(&self, from: Vec<u32>) -> Option<Origin> {
        let origin = self.batch.origin.as_ref()?;
        if origin.records.is_none() {
            return self.split_alone();
        }
        let record = |row: u32| origin.rows.as_ref().map_or(row, |rows| rows.value(row as usize));
        let rows: UInt32Array = from.into_iter().map(record).collect::<Vec<_>>().into();
        Some(Origin { rows: Some(rows), ..origin.clone() })
    }

    /// Which record a result came from is not known any more, but the split is.
    fn split_alone(&self) -> Option<Origin> {
        let split = self.batch.origin.as_ref()?.split.clone();
        Some(Origin { split, records: None, rows: None })
    }
}

/// Pieces whose results are each of one row, as one, in the order of the rows.
fn in_order(pieces: &[Piece]) -> Result<Piece> {
    let mut results: Vec<(u32, (usize, usize))> = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let from = piece.from.iter().flatten();
        results.extend(from.enumerate().map(|(result, row)| (*row, (n, result))));
    }
    // Results of one row are all in one piece, in order: a stable sort leaves them so.
    results.sort_by_key(|(row, _)| *row);
    let mut rows: Vec<u32> = pieces.iter().flat_map(|piece| piece.rows.iter().copied()).collect();
    rows.sort_unstable();
    let batches: Vec<&RecordBatch> = pieces.iter().map(|piece| &piece.results).collect();
    let (from, places): (Vec<u32>, Vec<(usize, usize)>) = results.into_iter().unzip();
    Ok(Piece { results: interleave_record_batch(&batches, &places)?, rows, from: Some(from) })
}
