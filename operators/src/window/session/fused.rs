//! Session windows on a single shard: rows go straight into the sessions that fire. Invariant: its state
//! is that of a merger, so that either restores into the other.

use std::sync::Arc;

use tidemill_core::operator::{
    Barrier, Operator, OperatorContext, Output, Progress, StateChange, StateFragment,
};
use tidemill_core::time::BEGINNING;
use tidemill_core::{Batch, EventTime, Result};

use super::admit::admit;
use super::merger::fragment;
use super::sessions::Sessions;
use crate::window::combiner::ROWS_BETWEEN_LOOKS;
use crate::window::plan::Plan;
use crate::window::windows::owned;

/// Session windows on a single shard.
pub(in crate::window) struct Fused {
    plan: Arc<Plan>,
    gap: i64,
    context: OperatorContext,
    sessions: Sessions,
    watermark: EventTime,
    rows_since_look: usize,
}

impl Fused {
    pub fn new(plan: Arc<Plan>, gap: i64, context: &OperatorContext) -> Result<Self> {
        Ok(Self {
            sessions: Sessions::new(plan.clone(), gap, context.checkpointed)?,
            plan,
            gap,
            context: context.clone(),
            watermark: BEGINNING,
            rows_since_look: 0,
        })
    }
}

impl Operator for Fused {
    fn process(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        self.sessions.settle()?;
        let (rows, times) = admit(&self.plan, self.gap, self.watermark, batch, out)?;
        if times.is_empty() {
            return Ok(());
        }
        self.sessions.update(&rows, &times)?;
        self.rows_since_look += times.len();
        if self.rows_since_look >= ROWS_BETWEEN_LOOKS {
            self.rows_since_look = 0;
            self.sessions.measure();
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
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
