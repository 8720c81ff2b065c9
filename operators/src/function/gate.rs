//! A function's circuit breaker, which all shards share. Invariant: while it is not closed, at most one call
//! is under way that it has let through.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::gauge;
use parking_lot::Mutex;
use tidemill_core::retry::{BreakerState, CircuitBreaker};
use tidemill_core::time::Clock;

use super::retry::{Patience, RetryPolicy};

/// How often a shard looks whether another one's trial has come to an end.
const LOOK: Duration = Duration::from_millis(10);

/// Lets calls through, unless too many have failed.
pub(super) struct Gate {
    breaker: Mutex<CircuitBreaker>,
    /// A call has failed since the last that did not: readable without the lock.
    troubled: AtomicBool,
    /// What metrics call the function.
    name: OnceLock<String>,
}

impl Gate {
    pub fn new(policy: &RetryPolicy) -> Self {
        let breaker = Mutex::new(CircuitBreaker::new(policy.threshold, policy.pause));
        Self { breaker, troubled: AtomicBool::new(false), name: OnceLock::new() }
    }

    /// The function is called so in the job.
    pub fn name(&self, name: &str) {
        // Every shard says the same.
        let _ = self.name.set(name.to_owned());
        self.show(BreakerState::Closed);
    }

    /// Waits until a call may be made; whether it is the one that an open breaker lets through.
    pub fn pass(&self, clock: &dyn Clock, patience: &dyn Patience) -> bool {
        while self.troubled.load(Ordering::Acquire) {
            let now = clock.elapsed();
            let mut breaker = self.breaker.lock();
            let is_trial = breaker.state() != BreakerState::Closed;
            if breaker.allows(now) {
                self.show(breaker.state());
                return is_trial;
            }
            let wait = breaker.retry_at().map_or(LOOK, |at| at.saturating_sub(now));
            drop(breaker);
            patience.wait(wait);
        }
        false
    }

    pub fn succeeded(&self) {
        if self.troubled.load(Ordering::Acquire) {
            let mut breaker = self.breaker.lock();
            breaker.succeeded();
            self.troubled.store(false, Ordering::Release);
            self.show(breaker.state());
        }
    }

    /// `trial`: the call was the one that an open breaker had let through.
    pub fn failed(&self, now: Duration, trial: bool) {
        let mut breaker = self.breaker.lock();
        self.troubled.store(true, Ordering::Release);
        // A call that was under way when it opened says nothing new.
        if trial || breaker.state() == BreakerState::Closed {
            breaker.failed(now);
            self.show(breaker.state());
        }
    }

    fn show(&self, state: BreakerState) {
        if let Some(name) = self.name.get() {
            let state = f64::from(state as u32);
            gauge!("tidemill_circuit_breaker_state", "function" => name.clone()).set(state);
        }
    }
}
