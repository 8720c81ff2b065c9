//! How far a group has come in one partition: events may be acknowledged in any order, and the place to go
//! on from is behind the last one before which none is missing.
//!
//! Invariant: an event that was delivered and not acknowledged is at or behind the committed place, and no
//! more than a bounded number is kept of what was delivered behind it.

use std::collections::VecDeque;

use crate::UNACKNOWLEDGED_MAX;

/// See the module. Offsets grow, and may have gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Delivered, with whether they are acknowledged; the first is not.
    outstanding: VecDeque<(u64, bool)>,
    /// Whether the subscriber was told that it must acknowledge before more comes.
    is_told: bool,
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
            self.is_told = false;
        }
        next
    }

    /// Forgets what is outstanding: it will be delivered again.
    pub fn reset(&mut self) {
        self.outstanding.clear();
        self.is_told = false;
    }

    /// Whether nothing more may be delivered before the oldest is acknowledged.
    pub fn is_full(&self) -> bool {
        self.outstanding.len() >= UNACKNOWLEDGED_MAX
    }

    /// The oldest that is not acknowledged, and how many have been delivered since, once for each time that
    /// the subscriber must be told.
    pub fn reminder(&mut self) -> Option<(u64, u64)> {
        let (oldest, _) = self.outstanding.front()?;
        let is_told = std::mem::replace(&mut self.is_told, true);
        (!is_told).then_some((*oldest, self.outstanding.len() as u64))
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
    fn who_does_not_acknowledge_is_told_once() {
        let mut progress = Progress::default();
        let max = UNACKNOWLEDGED_MAX as u64;
        (0..max - 1).for_each(|offset| progress.delivered(offset));
        assert!(!progress.is_full());
        progress.delivered(max - 1);
        assert!(progress.is_full());
        assert_eq!((progress.reminder(), progress.reminder()), (Some((0, max)), None));
        assert_eq!(progress.acknowledged(1), None);
        assert!(progress.is_full() && progress.reminder().is_none(), "the oldest counts");
        assert_eq!(progress.acknowledged(0), Some(2));
        assert!(!progress.is_full());
        assert_eq!(progress.reminder(), Some((2, max - 2)));
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
