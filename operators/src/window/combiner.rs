//! Aggregates a shard's own rows per slice and key, before the exchange: the shuffle carries groups,
//! not rows. Invariants: it is empty at every barrier; the partial aggregates of a slice are out
//! before the watermark that completes its first window.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use tidemill_core::operator::{Barrier, Operator, Output, Progress, StateChange, StateFragment};
use tidemill_core::time::BEGINNING;
use tidemill_core::window::{AlignedWindow, Slice};
use tidemill_core::{Batch, EventTime, Result};

use super::aggregates::Accumulators;
use super::cells::ByOwner;
use super::emit;
use super::few::Few;
use super::parcel;
use super::place::{Placed, SliceTables, place, several_of};
use super::plan::{BOUNDS, Evaluated, Plan};
use super::table::{Handover, Leaving, Partial, Table};
use crate::stateless::stateless;

/// A combiner whose groups take more bytes than this sends what it has.
pub(super) const BYTES_MAX: usize = 128 << 20;

/// How many rows go in between two looks at the memory in use.
pub(super) const ROWS_BETWEEN_LOOKS: usize = 32 * 1024;

/// Tumbling, hopping and cumulating windows: the operator before the exchange.
pub(super) struct Combiner {
    plan: Arc<Plan>,
    window: AlignedWindow,
    /// By the end of the slice's first window, then by its own.
    tables: BTreeMap<(EventTime, EventTime), Table>,
    watermark: EventTime,
    /// How many shards own groups.
    shards: usize,
    rows_since_look: usize,
    /// Bytes in use when they were last looked at.
    bytes: usize,
    gain: Gain,
    /// Accumulators without groups, once rows have passed through as they are.
    converters: Option<Accumulators>,
    handover: Handover,
    /// Of the last dense table that went out.
    by_owner: Option<ByOwner>,
}

/// Whether combining is worth its while: it is not where keys are nearly unique.
#[derive(Default)]
struct Gain {
    rows: usize,
    groups: usize,
    /// So many rows pass through before the next try.
    bypass: usize,
}

impl Gain {
    /// Rows that are looked at before a verdict.
    const PROBE_ROWS: usize = 100_000;
    /// Rows that pass through after a bad one.
    const BYPASS_ROWS: usize = 2_000_000;

    /// So many rows have become so many groups.
    fn combined(&mut self, rows: usize, groups: usize) {
        self.rows += rows;
        self.groups += groups;
        if self.rows >= Self::PROBE_ROWS {
            let reduces_little = self.groups > self.rows / 5 * 4;
            *self = Self::default();
            self.bypass = if reduces_little { Self::BYPASS_ROWS } else { 0 };
        }
    }
}

impl Combiner {
    pub fn new(plan: Arc<Plan>, window: AlignedWindow, shards: usize) -> Self {
        Self {
            plan,
            window,
            tables: BTreeMap::new(),
            watermark: BEGINNING,
            shards,
            rows_since_look: 0,
            bytes: 0,
            gain: Gain::default(),
            converters: None,
            handover: Handover::default(),
            by_owner: None,
        }
    }

    /// Takes rows into the tables of their slices.
    fn combine(&mut self, placed: Placed, out: &mut dyn Output) -> Result<()> {
        self.rows_since_look += placed.rows.rows;
        placed.go_into(self)?;
        if self.rows_since_look >= ROWS_BETWEEN_LOOKS {
            self.rows_since_look = 0;
            self.bytes = self.tables.values().map(Table::bytes).sum();
            if self.bytes > BYTES_MAX {
                self.flush(EventTime::MAX, false, out)?;
            }
        }
        Ok(())
    }

    /// Sends rows on, each as a group of its own.
    fn pass_through(&mut self, placed: Placed, out: &mut dyn Output) -> Result<()> {
        self.gain.bypass = self.gain.bypass.saturating_sub(placed.rows.rows);
        let converters = match self.converters.take() {
            Some(converters) => converters,
            None => Accumulators::new(&self.plan)?,
        };
        let states = converters.convert(&self.plan, &placed.rows)?;
        self.converters = Some(converters);
        let bounds = placed.bounds().map(Int64Array::from);
        let partial = Partial { rows: placed.rows.rows, keys: placed.rows.keys, states };
        emit::batches(vec![partial.into_batch(&self.plan, bounds)?], out)
    }

    /// Sends the slices that the window ending at `end` is the first to need, or an earlier one: all that there will be
    /// of them, if that window is complete.
    fn flush(&mut self, end: EventTime, complete: bool, out: &mut dyn Output) -> Result<()> {
        let mut batches = Vec::new();
        let mut any = false;
        while let Some(table) = self.tables.first_entry() {
            let (first_window_end, slice_end) = *table.key();
            if first_window_end > end {
                break;
            }
            any = true;
            let slice = Slice { end: slice_end, first_window_end };
            let table = table.remove();
            let rows = table.rows();
            match table.leave()? {
                Leaving::Cells(cells) => {
                    let known = &mut self.by_owner;
                    parcel::hand_over(slice, cells, complete, self.shards, known, out)
                }
                Leaving::Columns(partial) => {
                    self.gain.combined(rows, partial.rows);
                    batches.push(slice_batch(&self.plan, slice, partial)?);
                }
            }
        }
        if any && self.tables.is_empty() {
            self.handover.expected.release();
        }
        if any {
            self.bytes = self.tables.values().map(Table::bytes).sum();
        }
        emit::batches(batches, out)
    }
}

/// What slices are sorted by.
fn key(slice: Slice) -> (EventTime, EventTime) {
    (slice.first_window_end, slice.end)
}

impl SliceTables for Combiner {
    fn update(&mut self, slice: Slice, rows: &Evaluated) -> Result<()> {
        let table = match self.tables.entry(key(slice)) {
            Entry::Occupied(table) => table.into_mut(),
            Entry::Vacant(slot) => slot.insert(Table::new(&self.plan)?),
        };
        table.update(&self.plan, rows, &mut self.handover)
    }

    fn count_few(&mut self, few: &Few, rows: &Evaluated) -> Result<usize> {
        let keys: Vec<_> = few.slices().iter().map(|slice| key(*slice)).collect();
        for key in &keys {
            if let Entry::Vacant(slot) = self.tables.entry(*key) {
                slot.insert(Table::new(&self.plan)?);
            }
        }
        let tables = several_of(&mut self.tables, &keys);
        Ok(Table::count_few(tables, few, rows, &mut self.handover))
    }
}

/// The two columns that partial aggregates of one slice start with.
fn bounds(slice: Slice, rows: usize) -> [Int64Array; BOUNDS] {
    [slice.end, slice.first_window_end].map(|bound| vec![bound; rows].into())
}

/// Partial aggregates of one slice as rows.
pub(super) fn slice_batch(plan: &Plan, slice: Slice, partial: Partial) -> Result<RecordBatch> {
    let bounds = bounds(slice, partial.rows);
    partial.into_batch(plan, bounds)
}

impl Operator for Combiner {
    fn process(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let placed = place(&self.plan, &self.window, self.watermark, batch, out)?;
        if placed.rows.rows == 0 {
            Ok(())
        } else if self.gain.bypass > 0 {
            self.pass_through(placed, out)
        } else {
            self.combine(placed, out)
        }
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        self.flush(self.watermark, true, out)?;
        Ok(Progress::Done)
    }

    fn barrier(&mut self, _: Barrier, out: &mut dyn Output) -> Result<StateChange> {
        self.flush(EventTime::MAX, false, out)?;
        Ok(StateChange::default())
    }

    fn restore(&mut self, _: StateFragment) -> Result<()> {
        Err(stateless("a combiner"))
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.handover.expected.bytes()
    }
}
