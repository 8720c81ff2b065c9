//! Yardstick: aggregation in windows as one writes it by hand over the same Arrow arrays.
//!
//! ```text
//! rows     row by row: slice, look up, add            one struct a group
//! batches  a batch at a time: look up all, then       one array an aggregate, or the group table
//!          count all, add all, …                      and the accumulators of DataFusion
//! pass     nothing but reads all values               what memory allows
//! ```
//!
//! All keep one table per slice of time, as long as the step from window to window. When the
//! watermark passes a window's end, the tables of its slices make its results: the one there is,
//! or, where windows overlap, all of them merged; then they let go of slices that no later window
//! needs. With several splits each has a thread with tables of its own, and whoever closes a
//! window last has the others' merged into it.
//!
//! Invariant: a result is handed over once, when all splits have closed its window.

use std::collections::HashMap;
use std::hint::black_box;
use std::thread;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use parking_lot::Mutex;
use tidemill_core::{Error, Result};

use super::checksum::Checksum;
use super::scan::Scan;
use super::table::{BatchTable, Group, GroupKey, RowTable, SliceTable};

/// Windows that follow one another at a fixed step, and when they close.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Length of a window, in microseconds.
    pub size: i64,
    /// From the start of one to that of the next.
    pub slide: i64,
    /// How far watermarks are behind the newest row.
    pub disorder: i64,
}

impl Windows {
    /// End of the slice that `time` lies in.
    #[inline]
    fn slice_end(&self, time: i64) -> i64 {
        (time.div_euclid(self.slide) + 1) * self.slide
    }
}

/// Row by row, one thread for each split.
pub(super) fn rows<K: GroupKey, G: Group>(scans: &[Scan], windows: Windows) -> Result<Checksum> {
    run(scans, windows, &(), |scan, slices: &mut Slices<'_, RowTable<K, G>>| {
        for batch in scan.batches()? {
            let batch = batch?;
            let keys = K::column(batch.column(0));
            let (times, values) = times_and_values(&batch);
            for (row, (time, value)) in times.iter().zip(values).enumerate() {
                slices.add(K::at(keys, row), *time, *value)?;
            }
        }
        Ok(())
    })
}

/// A batch at a time, one thread for each split.
pub(super) fn batches<T: BatchTable>(
    scans: &[Scan],
    windows: Windows,
    shared: &T::Shared,
) -> Result<Checksum> {
    run(scans, windows, shared, |scan, slices: &mut Slices<'_, T>| {
        scan.batches()?.try_for_each(|batch| slices.update(&batch?))
    })
}

/// Every value is read and nothing is done with it, which is as fast as memory is; one thread for each split. Returns how
/// many rows that were.
pub(super) fn pass(scans: &[Scan]) -> Result<u64> {
    let read = on_threads(scans, |scan| {
        let mut read = Checksum::default();
        for batch in scan.batches()? {
            let batch = batch?;
            let keys = batch.column(0).as_primitive::<Int64Type>().values();
            let (times, values) = times_and_values(&batch);
            let integers = keys.iter().chain(times).fold(0, |sum: i64, x| sum.wrapping_add(*x));
            let bits = values.iter().fold(0, |sum: u64, x| sum.wrapping_add(x.to_bits()));
            black_box((integers, bits));
            read.results += batch.num_rows() as u64;
        }
        Ok(read)
    })?;
    Ok(read.results)
}

/// The times in microseconds and the values of a batch of the benchmark's rows.
pub(super) fn times_and_values(batch: &RecordBatch) -> (&[i64], &[f64]) {
    (
        batch.column(1).as_primitive::<TimestampMicrosecondType>().values(),
        batch.column(2).as_primitive::<Float64Type>().values(),
    )
}

/// Feeds each split to slices of its own, on a thread of its own where there are several, and
/// merges the windows.
pub(super) fn run<S, T, F>(
    splits: &[S],
    windows: Windows,
    shared: &T::Shared,
    feed: F,
) -> Result<Checksum>
where
    S: Sync,
    T: SliceTable,
    F: Fn(&S, &mut Slices<'_, T>) -> Result<()> + Sync,
{
    let meeting = Meeting { splits: splits.len(), waiting: Mutex::default() };
    let mut total = on_threads(splits, |split| {
        let mut slices = Slices::new(windows, &meeting, shared);
        feed(split, &mut slices)?;
        slices.finish()
    })?;
    // Windows in which some split has no rows.
    for (end, (table, _)) in meeting.waiting.into_inner() {
        table.results(end - windows.size, end, &mut total)?;
    }
    Ok(total)
}

/// The sum of what each split comes to; with several, each has a thread.
pub(super) fn on_threads<S: Sync>(
    splits: &[S],
    one: impl Fn(&S) -> Result<Checksum> + Sync,
) -> Result<Checksum> {
    if let [split] = splits {
        return one(split);
    }
    let one = &one;
    thread::scope(|scope| {
        let threads: Vec<_> = splits.iter().map(|split| scope.spawn(move || one(split))).collect();
        let mut total = Checksum::default();
        for thread in threads {
            let part = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            total.merge(&part?);
        }
        Ok(total)
    })
}

/// Where the splits' tables of one window come together.
struct Meeting<T> {
    splits: usize,
    /// By the window's end: what has been merged so far, and of how many splits.
    waiting: Mutex<HashMap<i64, (T, usize)>>,
}

impl<T: SliceTable> Meeting<T> {
    /// A split has closed a window: the table of all of them, if it is the last to do so.
    fn close(&self, end: i64, table: T) -> Result<Option<T>> {
        let (mut table, mut merged) = (table, 1);
        while merged < self.splits {
            let mut waiting = self.waiting.lock();
            let Some((mut other, others)) = waiting.remove(&end) else {
                waiting.insert(end, (table, merged));
                return Ok(None);
            };
            drop(waiting);
            table.absorb(&mut other)?;
            merged += others;
        }
        Ok(Some(table))
    }
}

/// One split's open slices.
pub(super) struct Slices<'a, T: SliceTable> {
    windows: Windows,
    meeting: &'a Meeting<T>,
    shared: &'a T::Shared,
    /// By the slice's end, in no order; where windows do not overlap, seldom more than two.
    open: Vec<(i64, T)>,
    /// Where in `open` the slice of the row before is.
    current: usize,
    newest: i64,
    /// The time of a row that lets the next window close.
    closes_at: i64,
    /// The end of the window that was closed last.
    closed: i64,
    /// Groups in the slice that was dropped last: as many are expected in the next.
    groups: usize,
    results: Checksum,
}

impl<'a, T: SliceTable> Slices<'a, T> {
    fn new(windows: Windows, meeting: &'a Meeting<T>, shared: &'a T::Shared) -> Self {
        Self {
            windows,
            meeting,
            shared,
            open: Vec::new(),
            current: 0,
            newest: i64::MIN,
            closes_at: i64::MIN,
            closed: i64::MIN,
            groups: 0,
            results: Checksum::default(),
        }
    }

    /// The table of the slice that ends at `end`; `None` for rows that are late.
    fn table(&mut self, end: i64) -> Option<&mut T> {
        if end + self.windows.size - self.windows.slide <= self.closed {
            return None;
        }
        if self.open.get(self.current).is_none_or(|slice| slice.0 != end) {
            self.current = match self.open.iter().position(|slice| slice.0 == end) {
                Some(position) => position,
                None => {
                    self.open.push((end, T::with_capacity(self.groups, self.shared)));
                    self.open.len() - 1
                }
            };
        }
        Some(&mut self.open[self.current].1)
    }

    /// The newest row is of this time: closes what the watermark passes.
    #[inline]
    fn advance(&mut self, time: i64) -> Result<()> {
        if time <= self.newest {
            return Ok(());
        }
        self.newest = time;
        if time < self.closes_at {
            return Ok(());
        }
        let watermark = time - self.windows.disorder;
        self.closes_at = self.windows.slice_end(watermark) + self.windows.disorder;
        self.close_until(watermark)
    }

    fn close_until(&mut self, watermark: i64) -> Result<()> {
        let Windows { size, slide, .. } = self.windows;
        while let Some(oldest) = self.open.iter().map(|slice| slice.0).min() {
            let end = oldest.max(self.closed.saturating_add(slide));
            if end > watermark {
                break;
            }
            let table = self.window(end)?;
            self.closed = end;
            if let Some(table) = self.meeting.close(end, table)? {
                table.results(end - size, end, &mut self.results)?;
            }
        }
        Ok(())
    }

    /// The groups of the window that ends at `end`; slices of which it is the last are dropped.
    fn window(&mut self, end: i64) -> Result<T> {
        let Windows { size, slide, .. } = self.windows;
        let of_window = |slice: i64| slice > end - size && slice <= end;
        let mut window = None;
        if size != slide {
            let mut merged = T::with_capacity(self.groups, self.shared);
            let slices = self.open.iter_mut().filter(|slice| of_window(slice.0));
            slices.map(|slice| &mut slice.1).try_for_each(|slice| merged.absorb(slice))?;
            window = Some(merged);
        }
        while let Some(last) = self.open.iter().position(|slice| slice.0 <= end - size + slide) {
            let (_, table) = self.open.swap_remove(last);
            self.groups = table.len();
            window.get_or_insert(table);
        }
        window.ok_or_else(|| Error::internal("a window closed without a slice"))
    }

    fn finish(mut self) -> Result<Checksum> {
        self.close_until(i64::MAX)?;
        Ok(self.results)
    }
}

impl<K: GroupKey, G: Group> Slices<'_, RowTable<K, G>> {
    /// Adds one row.
    #[inline]
    pub(super) fn add(&mut self, key: K::Ref<'_>, time: i64, value: f64) -> Result<()> {
        let slide = self.windows.slide;
        let current = self.open.get_mut(self.current);
        match current.filter(|slice| time < slice.0 && time >= slice.0 - slide) {
            Some((_, table)) => table.add(key, value),
            None => {
                if let Some(table) = self.table(self.windows.slice_end(time)) {
                    table.add(key, value);
                }
            }
        }
        self.advance(time)
    }
}

impl<T: BatchTable> Slices<'_, T> {
    /// Adds a batch.
    fn update(&mut self, batch: &RecordBatch) -> Result<()> {
        let (times, _) = times_and_values(batch);
        let (oldest, newest) = times
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), time| (low.min(*time), high.max(*time)));
        if oldest > newest {
            return Ok(());
        }
        let (mut end, last) = (self.windows.slice_end(oldest), self.windows.slice_end(newest));
        if end == last {
            if let Some(table) = self.table(end) {
                table.update(batch)?;
            }
            return self.advance(newest);
        }
        // Across the border of slices: each takes its rows out of the batch.
        while end <= last {
            let slice = end - self.windows.slide..end;
            let rows: BooleanArray = times.iter().map(|time| Some(slice.contains(time))).collect();
            if rows.true_count() > 0
                && let Some(table) = self.table(end)
            {
                table.update(&filter_record_batch(batch, &rows)?)?;
            }
            end += self.windows.slide;
        }
        self.advance(newest)
    }
}
