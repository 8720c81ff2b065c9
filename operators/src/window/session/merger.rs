//! Joins what comes through the exchange to sessions, and fires those that the watermark has passed:
//! where the state of session windows lives. Invariant: what a barrier hands over, on top of all
//! before, are the states of all open sessions.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemill_core::operator::{
    Barrier, Operator, OperatorContext, Output, Progress, StateChange, StateFragment,
};
use tidemill_core::time::{BEGINNING, END_OF_TIME};
use tidemill_core::{Batch, EventTime, Result};

use super::passing::unpack;
use super::sessions::Sessions;
use crate::window::combiner::ROWS_BETWEEN_LOOKS;
use crate::window::plan::{Evaluated, Plan};
use crate::window::windows::owned;

/// Session windows: the operator behind the exchange.
pub(in crate::window) struct Merger {
    plan: Arc<Plan>,
    context: OperatorContext,
    sessions: Sessions,
    rows_since_look: usize,
}

impl Merger {
    pub fn new(plan: Arc<Plan>, gap: i64, context: &OperatorContext) -> Result<Self> {
        Ok(Self {
            sessions: Sessions::new(plan.clone(), gap, context.checkpointed)?,
            plan,
            context: context.clone(),
            rows_since_look: 0,
        })
    }

    /// Takes rows with these event times, which count.
    pub fn update(&mut self, rows: &Evaluated, times: &[EventTime]) -> Result<()> {
        self.sessions.settle()?;
        self.sessions.update(rows, times)?;
        self.look(rows.rows);
        Ok(())
    }

    fn merge(&mut self, rows: &RecordBatch) -> Result<()> {
        self.sessions.settle()?;
        self.sessions.merge(rows)?;
        self.look(rows.num_rows());
        Ok(())
    }

    /// Measures the state now and then.
    fn look(&mut self, rows: usize) {
        self.rows_since_look += rows;
        if self.rows_since_look >= ROWS_BETWEEN_LOOKS {
            self.rows_since_look = 0;
            self.sessions.measure();
        }
    }
}

/// States as a piece of state. Which session they belong to is not known before they are all there.
fn fragment(rows: RecordBatch) -> StateFragment {
    StateFragment { rows, needed_until: END_OF_TIME, watermark: BEGINNING }
}

impl Operator for Merger {
    fn process(&mut self, _: usize, batch: Batch, _: &mut dyn Output) -> Result<()> {
        match unpack(&self.plan, &batch.rows) {
            Some((rows, times)) => self.update(&rows, &times),
            None => self.merge(&batch.rows),
        }
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.sessions.fire(watermark, out)
    }

    fn barrier(&mut self, barrier: Barrier, _: &mut dyn Output) -> Result<StateChange> {
        if !barrier.checkpointed {
            return Ok(StateChange::default());
        }
        if barrier.full || !self.context.checkpointed {
            let snapshot = self.sessions.snapshot()?;
            return Ok(StateChange::Replace(snapshot.into_iter().map(fragment).collect()));
        }
        Ok(StateChange::Append(self.sessions.increment()?.into_iter().map(fragment).collect()))
    }

    fn restore(&mut self, fragment: StateFragment) -> Result<()> {
        let rows = owned(&self.plan, &fragment, &self.context)?;
        self.sessions.restore(&rows, fragment.watermark)
    }

    fn state_bytes(&self) -> usize {
        self.sessions.bytes()
    }
}
