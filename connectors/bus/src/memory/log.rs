//! One partition in memory: events in order, of which the oldest go when there are too many.
//!
//! Invariant: an event that a holder has yet to handle is never dropped; so a full log takes nothing
//! more, and whoever publishes waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::Event;

/// Who still needs events of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// A group that has members.
    Group(Arc<str>),
    /// The reader of a job.
    Reader(u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Log {
    first: u64,
    events: VecDeque<Arc<Event>>,
    /// From where on each holder needs events.
    holds: BTreeMap<Holder, u64>,
    /// Publishers that wait for room, in the order of their coming.
    waiting: VecDeque<u64>,
}

impl Log {
    /// The offset of the oldest event.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The offset of the next event to come.
    pub fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The event at `offset`, where it is there.
    pub fn get(&self, offset: u64) -> Option<&Arc<Event>> {
        self.events.get(usize::try_from(offset.checked_sub(self.first)?).ok()?)
    }

    /// The first offset whose event is not older than `timestamp`; the end where there is none.
    pub fn at_time(&self, timestamp: i64) -> u64 {
        let is_new = |event: &Arc<Event>| event.timestamp >= Some(timestamp);
        let position = self.events.iter().position(is_new);
        position.map_or(self.end(), |position| self.first + position as u64)
    }

    /// Somebody needs the events from `offset` on.
    pub fn hold(&mut self, holder: Holder, offset: u64) {
        self.holds.insert(holder, offset);
    }

    /// Somebody needs none any more.
    pub fn release(&mut self, holder: &Holder) {
        self.holds.remove(holder);
    }

    /// Whether the oldest event is needed.
    fn is_held(&self) -> bool {
        self.holds.values().any(|held| *held <= self.first)
    }

    /// Whether `publisher` may put an event in now; else it stands in the queue.
    pub fn has_room(&mut self, publisher: u64, capacity: usize) -> bool {
        let is_full = self.is_full(capacity);
        let place = self.waiting.iter().position(|waiting| *waiting == publisher);
        match place {
            Some(0) if !is_full => {
                self.waiting.pop_front();
                true
            }
            None if !is_full && self.waiting.is_empty() => true,
            None => {
                self.waiting.push_back(publisher);
                false
            }
            Some(_) => false,
        }
    }

    /// Whether there is no room.
    pub fn is_full(&self, capacity: usize) -> bool {
        self.events.len() >= capacity && self.is_held()
    }

    /// A publisher does not wait any more.
    pub fn give_up(&mut self, publisher: u64) {
        self.waiting.retain(|waiting| *waiting != publisher);
    }

    /// Whether somebody waits for room.
    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Puts an event in and drops old ones that nobody needs.
    pub fn push(&mut self, event: Arc<Event>, capacity: usize) -> u64 {
        while self.events.len() >= capacity && !self.is_held() {
            self.events.pop_front();
            self.first += 1;
        }
        self.events.push_back(event);
        self.end() - 1
    }
}

#[cfg(test)]
impl Log {
    /// As if newer events had needed the room.
    pub fn drop_before(&mut self, offset: u64) {
        self.events.drain(..(offset - self.first) as usize);
        self.first = offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: usize, capacity: usize) -> Log {
        let mut log = Log::default();
        for number in 0..events {
            let event = Event::new(number.to_string()).at(number as i64 * 10);
            log.push(Arc::new(event), capacity);
        }
        log
    }

    #[test]
    fn the_oldest_go_unless_somebody_needs_them() {
        let mut log = log(5, 3);
        assert_eq!((log.first(), log.end()), (2, 5));
        assert_eq!(log.get(2).unwrap().body(), b"2");
        assert!(log.get(1).is_none() && log.get(5).is_none());
        log.hold(Holder::Reader(1), 2);
        assert!(log.is_full(3) && !log.has_room(7, 3));
        log.hold(Holder::Reader(1), 3);
        assert!(!log.has_room(8, 3), "7 came first");
        assert!(log.has_room(7, 3));
        assert_eq!(log.push(Arc::new(Event::new("5")), 3), 5);
        assert_eq!(log.first(), 3);
        log.release(&Holder::Reader(1));
        log.give_up(8);
        assert!(log.has_room(9, 3) && !log.is_awaited());
    }

    #[test]
    fn times_are_found() {
        let log = log(5, 10);
        assert_eq!([0, 15, 40, 41].map(|time| log.at_time(time)), [0, 2, 4, 5]);
    }
}
