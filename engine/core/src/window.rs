//! Windows, slices and their arithmetic.
//!
//! A window is half-open, `[start, end)`, aligned by flooring, so that times before 1970 work. A
//! **slice** is the non-overlapping piece of time that overlapping windows share: a row is put
//! into one slice, whatever the number of windows over it, and a window is the merge of its slices.
//!
//! ```text
//! HOP(size 3, slide 1)            CUMULATE(size 3, step 1)
//! slices   |a|b|c|d|              slices   |a|b|c|d|
//! windows  [a b c)                windows  [a)
//!            [b c d)                       [a b)
//!              [c d …)                     [a b c)
//!                                                [d)
//! ```
//!
//! All arithmetic is checked: a row too close to the ends of time belongs to no slice (`None`) and
//! becomes a dead letter.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::time::EventTime;

/// Most windows that one row may belong to; more is refused when the job is planned.
pub const WINDOWS_PER_ROW_MAX: i64 = 100_000;

/// A window over event time whose bounds depend on time alone. Lengths are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AlignedWindow {
    kind: AlignedKind,
    size: i64,
    step: i64,
    offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum AlignedKind {
    Tumbling,
    Hopping,
    Cumulating,
}

/// How rows are grouped by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowSpec {
    /// Tumbling, hopping or cumulating.
    Aligned(AlignedWindow),
    /// Per key: rows whose event times are at most `gap` microseconds apart.
    Session {
        /// The gap, in microseconds.
        gap: i64,
    },
}

/// The piece of a stream that one table of partial aggregates covers: rows with
/// `start <= event time < end` that count in windows ending at `first_window_end` and later.
///
/// `first_window_end` is `end` rounded up to a window end, except for rows that came after their
/// split's watermark had passed the first of their windows: they have a slice of their own, with a
/// later `first_window_end`, so that they never enter a window in which they are late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice {
    /// Exclusive end.
    pub end: EventTime,
    /// End of the first window that counts these rows.
    pub first_window_end: EventTime,
}

impl AlignedWindow {
    /// Windows of `size`, one after the other, starting at `offset` past the epoch.
    ///
    /// # Errors
    /// A size that is not positive.
    pub fn tumbling(size: i64, offset: i64) -> Result<Self> {
        Self::checked(AlignedKind::Tumbling, size, size, offset)
    }

    /// Windows of `size`, one starting every `slide`.
    ///
    /// # Errors
    /// Lengths that are not positive, a size that is not a multiple of the slide, or more than
    /// [`WINDOWS_PER_ROW_MAX`] windows over each row.
    pub fn hopping(size: i64, slide: i64, offset: i64) -> Result<Self> {
        Self::checked(AlignedKind::Hopping, size, slide, offset)
    }

    /// Windows that share a start and grow by `step` up to `size`.
    ///
    /// # Errors
    /// As for [`AlignedWindow::hopping`].
    pub fn cumulating(size: i64, step: i64, offset: i64) -> Result<Self> {
        Self::checked(AlignedKind::Cumulating, size, step, offset)
    }

    fn checked(kind: AlignedKind, size: i64, step: i64, offset: i64) -> Result<Self> {
        let step_name = if kind == AlignedKind::Cumulating { "step" } else { "slide" };
        if size <= 0 || step <= 0 {
            return Err(Error::configuration(format!(
                "a window's size and {step_name} must be positive"
            )));
        }
        if size % step != 0 {
            return Err(Error::configuration(format!(
                "the window size ({size} µs) must be a multiple of the {step_name} ({step} µs)"
            )));
        }
        if size / step > WINDOWS_PER_ROW_MAX {
            return Err(Error::configuration(format!(
                "size / {step_name} puts every row into {} windows; at most {WINDOWS_PER_ROW_MAX} \
                 are allowed: make the {step_name} longer",
                size / step
            )));
        }
        Ok(Self { kind, size, step, offset: offset.rem_euclid(size) })
    }

    /// Length of the longest window, in microseconds.
    pub fn size(&self) -> i64 {
        self.size
    }

    /// Distance between window ends, and length of a slice, in microseconds.
    pub fn step(&self) -> i64 {
        self.step
    }

    /// Whether a slice is a whole window, so that nothing is shared.
    pub fn is_tumbling(&self) -> bool {
        self.size == self.step
    }

    /// End of the slice that `time` lies in, or `None` within a window's length of the ends of time.
    #[inline]
    pub fn slice_end(&self, time: EventTime) -> Option<EventTime> {
        // Far from the ends every sum below fits; near them the row has no window.
        let margin = self.size.checked_mul(2)?;
        if time < i64::MIN.checked_add(margin)? || time > i64::MAX.checked_sub(margin)? {
            return None;
        }
        let floor = (time - self.offset).div_euclid(self.step) * self.step + self.offset;
        Some(floor + self.step)
    }

    /// Start of the window that ends at `end`, which must be a window end.
    pub fn window_start(&self, end: EventTime) -> EventTime {
        match self.kind {
            AlignedKind::Tumbling | AlignedKind::Hopping => end - self.size,
            AlignedKind::Cumulating => {
                (end - 1 - self.offset).div_euclid(self.size) * self.size + self.offset
            }
        }
    }

    /// End of the last window that holds the slice ending at `slice_end`.
    pub fn last_window_end(&self, slice_end: EventTime) -> EventTime {
        match self.kind {
            AlignedKind::Tumbling | AlignedKind::Hopping => slice_end - self.step + self.size,
            AlignedKind::Cumulating => self.window_start(slice_end) + self.size,
        }
    }

    /// The slice of a row whose slice ends at `slice_end`, when its split's watermark had already
    /// reached `floor`; `None` where all its windows had passed: the row is late.
    #[inline]
    pub fn slice(&self, slice_end: EventTime, floor: EventTime) -> Option<Slice> {
        if floor < slice_end {
            return Some(Slice { end: slice_end, first_window_end: slice_end });
        }
        // The first window end beyond the floor; ends lie `step` apart.
        let passed = (i128::from(floor) - i128::from(slice_end)) / i128::from(self.step) + 1;
        let first = i128::from(slice_end) + passed * i128::from(self.step);
        let last = self.last_window_end(slice_end);
        (first <= i128::from(last))
            .then_some(Slice { end: slice_end, first_window_end: first as i64 })
    }

    /// How far the slices of the window ending at `end` reach back: it is made of the slices with
    /// `window_start(end) < slice end <= end` and `first_window_end <= end`.
    pub fn holds(&self, window_end: EventTime, slice: Slice) -> bool {
        slice.end > self.window_start(window_end)
            && slice.end <= window_end
            && slice.first_window_end <= window_end
    }
}

impl WindowSpec {
    /// Sessions that close after `gap` microseconds without a row.
    ///
    /// # Errors
    /// A gap that is not positive.
    pub fn session(gap: i64) -> Result<Self> {
        if gap <= 0 {
            return Err(Error::configuration("a session's gap must be positive"));
        }
        Ok(Self::Session { gap })
    }
}

impl std::fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |micros: i64| std::time::Duration::from_micros(micros.unsigned_abs());
        match self {
            Self::Session { gap } => write!(f, "session gap {:?}", length(*gap)),
            Self::Aligned(w) => {
                match w.kind {
                    AlignedKind::Tumbling => write!(f, "tumbling {:?}", length(w.size))?,
                    AlignedKind::Hopping => {
                        write!(f, "hopping {:?} by {:?}", length(w.size), length(w.step))?;
                    }
                    AlignedKind::Cumulating => {
                        write!(f, "cumulating {:?} by {:?}", length(w.size), length(w.step))?;
                    }
                }
                if w.offset != 0 {
                    write!(f, " offset {:?}", length(w.offset))?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Window ends over a row, by trying every end nearby.
    fn window_ends(w: &AlignedWindow, time: i64) -> Vec<i64> {
        let near = time - 2 * w.size..=time + 2 * w.size;
        let is_end = |end: i64| (end - w.offset).rem_euclid(w.step) == 0;
        near.filter(|end| is_end(*end) && w.window_start(*end) <= time && time < *end).collect()
    }

    #[test]
    fn a_slice_lies_in_exactly_the_windows_of_its_rows() {
        let windows = [
            AlignedWindow::tumbling(5, 0),
            AlignedWindow::tumbling(5, 3),
            AlignedWindow::hopping(6, 2, 0),
            AlignedWindow::hopping(6, 3, 1),
            AlignedWindow::cumulating(6, 2, 0),
            AlignedWindow::cumulating(6, 3, 4),
        ];
        for w in windows.map(Result::unwrap) {
            for time in -20..20 {
                let end = w.slice_end(time).unwrap();
                assert!(end - w.step <= time && time < end);
                let ends = window_ends(&w, time);
                for floor in -40..40 {
                    let open: Vec<_> = ends.iter().copied().filter(|end| *end > floor).collect();
                    let held: Vec<_> = match w.slice(end, floor) {
                        None => vec![],
                        Some(slice) => {
                            ends.iter().copied().filter(|end| w.holds(*end, slice)).collect()
                        }
                    };
                    assert_eq!(held, open, "{w:?} at {time}, floor {floor}");
                }
                assert_eq!(w.last_window_end(end), *ends.last().unwrap());
            }
        }
    }

    #[test]
    fn the_ends_of_time_have_no_slice_and_do_not_overflow() {
        let w = AlignedWindow::hopping(3_600_000_000, 1_000_000, 7).unwrap();
        for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            assert_eq!(w.slice_end(time), None);
        }
        assert!(w.slice_end(0).is_some() && w.slice_end(-62_135_596_800_000_000).is_some());
    }

    #[test]
    fn absurd_lengths_are_refused_with_a_reason() {
        let reason = |w: Result<AlignedWindow>| w.unwrap_err().to_string();
        assert!(reason(AlignedWindow::tumbling(0, 0)).contains("positive"));
        assert!(reason(AlignedWindow::hopping(5, 2, 0)).contains("multiple"));
        assert!(reason(AlignedWindow::hopping(1_000_000, 1, 0)).contains("1000000 windows"));
        assert!(WindowSpec::session(0).is_err());
    }
}
