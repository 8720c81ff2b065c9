//! How many rows a source may read now. Invariant: since its start never more than its rate allows, so what is
//! not used is made up for later.

use std::time::Duration;

/// Lets so many rows per second through, evenly, with a burst of at most a tenth of a second.
pub(crate) struct RateLimiter {
    rate: f64,
    start: Duration,
    used: u64,
}

impl RateLimiter {
    /// So many rows per second from now on.
    pub fn new(rate: f64, now: Duration) -> Self {
        Self { rate, start: now, used: 0 }
    }

    /// How many rows may come now.
    pub fn allowed(&self, now: Duration) -> usize {
        let due = now.saturating_sub(self.start).as_secs_f64() * self.rate;
        (due - self.used as f64).max(0.0).min((self.rate / 10.0).max(1.0)) as usize
    }

    /// So many rows have come.
    pub fn take(&mut self, rows: usize) {
        self.used += rows as u64;
    }

    /// When the next row is allowed.
    pub fn next(&self, now: Duration) -> Duration {
        if self.allowed(now) > 0 {
            return now;
        }
        self.start + Duration::from_secs_f64((self.used + 1) as f64 / self.rate)
    }
}
