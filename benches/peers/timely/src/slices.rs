//! The tables that a timely worker keeps: one hash map for each open slice, as in the row-by-row loop of
//! `tidemill bench`. Windows that overlap share slices, which are merged when a window closes.
//!
//! Invariant: a result is added once, when its window is closed; a slice is there until the last window with it is.

use ahash::AHashMap;

use crate::checksum::Checksum;
use crate::group::Group;

/// Windows of equal length, in microseconds, that begin at multiples of the slide.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Length of a slice, and from the start of one window to the next.
    pub slide: i64,
    /// Slices in a window.
    pub slices: i64,
}

impl Windows {
    /// The number of the slice that a time lies in.
    pub fn slice_of(&self, time: i64) -> i64 {
        time.div_euclid(self.slide)
    }
}

type Table<G> = AHashMap<i64, G>;

/// The open slices of the keys of one worker.
pub struct Slices<G> {
    windows: Windows,
    /// By the slice's number; seldom more than those of a window and one.
    open: Vec<(i64, Table<G>)>,
    /// Where in `open` the slice of the row before is.
    current: usize,
    /// The last slice of the window that was closed last.
    closed: i64,
    /// Groups in the slice that was dropped last: as many are expected in the next.
    groups: usize,
    results: Checksum,
}

impl<G: Group> Slices<G> {
    /// Of these windows; no row yet.
    pub fn new(windows: Windows) -> Self {
        let (open, results) = (Vec::new(), Checksum::default());
        Self { windows, open, current: 0, closed: i64::MIN, groups: 0, results }
    }

    /// Adds one row.
    pub fn add(&mut self, key: i64, time: i64, value: G::Value) {
        let slide = self.windows.slide;
        let in_current = |slice: &&mut (i64, _)| {
            let start = slice.0 * slide;
            time >= start && time < start + slide
        };
        let table = match self.open.get_mut(self.current).filter(in_current) {
            Some((_, table)) => table,
            None => {
                self.current = self.position(self.windows.slice_of(time));
                &mut self.open[self.current].1
            }
        };
        table.entry(key).or_default().add(value);
    }

    /// Where in `open` a slice is, which is opened if need be.
    fn position(&mut self, slice: i64) -> usize {
        let known = self.open.iter().position(|open| open.0 == slice);
        known.unwrap_or_else(|| {
            self.open.push((slice, Table::with_capacity(self.groups)));
            self.open.len() - 1
        })
    }

    /// Adds up the results of all windows whose last slice is below this one.
    pub fn close_below(&mut self, slice: i64) {
        while let Some(oldest) = self.open.iter().map(|open| open.0).min() {
            let last = oldest.max(self.closed.saturating_add(1));
            if last >= slice {
                break;
            }
            self.close(last);
            self.closed = last;
        }
    }

    /// Adds up the results of the window with this last slice; its first slice then is gone.
    fn close(&mut self, last: i64) {
        let first = last - self.windows.slices + 1;
        let mut window = None;
        if first < last {
            let mut merged = Table::<G>::with_capacity(self.groups);
            for (_, table) in self.open.iter().filter(|open| (first..=last).contains(&open.0)) {
                table.iter().for_each(|(key, group)| merged.entry(*key).or_default().merge(group));
            }
            window = Some(merged);
        }
        if let Some(position) = self.open.iter().position(|open| open.0 == first) {
            let (_, table) = self.open.swap_remove(position);
            self.groups = table.len();
            window.get_or_insert(table);
        }
        let end = (last + 1) * self.windows.slide;
        for (key, group) in window.iter().flatten() {
            self.results.add(end, *key, &group.aggregates());
        }
    }

    /// The results so far.
    pub fn results(&self) -> Checksum {
        self.results
    }
}
