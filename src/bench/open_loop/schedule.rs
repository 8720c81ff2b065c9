//! When each row is due, and which row completes a window.
//!
//! Rows of several splits take turns: row *n* of split *s* is row `n × splits + s` of all. When a
//! split's rows have all been given, they come again with event times that lie behind all before,
//! which makes a run as long as one likes from rows that fit into memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::cast::AsArray;
use arrow::array::types::TimestampMicrosecondType;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::SchemaRef;
use tidemill_core::{Error, EventTime, Result};

use crate::bench::again::later;
use crate::bench::input::Split;

/// Rows whose newest event time is kept, to find a row without looking at all before.
const BLOCK: usize = 4096;

/// The rows of a run, and when they are due.
pub struct Schedule {
    laps: Vec<Lap>,
    /// Rows of one lap of a split.
    lap_rows: u64,
    /// By how much event times move from lap to lap, in microseconds.
    span: i64,
    /// How far watermarks are behind the newest row.
    bound: i64,
    rows_per_second: f64,
    /// Rows of each split in the whole run.
    total: u64,
    /// When the first row is due, by the job's clock.
    start: OnceLock<Duration>,
    /// How long after it was due a split's last row was read, in nanoseconds.
    behind: AtomicU64,
}

/// The rows of a split, which are gone through again and again.
struct Lap {
    rows: RecordBatch,
    time_column: usize,
    /// The newest event time of all rows up to the end of each block.
    newest: Vec<EventTime>,
}

impl Schedule {
    /// Of `total` rows, dealt to the splits in turns. `bound` is that of the watermarks, in
    /// microseconds.
    ///
    /// # Errors
    /// Splits without rows or without a column `ts`, or a rate that is none.
    pub fn new(splits: &[Split], bound: i64, rows_per_second: f64, total: u64) -> Result<Self> {
        if !(rows_per_second.is_finite() && rows_per_second > 0.0) {
            return Err(Error::configuration(
                "the rate must be a number of rows per second above 0",
            ));
        }
        let rows = |split: &Split| split.iter().map(RecordBatch::num_rows).sum::<usize>();
        let lap_rows = splits.iter().map(rows).min().unwrap_or(0);
        if lap_rows == 0 {
            return Err(Error::configuration("a split has no rows: ask for more rows"));
        }
        let laps: Result<Vec<Lap>> = splits.iter().map(|split| Lap::new(split, lap_rows)).collect();
        let laps = laps?;
        let times = || laps.iter().flat_map(|lap| lap.times());
        let (oldest, newest) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        Ok(Self {
            lap_rows: lap_rows as u64,
            span: newest - oldest + 1,
            bound,
            rows_per_second,
            total: total / laps.len() as u64,
            laps,
            start: OnceLock::new(),
            behind: AtomicU64::new(0),
        })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.laps[0].rows.schema()
    }

    /// How many splits there are.
    pub fn splits(&self) -> usize {
        self.laps.len()
    }

    /// Rows of each split.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The first row is due now, unless the schedule has begun.
    pub fn begin(&self, now: Duration) {
        self.start.get_or_init(|| now);
    }

    /// How many rows of a split are due at a moment of the job's clock.
    pub fn due_rows(&self, split: usize, now: Duration) -> u64 {
        let Some(since) = self.start.get().and_then(|start| now.checked_sub(*start)) else {
            return 0;
        };
        let all = (since.as_secs_f64() * self.rows_per_second) as u64 + 1;
        let splits = self.laps.len() as u64;
        (all + splits - 1).saturating_sub(split as u64).div_euclid(splits).min(self.total)
    }

    /// When row `n` of a split is due, from the start.
    fn due(&self, split: usize, n: u64) -> Duration {
        let of_all = n * self.laps.len() as u64 + split as u64;
        Duration::from_secs_f64(of_all as f64 / self.rows_per_second)
    }

    /// A time from the start, by the job's clock.
    pub fn since_start(&self, time: Duration) -> Duration {
        self.start.get().copied().unwrap_or_default() + time
    }

    /// The last row of a split was read at this moment of the job's clock.
    pub fn ended(&self, split: usize, now: Duration) {
        let due = self.since_start(self.due(split, self.total.saturating_sub(1)));
        let behind = now.saturating_sub(due).as_nanos() as u64;
        self.behind.fetch_max(behind, Ordering::Relaxed);
    }

    /// How long after it was due the last row of all was read.
    pub fn behind(&self) -> Duration {
        Duration::from_nanos(self.behind.load(Ordering::Relaxed))
    }

    /// When the row was due, from the start, with which every split's watermark had reached `end`; `None`
    /// where no row did that.
    pub fn completed(&self, end: EventTime) -> Option<Duration> {
        let row = |split: usize| {
            let row = self.completing_row(split, end.checked_add(self.bound)?);
            (row < self.total).then(|| self.due(split, row))
        };
        (0..self.laps.len()).map(row).try_fold(Duration::ZERO, |last, due| Some(last.max(due?)))
    }

    /// The first row of a split, laps counted, with an event time of at least `time`.
    fn completing_row(&self, split: usize, time: EventTime) -> u64 {
        let lap = &self.laps[split];
        let newest = lap.newest.last().copied().unwrap_or(i64::MIN);
        let missing = time.saturating_sub(newest).max(0);
        let laps = missing.div_euclid(self.span) + i64::from(missing % self.span != 0);
        let laps_before = laps.unsigned_abs();
        laps_before * self.lap_rows + lap.first_at(time.saturating_sub(laps * self.span)) as u64
    }

    /// Rows `from..from + rows` of a split.
    ///
    /// # Errors
    /// None that a valid split could give: Arrow's.
    pub fn rows(&self, split: usize, from: u64, rows: usize) -> Result<RecordBatch> {
        let (first, end) = (from / self.lap_rows, from + rows as u64);
        let mut parts = Vec::with_capacity(1);
        let (mut lap, mut at) = (first, from);
        while at < end {
            let until = end.min((lap + 1) * self.lap_rows);
            let shift = self.span * lap as i64;
            let offset = (at - lap * self.lap_rows) as usize;
            parts.push(self.laps[split].slice(offset, (until - at) as usize, shift)?);
            (lap, at) = (lap + 1, until);
        }
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Ok(concat_batches(&self.schema(), &parts)?),
        }
    }
}

impl Lap {
    fn new(split: &Split, rows: usize) -> Result<Self> {
        let schema = split[0].schema();
        let time_column = schema.index_of("ts")?;
        let rows = contiguous(&schema, split)?.slice(0, rows);
        let mut lap = Self { rows, time_column, newest: Vec::new() };
        let mut newest = i64::MIN;
        for block in lap.times().collect::<Vec<_>>().chunks(BLOCK) {
            newest = block.iter().fold(newest, |newest, time| newest.max(*time));
            lap.newest.push(newest);
        }
        Ok(lap)
    }

    fn values(&self) -> &[EventTime] {
        self.rows.column(self.time_column).as_primitive::<TimestampMicrosecondType>().values()
    }

    fn times(&self) -> impl Iterator<Item = EventTime> {
        self.values().iter().copied()
    }

    /// The first row with an event time of at least `time`, where there is one.
    fn first_at(&self, time: EventTime) -> usize {
        let block = self.newest.partition_point(|newest| *newest < time) * BLOCK;
        let behind = &self.values()[block.min(self.values().len())..];
        block + behind.iter().take_while(|at| **at < time).count()
    }

    fn slice(&self, offset: usize, rows: usize, shift: i64) -> Result<RecordBatch> {
        let slice = self.rows.slice(offset, rows);
        if shift == 0 {
            return Ok(slice);
        }
        later(&slice, shift)
    }
}

/// One batch of all, column by column, so that no more than one column is there twice.
fn contiguous(schema: &SchemaRef, split: &Split) -> Result<RecordBatch> {
    let column = |n: usize| -> Result<ArrayRef> {
        let parts: Vec<_> = split.iter().map(|batch| batch.column(n).as_ref()).collect();
        Ok(concat(&parts)?)
    };
    let columns: Result<Vec<ArrayRef>> = (0..schema.fields().len()).map(column).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns?)?)
}
