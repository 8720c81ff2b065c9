//! When a key's sessions are to be looked at again. Part of the state of session windows. Invariant:
//! a key that is due is never later than the end of its earliest session; it may be earlier, since a
//! session that goes on is not told of: whoever finds it open puts it back.
//!
//! Ends lie in buckets, so that a session costs a push, and not a place in an ordered set. Buckets near
//! the watermark are found by their number alone; only others need an order:
//!
//! ```text
//!            watermark
//! bucket   4 │    5 ▼        6          7   …     some gaps ahead │ far
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

/// How many buckets are near: rows may be some gaps ahead of the watermark. A power of two.
const NEAR: usize = 4 * BUCKETS_PER_GAP as usize;

/// Keys by the bucket of an end.
pub(super) struct Timers {
    /// Length of a bucket, in microseconds.
    width: i64,
    /// The first near bucket: one that the watermark has come to.
    first: i64,
    /// Near buckets, by the lowest bits of their numbers.
    near: Vec<Vec<Slot>>,
    /// How many keys they hold.
    near_len: usize,
    /// Buckets that were not near when something was put into them.
    far: BTreeMap<i64, Vec<Slot>>,
}

/// The place of a near bucket.
fn place(bucket: i64) -> usize {
    bucket as usize % NEAR
}

impl Timers {
    /// Timers for sessions that end `gap` microseconds after a row.
    pub fn new(gap: i64) -> Self {
        Self {
            width: (gap / BUCKETS_PER_GAP).max(1),
            first: i64::MIN,
            near: vec![Vec::new(); NEAR],
            near_len: 0,
            far: BTreeMap::new(),
        }
    }

    /// The bucket of an end.
    pub fn bucket(&self, end: EventTime) -> i64 {
        end.div_euclid(self.width)
    }

    /// Has a key looked at when the watermark reaches this bucket.
    pub fn push(&mut self, bucket: i64, slot: Slot) {
        if self.is_near(bucket) {
            self.near[place(bucket)].push(slot);
            self.near_len += 1;
        } else {
            self.far.entry(bucket).or_default().push(slot);
        }
    }

    fn is_near(&self, bucket: i64) -> bool {
        // The difference of two i64 fits into a u64.
        bucket >= self.first && (bucket.wrapping_sub(self.first) as u64) < NEAR as u64
    }

    /// Puts back keys of a bucket.
    pub fn put_back(&mut self, bucket: i64, slots: Vec<Slot>) {
        if self.is_near(bucket) {
            self.near_len += slots.len();
            self.near[place(bucket)].extend(slots);
        } else if !slots.is_empty() {
            self.far.entry(bucket).or_default().extend(slots);
        }
    }

    /// The first bucket after `done` where some end lies before the watermark.
    pub fn pop(&mut self, watermark: EventTime, done: Option<i64>) -> Option<(i64, Vec<Slot>)> {
        let last = match watermark {
            END_OF_TIME => i64::MAX,
            _ => self.bucket(watermark.checked_sub(1)?),
        };
        let after = done.map_or(i64::MIN, |done| done + 1);
        let far = self.far.range(after..).next().map(|(bucket, _)| *bucket);
        let bucket = self.first_near(after, last).into_iter().chain(far).min()?;
        if bucket > last {
            return None;
        }
        let mut slots = self.far.remove(&bucket).unwrap_or_default();
        if self.is_near(bucket) {
            let near = std::mem::take(&mut self.near[place(bucket)]);
            self.near_len -= near.len();
            if slots.is_empty() { slots = near } else { slots.extend(near) }
        }
        Some((bucket, slots))
    }

    /// The first bucket among the near ones from `after` to `last` that holds keys. What is near
    /// follows the watermark, which `last` lies before.
    fn first_near(&mut self, after: i64, last: i64) -> Option<i64> {
        let holds = |near: &[Vec<Slot>], bucket: i64| !near[place(bucket)].is_empty();
        if self.near_len == 0 {
            self.first = self.first.max(last);
            return None;
        }
        while self.first < last && !holds(&self.near, self.first) {
            self.first += 1;
        }
        let last = last.min(self.first.saturating_add(NEAR as i64 - 1));
        (self.first.max(after)..=last).find(|bucket| holds(&self.near, *bucket))
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let far: usize = self.far.values().map(Vec::len).sum();
        (self.near_len + far) * size_of::<Slot>()
            + self.near.len() * size_of::<Vec<Slot>>()
            + self.far.len() * size_of::<[u64; 4]>()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Keys come out in the order of their buckets, each once, when the watermark has come to them and
    /// not before: near it, far ahead of it and behind it.
    #[test]
    fn keys_come_out_in_the_order_of_their_buckets_wherever_those_lie() {
        for seed in 0..300 {
            println!("seed {seed}");
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let gap = 10_i64.pow(rng.random_range(0..8));
            let mut timers = Timers::new(gap);
            let mut expected: BTreeMap<i64, Vec<Slot>> = BTreeMap::new();
            let mut watermark = rng.random_range(-5 * gap..5 * gap);
            for slot in 0..rng.random_range(1..2000) {
                let ahead = [2 * gap, 20 * gap, i64::MAX / 4][rng.random_range(0..3)];
                let end = watermark + rng.random_range(-gap / 8..=ahead);
                expected.entry(timers.bucket(end)).or_default().push(slot);
                timers.push(timers.bucket(end), slot);
                if rng.random_bool(0.1) {
                    watermark += rng.random_range(0..ahead / 16 + 2);
                    check(&mut timers, watermark, &mut expected);
                }
            }
            check(&mut timers, END_OF_TIME, &mut expected);
            assert!(expected.is_empty());
            assert_eq!(timers.near_len + timers.far.len(), 0);
        }
    }

    /// Takes out what is due, but for some keys that are put back.
    fn check(timers: &mut Timers, watermark: EventTime, expected: &mut BTreeMap<i64, Vec<Slot>>) {
        let mut done = None;
        while let Some((bucket, mut slots)) = timers.pop(watermark, done) {
            assert!(watermark == END_OF_TIME || bucket * timers.width < watermark);
            let after = done.map_or(i64::MIN, |done| done + 1);
            let first = expected.range(after..).next().map(|(bucket, _)| *bucket);
            assert_eq!(first, Some(bucket));
            let mut own = expected.remove(&bucket).unwrap();
            own.sort_unstable();
            slots.sort_unstable();
            assert_eq!(slots, own);
            if watermark != END_OF_TIME && slots.len() > 1 {
                slots.truncate(1);
                expected.insert(bucket, slots.clone());
                timers.put_back(bucket, slots);
            }
            done = Some(bucket);
        }
        let after = done.map_or(i64::MIN, |done| done + 1);
        let next = expected.range(after..).next().map(|(bucket, _)| *bucket * timers.width);
        assert!(next.is_none_or(|next| next >= watermark && watermark != END_OF_TIME));
    }
}
