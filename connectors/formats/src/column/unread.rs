//! Columns that a job does not look at: nulls, made once for batches of the usual size.

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::DataType;

/// A column that is null in every row.
pub(super) struct Unread {
    /// Where in its record's fields.
    pub(super) place: usize,
    /// The rows of the batch before.
    last: ArrayRef,
}

impl Unread {
    pub(super) fn new(place: usize, data_type: &DataType) -> Self {
        Self { place, last: new_null_array(data_type, 0) }
    }

    /// So many rows.
    pub(super) fn nulls(&mut self, rows: usize) -> ArrayRef {
        if self.last.len() != rows {
            self.last = new_null_array(self.last.data_type(), rows);
        }
        self.last.clone()
    }
}
