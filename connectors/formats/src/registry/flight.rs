//! One flight per key: of all who want the same answer one fetches it, the others wait for it.
//!
//! Invariant: while an answer or a failure is remembered nobody asks again, so that one bad id,
//! met in every record of a topic, costs the registry a request now and then.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_core::{Error, ErrorKind, Result};

/// How many failures are remembered at most: ids read from garbage are all different.
const FAILURES_MAX: usize = 1_024;

/// How long a failure that may pass is remembered at most: for all who ask at the same moment, and no
/// longer, for somebody waits.
const TRANSIENT_MEMORY: Duration = Duration::from_secs(1);

/// Answers by key.
pub(super) struct Flights<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    landed: Condvar,
}

enum Slot<V> {
    InFlight,
    Here(V),
    Failed { failure: Failure, until: Duration },
}

/// An error that can be told again.
#[derive(Clone)]
struct Failure {
    kind: ErrorKind,
    message: String,
    option: Option<String>,
}

impl Failure {
    fn of(error: &Error) -> Self {
        let option = error.wrong_option().map(str::to_owned);
        Self { kind: error.kind(), message: error.to_string(), option }
    }

    fn error(&self) -> Error {
        match &self.option {
            Some(option) => Error::option(option, &self.message),
            None => Error::new(self.kind, &self.message),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    pub(super) fn new() -> Self {
        Self { slots: Mutex::new(HashMap::new()), landed: Condvar::new() }
    }

    /// The answer for `key`: remembered, or what `fetch` returns, or what another thread is just
    /// fetching. A failure is remembered for `memory`, measured by `now`; one that may pass, for
    /// [`TRANSIENT_MEMORY`] at most.
    pub(super) fn get(
        &self,
        key: &K,
        now: &dyn Fn() -> Duration,
        memory: Duration,
        fetch: impl FnOnce() -> Result<V>,
    ) -> Result<V> {
        let mut slots = self.lock();
        loop {
            match slots.get(key) {
                Some(Slot::Here(value)) => return Ok(value.clone()),
                Some(Slot::Failed { failure, until }) if now() < *until => {
                    return Err(failure.error());
                }
                Some(Slot::InFlight) => {
                    slots = self.landed.wait(slots).unwrap_or_else(PoisonError::into_inner);
                }
                Some(Slot::Failed { .. }) | None => break,
            }
        }
        slots.insert(key.clone(), Slot::InFlight);
        drop(slots);
        let mut landing = Landing { flights: self, key, slot: None };
        let outcome = fetch();
        landing.slot = Some(match &outcome {
            Ok(value) => Slot::Here(value.clone()),
            Err(error) => {
                let passes = error.kind() == ErrorKind::Transient;
                let memory = if passes { memory.min(TRANSIENT_MEMORY) } else { memory };
                Slot::Failed { failure: Failure::of(error), until: now() + memory }
            }
        });
        drop(landing);
        self.forget_failures(now());
        outcome
    }

    /// Keeps the memory of failures bounded: those of the past go, and all where that is too few.
    fn forget_failures(&self, now: Duration) {
        let mut slots = self.lock();
        let failed = |slot: &Slot<V>| matches!(slot, Slot::Failed { .. });
        if slots.values().filter(|slot| failed(slot)).count() <= FAILURES_MAX {
            return;
        }
        slots.retain(|_, slot| !matches!(slot, Slot::Failed { until, .. } if *until <= now));
        if slots.values().filter(|slot| failed(slot)).count() > FAILURES_MAX {
            slots.retain(|_, slot| !failed(slot));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Slot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a flight, even one that panicked: those who wait must not wait for ever.
struct Landing<'a, K: Clone + Eq + Hash, V: Clone> {
    flights: &'a Flights<K, V>,
    key: &'a K,
    slot: Option<Slot<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        let mut slots = self.flights.lock();
        match self.slot.take() {
            Some(slot) => slots.insert(self.key.clone(), slot),
            None => slots.remove(self.key),
        };
        self.flights.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const MEMORY: Duration = Duration::from_secs(10);

    #[test]
    fn of_many_who_ask_at_once_one_fetches() {
        let flights = Flights::new();
        let fetches = AtomicUsize::new(0);
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    together.wait();
                    let answer = flights.get(&7, &|| Duration::ZERO, MEMORY, || {
                        std::thread::yield_now();
                        Ok(fetches.fetch_add(1, Ordering::SeqCst) + 1)
                    });
                    assert_eq!(answer.unwrap(), 1);
                });
            }
        });
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failure_is_remembered_for_a_while_and_then_forgotten() {
        let flights: Flights<u32, u32> = Flights::new();
        let at = |seconds, fetch: Result<u32>| {
            flights.get(&1, &|| Duration::from_secs(seconds), MEMORY, || fetch)
        };
        let refused = at(0, Err(Error::permanent("no such id"))).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Permanent);
        let again = at(9, Ok(5)).unwrap_err();
        assert_eq!(again.to_string(), "no such id");
        assert_eq!(at(10, Ok(5)).unwrap(), 5);
        assert_eq!(at(11, Err(Error::internal("it is here already"))).unwrap(), 5);
    }

    #[test]
    fn a_failure_that_may_pass_is_forgotten_soon() {
        let flights: Flights<u32, u32> = Flights::new();
        let at = |millis, fetch: Result<u32>| {
            flights.get(&1, &|| Duration::from_millis(millis), MEMORY, || fetch)
        };
        at(0, Err(Error::transient("away"))).unwrap_err();
        assert_eq!(at(999, Ok(5)).unwrap_err().kind(), ErrorKind::Transient);
        assert_eq!(at(1_000, Ok(5)).unwrap(), 5);
    }

    #[test]
    fn failures_are_bounded() {
        let flights: Flights<usize, u32> = Flights::new();
        for id in 0..5 * FAILURES_MAX {
            let failing = || Err(Error::permanent("no such id"));
            flights.get(&id, &|| Duration::ZERO, MEMORY, failing).unwrap_err();
        }
        assert!(flights.lock().len() <= FAILURES_MAX + 1);
    }

    #[test]
    fn a_fetch_that_panics_frees_its_key() {
        let flights: Flights<u32, u32> = Flights::new();
        let panics = std::panic::AssertUnwindSafe(|| {
            let _ = flights.get(&1, &|| Duration::ZERO, MEMORY, || panic!("on purpose"));
        });
        std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!(flights.get(&1, &|| Duration::ZERO, MEMORY, || Ok(3)).unwrap(), 3);
    }
}
