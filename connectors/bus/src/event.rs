//! What travels on a bus, and what comes back of it.

use std::fmt;
use std::sync::Arc;

use tidemill_core::record::Header;
use tidemill_core::source::Offset;
use tidemill_core::time::EventTime;
use xxhash_rust::xxh3::xxh3_64;

/// An event: bytes, with a key that says what it is about.
///
/// Events with the same key stay in order; those without one are spread over the partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// What it is about.
    pub key: Option<Vec<u8>>,
    /// Headers, in order. Of those with the same name the last counts; Redis keeps no other.
    pub headers: Vec<Header>,
    /// When it happened, in microseconds since 1970, UTC. `None` on publishing: now. Kafka keeps
    /// milliseconds.
    pub timestamp: Option<EventTime>,
    /// What it says; `None` says that there is nothing any more under the key (a tombstone).
    pub payload: Option<Vec<u8>>,
}

impl Event {
    /// An event without a key.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    /// An event about `key`.
    pub fn keyed(key: impl Into<Vec<u8>>, payload: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..Self::new(payload) }
    }

    /// The same event with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// The same event with a timestamp, in microseconds since 1970, UTC.
    #[must_use]
    pub fn at(self, timestamp: EventTime) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    /// The last header of this name, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().rev().filter(|header| header.name == name);
        std::str::from_utf8(named.next()?.value.as_deref()?).ok()
    }

    /// The payload; empty where there is none.
    pub fn body(&self) -> &[u8] {
        self.payload.as_deref().unwrap_or_default()
    }
}

/// Where an event was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The topic.
    pub topic: String,
    /// The partition, counted from 0.
    pub partition: u32,
    /// The event's own place in the partition, in the bus's notation.
    pub offset: Offset,
}

/// An event that has come out of a bus.
///
/// It counts as handled when [`Delivery::ack`] is called. One that is dropped instead comes again: to
/// another member of the group, or to this one when it subscribes again. Until then the group stays before
/// it, and behind [`UNACKNOWLEDGED_MAX`](crate::UNACKNOWLEDGED_MAX) further events nothing more comes of its partition.
pub struct Delivery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, counted from 0.
    pub partition: u32,
    /// The event's own place in the partition, in the bus's notation.
    pub offset: Offset,
    /// The event. Its timestamp is there.
    pub event: Event,
    acknowledge: Box<dyn FnOnce() + Send>,
}

impl Delivery {
    /// A delivery; `acknowledge` is called when it is handled.
    pub fn new(
        topic: Arc<str>,
        partition: u32,
        offset: Offset,
        event: Event,
        acknowledge: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { topic, partition, offset, event, acknowledge: Box::new(acknowledge) }
    }

    /// The event is handled: the group need not see it again. Does not wait; what was acknowledged is
    /// with the bus at the latest when [`Subscription::close`](crate::Subscription::close) returns.
    pub fn ack(self) {
        (self.acknowledge)();
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// The partition, out of `partitions`, of a key in memory and on Redis. Fixed for ever; Kafka has its own.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (xxh3_64(key) % u64::from(partitions.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_headers_with_the_same_name_the_last_counts() {
        let event =
            Event::new("x").with_header("a", "1").with_header("b", "2").with_header("a", "3");
        assert_eq!((event.header("a"), event.header("c")), (Some("3"), None));
        assert_eq!(event.with_header("a", [0xff]).header("a"), None, "it is no text");
    }

    #[test]
    fn partitions_of_keys_are_fixed_for_ever() {
        // XXH3 of nothing, from the reference implementation.
        assert_eq!(u64::from(partition_of(b"", 8)), 0x2d06_8005_38d3_94c2 % 8);
        let partitions = ["a", "order-1", "order-2"].map(|key| partition_of(key.as_bytes(), 8));
        assert_eq!(partitions, [7, 6, 4]);
    }
}
