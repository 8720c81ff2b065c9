//! Rows that cannot be processed: how operators tell them from the rest and turn them into dead
//! letters. Invariant: every row is either in what a function here returns, or a dead letter.

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::graph::{RowFunction, isolate};
use tidemill_core::operator::Output;
use tidemill_core::record::SourceRecord;
use tidemill_core::source::SplitId;
use tidemill_core::{Batch, Result};

/// Applies a function to a batch. Returns the rows that it did not fail for and its results for
/// those; the others are dead letters.
pub(crate) fn apply(
    function: &dyn RowFunction,
    batch: Batch,
    out: &mut dyn Output,
) -> Result<(Batch, RecordBatch)> {
    if let Ok(results) = function.apply(&batch.rows) {
        return Ok((batch, results));
    }
    let (results, kept, bad) = isolate(function, &batch.rows);
    for (row, reason) in bad {
        dead_letter(&batch, row, reason, out)?;
    }
    Ok((batch.filter(&kept)?, results))
}

/// Makes one row of a batch a dead letter.
pub(crate) fn dead_letter(
    batch: &Batch,
    row: usize,
    reason: impl Into<String>,
    out: &mut dyn Output,
) -> Result<()> {
    out.dead_letter(letter(batch, row, reason))
}

/// A row as a dead letter: the record that it was decoded from where that is at hand, else the row as JSON.
pub(crate) fn letter(batch: &Batch, row: usize, reason: impl Into<String>) -> DeadLetter {
    let record = batch.origin.as_ref().and_then(|origin| origin.record(row)).unwrap_or_default();
    let record = if record.position.is_empty() {
        // No record of a source, though it may have been given headers.
        let row = SourceRecord::new("unknown", json(&batch.rows.slice(row, 1)));
        SourceRecord { headers: record.headers, ..row }
    } else {
        record
    };
    let split = batch.origin.as_ref().map(|origin| origin.split.clone());
    let split = split.filter(|split| !split.as_str().is_empty());
    DeadLetter::new(split.unwrap_or_else(|| SplitId::new("unknown")), record, reason)
}

/// One row as a JSON object; where a value has no JSON form, as Rust shows it.
fn json(row: &RecordBatch) -> Vec<u8> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    match writer.write(row).and_then(|()| writer.finish()) {
        Ok(()) => writer.into_inner().trim_ascii_end().to_vec(),
        Err(_) => format!("{row:?}").into_bytes(),
    }
}
