//! What flows between operators, in band and in order.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BooleanArray, Int64Array, PrimitiveArray, RecordBatch, UInt32Array,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::TimestampMicrosecondType;

use crate::error::Result;
use crate::filter::filter_rows;
use crate::record::{Header, Records, SourceRecord, WithHeaders};
use crate::source::SplitId;
use crate::time::{EventTime, TimeRange};

/// A checkpoint's number: 1 for the first of a job, then counting up through restarts.
pub type Epoch = u64;

/// One element of a stream. The order of elements on a channel is never changed.
#[derive(Debug, Clone)]
// Elements are moved one batch at a time: a box would cost more than the space that it saves.
#[allow(clippy::large_enum_variant)]
pub enum Element {
    /// Rows.
    Batch(Batch),
    /// Partial aggregates for the shard that owns them.
    Parcel(Parcel),
    /// No row with an event time below this will be counted.
    Watermark(EventTime),
    /// Everything before belongs to this epoch, everything after to later ones.
    Barrier(Epoch),
    /// The input is silent: it must not hold the watermark until its next element.
    Idle,
    /// Nothing follows. The watermark is at the end of time.
    End,
}

/// Partial aggregates on their way through an exchange as their operator keeps them: from one shard
/// to another of the same process they need not become columns, and tables again.
#[derive(Clone)]
pub struct Parcel {
    /// The shard that owns their keys.
    pub owner: usize,
    /// What the operator behind the exchange knows how to take in; several parcels may share it.
    pub content: Arc<dyn Any + Send + Sync>,
    /// How many groups this owner has of it.
    pub groups: usize,
    /// What this owner's part of it weighs.
    pub bytes: usize,
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, groups, bytes, .. } = self;
        write!(f, "a parcel of {groups} groups ({bytes} bytes) for shard {owner}")
    }
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
    /// What is known of the event times, so that they are looked at once; see [`Batch::time_range`].
    pub times: Option<Times>,
}

/// A column of event times whose range is known.
///
/// It holds the column's values themselves: whoever asks for the range of a column gets this one where the
/// column still has these very values, whatever columns a projection has put around it, and never
/// where it has others.
#[derive(Debug, Clone)]
pub struct Times {
    values: ScalarBuffer<i64>,
    range: TimeRange,
}

impl Times {
    /// These values, none of them null, have this range, exactly.
    pub fn new(values: ScalarBuffer<i64>, range: TimeRange) -> Self {
        Self { values, range }
    }

    fn are(&self, column: &PrimitiveArray<TimestampMicrosecondType>) -> bool {
        self.values.ptr_eq(column.values())
    }
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
        Self { rows, floor: None, origin: None, times: None }
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

    /// The least and the greatest time of a column, exactly: as the source has found them where the column
    /// has come through unchanged, else by a look at all its values. `None` where it has no values,
    /// nulls among them, or is no timestamp in microseconds.
    pub fn time_range(&self, column: usize) -> Option<TimeRange> {
        let column = self.rows.column(column);
        let column = column.as_primitive_opt::<TimestampMicrosecondType>()?;
        if column.null_count() > 0 {
            return None;
        }
        match &self.times {
            Some(times) if times.are(column) => Some(times.range),
            _ => TimeRange::of(column.values()),
        }
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
        let rows = filter_rows(&self.rows, predicate)?;
        Ok(Self { rows, floor, origin, times: None })
    }

    /// `length` rows from `offset` on, without copying.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            rows: self.rows.slice(offset, length),
            floor: self.floor.as_ref().map(|floor| floor.slice(offset, length)),
            origin: self.origin.as_ref().map(|origin| origin.slice(self.len(), offset, length)),
            times: None,
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, TimestampMicrosecondArray};

    use super::*;

    fn column(times: Vec<i64>) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(times))
    }

    fn rows(columns: Vec<ArrayRef>) -> RecordBatch {
        let names = ["a", "b"];
        RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap()
    }

    #[test]
    fn what_is_known_of_times_holds_for_the_same_values_wherever_they_are_and_for_no_others() {
        let (own, other) = (column(vec![3, 1, 2]), column(vec![7, 9, 8]));
        let values = own.as_primitive::<TimestampMicrosecondType>().values().clone();
        // A range that nobody would compute shows where it comes from.
        let known = TimeRange { min: -1, max: 100 };
        let batch = Batch {
            times: Some(Times::new(values, known)),
            ..Batch::new(rows(vec![own.clone(), other.clone()]))
        };
        assert_eq!(batch.time_range(0), Some(known));
        assert_eq!(batch.time_range(1), Some(TimeRange { min: 7, max: 9 }));
        let projected = batch.clone().with_rows(rows(vec![other, own]));
        assert_eq!(projected.time_range(0), Some(TimeRange { min: 7, max: 9 }));
        assert_eq!(projected.time_range(1), Some(known));
        let same_again = batch.clone().with_rows(rows(vec![column(vec![3, 1, 2])]));
        assert_eq!(same_again.time_range(0), Some(TimeRange { min: 1, max: 3 }));
        assert_eq!(batch.slice(0, 2).time_range(0), Some(TimeRange { min: 1, max: 3 }));
        let filtered = batch.filter(&BooleanArray::from(vec![false, true, true])).unwrap();
        assert_eq!(filtered.time_range(0), Some(TimeRange { min: 1, max: 2 }));
        let nulls: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]));
        assert_eq!(Batch::new(rows(vec![nulls])).time_range(0), None);
        assert_eq!(Batch::new(rows(vec![column(vec![])])).time_range(0), None);
    }
}
