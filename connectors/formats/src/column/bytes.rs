//! Strings and bytes under construction, as Arrow views.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryViewArray, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use tidemill_core::Result;

/// Bytes that one buffer holds at most, before a next one begins; offsets are 32 bits.
const BUFFER_BYTES_MAX: usize = 1 << 30;

/// Values of at most this length live in their view.
const INLINE_BYTES_MAX: usize = 12;

/// Views, and the bytes of those values that are too long to live in their view.
#[derive(Default)]
pub(crate) struct Views {
    views: Vec<u128>,
    full: Vec<Buffer>,
    current: Vec<u8>,
}

impl Views {
    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) {
        if value.len() <= INLINE_BYTES_MAX {
            self.views.push(make_view(value, 0, 0));
            return;
        }
        if self.current.len() + value.len() > BUFFER_BYTES_MAX {
            self.full.push(Buffer::from_vec(std::mem::take(&mut self.current)));
        }
        let view = make_view(value, self.full.len() as u32, self.current.len() as u32);
        self.current.extend_from_slice(value);
        self.views.push(view);
    }

    /// Drops all but the first `rows` values, and their bytes where they lie in the last buffer.
    pub(super) fn truncate(&mut self, rows: usize) {
        let dropped = &self.views[rows.min(self.views.len())..];
        let first = dropped.iter().find(|view| {
            (**view as u32) as usize > INLINE_BYTES_MAX && buffer(**view) == self.full.len()
        });
        if let Some(first) = first {
            self.current.truncate(offset(*first));
        }
        self.views.truncate(rows);
    }

    pub(super) fn finish(
        &mut self,
        nulls: Option<NullBuffer>,
        data_type: &DataType,
    ) -> Result<ArrayRef> {
        let mut buffers = std::mem::take(&mut self.full);
        if !self.current.is_empty() {
            let next = Vec::with_capacity(self.current.len());
            buffers.push(Buffer::from_vec(std::mem::replace(&mut self.current, next)));
        }
        let views = super::taken(&mut self.views).into();
        let text = matches!(data_type, DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8);
        let array: ArrayRef = if text {
            Arc::new(StringViewArray::try_new(views, buffers, nulls)?)
        } else {
            Arc::new(BinaryViewArray::try_new(views, buffers, nulls)?)
        };
        Ok(if array.data_type() == data_type { array } else { cast(&array, data_type)? })
    }
}

fn buffer(view: u128) -> usize {
    (view >> 64) as u32 as usize
}

fn offset(view: u128) -> usize {
    (view >> 96) as usize
}
