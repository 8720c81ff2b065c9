//! How far a group has come in one partition: events may be acknowledged in any order, and the place to go
//! on from is behind the last one before which none is missing.
//!
//! Invariant: an event that was delivered and not acknowledged is at or behind the committed place.

use std::collections::VecDeque;

/// See the module. Offsets grow, and may have gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Delivered, with whether they are acknowledged; the first is not.
    outstanding: VecDeque<(u64, bool)>,
}

impl Progress {
    /// The event at `offset` was delivered.
    pub fn delivered(&mut self, offset: u64) {
        debug_assert!(self.outstanding.back().is_none_or(|(last, _)| *last < offset));
        self.outstanding.push_back((offset, false));
    }

    /// The event at `offset` was acknowledged: the place to go on from, where that has moved.
    pub fn acknowledged(&mut self, offset: u64) -> Option<u64> {
        let found = self.outstanding.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        self.outstanding[found].1 = true;
        let mut next = None;
        while let Some((offset, true)) = self.outstanding.front() {
            next = Some(offset + 1);
            self.outstanding.pop_front();
        }
        next
    }

    /// Forgets what is outstanding: it will be delivered again.
    pub fn reset(&mut self) {
        self.outstanding.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_nothing_missing_before_it_is_committed() {
        let mut progress = Progress::default();
        [3, 4, 7, 9].into_iter().for_each(|offset| progress.delivered(offset));
        assert_eq!(progress.acknowledged(4), None);
        assert_eq!(progress.acknowledged(9), None);
        assert_eq!(progress.acknowledged(3), Some(5));
        assert_eq!(progress.acknowledged(3), None, "twice is once");
        assert_eq!(progress.acknowledged(7), Some(10));
    }

    #[test]
    fn an_acknowledgement_of_what_is_delivered_again_is_forgotten() {
        let mut progress = Progress::default();
        progress.delivered(1);
        progress.reset();
        assert_eq!(progress.acknowledged(1), None);
        progress.delivered(1);
        assert_eq!(progress.acknowledged(1), Some(2));
    }
}
