//! Merges partial aggregates behind the exchange and fires windows: where the state lives.
//! Invariant: what a barrier hands over, on top of all that was handed over before, is the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use tidemill_core::operator::{
    Barrier, Operator, OperatorContext, Output, Progress, StateChange, StateFragment,
};
use tidemill_core::window::{AlignedWindow, Slice};
use tidemill_core::{Batch, EventTime, Parcel, Result};

use super::cells::SideBySide;
use super::combiner::{ROWS_BETWEEN_LOOKS, slice_batch};
use super::parcel::Share;
use super::plan::Plan;
use super::table::Partial;
use super::windows::{Windows, by_slice, fragment};

/// A fragment holds about so many bytes at most.
const FRAGMENT_BYTES: usize = 64 << 20;

/// Or so many groups.
const FRAGMENT_GROUPS: usize = 1 << 18;

/// Tumbling, hopping and cumulating windows: the operator behind the exchange.
pub(super) struct Merger {
    plan: Arc<Plan>,
    window: AlignedWindow,
    context: OperatorContext,
    windows: Windows,
    /// What came since the last checkpoint, as it came; empty where there are no checkpoints.
    increments: Increments,
    rows_since_look: usize,
}

/// What came since the last checkpoint, by slice: thousands, where slides are short. It is looked at with every batch,
/// so nothing is done for all of them then.
#[derive(Default)]
struct Increments {
    slices: BTreeMap<Slice, Increment>,
    bytes: usize,
}

/// What came for a slice since the last checkpoint.
#[derive(Default)]
struct Increment {
    batches: Vec<RecordBatch>,
    shares: Vec<Share>,
    bytes: usize,
}

impl Increments {
    fn change(&mut self, slice: Slice, change: impl FnOnce(&mut Increment)) {
        let increment = self.slices.entry(slice).or_default();
        self.bytes -= increment.bytes;
        change(increment);
        self.bytes += increment.bytes;
    }

    /// Drops the slices whose windows have all fired: the first ones.
    fn expire(&mut self, window: &AlignedWindow, watermark: EventTime) {
        while let Some(first) = self.slices.first_entry()
            && window.last_window_end(first.key().end) <= watermark
        {
            self.bytes -= first.remove().bytes;
        }
    }
}

impl Increment {
    fn push(&mut self, rows: RecordBatch) {
        let weigh = |column: &ArrayRef| column.to_data().get_slice_memory_size();
        // Columns whose size is not known by their type are of aggregates that are rare.
        self.bytes += rows.columns().iter().filter_map(|column| weigh(column).ok()).sum::<usize>();
        self.batches.push(rows);
    }

    fn keep(&mut self, share: Share) {
        self.bytes += share.bytes();
        self.shares.push(share);
    }

    /// All of it as rows, in parts that are not too large.
    fn into_rows(self, plan: &Plan, slice: Slice) -> Result<Vec<RecordBatch>> {
        let mut parts = Vec::new();
        for partial in together(&self.shares) {
            parts.push(slice_batch(plan, slice, partial)?);
        }
        let mut part: Vec<RecordBatch> = Vec::new();
        let mut bytes = 0;
        for batch in self.batches {
            bytes += batch.get_array_memory_size();
            part.push(batch);
            if bytes > FRAGMENT_BYTES {
                parts.push(concat_batches(&plan.partial, &std::mem::take(&mut part))?);
                bytes = 0;
            }
        }
        if !part.is_empty() {
            parts.push(concat_batches(&plan.partial, &part)?);
        }
        Ok(parts)
    }
}

/// What is in shares of one slice: each group once, where that is cheaply had.
fn together(shares: &[Share]) -> Vec<Partial> {
    let all = || SideBySide::of(shares.iter().map(|share| (share.table(), share.part())));
    match shares {
        [_, _, ..] if let Some(all) = all() => all.partials(FRAGMENT_GROUPS).collect(),
        _ => shares.iter().map(Share::partial).collect(),
    }
}

impl Merger {
    pub fn new(plan: Arc<Plan>, window: AlignedWindow, context: &OperatorContext) -> Self {
        Self {
            windows: Windows::new(plan.clone(), window, false),
            plan,
            window,
            context: context.clone(),
            increments: Increments::default(),
            rows_since_look: 0,
        }
    }

    fn take_increment(&mut self) -> Result<Vec<StateFragment>> {
        let mut fragments = Vec::new();
        for (slice, increment) in std::mem::take(&mut self.increments).slices {
            let rows = increment.into_rows(&self.plan, slice)?.into_iter();
            fragments.extend(rows.map(|rows| fragment(&self.window, slice, rows)));
        }
        Ok(fragments)
    }

    /// Measures the state now and then.
    fn look(&mut self, groups: usize) {
        self.rows_since_look += groups;
        if self.rows_since_look >= ROWS_BETWEEN_LOOKS {
            self.rows_since_look = 0;
            self.windows.measure();
        }
    }
}

impl Operator for Merger {
    fn process(&mut self, _: usize, batch: Batch, _: &mut dyn Output) -> Result<()> {
        for (slice, rows) in by_slice(&batch.rows)? {
            self.windows.merge(slice, &rows)?;
            if self.context.checkpointed {
                self.increments.change(slice, |increment| increment.push(rows));
            }
        }
        self.look(batch.len());
        Ok(())
    }

    fn receive(&mut self, parcel: Parcel, _: &mut dyn Output) -> Result<()> {
        let share = Share::unpack(parcel)?;
        let groups = share.groups();
        if self.context.checkpointed {
            self.increments.change(share.slice(), |increment| increment.keep(share.clone()));
        }
        self.windows.take_in(share)?;
        self.look(groups);
        Ok(())
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        let progress = self.windows.fire(watermark, out)?;
        if progress == Progress::Done {
            self.increments.expire(&self.window, watermark);
        }
        Ok(progress)
    }

    fn barrier(&mut self, barrier: Barrier, _: &mut dyn Output) -> Result<StateChange> {
        self.windows.let_go();
        if !barrier.checkpointed {
            return Ok(StateChange::default());
        }
        if barrier.full || !self.context.checkpointed {
            self.increments = Increments::default();
            return Ok(StateChange::Replace(self.windows.snapshot()?));
        }
        Ok(StateChange::Append(self.take_increment()?))
    }

    fn restore(&mut self, fragment: StateFragment) -> Result<()> {
        self.windows.restore(&fragment, &self.context)
    }

    fn state_bytes(&self) -> usize {
        self.windows.bytes() + self.increments.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increments_are_gone_with_their_last_window_and_their_bytes_with_them() {
        let window = AlignedWindow::hopping(20, 10, 0).unwrap();
        let mut increments = Increments::default();
        for (end, first_window_end) in [(30, 30), (10, 10), (20, 20), (10, 20), (30, 30)] {
            increments.change(Slice { end, first_window_end }, |slice| slice.bytes += 5);
        }
        for (watermark, slices, bytes) in [(19, 4, 25), (20, 2, 15), (39, 1, 10), (40, 0, 0)] {
            increments.expire(&window, watermark);
            let left = (increments.slices.len(), increments.bytes);
            assert_eq!(left, (slices, bytes), "at {watermark}");
        }
    }
}
