//! Joins runs to sessions behind the exchange and fires those that the watermark has passed: where
//! the state of session windows lives. Invariant: what a barrier hands over, on top of all before, are
//! the runs of all open sessions.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemill_core::operator::{
    Barrier, Operator, OperatorContext, Output, Progress, StateChange, StateFragment,
};
use tidemill_core::time::{BEGINNING, END_OF_TIME};
use tidemill_core::{Batch, EventTime, Result};

use super::sessions::Sessions;
use crate::window::combiner::ROWS_BETWEEN_LOOKS;
use crate::window::plan::Plan;
use crate::window::windows::owned;

/// Session windows: the operator behind the exchange.
pub(in crate::window) struct Merger {
    plan: Arc<Plan>,
    context: OperatorContext,
    sessions: Sessions,
    /// What came since the last checkpoint, as it came; empty where there are no checkpoints.
    increment: Vec<RecordBatch>,
    increment_bytes: usize,
    rows_since_look: usize,
}

impl Merger {
    pub fn new(plan: Arc<Plan>, gap: i64, context: &OperatorContext) -> Result<Self> {
        Ok(Self {
            sessions: Sessions::new(plan.clone(), gap, false)?,
            plan,
            context: context.clone(),
            increment: Vec::new(),
            increment_bytes: 0,
            rows_since_look: 0,
        })
    }
}

/// Runs as a piece of state. Which session they belong to is not known before they are all there.
pub(super) fn fragment(rows: RecordBatch) -> StateFragment {
    StateFragment { rows, needed_until: END_OF_TIME, watermark: BEGINNING }
}

impl Operator for Merger {
    fn process(&mut self, _: usize, batch: Batch, _: &mut dyn Output) -> Result<()> {
        self.sessions.settle()?;
        self.sessions.merge(&batch.rows)?;
        self.rows_since_look += batch.len();
        if self.rows_since_look >= ROWS_BETWEEN_LOOKS {
            self.rows_since_look = 0;
            self.sessions.measure();
        }
        if self.context.checkpointed {
            self.increment_bytes += batch.rows.get_array_memory_size();
            self.increment.push(batch.rows);
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.sessions.fire(watermark, out)
    }

    fn barrier(&mut self, barrier: Barrier, _: &mut dyn Output) -> Result<StateChange> {
        if !barrier.checkpointed {
            return Ok(StateChange::default());
        }
        let increment = std::mem::take(&mut self.increment);
        self.increment_bytes = 0;
        if barrier.full || !self.context.checkpointed {
            let snapshot = self.sessions.snapshot()?;
            return Ok(StateChange::Replace(snapshot.into_iter().map(fragment).collect()));
        }
        Ok(StateChange::Append(increment.into_iter().map(fragment).collect()))
    }

    fn restore(&mut self, fragment: StateFragment) -> Result<()> {
        let rows = owned(&self.plan, &fragment, &self.context)?;
        self.sessions.restore(&rows, fragment.watermark)
    }

    fn state_bytes(&self) -> usize {
        self.sessions.bytes() + self.increment_bytes
    }
}
