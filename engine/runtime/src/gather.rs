//! How long a split is left alone, so that its rows gather into a batch: until one is likely to be full, at
//! most for the linger time.
//!
//! Stands behind each read that found less than a full batch, unless all records are at hand. Invariant:
//! rows that are there wait for no longer than linger; batches have no say in results, so how good the
//! guess is matters to nobody but the clock.

use std::time::Duration;

/// A split is not asked again sooner, unless it says that it has something: other splits must have
/// their turn.
pub(crate) const POLL_MIN: Duration = Duration::from_millis(1);

/// What has come of a split since it was last found with less than a full batch.
pub(crate) struct Gathering {
    since: Duration,
    rows: usize,
}

impl Gathering {
    /// Nothing has come by now.
    pub fn new(now: Duration) -> Self {
        Self { since: now, rows: 0 }
    }

    /// So many rows were read.
    pub fn took(&mut self, rows: usize) {
        self.rows += rows;
    }

    /// No more is there now. How long it will probably take until a batch is, at the rate since the last time.
    pub fn pause(&mut self, now: Duration, batch_rows: usize, linger: Duration) -> Duration {
        let Self { since, rows } = std::mem::replace(self, Self::new(now));
        let passed = now.saturating_sub(since);
        if rows == 0 || passed.is_zero() {
            return linger;
        }
        let full_in = passed.as_secs_f64() * batch_rows as f64 / rows as f64;
        Duration::from_secs_f64(full_in.min(linger.as_secs_f64())).max(POLL_MIN.min(linger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(10);

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The pause of a split to which so many rows come in a second, read after each pause.
    fn settled(rows_per_second: usize) -> Duration {
        let (mut now, mut pause) = (millis(5), LINGER);
        let mut gathering = Gathering::new(now);
        for _ in 0..10 {
            now += pause;
            gathering.took((pause.as_secs_f64() * rows_per_second as f64) as usize);
            pause = gathering.pause(now, 8192, LINGER);
        }
        pause
    }

    #[test]
    fn a_fast_split_is_read_when_a_batch_is_full_and_a_slow_one_after_linger() {
        assert_eq!(settled(100), LINGER);
        assert_eq!(settled(100_000), LINGER);
        let fast = settled(4_096_000);
        assert!((millis(2)..millis(2) + POLL_MIN / 100).contains(&fast), "{fast:?}");
        assert_eq!(settled(1_000_000_000), POLL_MIN);
    }

    #[test]
    fn without_a_rate_to_go_by_it_is_linger() {
        let mut gathering = Gathering::new(millis(1));
        assert_eq!(gathering.pause(millis(9), 8192, LINGER), LINGER);
        gathering.took(1_000_000);
        assert_eq!(gathering.pause(millis(9), 8192, LINGER), LINGER, "no time has passed");
        gathering.took(1_000_000);
        assert_eq!(gathering.pause(millis(19), 8192, Duration::ZERO), Duration::ZERO);
    }
}
