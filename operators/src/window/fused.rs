//! Combiner and merger in one, for a single shard: rows go straight into the tables that windows
//! fire from. Invariant: its state is that of a merger, so that either restores into the other.

use std::sync::Arc;

use tidemill_core::operator::{
    Barrier, Operator, OperatorContext, Output, Progress, StateChange, StateFragment,
};
use tidemill_core::time::BEGINNING;
use tidemill_core::window::AlignedWindow;
use tidemill_core::{Batch, EventTime, Result};

use super::combiner::ROWS_BETWEEN_LOOKS;
use super::place::place;
use super::plan::Plan;
use super::windows::Windows;

/// Tumbling, hopping and cumulating windows on a single shard.
pub(super) struct Fused {
    plan: Arc<Plan>,
    window: AlignedWindow,
    context: OperatorContext,
    windows: Windows,
    watermark: EventTime,
    rows_since_look: usize,
}

impl Fused {
    pub fn new(plan: Arc<Plan>, window: AlignedWindow, context: &OperatorContext) -> Self {
        Self {
            windows: Windows::new(plan.clone(), window, context.checkpointed),
            plan,
            window,
            context: context.clone(),
            watermark: BEGINNING,
            rows_since_look: 0,
        }
    }
}

impl Operator for Fused {
    fn process(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        self.rows_since_look += batch.len();
        let placed = place(&self.plan, &self.window, self.watermark, batch, out)?;
        placed.go_into(&mut self.windows)?;
        if self.rows_since_look >= ROWS_BETWEEN_LOOKS {
            self.rows_since_look = 0;
            self.windows.measure();
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        self.windows.fire(watermark, out)
    }

    fn barrier(&mut self, barrier: Barrier, _: &mut dyn Output) -> Result<StateChange> {
        self.windows.let_go();
        if !barrier.checkpointed {
            Ok(StateChange::default())
        } else if barrier.full || !self.context.checkpointed {
            Ok(StateChange::Replace(self.windows.snapshot()?))
        } else {
            Ok(StateChange::Append(self.windows.increment()?))
        }
    }

    fn restore(&mut self, fragment: StateFragment) -> Result<()> {
        self.windows.restore(&fragment, &self.context)
    }

    fn state_bytes(&self) -> usize {
        self.windows.bytes()
    }
}
