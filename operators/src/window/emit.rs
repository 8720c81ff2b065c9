//! Results and partial aggregates on their way out, in batches of a useful size. Invariant: rows
//! leave in the order in which they are given.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use tidemill_core::operator::Output;
use tidemill_core::{Batch, EventTime, Result};

use super::plan::Plan;
use super::table::Results;

/// Most rows of a batch.
pub(super) const BATCH_ROWS: usize = 8192;

/// Results of several windows are put together to about so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// Most windows that fire before others have their turn.
const WINDOWS_AT_ONCE: usize = 64;

/// A window's time attribute is so many microseconds before its end: the last moment inside, at
/// Flink's resolution.
pub(super) const WINDOW_TIME: i64 = 1_000;

/// Emits rows in batches, none too large; small ones that follow each other are put together.
pub(super) fn batches(rows: Vec<RecordBatch>, out: &mut dyn Output) -> Result<()> {
    let mut waiting: Vec<RecordBatch> = Vec::new();
    let mut waiting_rows = 0;
    for batch in rows.into_iter().filter(|batch| batch.num_rows() > 0) {
        if waiting_rows + batch.num_rows() > BATCH_ROWS {
            together(&mut waiting, out)?;
            waiting_rows = 0;
        }
        waiting_rows += batch.num_rows();
        waiting.push(batch);
    }
    together(&mut waiting, out)
}

fn together(waiting: &mut Vec<RecordBatch>, out: &mut dyn Output) -> Result<()> {
    let rows = match waiting.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        [first, ..] => concat_batches(first.schema_ref(), waiting.iter())?,
    };
    waiting.clear();
    if rows.num_rows() <= BATCH_ROWS {
        out.emit(Batch::new(rows));
        return Ok(());
    }
    for start in (0..rows.num_rows()).step_by(BATCH_ROWS) {
        out.emit(Batch::new(rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start))));
    }
    Ok(())
}

/// Results of windows that fire one after the other, to go out together where they are small.
pub(super) struct Fired {
    /// Each with its start and its end.
    waiting: Vec<([EventTime; 2], Results)>,
    waiting_rows: usize,
    waiting_bytes: usize,
    /// So many more windows may fire before others have their turn.
    windows_left: usize,
    /// How many rows there were.
    rows: usize,
}

impl Fired {
    /// Nothing yet.
    pub fn new(plan: &Plan) -> Self {
        Self {
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            // Windows of other aggregates may each take long, and be large.
            windows_left: if plan.cells.is_some() { WINDOWS_AT_ONCE } else { 1 },
            rows: 0,
        }
    }

    /// The results of one window, or a part of them.
    pub fn add(
        &mut self,
        plan: &Plan,
        window: [EventTime; 2],
        results: Results,
        out: &mut dyn Output,
    ) -> Result<()> {
        let bytes = results.bytes();
        if self.waiting_rows + results.rows > BATCH_ROWS || self.waiting_bytes + bytes > BATCH_BYTES
        {
            self.emit(plan, out)?;
        }
        self.rows += results.rows;
        self.waiting_rows += results.rows;
        self.waiting_bytes += bytes;
        self.waiting.push((window, results));
        Ok(())
    }

    /// All results of a window are there. Returns whether others should have their turn before the next.
    pub fn end_window(&mut self) -> bool {
        self.windows_left = self.windows_left.saturating_sub(1);
        self.windows_left == 0 || self.rows >= BATCH_ROWS
    }

    /// Emits what waits.
    pub fn emit(&mut self, plan: &Plan, out: &mut dyn Output) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let rows = std::mem::take(&mut self.waiting_rows);
        self.waiting_bytes = 0;
        let bounds = |which: usize| -> Int64Array {
            let mut all = Vec::with_capacity(rows);
            for (window, results) in &waiting {
                all.resize(all.len() + results.rows, window[which]);
            }
            all.into()
        };
        let (starts, ends) = (bounds(0), bounds(1));
        match Results::concat(waiting.into_iter().map(|(_, results)| results).collect())? {
            Some(results) => windows(plan, starts, ends, results, out),
            None => Ok(()),
        }
    }
}

/// Emits results, each with the bounds of its window.
pub(super) fn windows(
    plan: &Plan,
    starts: Int64Array,
    ends: Int64Array,
    results: Results,
    out: &mut dyn Output,
) -> Result<()> {
    let zone = match plan.output.field(2).data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let times: TimestampMicrosecondArray = ends.unary(|end| end - WINDOW_TIME);
    let bound = |at: Int64Array| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::new(at.values().clone(), None))
    };
    let mut columns =
        vec![bound(starts), bound(ends), Arc::new(times.with_timezone_opt(zone)) as ArrayRef];
    columns.extend(results.keys);
    columns.extend(results.values);
    batches(vec![RecordBatch::try_new(plan.output.clone(), columns)?], out)
}
