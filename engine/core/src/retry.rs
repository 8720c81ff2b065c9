//! Trying again, and knowing when not to: backoff and circuit breaker as pure decisions. Whoever does the
//! I/O brings the time and the chance.
//!
//! ```text
//!            failures in a row ≥ threshold
//!   closed ───────────────────────────────▶ open
//!     ▲                                      │ after the pause
//!     │ success                              ▼
//!     └────────────────────────────────── half open ──▶ open (failure)
//! ```

use std::time::Duration;

use serde::Serialize;

/// How long to wait before an attempt is repeated: exponentially longer, with jitter, until a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// At most.
    pub max: Duration,
    /// From the first attempt on; after that it is given up.
    pub deadline: Duration,
}

impl Default for Backoff {
    /// 100 ms, doubling up to 10 s, for two minutes.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            max: Duration::from_secs(10),
            deadline: Duration::from_secs(120),
        }
    }
}

impl Backoff {
    /// The wait after attempt `attempt` (1 is the first) failed, when `spent` has passed since the
    /// first began; `None` where it is to be given up. `jitter`, evenly from 0 to 1, shortens the wait
    /// by up to half, so that many who failed together do not return together.
    pub fn wait(&self, attempt: u32, spent: Duration, jitter: f64) -> Option<Duration> {
        if spent >= self.deadline {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(20));
        let full = doubled.min(self.max);
        let wait = full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
        Some(wait.min(self.deadline - spent))
    }
}

/// How calls of something outside are made again when they fail for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// The waits between attempts, and when to give up.
    pub backoff: Backoff,
    /// So many failures in a row open the circuit breaker.
    pub threshold: u32,
    /// It stays open for so long; then one call is tried.
    pub pause: Duration,
}

impl Default for RetrySettings {
    /// [`Backoff::default`]; five failures, five seconds.
    fn default() -> Self {
        Self { backoff: Backoff::default(), threshold: 5, pause: Duration::from_secs(5) }
    }
}

impl RetrySettings {
    /// A circuit breaker of this kind, closed.
    pub fn breaker(&self) -> CircuitBreaker {
        CircuitBreaker::new(self.threshold, self.pause)
    }
}

/// The state of a [`CircuitBreaker`]. The numbers are those of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All is well: calls go through.
    Closed = 0,
    /// Calls are held back: the other side needs rest.
    Open = 1,
    /// One call goes through, to see.
    HalfOpen = 2,
}

/// Stops calling what fails again and again.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    threshold: u32,
    pause: Duration,
    failures: u32,
    /// When it opened, and whether the trial call is under way.
    opened: Option<(Duration, bool)>,
}

impl CircuitBreaker {
    /// Opens after `threshold` failures in a row, for `pause`.
    pub fn new(threshold: u32, pause: Duration) -> Self {
        Self { threshold: threshold.max(1), pause, failures: 0, opened: None }
    }

    /// Whether a call may be made now. In an open breaker whose pause is over, the first to ask makes
    /// the trial call.
    pub fn allows(&mut self, now: Duration) -> bool {
        match &mut self.opened {
            None => true,
            Some((since, trial)) if !*trial && now >= *since + self.pause => {
                *trial = true;
                true
            }
            Some(_) => false,
        }
    }

    /// When a call may be made again; `None` where one may be made now or a trial is under way.
    pub fn retry_at(&self) -> Option<Duration> {
        self.opened.filter(|(_, trial)| !trial).map(|(since, _)| since + self.pause)
    }

    /// A call succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.opened = None;
    }

    /// A call failed.
    pub fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        if self.opened.is_some() || self.failures >= self.threshold {
            self.opened = Some((now, false));
        }
    }

    /// Its state.
    pub fn state(&self) -> BreakerState {
        match self.opened {
            None => BreakerState::Closed,
            Some((_, false)) => BreakerState::Open,
            Some((_, true)) => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_maximum_and_end_at_the_deadline() {
        let backoff = Backoff { first: SECOND, max: 5 * SECOND, deadline: 20 * SECOND };
        let waits = |jitter| (1..5).map(move |n| backoff.wait(n, SECOND, jitter));
        let full: Vec<_> = waits(0.0).collect();
        assert_eq!(full, [1, 2, 4, 5].map(|n| Some(n * SECOND)));
        assert!(waits(1.0).zip(full).all(|(short, full)| short == full.map(|wait| wait / 2)));
        assert_eq!(backoff.wait(9, 18 * SECOND, 0.0), Some(2 * SECOND));
        assert_eq!(backoff.wait(9, 20 * SECOND, 0.0), None);
    }

    #[test]
    fn a_breaker_opens_after_failures_in_a_row_and_lets_one_call_try() {
        let mut breaker = CircuitBreaker::new(2, 10 * SECOND);
        breaker.failed(SECOND);
        breaker.succeeded();
        breaker.failed(SECOND);
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.failed(2 * SECOND);
        assert_eq!((breaker.state(), breaker.retry_at()), (BreakerState::Open, Some(12 * SECOND)));
        assert!(!breaker.allows(11 * SECOND));
        assert!(breaker.allows(12 * SECOND) && !breaker.allows(12 * SECOND), "one trial call");
        breaker.failed(13 * SECOND);
        assert!(!breaker.allows(22 * SECOND) && breaker.allows(23 * SECOND));
        breaker.succeeded();
        assert!(breaker.allows(23 * SECOND) && breaker.state() == BreakerState::Closed);
    }
}
