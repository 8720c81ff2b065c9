//! Session windows on a single shard: rows go straight into the sessions that fire. Invariant: its state
//! is that of a merger, so that either restores into the other.

use std::sync::Arc;

use tidemill_core::operator::{
    Barrier, Operator, OperatorContext, Output, Progress, StateChange, StateFragment,
};
use tidemill_core::time::BEGINNING;
use tidemill_core::{Batch, EventTime, Result};

use super::admit::admit;
use super::merger::Merger;
use crate::window::plan::Plan;

/// Session windows on a single shard.
pub(in crate::window) struct Fused {
    plan: Arc<Plan>,
    gap: i64,
    watermark: EventTime,
    merger: Merger,
}

impl Fused {
    pub fn new(plan: Arc<Plan>, gap: i64, context: &OperatorContext) -> Result<Self> {
        let merger = Merger::new(plan.clone(), gap, context)?;
        Ok(Self { plan, gap, watermark: BEGINNING, merger })
    }
}

impl Operator for Fused {
    fn process(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let (rows, times) = admit(&self.plan, self.gap, self.watermark, batch, out)?;
        if times.is_empty() { Ok(()) } else { self.merger.update(&rows, &times) }
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        self.merger.watermark(watermark, out)
    }

    fn barrier(&mut self, barrier: Barrier, out: &mut dyn Output) -> Result<StateChange> {
        self.merger.barrier(barrier, out)
    }

    fn restore(&mut self, fragment: StateFragment) -> Result<()> {
        self.merger.restore(fragment)
    }

    fn state_bytes(&self) -> usize {
        self.merger.state_bytes()
    }
}
