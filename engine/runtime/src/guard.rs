//! Calls of a sink that may fail for a while: one circuit breaker for each sink that all shards share, and
//! for each caller the count of its attempts.
//!
//! ```text
//!  call ─ fails ─▶ wait (grows) ─▶ again … ─▶ threshold in a row: open, for all shards
//!                                              └─ after the pause ─▶ one caller tries ─▶ closed, or open again
//! ```
//!
//! Invariant: while the breaker is not closed, the only call that is made is one that has failed before, by
//! one caller at a time.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_core::retry::{BreakerState, CircuitBreaker, RetrySettings};
use tidemill_core::{Error, ErrorKind, Result};

use crate::status::BreakerStatus;

/// A sink's circuit breaker, as its writers or its committer have it.
pub(crate) struct Guard {
    /// The sink's node.
    pub sink: String,
    /// What is called: `write` or `commit`.
    pub calls: &'static str,
    settings: RetrySettings,
    breaker: Mutex<CircuitBreaker>,
    /// A call has failed since the last that did not: readable without the lock.
    troubled: AtomicBool,
}

impl Guard {
    pub fn new(sink: &str, calls: &'static str, settings: RetrySettings) -> Arc<Self> {
        Arc::new(Self {
            sink: sink.to_owned(),
            calls,
            settings,
            breaker: Mutex::new(settings.breaker()),
            troubled: AtomicBool::new(false),
        })
    }

    pub fn state(&self) -> BreakerState {
        if self.is_troubled() { self.breaker.lock().state() } else { BreakerState::Closed }
    }

    pub fn status(&self) -> BreakerStatus {
        BreakerStatus { sink: self.sink.clone(), calls: self.calls, state: self.state() }
    }

    fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Acquire)
    }

    fn succeeded(&self) {
        if self.is_troubled() {
            let mut breaker = self.breaker.lock();
            let was = breaker.state();
            breaker.succeeded();
            self.troubled.store(false, Ordering::Release);
            if was != BreakerState::Closed {
                tracing::info!(sink = self.sink, calls = self.calls, "the circuit breaker closes");
            }
        }
    }

    /// `trial`: the call was the one that an open breaker let through.
    fn failed(&self, now: Duration, trial: bool) {
        let mut breaker = self.breaker.lock();
        self.troubled.store(true, Ordering::Release);
        // A call that was under way when it opened says nothing new.
        if trial || breaker.state() == BreakerState::Closed {
            breaker.failed(now);
        }
    }
}

/// One caller's attempts at a call.
pub(crate) struct Attempts {
    guard: Arc<Guard>,
    failing: Option<Failing>,
    random: RandomState,
}

/// A call that has failed, and is to be made again.
struct Failing {
    attempts: u32,
    since: Duration,
    resume_at: Duration,
    /// An open breaker has let it through.
    trial: bool,
}

impl Attempts {
    pub fn new(guard: Arc<Guard>) -> Self {
        Self { guard, failing: None, random: RandomState::new() }
    }

    /// Whether a call may be made now.
    pub fn may_call(&mut self, now: Duration) -> bool {
        let Some(failing) = &mut self.failing else {
            return self.guard.state() == BreakerState::Closed;
        };
        if failing.trial {
            return true;
        }
        if now < failing.resume_at {
            return false;
        }
        let mut breaker = self.guard.breaker.lock();
        let is_trial = breaker.state() != BreakerState::Closed;
        let allowed = breaker.allows(now);
        failing.trial = is_trial && allowed;
        allowed
    }

    /// A call has failed, and not succeeded since.
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    pub fn succeeded(&mut self) {
        self.failing = None;
        self.guard.succeeded();
    }

    /// A call failed. One that may succeed later is to be made again; any other error, and the end of
    /// patience, is returned.
    pub fn failed(&mut self, now: Duration, error: Error) -> Result<()> {
        let Guard { sink, calls, settings, .. } = &*self.guard;
        if error.kind() != ErrorKind::Transient {
            return Err(error.at(sink));
        }
        let failing = self.failing.get_or_insert(Failing {
            attempts: 0,
            since: now,
            resume_at: now,
            trial: false,
        });
        failing.attempts += 1;
        self.guard.failed(now, std::mem::take(&mut failing.trial));
        let spent = now.saturating_sub(failing.since);
        let jitter = self.random.hash_one((failing.attempts, now)) as f64 / u64::MAX as f64;
        let Some(wait) = settings.backoff.wait(failing.attempts, spent, jitter) else {
            let attempts = failing.attempts;
            return Err(Error::external(format!(
                "{sink}: given up after {attempts} attempts in {spent:.1?} to {calls}; the last: {error}"
            )));
        };
        failing.resume_at = now + wait;
        tracing::warn!(
            sink,
            calls,
            attempt = failing.attempts,
            breaker = ?self.guard.state(),
            "{error}: tried again in {wait:.1?} or later"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::retry::Backoff;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn guard() -> Arc<Guard> {
        let backoff = Backoff { first: SECOND, max: SECOND, deadline: 100 * SECOND };
        let settings = RetrySettings { backoff, threshold: 3, pause: 10 * SECOND };
        Guard::new("out", "write", settings)
    }

    fn away() -> Error {
        Error::transient("away")
    }

    #[test]
    fn callers_share_the_breaker_and_one_of_them_tries() {
        let guard = guard();
        let mut callers: Vec<Attempts> = (0..3).map(|_| Attempts::new(guard.clone())).collect();
        for caller in &mut callers[..2] {
            assert!(caller.may_call(SECOND));
            caller.failed(SECOND, away()).unwrap();
        }
        assert!(callers[2].may_call(SECOND), "closed: who has not failed goes on");
        assert!(!callers[0].may_call(SECOND), "it waits first");
        assert!(callers[0].may_call(3 * SECOND));
        callers[0].failed(3 * SECOND, away()).unwrap();
        assert_eq!(guard.state(), BreakerState::Open);
        for caller in &mut callers {
            assert!(!caller.may_call(12 * SECOND));
        }
        assert!(callers[1].may_call(13 * SECOND), "the trial");
        assert_eq!(guard.state(), BreakerState::HalfOpen);
        assert!(callers[1].may_call(13 * SECOND), "still the same trial");
        assert!(!callers[0].may_call(13 * SECOND) && !callers[2].may_call(13 * SECOND));
        callers[1].failed(14 * SECOND, away()).unwrap();
        assert!(!callers[1].may_call(23 * SECOND), "open again, for the whole pause");
        assert!(callers[0].may_call(24 * SECOND));
        callers[0].succeeded();
        assert_eq!(guard.state(), BreakerState::Closed);
        assert!(callers[1].may_call(24 * SECOND) && callers[2].may_call(24 * SECOND));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let guard = guard();
        let mut caller = Attempts::new(guard.clone());
        for n in 0..20 {
            caller.failed(n * SECOND, away()).unwrap();
            caller.succeeded();
        }
        assert_eq!(guard.state(), BreakerState::Closed);
    }

    #[test]
    fn it_gives_up_at_its_deadline_with_the_last_error_and_never_retries_others() {
        let mut caller = Attempts::new(guard());
        caller.failed(Duration::ZERO, away()).unwrap();
        caller.failed(99 * SECOND, away()).unwrap();
        let error = caller.failed(100 * SECOND, Error::transient("still away")).unwrap_err();
        assert!(error.to_string().contains("given up after 3 attempts"), "{error}");
        assert!(error.to_string().ends_with("still away"), "{error}");
        let error = caller.failed(SECOND, Error::external("broken")).unwrap_err();
        assert_eq!(error.to_string(), "out: broken");
    }
}
