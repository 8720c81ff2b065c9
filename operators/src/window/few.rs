//! Rows that lie in a few slices, and which rows lie in which. Between the look at a batch's times and the tables of its
//! slices. Invariant: each row lies in one slice, which is the first that ends behind it.

use arrow::array::BooleanArray;
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use multiversion::multiversion;
use tidemill_core::EventTime;
use tidemill_core::window::Slice;

/// So many slices are few.
pub(super) const FEW: usize = 8;

/// Rows that a word of a mask is about.
const WORD: usize = u64::BITS as usize;

/// A few slices, two or more and [`FEW`] at most, with the times of rows that lie in them.
pub(super) struct Few {
    /// In the order of their ends.
    slices: Vec<Slice>,
    times: ScalarBuffer<EventTime>,
}

impl Few {
    /// Slices in the order of their ends, and times that lie in them.
    pub fn new(slices: Vec<Slice>, times: ScalarBuffer<EventTime>) -> Self {
        Self { slices, times }
    }

    /// Without the slices that have no rows, where the first and the last of them have some.
    #[must_use]
    pub fn with_rows(mut self) -> Self {
        if self.slices.len() == 2 {
            return self;
        }
        let bounds = self.bounds();
        let until = bounds.into_iter().map(|bound| count_before(&self.times, bound));
        let mut until = until.chain([self.times.len()]);
        let mut before = 0;
        self.slices.retain(|_| {
            let until = until.next().unwrap_or(before);
            std::mem::replace(&mut before, until) < until
        });
        self
    }

    /// The slices, in the order of their ends.
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// The time of each row.
    pub fn times(&self) -> &[EventTime] {
        &self.times
    }

    /// Ends of all slices but the last: how many of them a row's time has reached is the number of its slice.
    pub fn bounds(&self) -> Vec<EventTime> {
        let (_, all_but_last) = self.slices.split_last().expect("there are two or more");
        all_but_last.iter().map(|slice| slice.end).collect()
    }

    /// The times of the slice with this number: from where on, and before what.
    fn range(&self, number: usize) -> [Option<EventTime>; 2] {
        let end = |number: usize| self.slices[number].end;
        let is_last = number + 1 == self.slices.len();
        [number.checked_sub(1).map(end), (!is_last).then(|| end(number))]
    }

    /// The rows of the slice with this number.
    pub fn rows_of(&self, number: usize) -> impl Iterator<Item = usize> {
        let [start, end] = self.range(number);
        let holds = move |time: EventTime| {
            start.is_none_or(|start| time >= start) && end.is_none_or(|end| time < end)
        };
        self.times.iter().enumerate().filter(move |(_, time)| holds(**time)).map(|(row, _)| row)
    }

    /// How many rows lie in the slice with this number.
    pub fn count(&self, number: usize) -> usize {
        let [start, end] = self.range(number);
        let before = |end: EventTime| count_before(&self.times, end);
        end.map_or(self.times.len(), before) - start.map_or(0, before)
    }

    /// Which rows lie in each slice.
    pub fn masks(&self) -> Vec<BooleanArray> {
        let bounds = self.bounds().into_iter().map(Some).chain([None]);
        let mut earlier: Option<BooleanBuffer> = None;
        let rows = |end: Option<EventTime>| {
            let until = end.map(|end| before(&self.times, end));
            let rows = match (&earlier, &until) {
                (None, None) => BooleanBuffer::new_set(self.times.len()),
                (None, Some(until)) => until.clone(),
                (Some(earlier), None) => !earlier,
                (Some(earlier), Some(until)) => until & &!earlier,
            };
            earlier = until;
            BooleanArray::new(rows, None)
        };
        bounds.map(rows).collect()
    }

    /// The rows behind the first so many, with all slices, of which some may have no rows then.
    #[must_use]
    pub fn behind(self, rows: usize) -> Self {
        let times = self.times.slice(rows, self.times.len() - rows);
        Self { times, ..self }
    }
}

/// How many times lie before an end.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2",
    "aarch64+neon"
))]
fn count_before(times: &[EventTime], end: EventTime) -> usize {
    times.iter().map(|time| usize::from(*time < end)).sum()
}

/// Which times lie before an end.
fn before(times: &[EventTime], end: EventTime) -> BooleanBuffer {
    BooleanBuffer::new(Buffer::from_vec(words_before(times, end)), 0, times.len())
}

/// The same as words, from the least bit on; with the widest vectors that the processor has.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2",
    "aarch64+neon"
))]
fn words_before(times: &[EventTime], end: EventTime) -> Vec<u64> {
    let word = |times: &[EventTime]| {
        let bits = times.iter().enumerate().map(|(bit, time)| u64::from(*time < end) << bit);
        bits.fold(0, |word, bit| word | bit)
    };
    times.chunks(WORD).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices of ten, from -20 on.
    fn few(slices: i64, times: Vec<EventTime>) -> Few {
        let slice = |n: i64| Slice { end: 10 * n - 20, first_window_end: 10 * n - 20 };
        Few::new((1..=slices).map(slice).collect(), times.into()).with_rows()
    }

    #[test]
    fn rows_lie_in_the_first_slice_that_ends_behind_them() {
        for len in [1, 63, 64, 65, 1000] {
            for slices in 2..=FEW as i64 {
                let time = |row: i64| -20 + row * 7919 % (10 * slices);
                let times = [-20, 10 * slices - 21].into_iter().chain((0..len).map(time));
                let few = few(slices, times.collect());
                let masks = few.masks();
                let [mut seen, mut rows] = [0; 2];
                for (number, slice) in few.slices().iter().enumerate() {
                    let expected: Vec<_> = few
                        .times()
                        .iter()
                        .map(|time| (slice.end - 10..slice.end).contains(time))
                        .collect();
                    assert_eq!(masks[number], expected.clone().into());
                    let of: Vec<_> = (0..expected.len()).filter(|row| expected[*row]).collect();
                    assert!(few.rows_of(number).eq(of.iter().copied()));
                    assert_eq!(few.count(number), of.len());
                    assert!(!of.is_empty(), "slice {number} of {slices} is one without rows");
                    (seen, rows) = (seen + 1, rows + of.len());
                }
                assert_eq!(rows, few.times().len());
                assert!(seen >= 2);
            }
        }
    }

    #[test]
    fn slices_without_rows_are_none_of_them() {
        let of = few(6, vec![-20, -15, 1, 39, 2, 3]);
        let ends: Vec<_> = of.slices().iter().map(|slice| slice.end).collect();
        assert_eq!(ends, [-10, 10, 40]);
        assert_eq!(of.bounds(), [-10, 10]);
        let behind = of.behind(3);
        assert_eq!(behind.times(), [39, 2, 3]);
        assert_eq!(behind.masks()[2], vec![true, false, false].into());
        assert_eq!((behind.count(0), behind.rows_of(0).next()), (0, None));
    }

    #[test]
    fn times_before_an_end_are_those_below_it() {
        for len in [0, 1, 63, 64, 65, 200] {
            let times: Vec<EventTime> = (0..len).map(|n| n * 37 % 71 - 20).collect();
            for end in [EventTime::MIN, -20, 0, 13, EventTime::MAX] {
                let expected: BooleanBuffer = times.iter().map(|time| *time < end).collect();
                assert_eq!(before(&times, end), expected, "{len} times, end {end}");
                assert_eq!(count_before(&times, end), expected.count_set_bits());
            }
        }
    }
}
