//! The bytes behind the rows of one batch of text, for dead letters.
//!
//! Invariant: runs are in the order of their rows, and within a run records of a line each follow each
//! other without anything in between.

use std::ops::Range;
use std::sync::Arc;

use tidemill_core::record::{Records, SourceRecord};

/// Where the rows of a batch lie.
#[derive(Debug, Default)]
pub(crate) struct TextRecords {
    runs: Vec<Run>,
    /// For each row where it ends, its line end included, counted from the start of its run.
    pub(crate) ends: Vec<u32>,
}

/// Rows whose records follow each other, a line each but for the last.
#[derive(Debug)]
struct Run {
    first_row: usize,
    chunk: Arc<Vec<u8>>,
    /// Where in the chunk the first of them begins.
    start: usize,
    first_line: u64,
}

impl TextRecords {
    /// Begins a run on line `line`, at `start` in the chunk, from where the ends of its rows count.
    pub(crate) fn begin(&mut self, chunk: &Arc<Vec<u8>>, start: usize, line: u64) {
        let first_row = self.ends.len();
        self.runs.push(Run { first_row, chunk: chunk.clone(), start, first_line: line });
    }

    /// Adds one record, which begins on line `line` and takes these bytes of the chunk.
    pub(crate) fn add(&mut self, chunk: &Arc<Vec<u8>>, bytes: Range<usize>, line: u64) {
        let row = self.ends.len();
        let goes_on = |run: &&Run| {
            Arc::ptr_eq(&run.chunk, chunk)
                && run.first_line + (row - run.first_row) as u64 == line
                && self.ends.last().map(|end| run.start + *end as usize) == Some(bytes.start)
        };
        let start = match self.runs.last().filter(goes_on) {
            Some(run) => run.start,
            None => {
                self.begin(chunk, bytes.start, line);
                bytes.start
            }
        };
        self.ends.push((bytes.end - start) as u32);
    }
}

impl Records for TextRecords {
    fn record(&self, index: usize) -> SourceRecord {
        let run = &self.runs[self.runs.partition_point(|run| run.first_row <= index) - 1];
        let beyond = index - run.first_row;
        let start = if beyond == 0 { 0 } else { self.ends[index - 1] as usize };
        let record = &run.chunk[run.start + start..run.start + self.ends[index] as usize];
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        SourceRecord::new(position(run.first_line + beyond as u64), record)
    }
}

/// A record's place, as people name it.
pub(crate) fn position(line: u64) -> String {
    format!("line {line}")
}
