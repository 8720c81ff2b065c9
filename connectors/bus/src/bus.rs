//! What a bus does, in traits that user code and connectors share.
//!
//! Futures and streams are those of the `futures` crate: they run on any executor.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use tidemill_core::source::Offset;
use tidemill_core::time::EventTime;

use crate::{BusError, Event, Receipt, Subscription};

/// Publishes events and hands them to groups of subscribers, at least once.
///
/// A topic has partitions. Events with the same key go to the same one and stay in the order in which
/// they were published. Of a group's members each reads partitions that no other reads at the time, so
/// that the members share the work; every group gets every event. A new group begins with the oldest
/// event there is.
pub trait EventBus: Send + Sync {
    /// Puts an event into a topic. Ready when the bus has it for good; waits while the bus has no room.
    ///
    /// A future that is dropped before it is ready may have published the event, or not.
    fn publish<'a>(
        &'a self,
        topic: &'a str,
        event: Event,
    ) -> BoxFuture<'a, Result<Receipt, BusError>>;

    /// Joins a group that reads these topics. Ready when the bus has taken it in.
    fn subscribe<'a>(
        &'a self,
        topics: &'a [&'a str],
        group: &'a str,
    ) -> BoxFuture<'a, Result<Subscription, BusError>>;
}

/// A bus that can be read again from any place.
pub trait Replay: EventBus {
    /// Everything in a topic from `from` on, and then what comes. Belongs to no group: nothing is
    /// shared with others, and acknowledgements mean nothing.
    fn replay<'a>(
        &'a self,
        topic: &'a str,
        from: Start,
    ) -> BoxFuture<'a, Result<Subscription, BusError>>;
}

/// Where a replay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event there is.
    Earliest,
    /// With the first event, in each partition, whose timestamp is not older; where there is none, with
    /// what comes next.
    Time(EventTime),
    /// With the events at these offsets, by partition; partitions that are not named, with their oldest.
    Offsets(BTreeMap<u32, Offset>),
}
