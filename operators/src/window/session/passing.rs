//! Rows on their way through the exchange as they are, where combining them is not worth its while:
//! where most runs have a row or two. Invariant: no row is in it longer than a call.
//!
//! ```text
//! passing   event time | – | keys | what the aggregates take      the columns of partial aggregates
//! partial   start      | end | keys | states                      begin alike: keys are in one place
//! ```

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{ArrayRef, Int64Array, NullArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use tidemill_core::{EventTime, Result};

use crate::window::plan::{BOUNDS, Evaluated, Plan};

/// Whether combining is worth its while.
#[derive(Default)]
pub(super) struct Gain {
    rows: usize,
    runs: usize,
    /// So many rows pass before the next try.
    passing: usize,
    /// How many verdicts in a row were bad.
    bad: u32,
}

impl Gain {
    /// Rows that are looked at before a verdict, at least: they cost several times what they do when
    /// they pass, where that is what they should.
    const PROBE_ROWS: usize = 1 << 17;
    /// Fewer rows than so many in a run are too few: a run costs about as much as these. While keys are
    /// new, runs are shorter than later.
    const ROWS_PER_RUN_MIN: usize = 4;
    /// Rows that pass after a bad verdict, and twice as many after each that follows.
    const PASSING_ROWS: usize = 1 << 22;
    const DOUBLINGS_MAX: u32 = 4;

    /// So many rows have become so many runs. Whether rows are going to pass from now on.
    pub fn combined(&mut self, rows: usize, runs: usize) -> bool {
        self.rows += rows;
        self.runs += runs;
        if self.rows < Self::PROBE_ROWS {
            return false;
        }
        let reduces_little = self.rows < Self::ROWS_PER_RUN_MIN * self.runs;
        let bad = if reduces_little { self.bad + 1 } else { 0 };
        let passing = match bad {
            0 => 0,
            bad => Self::PASSING_ROWS << (bad - 1).min(Self::DOUBLINGS_MAX),
        };
        *self = Self { passing, bad, ..Self::default() };
        reduces_little
    }

    /// Whether these rows pass.
    pub fn passes(&mut self, rows: usize) -> bool {
        let passes = self.passing > 0;
        self.passing = self.passing.saturating_sub(rows);
        passes
    }
}

/// Rows for the exchange, with only those of the evaluated columns that are `wanted`.
pub(super) fn pack(
    plan: &Plan,
    rows: Evaluated,
    times: ScalarBuffer<EventTime>,
    wanted: impl Fn(usize) -> bool,
) -> Result<RecordBatch> {
    let nothing: ArrayRef = Arc::new(NullArray::new(rows.rows));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::new(times, None)), nothing.clone()];
    columns.extend(rows.keys);
    let values = rows.values.into_iter().enumerate();
    columns.extend(values.map(|(n, value)| if wanted(n) { value } else { nothing.clone() }));
    let first = plan.partial.fields()[0].clone();
    let others = columns[1..]
        .iter()
        .enumerate()
        .map(|(n, column)| Arc::new(Field::new(n.to_string(), column.data_type().clone(), true)));
    let schema = Schema::new(std::iter::once(first).chain(others).collect::<Vec<_>>());
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

/// Rows that came through the exchange with their event times, if that is what came, and not partial
/// aggregates.
pub(super) fn unpack(
    plan: &Plan,
    rows: &RecordBatch,
) -> Option<(Evaluated, ScalarBuffer<EventTime>)> {
    if *rows.column(BOUNDS - 1).data_type() != DataType::Null {
        return None;
    }
    let times = rows.column(0).as_primitive::<Int64Type>().values().clone();
    let keys = rows.columns()[plan.key_columns()].to_vec();
    let values = rows.columns()[plan.key_columns().end..].to_vec();
    Some((Evaluated { rows: rows.num_rows(), keys, values }, times))
}
