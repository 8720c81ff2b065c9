//! How often a function is called again, and what waiting needs from outside. Invariant: no batch waits
//! longer than its policy's deadline, but for the pauses of an open circuit breaker.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tidemill_core::retry::Backoff;

/// How often, and for how long, a call that failed transiently is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; 1 means that nothing is tried again.
    pub attempts: u32,
    /// The waits between them. Its deadline holds for a whole batch, not for each row.
    pub backoff: Backoff,
    /// So many calls that fail transiently in a row, on all shards together, open the function's circuit
    /// breaker: then none is made, and rows wait.
    pub threshold: u32,
    /// After so long one call is tried, whose outcome closes the breaker or opens it again.
    pub pause: Duration,
}

impl Default for RetryPolicy {
    /// Five attempts, 200 ms to 2 s apart, for at most 4 s: the shard waits meanwhile. After ten failures in
    /// a row no call is made for 5 s.
    fn default() -> Self {
        let backoff = Backoff {
            first: Duration::from_millis(200),
            max: Duration::from_secs(2),
            deadline: Duration::from_secs(4),
        };
        Self { attempts: 5, backoff, threshold: 10, pause: Duration::from_secs(5) }
    }
}

impl RetryPolicy {
    /// Nothing is tried again.
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }
}

impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempts {
            0 | 1 => f.write_str("tried once"),
            n => write!(f, "tried up to {n} times within {:?}", self.backoff.deadline),
        }
    }
}

/// Time and chance, as waiting needs them.
pub trait Patience: Send + Sync {
    /// Waits.
    fn wait(&self, duration: Duration);

    /// A number from 0 to 1, evenly.
    fn jitter(&self) -> f64;
}

/// Waits by letting the thread sleep.
#[derive(Debug)]
pub(crate) struct Asleep;

impl Patience for Asleep {
    fn wait(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn jitter(&self) -> f64 {
        // Each such state has a seed of its own; it decides when something is tried, never what comes out.
        RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
    }
}
