//! What flows between operators, in band and in order.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;

use crate::error::Result;
use crate::record::{Header, Records, SourceRecord, WithHeaders};
use crate::source::SplitId;
use crate::time::EventTime;

/// A checkpoint's number: 1 for the first of a job, then counting up through restarts.
pub type Epoch = u64;

/// One element of a stream. The order of elements on a channel is never changed.
#[derive(Debug, Clone)]
// Elements are moved one batch at a time: a box would cost more than the space that it saves.
#[allow(clippy::large_enum_variant)]
pub enum Element {
    /// Rows.
    Batch(Batch),
    /// No row with an event time below this will be counted.
    Watermark(EventTime),
    /// Everything before belongs to this epoch, everything after to later ones.
    Barrier(Epoch),
    /// The input is silent: it must not hold the watermark until its next element.
    Idle,
    /// Nothing follows. The watermark is at the end of time.
    End,
}

/// Rows on their way, with what the engine must remember of each until it reaches a window.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The rows.
    pub rows: RecordBatch,
    /// For each row the watermark that its own split had reached before it (no nulls), present
    /// only where at least one row of the batch is behind it; rows that are not may carry any
    /// value up to their own event time. A window that ends at or before a row's floor does not
    /// count the row: it is late there.
    pub floor: Option<Int64Array>,
    /// Where the rows came from, as long as each is still one record of a source.
    pub origin: Option<Origin>,
}

/// The records that a batch's rows were decoded from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The split that all rows of the batch come from.
    pub split: SplitId,
    /// The records, in the order they were decoded.
    pub records: Option<Arc<dyn Records>>,
    /// For each row the index of its record; `None` is the identity.
    pub rows: Option<UInt32Array>,
}

impl From<RecordBatch> for Batch {
    fn from(rows: RecordBatch) -> Self {
        Self::new(rows)
    }
}

impl Batch {
    /// Rows of no particular origin, none of them behind a watermark.
    pub fn new(rows: RecordBatch) -> Self {
        Self { rows, floor: None, origin: None }
    }

    /// The headers of a row's record; none where the row is no record of a source.
    pub fn headers(&self, row: usize) -> Vec<Header> {
        let Some(origin) = &self.origin else { return Vec::new() };
        let records = origin.records.as_ref();
        records.map_or_else(Vec::new, |records| records.headers(origin.index(row)))
    }

    /// The same rows with more headers: `added` holds some for each row, and those of the same name
    /// give way.
    ///
    /// # Panics
    /// When there are not as many as rows.
    #[must_use]
    pub fn with_headers(self, added: Vec<Vec<Header>>) -> Self {
        assert_eq!(added.len(), self.len(), "every row has headers, if only none");
        let rows = self.origin.as_ref().and_then(|origin| origin.rows.as_ref());
        let rows = rows.map(|rows| rows.values().to_vec());
        let split = self.origin.as_ref().map(|origin| origin.split.clone());
        let records = self.origin.as_ref().and_then(|origin| origin.records.clone());
        let origin = Origin {
            split: split.unwrap_or_else(|| SplitId::new("")),
            records: Some(Arc::new(WithHeaders { records, added, rows })),
            rows: None,
        };
        Self { origin: Some(origin), ..self }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Other columns for the same rows, one for one.
    #[must_use]
    pub fn with_rows(self, rows: RecordBatch) -> Self {
        debug_assert_eq!(rows.num_rows(), self.rows.num_rows(), "a projection keeps the rows");
        Self { rows, ..self }
    }

    /// The rows whose predicate is true (neither false nor null).
    pub fn filter(&self, predicate: &BooleanArray) -> Result<Self> {
        let floor = match &self.floor {
            Some(floor) => Some(filter_array(floor, predicate)?),
            None => None,
        };
        let origin = match &self.origin {
            Some(origin) => Some(origin.filter(self.len(), predicate)?),
            None => None,
        };
        Ok(Self { rows: filter_record_batch(&self.rows, predicate)?, floor, origin })
    }

    /// `length` rows from `offset` on, without copying.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            rows: self.rows.slice(offset, length),
            floor: self.floor.as_ref().map(|floor| floor.slice(offset, length)),
            origin: self.origin.as_ref().map(|origin| origin.slice(self.len(), offset, length)),
        }
    }
}

impl Origin {
    /// A row's record, where it is still at hand.
    pub fn record(&self, row: usize) -> Option<SourceRecord> {
        self.records.as_ref().map(|records| records.record(self.index(row)))
    }

    fn index(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows.value(row) as usize)
    }

    fn indices(&self, len: usize) -> UInt32Array {
        self.rows.clone().unwrap_or_else(|| (0..len as u32).collect::<Vec<_>>().into())
    }

    fn filter(&self, len: usize, predicate: &BooleanArray) -> Result<Self> {
        let rows = match &self.records {
            Some(_) => Some(filter_array(&self.indices(len), predicate)?),
            None => None,
        };
        Ok(Self { split: self.split.clone(), records: self.records.clone(), rows })
    }

    fn slice(&self, len: usize, offset: usize, length: usize) -> Self {
        let rows = self.records.as_ref().map(|_| self.indices(len).slice(offset, length));
        Self { split: self.split.clone(), records: self.records.clone(), rows }
    }
}

fn filter_array<A: Array + Clone + 'static>(array: &A, predicate: &BooleanArray) -> Result<A> {
    let filtered = arrow::compute::filter(array, predicate)?;
    let filtered = filtered.as_any().downcast_ref::<A>();
    Ok(filtered.expect("filtering keeps an array's type").clone())
}
