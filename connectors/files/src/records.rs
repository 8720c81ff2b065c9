//! The bytes behind the rows of one batch of text, for dead letters.
//!
//! Invariant: runs are in the order of their rows, and within a run records of a line each follow each
//! other without anything in between.

use std::ops::Range;
use std::sync::Arc;

use tidemill_core::record::{Records, SourceRecord};

/// What tells people where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Unit {
    /// The number of its line, counting from 1.
    #[default]
    Line,
    /// The number of its first byte, counting from 0: who reads a part of a file knows no lines.
    Byte,
}

impl Unit {
    /// A record's place, as people name it.
    pub(crate) fn position(self, place: u64) -> String {
        match self {
            Self::Line => format!("line {place}"),
            Self::Byte => format!("byte {place}"),
        }
    }
}

/// Where the rows of a batch lie.
#[derive(Debug, Default)]
pub(crate) struct TextRecords {
    pub(crate) unit: Unit,
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
    first_place: u64,
}

impl TextRecords {
    /// Begins a run at `place`, at `start` in the chunk, from where the ends of its rows count.
    pub(crate) fn begin(&mut self, chunk: &Arc<Vec<u8>>, start: usize, place: u64) {
        let first_row = self.ends.len();
        self.runs.push(Run { first_row, chunk: chunk.clone(), start, first_place: place });
    }

    /// Adds one record, which begins at `place` and takes these bytes of the chunk.
    pub(crate) fn add(&mut self, chunk: &Arc<Vec<u8>>, bytes: Range<usize>, place: u64) {
        let row = self.ends.len();
        let goes_on = |run: &&Run| {
            Arc::ptr_eq(&run.chunk, chunk)
                && run.first_place + self.beyond(run, row) == place
                && self.ends.last().map(|end| run.start + *end as usize) == Some(bytes.start)
        };
        let start = match self.runs.last().filter(goes_on) {
            Some(run) => run.start,
            None => {
                self.begin(chunk, bytes.start, place);
                bytes.start
            }
        };
        self.ends.push((bytes.end - start) as u32);
    }

    /// Where in its run a row begins.
    fn start(&self, run: &Run, row: usize) -> usize {
        if row == run.first_row { 0 } else { self.ends[row - 1] as usize }
    }

    /// How far a row's place is beyond that of its run.
    fn beyond(&self, run: &Run, row: usize) -> u64 {
        match self.unit {
            Unit::Line => (row - run.first_row) as u64,
            Unit::Byte => self.start(run, row) as u64,
        }
    }
}

impl Records for TextRecords {
    fn record(&self, index: usize) -> SourceRecord {
        let run = &self.runs[self.runs.partition_point(|run| run.first_row <= index) - 1];
        let start = run.start + self.start(run, index);
        let record = &run.chunk[start..run.start + self.ends[index] as usize];
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        let place = run.first_place + self.beyond(run, index);
        SourceRecord::new(self.unit.position(place), record)
    }
}
