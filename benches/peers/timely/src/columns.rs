//! The rows, read from files of a column each: `key.i64`, `ts.i64` (microseconds) and `value.f64`, little-endian
//! and nothing else in them.
//!
//! Invariant: value `n` of every column belongs to row `n`.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Rows in a batch, as Tidemill's source has them.
const BATCH_ROWS: usize = 8_192;

/// All rows.
pub struct Columns {
    /// Keys.
    pub keys: Vec<i64>,
    /// Event times, in microseconds.
    pub times: Vec<i64>,
    /// Values.
    pub values: Vec<f64>,
}

impl Columns {
    /// Reads the columns in a folder.
    ///
    /// # Errors
    /// Files that cannot be read, or that are not of one length.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let keys = column(&folder.join("key.i64"), i64::from_le_bytes)?;
        let times = column(&folder.join("ts.i64"), i64::from_le_bytes)?;
        let values = column(&folder.join("value.f64"), f64::from_le_bytes)?;
        if keys.len() != times.len() || keys.len() != values.len() {
            return Err(io::Error::other("the columns are not of one length"));
        }
        Ok(Self { keys, times, values })
    }

    /// Which rows are in the batches of one worker of several: batches are dealt out in turn.
    pub fn batches(&self, worker: usize, workers: usize) -> impl Iterator<Item = Range<usize>> {
        let rows = self.keys.len();
        let starts = (0..rows).step_by(BATCH_ROWS).skip(worker).step_by(workers);
        starts.map(move |start| start..rows.min(start + BATCH_ROWS))
    }
}

fn column<T>(path: &Path, value: impl Fn([u8; 8]) -> T) -> io::Result<Vec<T>> {
    let bytes = fs::read(path)?;
    let (values, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(io::Error::other("a column ends in the middle of a value"));
    }
    Ok(values.iter().map(|bytes| value(*bytes)).collect())
}
