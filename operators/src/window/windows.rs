//! The slices behind the exchange, and which window fires next. The state of mergers and fused
//! operators. Invariants: windows fire in the order of their ends, each once; a slice is gone after
//! its last window; times without a slice cost nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use tidemill_core::key::{KEY_GROUPS, hash_rows, key_group};
use tidemill_core::operator::{OperatorContext, Output, Progress, StateFragment};
use tidemill_core::time::BEGINNING;
use tidemill_core::window::{AlignedWindow, Slice};
use tidemill_core::{Error, EventTime, Result};

use super::combiner::slice_batch;
use super::emit::Fired;
use super::few::Few;
use super::parcel::Share;
use super::place::{Rows, SliceTables, partition};
use super::plan::{Evaluated, Plan};
use super::slices::{Piece, Slices, Work};
use super::table::{Handover, Partial, Resting, Table};

/// Slices and the windows over them.
pub(super) struct Windows {
    work: Work,
    window: AlignedWindow,
    /// Every slice end is this much past a multiple of the slice's length.
    offset: i64,
    /// Slices that count in every window over them that has not fired.
    slices: Slices,
    /// Slices that do not count yet in the next window, by the end of the first in which they do,
    /// then by their own: rows that came late for the windows before.
    late: BTreeMap<(EventTime, EventTime), Piece>,
    /// Windows that end by then have fired.
    done: EventTime,
    bytes: usize,
}

impl Windows {
    /// No slices. `keep_unsaved`: [`Windows::increment`] is going to be called.
    pub fn new(plan: Arc<Plan>, window: AlignedWindow, keep_unsaved: bool) -> Self {
        let some_end = window.slice_end(0).unwrap_or(0);
        let is_tumbling = window.size() == window.step();
        Self {
            work: Work { plan, keep_unsaved, is_tumbling, handover: Handover::default() },
            window,
            offset: some_end.rem_euclid(window.step()),
            slices: Slices::new(window.step()),
            late: BTreeMap::new(),
            done: BEGINNING,
            bytes: 0,
        }
    }

    /// Changes a slice.
    ///
    /// # Errors
    /// All windows over it have fired: an internal error, since its rows were counted as on time.
    fn with(
        &mut self,
        slice: Slice,
        change: impl FnOnce(&mut Piece, &mut Work) -> Result<()>,
    ) -> Result<()> {
        let first_open = self.window.slice(slice.end, self.done).map(|s| s.first_window_end);
        let first_open = first_open.ok_or_else(|| {
            Error::internal(format!(
                "rows of the slice ending at {} came when the windows over it had fired: an input \
                 whose watermark was behind {} was not waited for",
                slice.end, self.done
            ))
        })?;
        let piece = if slice.first_window_end <= first_open {
            self.slices.piece(slice.end)
        } else {
            self.late.entry((slice.first_window_end, slice.end)).or_default()
        };
        change(piece, &mut self.work)
    }

    /// Takes partial aggregates of one slice.
    pub fn merge(&mut self, slice: Slice, rows: &RecordBatch) -> Result<()> {
        self.with(slice, |piece, work| {
            let partial = Partial::of(&work.plan, rows);
            piece.table(work)?.merge(&work.plan, &partial, &mut work.handover)
        })
    }

    /// Takes a share of another shard's groups of one slice.
    pub fn take_in(&mut self, share: Share) -> Result<()> {
        self.with(share.slice(), |piece, work| piece.take_in(share, work))
    }

    /// Takes back a fragment of a checkpoint: what this shard owns of it, and what of that still
    /// counts in a window that had not fired.
    pub fn restore(&mut self, fragment: &StateFragment, context: &OperatorContext) -> Result<()> {
        let rows = owned(&self.work.plan, fragment, context)?;
        let whole = rows.num_rows();
        for (slice, rows) in by_slice(&rows)? {
            // A part would keep all of it, and weigh as much.
            let rows = if rows.num_rows() < whole { copied(&rows)? } else { rows };
            let floor = fragment.watermark.max(slice.first_window_end - 1);
            if let Some(open) = self.window.slice(slice.end, floor) {
                self.with(open, |piece, work| {
                    let partial = Partial::of(&work.plan, &rows);
                    piece.restore(Resting::Columns(partial), work)
                })?;
            }
        }
        self.measure();
        Ok(())
    }

    /// End of the next window that holds anything.
    fn next(&self) -> Option<EventTime> {
        let first = self.slices.first_end(self.offset);
        let first = first.and_then(|end| self.window.slice(end, self.done));
        let late = self.late.first_key_value().map(|((first_window_end, _), _)| *first_window_end);
        first.map(|slice| slice.first_window_end).into_iter().chain(late).min()
    }

    /// Fires the next windows that end by `watermark`: not many at once.
    pub fn fire(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        let due = |end: &EventTime| *end <= watermark;
        let mut next = self.next();
        if next.as_ref().is_some_and(due) {
            let mut fired = Fired::new(&self.work.plan);
            while let Some(end) = next.filter(due) {
                self.fire_window(end, &mut fired, out)?;
                next = self.next();
                if fired.end_window() {
                    break;
                }
            }
            fired.emit(&self.work.plan, out)?;
            if next.as_ref().is_some_and(due) {
                return Ok(Progress::More);
            }
            if next.is_none() {
                self.let_go();
            }
            self.measure();
        }
        self.done = self.done.max(watermark);
        Ok(Progress::Done)
    }

    fn fire_window(
        &mut self,
        end: EventTime,
        fired: &mut Fired,
        out: &mut dyn Output,
    ) -> Result<()> {
        let later = self.late.split_off(&(end + 1, EventTime::MIN));
        for ((_, slice_end), piece) in std::mem::replace(&mut self.late, later) {
            let slice = self.slices.piece(slice_end);
            slice.absorb(piece, &mut self.work)?;
        }
        let start = self.window.window_start(end);
        let expired = self.window.window_start(end + self.window.step());
        let plan = self.work.plan.clone();
        self.done = end;
        self.slices.results([start, end], expired, &mut self.work, |results| {
            fired.add(&plan, [start, end], results, out)
        })
    }

    /// Hands over what came since the last time.
    pub fn increment(&mut self) -> Result<Vec<StateFragment>> {
        self.fragments(Piece::take_unsaved)
    }

    /// Hands over everything.
    pub fn snapshot(&mut self) -> Result<Vec<StateFragment>> {
        self.fragments(|piece, work| {
            piece.take_unsaved(work)?;
            Ok(piece.rest(work)?.to_vec())
        })
    }

    fn fragments(
        &mut self,
        of: impl Fn(&mut Piece, &mut Work) -> Result<Vec<Resting>>,
    ) -> Result<Vec<StateFragment>> {
        let (step, offset) = (self.window.step(), self.offset);
        let on_time = self.slices.iter_mut().map(|(number, piece)| {
            let end = number * step + offset;
            (Slice { end, first_window_end: end }, piece)
        });
        let late = self.late.iter_mut().map(|((first_window_end, end), piece)| {
            (Slice { end: *end, first_window_end: *first_window_end }, piece)
        });
        let mut fragments = Vec::new();
        for (slice, piece) in on_time.chain(late) {
            for part in of(piece, &mut self.work)? {
                let rows = slice_batch(&self.work.plan, slice, part.into_partial())?;
                fragments.push(fragment(&self.window, slice, rows));
            }
        }
        self.measure();
        Ok(fragments)
    }

    /// Gives back memory that waits for the next slices.
    pub fn let_go(&mut self) {
        if self.work.handover.expected.bytes() > 0 {
            self.work.handover.expected.release();
            self.measure();
        }
    }

    /// Takes the measure of the state.
    pub fn measure(&mut self) {
        let late: usize = self.late.values().map(Piece::bytes).sum();
        self.bytes = self.slices.bytes() + late + self.work.handover.expected.bytes();
    }

    /// Bytes in use when they were last measured.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Merges of partial aggregates so far, to put windows together.
    #[cfg(test)]
    pub fn merges(&self) -> usize {
        self.slices.merges()
    }
}

impl SliceTables for Windows {
    fn update(&mut self, slice: Slice, rows: &Evaluated) -> Result<()> {
        self.with(slice, |piece, work| {
            piece.table(work)?.update(&work.plan, rows, &mut work.handover)
        })
    }

    fn count_few(&mut self, few: &Few, rows: &Evaluated) -> Result<usize> {
        let is_on_time = |slice: &Slice| self.window.slice(slice.end, self.done) == Some(*slice);
        if !few.slices().iter().all(is_on_time) {
            return Ok(0);
        }
        let work = &mut self.work;
        let pieces = self.slices.several(few.slices().iter().map(|slice| slice.end));
        let tables: Result<Vec<_>> = pieces.into_iter().map(|piece| piece.table(work)).collect();
        Ok(Table::count_few(tables?, few, rows, &mut work.handover))
    }
}

/// Partial aggregates of one slice as a piece of state.
pub(super) fn fragment(window: &AlignedWindow, slice: Slice, rows: RecordBatch) -> StateFragment {
    StateFragment { rows, needed_until: window.last_window_end(slice.end), watermark: BEGINNING }
}

/// The rows of a fragment whose key group belongs to this shard.
pub(super) fn owned(
    plan: &Plan,
    fragment: &StateFragment,
    context: &OperatorContext,
) -> Result<RecordBatch> {
    if context.key_groups == (0..KEY_GROUPS) {
        return Ok(fragment.rows.clone());
    }
    let keys = &fragment.rows.columns()[plan.key_columns()];
    let hashes = hash_rows(keys, fragment.rows.num_rows())?;
    let is_owned = |hash: &u64| Some(context.key_groups.contains(&key_group(*hash)));
    let owned: BooleanArray = hashes.iter().map(is_owned).collect();
    Ok(filter_record_batch(&fragment.rows, &owned)?)
}

/// The same rows, with memory of their own.
fn copied(rows: &RecordBatch) -> Result<RecordBatch> {
    Ok(take_record_batch(rows, &UInt32Array::from_iter_values(0..rows.num_rows() as u32))?)
}

/// Partial aggregates, slice by slice.
pub(super) fn by_slice(rows: &RecordBatch) -> Result<Vec<(Slice, RecordBatch)>> {
    let bound = |column: usize| rows.column(column).as_primitive::<Int64Type>().values().iter();
    let slices: Vec<_> = bound(0)
        .zip(bound(1))
        .map(|(end, first)| Slice { end: *end, first_window_end: *first })
        .collect();
    let part = |(slice, picked)| {
        Ok((
            slice,
            match picked {
                Rows::Run { start, length } => rows.slice(start, length),
                Rows::Picked(picked) => take_record_batch(rows, &picked)?,
            },
        ))
    };
    partition(&slices).into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::types::TimestampMicrosecondType;
    use arrow::array::{Int64Array, TimestampMicrosecondArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use datafusion_functions_aggregate::count::count_udaf;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use tidemill_core::Batch;
    use tidemill_core::testing::{Collected, context};
    use tidemill_core::window::WindowSpec;

    use super::*;
    use crate::AggregateSpec;
    use crate::window::WindowAggregateSpec;
    use crate::window::table::Results;

    fn count_per(window: AlignedWindow) -> Arc<Plan> {
        let time = Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false);
        let count = AggregateSpec {
            function: count_udaf(),
            args: vec![],
            distinct: false,
            filter: None,
            order_by: vec![],
            ignore_nulls: false,
            name: "n".to_owned(),
        };
        let spec = WindowAggregateSpec {
            input: Arc::new(Schema::new(vec![time])),
            window: WindowSpec::Aligned(window),
            time: 0,
            keys: vec![],
            aggregates: vec![count],
        };
        Arc::new(Plan::new(spec).unwrap())
    }

    /// Puts a row into a slice that counts in all windows that have not fired.
    fn put(windows: &mut Windows, end: EventTime) -> Slice {
        let times = TimestampMicrosecondArray::from(vec![end - 1]);
        let row = RecordBatch::try_from_iter([("ts", Arc::new(times) as _)]).unwrap();
        let plan = windows.work.plan.clone();
        let (_, row) = plan.evaluate(Batch::new(row), &mut Collected::default()).unwrap();
        let slice = windows.window.slice(end, windows.done).unwrap();
        windows.update(slice, &row).unwrap();
        slice
    }

    /// The end and the count of each window.
    fn counts(out: &Collected) -> Vec<(EventTime, i64)> {
        let of = |batch: &Batch| {
            let ends = batch.rows.column(1).as_primitive::<TimestampMicrosecondType>().values();
            let counts = batch.rows.column(3).as_primitive::<Int64Type>().values();
            ends.iter().copied().zip(counts.iter().copied()).collect::<Vec<_>>()
        };
        out.batches.iter().flat_map(of).collect()
    }

    /// Puts one row into each slice and fires each window. Returns the most merges that a window
    /// took, how many windows together, and all windows' counts.
    fn one_row_per_slice(window: AlignedWindow, slices: i64) -> (usize, usize, Vec<i64>) {
        let mut windows = Windows::new(count_per(window), window, false);
        let (mut most, mut out) = (0, Collected::default());
        for end in 1..=slices {
            put(&mut windows, end);
            let before = windows.merges();
            assert_eq!(windows.fire(end, &mut out).unwrap(), Progress::Done);
            most = most.max(windows.merges() - before);
        }
        let counts = counts(&out).into_iter().map(|(_, count)| count).collect();
        (most, windows.merges(), counts)
    }

    #[test]
    fn a_window_of_3600_slices_takes_few_merges_and_counts_them_all() {
        let window = AlignedWindow::hopping(3600, 1, 0).unwrap();
        let (most, all, counts) = one_row_per_slice(window, 10_000);
        assert!(most <= 29, "{most} merges for one window");
        assert!(all <= 9 * 10_000, "{all} merges for 10 000 windows");
        let expected: Vec<_> = (1..=10_000).map(|end| end.min(3600)).collect();
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_day_that_cumulates_by_the_minute_takes_few_merges_per_window() {
        let window = AlignedWindow::cumulating(1440, 1, 0).unwrap();
        let (most, all, counts) = one_row_per_slice(window, 3000);
        assert!(most <= 36, "{most} merges for one window");
        assert!(all <= 9 * 3000, "{all} merges for 3000 windows");
        let expected: Vec<_> = (0..3000).map(|slice| slice % 1440 + 1).collect();
        assert_eq!(counts, expected);
    }

    #[test]
    fn windows_of_the_same_slices_are_put_together_once_until_a_late_row_comes() {
        let window = AlignedWindow::hopping(3600, 1, 0).unwrap();
        let mut windows = Windows::new(count_per(window), window, false);
        let mut out = Collected::default();
        for end in 1..=10 {
            put(&mut windows, end);
        }
        while windows.fire(1000, &mut out).unwrap() == Progress::More {}
        let before = windows.merges();
        while windows.fire(2000, &mut out).unwrap() == Progress::More {}
        assert_eq!(windows.merges(), before);
        assert_eq!(put(&mut windows, 5).first_window_end, 2001);
        while windows.fire(3600 + 10, &mut out).unwrap() == Progress::More {}
        let expected = |end: i64| {
            let late = i64::from((2001..3605).contains(&end));
            (end, end.min(10) - (end - 3600).max(0) + late)
        };
        assert_eq!(counts(&out), (1..3610).map(expected).collect::<Vec<_>>());
        assert_eq!(windows.bytes(), 0);
    }

    #[test]
    fn windows_that_are_due_together_fire_together_but_others_have_their_turn() {
        let window = AlignedWindow::hopping(200, 1, 0).unwrap();
        let mut windows = Windows::new(count_per(window), window, false);
        put(&mut windows, 1);
        for (until, progress) in
            [(64, Progress::More), (128, Progress::More), (150, Progress::Done)]
        {
            let mut out = Collected::default();
            assert_eq!(windows.fire(150, &mut out).unwrap(), progress);
            assert_eq!(out.batches.len(), 1);
            let first = (until - 1) / 64 * 64 + 1;
            assert_eq!(counts(&out), (first..=until).map(|end| (end, 1)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn results_of_windows_leave_in_batches_that_are_not_too_large() {
        let plan = count_per(AlignedWindow::tumbling(10, 0).unwrap());
        let mut out = Collected::default();
        let mut fired = Fired::new(&plan);
        let mut number = 0;
        let mut expected = Vec::new();
        for (window, rows) in [3000, 5000, 192, 1, 20_000, 7].into_iter().enumerate() {
            let end = 10 * (window as i64 + 1);
            let numbers: Vec<i64> = (number..number + rows as i64).collect();
            number += rows as i64;
            expected.extend(numbers.iter().map(|number| (end, *number)));
            let results =
                Results { keys: vec![], values: vec![Arc::new(Int64Array::from(numbers))], rows };
            fired.add(&plan, [end - 10, end], results, &mut out).unwrap();
            assert_eq!(fired.end_window(), window >= 2);
        }
        fired.emit(&plan, &mut out).unwrap();
        let sizes: Vec<_> = out.batches.iter().map(Batch::len).collect();
        assert_eq!(sizes, [8192, 1, 8192, 8192, 3616, 7]);
        assert_eq!(counts(&out), expected);
    }

    #[test]
    fn large_results_do_not_wait_for_each_other() {
        let plan = count_per(AlignedWindow::tumbling(10, 0).unwrap());
        let (mut out, mut fired) = (Collected::default(), Fired::new(&plan));
        for end in [10, 20, 30] {
            let mut numbers = Vec::with_capacity(100_000);
            numbers.push(end);
            let values = vec![Arc::new(Int64Array::from(numbers)) as _];
            let results = Results { keys: vec![], values, rows: 1 };
            fired.add(&plan, [end - 10, end], results, &mut out).unwrap();
        }
        fired.emit(&plan, &mut out).unwrap();
        assert_eq!(out.batches.iter().map(Batch::len).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn slices_of_one_file_weigh_what_they_did_before_they_were_put_there() {
        let window = AlignedWindow::hopping(3600, 1, 0).unwrap();
        let mut windows = Windows::new(count_per(window), window, true);
        for end in 1..=1000 {
            put(&mut windows, end);
        }
        let fragments = windows.snapshot().unwrap();
        assert_eq!(fragments.len(), 1000);
        let schema = fragments[0].rows.schema();
        let rows = concat_batches(&schema, fragments.iter().map(|f| &f.rows)).unwrap();
        let fragment = StateFragment { rows, ..fragments[0].clone() };
        let mut restored = Windows::new(count_per(window), window, true);
        restored.restore(&fragment, &context(0, 1)).unwrap();
        let (before, after) = (windows.bytes(), restored.bytes());
        assert!(after < 2 * before, "{after} bytes, where it was {before}");
        let mut out = Collected::default();
        while restored.fire(1000, &mut out).unwrap() == Progress::More {}
        assert_eq!(counts(&out), (1..=1000).map(|end| (end, end)).collect::<Vec<_>>());
    }

    /// Long windows over random slices, between which there may be gaps, and of which some come late.
    #[test]
    fn long_windows_count_the_rows_of_their_slices() {
        for seed in 0..12 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (slices, step) = (rng.random_range(2..2000), rng.random_range(1..5));
            let offset = rng.random_range(-50..50);
            let of = [AlignedWindow::hopping, AlignedWindow::cumulating][rng.random_range(0..2)];
            let window = of(slices * step, step, offset).unwrap();
            let mut windows = Windows::new(count_per(window), window, false);
            let (mut out, mut rows, mut now) = (Collected::default(), Vec::new(), -3000);
            for _ in 0..rng.random_range(1..1500) {
                now += match rng.random_range(0..400) {
                    0 => rng.random_range(0..2 * slices * step),
                    _ => rng.random_range(0..2 * step),
                };
                let back = if rng.random_bool(0.05) { slices * step } else { 2 * step };
                let end = window.slice_end(now - rng.random_range(0..back)).unwrap();
                if window.last_window_end(end) > windows.done {
                    rows.push(put(&mut windows, end));
                }
                if rng.random_bool(0.5) {
                    while windows.fire(now - step, &mut out).unwrap() == Progress::More {}
                }
            }
            while windows.fire(now + 2 * slices * step, &mut out).unwrap() == Progress::More {}
            let count = |end: i64| rows.iter().filter(|row| window.holds(end, **row)).count();
            let last = window.slice_end(now + slices * step).unwrap();
            let ends = (window.slice_end(-20_000).unwrap()..=last).step_by(step as usize);
            let expected = ends.map(|end| (end, count(end) as i64)).filter(|(_, n)| *n > 0);
            assert!(counts(&out).into_iter().eq(expected), "seed {seed}, {window:?}");
            assert_eq!(windows.bytes(), 0, "seed {seed}, {window:?}");
        }
    }
}
