//! Calls of a user's function within one round, and when to make no more of them. Invariant: a round spends no
//! longer than the policy's deadline, and one call, on calls that fail transiently one after the other.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tidemill_core::time::Clock;
use tidemill_core::{Error, ErrorClass, Result};

use super::gate::Gate;
use super::retry::Patience;

/// Makes calls until they have failed transiently for too long, one after the other: what they need is not
/// there, and asking for every row would hold up the shard for as many timeouts.
///
/// While the function's circuit breaker is open a call waits for its trial: nothing is given up for that.
pub struct Trials<'a> {
    clock: &'a dyn Clock,
    patience: &'a dyn Patience,
    gate: &'a Gate,
    deadline: Duration,
    /// Whether each failed call counts for the breaker. Where not, as among rows that have failed before or
    /// parts of a batch that has, all of them together count once.
    counts_each: bool,
    counted: Cell<bool>,
    /// When the first call failed of those that have failed transiently since one did not.
    failing_since: Cell<Option<Duration>>,
    /// Why the last call failed, once no more are made.
    given_up: RefCell<Option<String>>,
}

impl<'a> Trials<'a> {
    pub(super) fn new(
        clock: &'a dyn Clock,
        patience: &'a dyn Patience,
        gate: &'a Gate,
        deadline: Duration,
        counts_each: bool,
    ) -> Self {
        let (failing_since, given_up) = (Cell::new(None), RefCell::new(None));
        let counted = Cell::new(false);
        Self { clock, patience, gate, deadline, counts_each, counted, failing_since, given_up }
    }

    /// Makes a call, unless no more are made.
    ///
    /// # Errors
    /// Those of the call; a transient one where it was not made.
    pub fn call<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(why) = &*self.given_up.borrow() {
            let deadline = self.deadline;
            return Err(Error::transient(format!(
                "not tried, since calls had failed for {deadline:?}, the last with: {why}"
            )));
        }
        let trial = self.gate.pass(self.clock, self.patience);
        let result = call();
        match &result {
            Err(error) if error.kind().class() == ErrorClass::Transient => {
                self.failed(error, trial)
            }
            _ => {
                self.gate.succeeded();
                self.failing_since.set(None);
            }
        }
        result
    }

    fn failed(&self, error: &Error, trial: bool) {
        let now = self.clock.elapsed();
        if trial || self.counts_each || !self.counted.replace(true) {
            self.gate.failed(now, trial);
        }
        let since = self.failing_since.get().unwrap_or(now);
        self.failing_since.set(Some(since));
        if now.saturating_sub(since) >= self.deadline {
            self.given_up.replace(Some(error.to_string()));
        }
    }

    /// Whether no more calls are made.
    pub(super) fn have_ended(&self) -> bool {
        self.given_up.borrow().is_some()
    }
}
