//! A bus in the memory of this process: the default for tests and for trying things without a server.
//!
//! | module | what it does |
//! |---|---|
//! | `log` | a partition: events in order, the oldest dropped when nobody needs them |
//! | `group` | who of a group reads what, and how far the group has come |
//! | `state` | all of it behind one lock, and who waits |
//! | `publish`, `feed` | the futures and streams over it |
//!
//! A partition holds a bounded number of events. One that is full drops its oldest, unless a group that has
//! members now, or a job that reads it, has not handled it: then publishers wait. A group whose members
//! have all left holds nobody up; what it misses it is told as [`BusError::EventsLost`] when it comes back.

mod feed;
mod group;
mod log;
mod publish;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tidemill_core::time::SystemClock;

use self::feed::{Member, Replaying};
pub(crate) use self::group::Split;
pub(crate) use self::log::{Holder, Log};
use self::publish::Publishing;
use self::state::State;
use crate::error::{check_subscription, check_topic};
use crate::{BusError, Event, EventBus, Receipt, Replay, Start, Subscription};

/// How many partitions a topic has where nothing is said.
pub(crate) const PARTITIONS: u32 = 4;

/// How many events a partition holds where nothing is said.
const CAPACITY: usize = 65_536;

/// Why events are gone.
pub(crate) const RETENTION: &str =
    "a partition in memory holds a bounded number of events: raise '?capacity=' of the bus";

/// The buses that addresses name.
static NAMED: Mutex<BTreeMap<String, MemoryBus>> = Mutex::new(BTreeMap::new());

/// A bus in memory. Clones are the same bus. See the [module](self).
#[derive(Clone)]
pub struct MemoryBus {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    clock: SystemClock,
    state: Mutex<State>,
}

impl Inner {
    /// Does something with the state, and then wakes whom that concerns.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = act(&mut state);
        let due = state.take_due();
        drop(state);
        due.into_iter().for_each(std::task::Waker::wake);
        result
    }
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBus {
    /// An empty bus: topics have four partitions of 65 536 events at most, and are made when they are
    /// first used.
    pub fn new() -> Self {
        Self::with(PARTITIONS, CAPACITY)
    }

    /// An empty bus whose topics have `partitions` partitions of at most `capacity` events; at least one
    /// of each.
    pub fn with(partitions: u32, capacity: usize) -> Self {
        let state = Mutex::new(State::new(partitions.max(1), capacity.max(1)));
        Self { inner: Arc::new(Inner { clock: SystemClock::default(), state }) }
    }

    /// The bus of this name in this process, as `memory://name` has it; made when it is first asked
    /// for, and kept for as long as the process lives.
    pub fn named(name: &str) -> Self {
        NAMED.lock().entry(name.to_owned()).or_default().clone()
    }

    /// As [`MemoryBus::named`], of other dimensions where it is made now.
    pub(crate) fn named_with(name: &str, partitions: Option<u32>, capacity: Option<usize>) -> Self {
        let make = || Self::with(partitions.unwrap_or(PARTITIONS), capacity.unwrap_or(CAPACITY));
        NAMED.lock().entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// How many partitions a topic has, and how many events a partition holds.
    pub(crate) fn dimensions(&self) -> (u32, usize) {
        self.inner.with(|state| (state.partitions(), state.capacity))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl EventBus for MemoryBus {
    fn publish<'a>(
        &'a self,
        topic: &'a str,
        event: Event,
    ) -> BoxFuture<'a, Result<Receipt, BusError>> {
        match check_topic(topic) {
            Ok(()) => Publishing::new(self.inner.clone(), topic, event).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn subscribe<'a>(
        &'a self,
        topics: &'a [&'a str],
        group: &'a str,
    ) -> BoxFuture<'a, Result<Subscription, BusError>> {
        let subscribed = check_subscription(topics, group).map(|()| {
            let group: Arc<str> = group.into();
            let id = self.inner.with(|state| state.join(topics, &group));
            Subscription::new(Member { bus: self.inner.clone(), group, id, last: None })
        });
        ready(subscribed).boxed()
    }
}

impl Replay for MemoryBus {
    fn replay<'a>(
        &'a self,
        topic: &'a str,
        from: Start,
    ) -> BoxFuture<'a, Result<Subscription, BusError>> {
        let replayed = check_topic(topic)
            .and_then(|()| Replaying::new(self.inner.clone(), topic, &from))
            .map(Subscription::new);
        ready(replayed).boxed()
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBus").finish_non_exhaustive()
    }
}
