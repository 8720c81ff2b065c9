//! The rows that have come so far, in columns, with their groups.
//!
//! Small chunks are joined like the digits of a counter, so that there are few of them, each row is
//! copied a few times at most, and a row does not hold on to the batch that it came in.
//!
//! Invariant: all columns of a chunk, and its groups, have the same length.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{concat, filter, take_arrays};
use arrow::datatypes::DataType;
use datafusion_common::Result;

/// Chunks of so many rows are not joined with others.
const JOINED_ROWS_MAX: usize = 8192;

/// Rows with their groups.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub columns: Vec<ArrayRef>,
    pub groups: Vec<u32>,
}

impl Chunk {
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: Vec<u32>) -> Result<Self> {
        let groups = indices.iter().map(|row| self.groups[*row as usize]).collect();
        let columns = take_arrays(&self.columns, &UInt32Array::from(indices), None)?;
        Ok(Self { columns, groups })
    }

    /// The rows that `keep` says.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self> {
        let columns = self.columns.iter().map(|column| filter(column, keep));
        let columns = columns.collect::<std::result::Result<_, _>>()?;
        let groups = keep.values().set_indices().map(|row| self.groups[row]).collect();
        Ok(Self { columns, groups })
    }

    /// The rows by group, those of a group in the order in which they are here.
    pub fn by_group(&self, groups: usize) -> Result<Self> {
        let mut ends = vec![0u32; groups + 1];
        self.groups.iter().for_each(|group| ends[*group as usize + 1] += 1);
        (0..groups).for_each(|group| ends[group + 1] += ends[group]);
        let mut indices = vec![0u32; self.len()];
        for (row, group) in self.groups.iter().enumerate() {
            let next = &mut ends[*group as usize];
            indices[*next as usize] = row as u32;
            *next += 1;
        }
        self.take(indices)
    }

    fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(|c| c.get_array_memory_size()).sum();
        columns + self.groups.capacity() * size_of::<u32>()
    }
}

/// Rows in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
    rows: usize,
    bytes: usize,
}

impl Chunks {
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held; a buffer that several columns share is counted for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, chunk: Chunk) -> Result<()> {
        if chunk.len() == 0 {
            return Ok(());
        }
        self.rows += chunk.len();
        self.bytes += chunk.bytes();
        self.chunks.push(chunk);
        while let [.., before, last] = self.chunks.as_slice()
            && before.len() < JOINED_ROWS_MAX
            && before.len() <= 2 * last.len()
        {
            let pair = self.chunks.split_off(self.chunks.len() - 2);
            self.bytes -= pair.iter().map(Chunk::bytes).sum::<usize>();
            let joined = join(&pair)?;
            self.bytes += joined.bytes();
            self.chunks.push(joined);
        }
        Ok(())
    }

    /// All rows in one chunk, leaving none. `None` where there are none.
    pub fn take(&mut self) -> Result<Option<Chunk>> {
        let mut chunks = std::mem::take(self).chunks;
        match chunks.len() {
            0 | 1 => Ok(chunks.pop()),
            _ => join(&chunks).map(Some),
        }
    }
}

fn join(chunks: &[Chunk]) -> Result<Chunk> {
    let columns = 0..chunks[0].columns.len();
    let column = |index: usize| {
        let parts: Vec<&dyn Array> = chunks.iter().map(|c| c.columns[index].as_ref()).collect();
        Ok(compact(concat(&parts)?))
    };
    let groups = chunks.iter().flat_map(|chunk| &chunk.groups).copied().collect();
    Ok(Chunk { columns: columns.map(column).collect::<Result<_>>()?, groups })
}

/// Lets go of the buffers of views that hold mostly other rows' values.
fn compact(column: ArrayRef) -> ArrayRef {
    fn wasteful(used: usize, buffers: &[arrow::buffer::Buffer]) -> bool {
        buffers.iter().map(|b| b.len()).sum::<usize>() > 2 * used
    }
    match column.data_type() {
        DataType::Utf8View => {
            let views = column.as_string_view();
            match wasteful(views.total_buffer_bytes_used(), views.data_buffers()) {
                true => Arc::new(views.gc()),
                false => column,
            }
        }
        DataType::BinaryView => {
            let views = column.as_binary_view();
            match wasteful(views.total_buffer_bytes_used(), views.data_buffers()) {
                true => Arc::new(views.gc()),
                false => column,
            }
        }
        _ => column,
    }
}
