//! Which letters of a partition have been replayed: a group's committed offset, and in its metadata those
//! that were replayed beyond it, because a filter passed over others.
//!
//! Invariant: an offset is replayed when it is below the committed one or named in the metadata.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tidemill_core::{Error, Result};

/// What a committed offset's metadata begins with.
const VERSION: &str = "tidemill-replayed:";

/// As much metadata as a broker takes if it is not configured otherwise.
const METADATA_MAX: usize = 4096;

/// What a run takes of it at most: two numbers of 19 digits and two signs.
const RUN_MAX: usize = 40;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// All letters below were replayed.
    next: i64,
    /// Runs of letters from `next` on that were: their beginnings and ends.
    beyond: BTreeMap<i64, i64>,
}

impl Progress {
    /// As it was committed.
    ///
    /// # Errors
    /// Metadata that is not of this program: the group is somebody else's.
    pub fn committed(offset: i64, metadata: &str) -> Result<Self> {
        let mut progress = Self { next: offset.max(0), beyond: BTreeMap::new() };
        if metadata.is_empty() {
            return Ok(progress);
        }
        progress.parse(metadata).ok_or_else(|| {
            let message = "the group's committed offset was not written by `tidemill dlq replay`: \
                           name another group with --group";
            Error::configuration(message)
        })?;
        Ok(progress)
    }

    fn parse(&mut self, metadata: &str) -> Option<()> {
        let mut at = self.next;
        for run in metadata.strip_prefix(VERSION)?.split(',').filter(|run| !run.is_empty()) {
            let (gap, length) = run.split_once('+')?;
            let start = at.checked_add(gap.parse().ok()?)?;
            at = start.checked_add(length.parse().ok()?)?;
            self.beyond.insert(start, at);
        }
        Some(())
    }

    /// The offset to commit.
    pub fn offset(&self) -> i64 {
        self.next
    }

    /// The metadata to commit with it: each run's distance from the one before, and its length.
    pub fn metadata(&self) -> String {
        let mut text = VERSION.to_owned();
        let mut at = self.next;
        for (start, end) in &self.beyond {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}+{},", start - at, end - start);
            at = *end;
        }
        text
    }

    /// Whether there is room for so many more runs.
    pub fn has_room(&self, runs: usize) -> bool {
        self.metadata().len() + runs * RUN_MAX <= METADATA_MAX
    }

    /// Whether a letter was replayed.
    pub fn contains(&self, offset: i64) -> bool {
        let before = self.beyond.range(..=offset).next_back();
        offset < self.next || before.is_some_and(|(_, end)| offset < *end)
    }

    /// A letter was replayed.
    pub fn add(&mut self, offset: i64) {
        if self.contains(offset) {
            return;
        }
        let end = self.beyond.remove(&(offset + 1)).unwrap_or(offset + 1);
        match self.beyond.range_mut(..offset).next_back() {
            Some((_, before)) if *before == offset => *before = end,
            _ => {
                self.beyond.insert(offset, end);
            }
        }
    }

    /// All letters below `first_waiting` were replayed: what is named below is not needed any more.
    pub fn advance(&mut self, first_waiting: i64) {
        self.next = self.next.max(first_waiting);
        let runs = std::mem::take(&mut self.beyond).into_iter();
        let above = runs.filter(|(_, end)| *end > self.next);
        self.beyond = above.map(|(start, end)| (start.max(self.next), end)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replayed_is_known_again() {
        let mut progress = Progress::committed(5, "").unwrap();
        for offset in [6, 5, 9, 11, 10, 40, 40] {
            progress.add(offset);
        }
        progress.advance(7);
        assert_eq!(
            (progress.offset(), progress.metadata().as_str()),
            (7, "tidemill-replayed:2+3,28+1,")
        );
        let again = Progress::committed(progress.offset(), &progress.metadata()).unwrap();
        assert_eq!(again, progress);
        let replayed: Vec<i64> = (0..50).filter(|offset| again.contains(*offset)).collect();
        assert_eq!(replayed, [0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 40]);
        progress.advance(50);
        assert_eq!(progress.metadata(), VERSION);
    }

    #[test]
    fn the_metadata_of_others_is_refused_and_its_own_never_too_long() {
        for other in ["abc", "tidemill-replayed:1", "tidemill-replayed:9223372036854775807+2,"] {
            assert!(Progress::committed(1, other).is_err(), "{other}");
        }
        let mut progress = Progress::default();
        let mut offset = 0;
        while progress.has_room(1) {
            offset += 1_000;
            progress.add(offset);
        }
        assert!(progress.metadata().len() <= METADATA_MAX && offset > 400_000);
    }
}
