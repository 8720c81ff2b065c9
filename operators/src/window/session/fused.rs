//! Combiner and merger of session windows in one, for a single shard. Invariant: what the combiner
//! emits has reached the merger before the operator returns.

use arrow::array::RecordBatch;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::operator::{
    Barrier, Fate, Operator, Output, Progress, StateChange, StateFragment,
};
use tidemill_core::{Batch, EventTime, Result};

use super::{Combiner, Merger};

/// Session windows on a single shard.
pub(in crate::window) struct Fused {
    combiner: Combiner,
    merger: Merger,
}

/// What the combiner puts out: batches are for the merger, the rest goes on.
struct Between<'a> {
    out: &'a mut dyn Output,
    batches: Vec<Batch>,
}

impl Fused {
    pub fn new(combiner: Combiner, merger: Merger) -> Self {
        Self { combiner, merger }
    }

    /// Lets the combiner work, and the merger take what it emits.
    fn combine<T>(
        &mut self,
        out: &mut dyn Output,
        work: impl FnOnce(&mut Combiner, &mut dyn Output) -> Result<T>,
    ) -> Result<T> {
        let mut between = Between { out, batches: Vec::new() };
        let result = work(&mut self.combiner, &mut between)?;
        for batch in between.batches {
            self.merger.process(0, batch, between.out)?;
        }
        Ok(result)
    }
}

impl Output for Between<'_> {
    fn emit(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    fn account(&mut self, fate: Fate, rows: usize) {
        self.out.account(fate, rows);
    }

    fn late(&mut self, rows: RecordBatch) {
        self.out.late(rows);
    }

    fn declined(&mut self, batch: Batch) {
        self.out.declined(batch);
    }

    fn dead_letter(&mut self, letter: DeadLetter) -> Result<()> {
        self.out.dead_letter(letter)
    }
}

impl Operator for Fused {
    fn process(&mut self, input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        self.combine(out, |combiner, out| combiner.process(input, batch, out))
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.combine(out, |combiner, out| combiner.watermark(watermark, out))?;
        self.merger.watermark(watermark, out)
    }

    fn barrier(&mut self, barrier: Barrier, out: &mut dyn Output) -> Result<StateChange> {
        self.combine(out, |combiner, out| combiner.barrier(barrier, out))?;
        self.merger.barrier(barrier, out)
    }

    fn restore(&mut self, fragment: StateFragment) -> Result<()> {
        self.merger.restore(fragment)
    }

    fn state_bytes(&self) -> usize {
        self.merger.state_bytes()
    }
}
