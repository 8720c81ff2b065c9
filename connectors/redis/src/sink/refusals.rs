//! Rows that Redis will never hold: what cannot be encoded, and what Redis refuses for good.
//!
//! Invariant: a refused row is handed on exactly once, with its bytes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use tidemill_core::Batch;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::SourceRecord;
use tidemill_core::source::SplitId;
use tidemill_formats::Encoder as _;
use tidemill_formats::json::JsonFormat;

use super::encode::Encoded;
use super::writes::Write;

/// A write that Redis refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub record: SourceRecord,
    pub reason: String,
    pub attempts: u32,
}

/// Collects what one writer refuses.
pub(crate) struct Refusals {
    /// Where results go: `redis hash revenue:{user}`.
    place: String,
    letters: Vec<DeadLetter>,
}

impl Refusals {
    pub fn new(place: &str) -> Self {
        Self { place: place.to_owned(), letters: Vec::new() }
    }

    /// The write of a row, where it has one.
    pub fn check<'a>(
        &mut self,
        batch: &Batch,
        row: usize,
        write: Encoded<'a>,
    ) -> Option<Write<'a>> {
        let reason = match write {
            Ok(write) => return Some(write),
            Err(reason) => reason,
        };
        // What it came from where that is at hand, else the row itself.
        let origin = batch.origin.as_ref();
        let record = origin.and_then(|origin| origin.record(row)).unwrap_or_else(|| SourceRecord {
            payload: as_json(&batch.rows.slice(row, 1)),
            position: format!("to {}", self.place),
            ..SourceRecord::default()
        });
        let split = origin.map(|origin| origin.split.clone());
        let split = split.unwrap_or_else(|| SplitId::new(&self.place));
        self.letters.push(DeadLetter::new(split, record, reason));
        None
    }

    /// A write that Redis has refused.
    pub fn refused(&mut self, refused: Refused) {
        let Refused { record, reason, attempts } = refused;
        let letter = DeadLetter::new(SplitId::new(&self.place), record, reason);
        self.letters.push(DeadLetter { attempts, ..letter });
    }

    pub fn take(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.letters)
    }
}

/// A row as JSON, but for columns that JSON cannot hold.
fn as_json(row: &RecordBatch) -> Option<Vec<u8>> {
    let holds = |field: &Field| {
        JsonFormat::default().encoder(Arc::new(Schema::new(vec![field.clone()]))).is_ok()
    };
    let (fields, columns): (Vec<_>, Vec<ArrayRef>) = row
        .schema()
        .fields()
        .iter()
        .zip(row.columns())
        .filter(|(field, _)| holds(field))
        .map(|(field, column)| (field.clone(), column.clone()))
        .unzip();
    let schema = Arc::new(Schema::new(fields));
    let row = RecordBatch::try_new(schema.clone(), columns).ok()?;
    let mut payload = None;
    let mut encoder = JsonFormat::default().encoder(schema).ok()?;
    encoder.encode(&row, &mut |json| payload = Some(json.to_vec())).ok()?;
    payload
}
