//! Yardstick: the aggregation as one writes it by hand over the same Arrow arrays.
//!
//! ```text
//! rows     row by row: slice, look up, add            one struct a group
//! columns  a batch at a time: look up all, then       one array an aggregate
//!          count all, add all, …
//! ```
//!
//! Both keep one table per slice of time and let go of it when the watermark has passed its end.
//! With several splits each has a thread with tables of its own, and whoever closes a slice last
//! has the others' merged into it.
//!
//! Invariant: a result is handed over once, when all splits have closed its slice.

use std::collections::HashMap;
use std::thread;

use arrow::array::RecordBatch;
use parking_lot::Mutex;

use super::checksum::Checksum;
use super::input::{Split, columns};
use super::table::{ColumnTable, RowTable, SliceTable};
use super::{DISORDER, WINDOW};

/// Row by row, one thread for each split.
pub fn rows(splits: &[Split]) -> Checksum {
    run(splits, |split: &Split, slices: &mut Slices<'_, RowTable>| {
        for batch in split {
            let (keys, times, values) = columns(batch);
            for ((key, time), value) in keys.iter().zip(times).zip(values) {
                slices.add(*key, *time, *value);
            }
        }
    })
}

/// Column by column, one thread for each split.
pub fn columnar(splits: &[Split]) -> Checksum {
    run(splits, |split: &Split, slices: &mut Slices<'_, ColumnTable>| {
        split.iter().for_each(|batch| slices.update(batch));
    })
}

/// Feeds each split to slices of its own, on a thread of its own where there are several, and
/// merges the slices.
pub(super) fn run<S, T, F>(splits: &[S], feed: F) -> Checksum
where
    S: Sync,
    T: SliceTable,
    F: Fn(&S, &mut Slices<'_, T>) + Sync,
{
    let meeting = Meeting { splits: splits.len(), waiting: Mutex::default() };
    let one = |split: &S| {
        let mut slices = Slices::new(&meeting);
        feed(split, &mut slices);
        slices.finish()
    };
    let mut total = Checksum::default();
    match splits {
        [split] => total = one(split),
        splits => thread::scope(|scope| {
            let threads: Vec<_> = splits.iter().map(|split| scope.spawn(|| one(split))).collect();
            for thread in threads {
                let checksum =
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                total.merge(&checksum);
            }
        }),
    }
    // Slices in which some split has no rows.
    for (end, (table, _)) in meeting.waiting.into_inner() {
        table.results(end, &mut total);
    }
    total
}

/// Where the splits' tables of one slice come together.
struct Meeting<T> {
    splits: usize,
    /// By the slice's end: what has been merged so far, and of how many splits.
    waiting: Mutex<HashMap<i64, (T, usize)>>,
}

impl<T: SliceTable> Meeting<T> {
    /// A split has closed a slice: the table of all of them, if it is the last to do so.
    fn close(&self, end: i64, table: T) -> Option<T> {
        let (mut table, mut merged) = (table, 1);
        while merged < self.splits {
            let mut waiting = self.waiting.lock();
            let Some((other, others)) = waiting.remove(&end) else {
                waiting.insert(end, (table, merged));
                return None;
            };
            drop(waiting);
            table.absorb(&other);
            merged += others;
        }
        Some(table)
    }
}

/// One split's open slices.
pub(super) struct Slices<'a, T> {
    meeting: &'a Meeting<T>,
    /// By the slice's end; seldom more than two.
    open: Vec<(i64, T)>,
    /// Where in `open` the slice of the row before is.
    current: usize,
    newest: i64,
    /// No slice ending by this is open any more.
    watermark: i64,
    /// Groups in the slice that was closed last: as many are expected in the next.
    groups: usize,
    results: Checksum,
}

impl<'a, T: SliceTable> Slices<'a, T> {
    fn new(meeting: &'a Meeting<T>) -> Self {
        Self {
            meeting,
            open: Vec::new(),
            current: 0,
            newest: i64::MIN,
            watermark: i64::MIN,
            groups: 0,
            results: Checksum::default(),
        }
    }

    /// The table of the slice that ends at `end`; `None` for rows that are late.
    fn table(&mut self, end: i64) -> Option<&mut T> {
        if end <= self.watermark {
            return None;
        }
        if self.open.get(self.current).is_none_or(|slice| slice.0 != end) {
            self.current = match self.open.iter().position(|slice| slice.0 == end) {
                Some(position) => position,
                None => {
                    self.open.push((end, T::with_capacity(self.groups)));
                    self.open.len() - 1
                }
            };
        }
        Some(&mut self.open[self.current].1)
    }

    /// The newest row is of this time: closes what the watermark passes.
    #[inline]
    fn advance(&mut self, time: i64) {
        if time <= self.newest {
            return;
        }
        self.newest = time;
        if slice_end(time - DISORDER) - WINDOW > self.watermark {
            self.watermark = slice_end(time - DISORDER) - WINDOW;
            self.close_until(self.watermark);
        }
    }

    fn close_until(&mut self, watermark: i64) {
        while let Some(position) = self.open.iter().position(|slice| slice.0 <= watermark) {
            let (end, table) = self.open.swap_remove(position);
            self.groups = table.len();
            if let Some(table) = self.meeting.close(end, table) {
                table.results(end, &mut self.results);
            }
        }
    }

    fn finish(mut self) -> Checksum {
        self.close_until(i64::MAX);
        self.results
    }
}

impl Slices<'_, RowTable> {
    /// Adds one row.
    #[inline]
    pub(super) fn add(&mut self, key: i64, time: i64, value: f64) {
        let current = self.open.get_mut(self.current);
        match current.filter(|slice| time < slice.0 && time >= slice.0 - WINDOW) {
            Some((_, table)) => table.add(key, value),
            None => {
                if let Some(table) = self.table(slice_end(time)) {
                    table.add(key, value);
                }
            }
        }
        self.advance(time);
    }
}

impl Slices<'_, ColumnTable> {
    /// Adds a batch.
    fn update(&mut self, batch: &RecordBatch) {
        let (keys, times, values) = columns(batch);
        let (oldest, newest) = times
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), time| (low.min(*time), high.max(*time)));
        if oldest > newest {
            return;
        }
        if slice_end(oldest) == slice_end(newest) {
            if let Some(table) = self.table(slice_end(oldest)) {
                table.update(keys, values);
            }
        } else {
            self.update_by_slice(keys, times, values);
        }
        self.advance(newest);
    }

    /// A batch that lies across the border of slices: its rows are sorted into them first.
    fn update_by_slice(&mut self, keys: &[i64], times: &[i64], values: &[f64]) {
        let mut parts: Vec<(i64, Vec<i64>, Vec<f64>)> = Vec::new();
        for ((key, time), value) in keys.iter().zip(times).zip(values) {
            let end = slice_end(*time);
            let part = match parts.iter().position(|part| part.0 == end) {
                Some(position) => position,
                None => {
                    parts.push((end, Vec::new(), Vec::new()));
                    parts.len() - 1
                }
            };
            parts[part].1.push(*key);
            parts[part].2.push(*value);
        }
        for (end, keys, values) in parts {
            if let Some(table) = self.table(end) {
                table.update(&keys, &values);
            }
        }
    }
}

/// End of the slice that `time` lies in.
#[inline]
fn slice_end(time: i64) -> i64 {
    (time.div_euclid(WINDOW) + 1) * WINDOW
}
