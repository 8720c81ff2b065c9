//! The tables that a timely worker keeps: one hash map for each open window, as in the row-by-row loop of
//! `tidemill bench`.
//!
//! Invariant: a result is added once, when its window is closed.

use ahash::AHashMap;

use crate::WINDOW;
use crate::checksum::{Checksum, Group};

/// The open windows of the keys of one worker.
#[derive(Default)]
pub struct Slices {
    /// By the window's number; seldom more than two.
    open: Vec<(i64, AHashMap<i64, Group>)>,
    /// Where in `open` the window of the row before is.
    current: usize,
    /// Groups in the window that was closed last: as many are expected in the next.
    groups: usize,
    results: Checksum,
}

/// The number of the window that a time lies in.
pub fn window_of(time: i64) -> i64 {
    time.div_euclid(WINDOW)
}

impl Slices {
    /// Adds one row.
    pub fn add(&mut self, key: i64, time: i64, value: f64) {
        let in_current = |slice: &&mut (i64, _)| {
            let start = slice.0 * WINDOW;
            time >= start && time < start + WINDOW
        };
        let table = match self.open.get_mut(self.current).filter(in_current) {
            Some((_, table)) => table,
            None => {
                self.current = self.position(window_of(time));
                &mut self.open[self.current].1
            }
        };
        let group = table.entry(key).or_insert(Group {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        });
        group.count += 1;
        group.sum += value;
        group.min = group.min.min(value);
        group.max = group.max.max(value);
    }

    /// Where in `open` a window is, which is opened if need be.
    fn position(&mut self, window: i64) -> usize {
        let known = self.open.iter().position(|slice| slice.0 == window);
        known.unwrap_or_else(|| {
            self.open.push((window, AHashMap::with_capacity(self.groups)));
            self.open.len() - 1
        })
    }

    /// Adds up the results of all windows below this one, which then are gone.
    pub fn close_below(&mut self, window: i64) {
        while let Some(position) = self.open.iter().position(|slice| slice.0 < window) {
            let (window, table) = self.open.swap_remove(position);
            self.groups = table.len();
            for (key, group) in &table {
                self.results.add((window + 1) * WINDOW, *key, group);
            }
        }
    }

    /// The results so far.
    pub fn results(&self) -> Checksum {
        self.results
    }
}
