//! The runs that open sessions are made of, kept as the Arrow rows that they came as. Part of a
//! session merger's state. Invariant: rows that no session holds any more are at most as many as
//! those that are held, and a constant.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{interleave_record_batch, take};
use tidemill_core::{EventTime, Result};

use crate::window::plan::Plan;
use crate::window::table::{Accumulators, Partial, Results};

/// Rows that may be kept in vain, beside as many as are held.
const WASTE_ROWS_MAX: usize = 8192;

/// Number of a batch, and of a row in it.
pub(super) type RowId = (usize, usize);

/// Sessions given to be aggregated: bounds and rows of each.
pub(super) struct Closing<'a> {
    pub start: EventTime,
    pub end: EventTime,
    pub rows: &'a [RowId],
}

/// Rows of [`Plan::partial`].
pub(super) struct Fragments {
    plan: Arc<Plan>,
    batches: Vec<RecordBatch>,
    /// Rows in the batches.
    kept: usize,
    /// Rows of those that a session holds.
    held: usize,
    bytes: usize,
}

/// Sessions with their keys, aggregated.
struct Merged {
    starts: Int64Array,
    ends: Int64Array,
    keys: Vec<ArrayRef>,
    accumulators: Accumulators,
}

impl Fragments {
    pub fn new(plan: Arc<Plan>) -> Self {
        Self { plan, batches: Vec::new(), kept: 0, held: 0, bytes: 0 }
    }

    /// Keeps rows, all of them held. Returns the number of their batch.
    pub fn keep(&mut self, rows: RecordBatch) -> usize {
        self.kept += rows.num_rows();
        self.held += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        self.batches.push(rows);
        self.batches.len() - 1
    }

    /// So many rows are not held any more.
    pub fn release(&mut self, rows: usize) {
        self.held -= rows;
        if self.held == 0 {
            *self = Self::new(self.plan.clone());
        }
    }

    /// Whether so much is kept in vain that sessions should be written anew.
    pub fn is_wasteful(&self) -> bool {
        self.kept - self.held > self.held + WASTE_ROWS_MAX
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// These rows, as they are.
    pub fn rows(&self, rows: &[RowId]) -> Result<RecordBatch> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(self.plan.partial.clone()));
        }
        let mut used: Vec<_> = rows.iter().map(|(batch, _)| *batch).collect();
        used.sort_unstable();
        used.dedup();
        let among_used = |(batch, row): &RowId| (used.partition_point(|u| u < batch), *row);
        let rows: Vec<_> = rows.iter().map(among_used).collect();
        let batches: Vec<_> = used.iter().map(|batch| &self.batches[*batch]).collect();
        Ok(interleave_record_batch(&batches, &rows)?)
    }

    /// One row of [`Plan::partial`] for each session.
    pub fn compact(&self, sessions: &[Closing<'_>]) -> Result<RecordBatch> {
        let mut merged = self.merge(sessions)?;
        let states = merged.accumulators.take_states()?;
        let partial = Partial { rows: sessions.len(), keys: merged.keys, states };
        partial.into_batch(&self.plan, [merged.starts, merged.ends])
    }

    /// Starts, ends and results of sessions.
    pub fn results(&self, sessions: &[Closing<'_>]) -> Result<(Int64Array, Int64Array, Results)> {
        let merged = self.merge(sessions)?;
        let values = merged.accumulators.into_results()?;
        let results = Results { keys: merged.keys, values, rows: sessions.len() };
        Ok((merged.starts, merged.ends, results))
    }

    fn merge(&self, sessions: &[Closing<'_>]) -> Result<Merged> {
        let mut rows = Vec::new();
        let mut groups = Vec::new();
        let mut firsts = Vec::with_capacity(sessions.len());
        for (group, session) in sessions.iter().enumerate() {
            firsts.push(rows.len() as u32);
            rows.extend_from_slice(session.rows);
            groups.resize(rows.len(), group);
        }
        let partial = Partial::of(&self.plan, &self.rows(&rows)?);
        let mut accumulators = Accumulators::new(&self.plan)?;
        accumulators.merge(&self.plan, &partial.states, &groups, sessions.len())?;
        let firsts = UInt32Array::from(firsts);
        let keys = partial.keys.iter().map(|key| Ok(take(key, &firsts, None)?));
        Ok(Merged {
            starts: sessions.iter().map(|session| session.start).collect::<Vec<_>>().into(),
            ends: sessions.iter().map(|session| session.end).collect::<Vec<_>>().into(),
            keys: keys.collect::<Result<_>>()?,
            accumulators,
        })
    }
}
