//! When a key's sessions are to be looked at again. Part of the state of session windows. Invariant:
//! a key that is due is never later than the end of its earliest session; it may be earlier, since a
//! session that goes on is not told of: whoever finds it open puts it back.
//!
//! Ends lie in buckets, so that a session costs a push, and not a place in an ordered set:
//!
//! ```text
//!            watermark
//! bucket   4 │    5 ▼        6          7   …     a gap ahead
//!         [a c d] [b e]   [f g h i]  [j k l]
//!          due     some due
//! ```

use std::collections::BTreeMap;

use tidemill_core::EventTime;
use tidemill_core::time::END_OF_TIME;

use super::keys::Slot;

/// Into how many buckets the ends within a gap fall. A bucket that the watermark lies in is looked at
/// again by the next one.
const BUCKETS_PER_GAP: i64 = 512;

/// Keys by the bucket of an end.
pub(super) struct Timers {
    /// Length of a bucket, in microseconds.
    width: i64,
    buckets: BTreeMap<i64, Vec<Slot>>,
}

impl Timers {
    /// Timers for sessions that end `gap` microseconds after a row.
    pub fn new(gap: i64) -> Self {
        Self { width: (gap / BUCKETS_PER_GAP).max(1), buckets: BTreeMap::new() }
    }

    /// The bucket of an end.
    pub fn bucket(&self, end: EventTime) -> i64 {
        end.div_euclid(self.width)
    }

    /// Has a key looked at when the watermark reaches this bucket.
    pub fn push(&mut self, bucket: i64, slot: Slot) {
        self.buckets.entry(bucket).or_default().push(slot);
    }

    /// Puts back keys of a bucket.
    pub fn put_back(&mut self, bucket: i64, slots: Vec<Slot>) {
        if !slots.is_empty() {
            let others = self.buckets.insert(bucket, slots);
            self.buckets.entry(bucket).or_default().extend(others.into_iter().flatten());
        }
    }

    /// The first bucket after `done` where some end lies before the watermark.
    pub fn pop(&mut self, watermark: EventTime, done: Option<i64>) -> Option<(i64, Vec<Slot>)> {
        let after = done.map_or(i64::MIN, |done| done + 1);
        let bucket = *self.buckets.range(after..).next()?.0;
        let is_due = bucket * self.width < watermark || watermark == END_OF_TIME;
        let slots = if is_due { self.buckets.remove(&bucket) } else { None };
        slots.map(|slots| (bucket, slots))
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let slots: usize = self.buckets.values().map(Vec::capacity).sum();
        slots * size_of::<Slot>() + self.buckets.len() * size_of::<[u64; 4]>()
    }
}
