//! What a bus in memory holds, behind one lock: topics, groups, and who waits for what.
//!
//! Wakers are called when the lock is free again, for they may do anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use tidemill_core::Epoch;
use tidemill_core::source::Offset;

use super::group::{Group, Place, Split};
use super::log::{Holder, Log};
use crate::{BusError, Event, partition_of};

/// Wakers by whom they wake.
#[derive(Debug, Default)]
struct Wakers(BTreeMap<u64, Waker>);

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    partitions: u32,
    pub capacity: usize,
    topics: BTreeMap<Arc<str>, Topic>,
    pub groups: BTreeMap<Arc<str>, Group>,
    last_id: u64,
    readers: Wakers,
    publishers: Wakers,
    /// To be called when the lock is free.
    due: Vec<Waker>,
}

#[derive(Debug)]
struct Topic {
    logs: Vec<Log>,
    /// Events without a key so far.
    keyless: u32,
    /// The last epoch of each job's sink.
    epochs: BTreeMap<String, Epoch>,
}

/// What a member is to be given.
pub(crate) enum Given {
    Event(Split, u64, Arc<Event>),
    Lost(Split, u64),
    /// Nothing more before the event at this offset, of so many, is acknowledged.
    Held(Split, u64, u64),
}

impl State {
    pub fn new(partitions: u32, capacity: usize) -> Self {
        Self {
            partitions,
            capacity,
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            last_id: 0,
            readers: Wakers::default(),
            publishers: Wakers::default(),
            due: Vec::new(),
        }
    }

    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// A number for a member, a reader or a publisher.
    pub fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub fn take_due(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.due)
    }

    pub fn await_events(&mut self, id: u64, waker: &Waker) {
        self.readers.0.insert(id, waker.clone());
    }

    pub fn await_room(&mut self, id: u64, waker: &Waker) {
        self.publishers.0.insert(id, waker.clone());
    }

    pub fn forget(&mut self, id: u64) {
        self.readers.0.remove(&id);
        self.publishers.0.remove(&id);
    }

    /// Events may have come, or something else to be said.
    pub fn wake_readers(&mut self) {
        self.due.extend(std::mem::take(&mut self.readers.0).into_values());
    }

    /// Room may have come.
    pub fn wake_publishers(&mut self) {
        self.due.extend(std::mem::take(&mut self.publishers.0).into_values());
    }

    /// The topic, made where it is not there.
    fn topic(&mut self, name: &str) -> (Arc<str>, &mut Topic) {
        let known = self.topics.get_key_value(name).map(|(name, _)| name.clone());
        let name = known.unwrap_or_else(|| name.into());
        let logs = self.partitions;
        let topic = self.topics.entry(name.clone()).or_insert_with(|| Topic {
            logs: (0..logs).map(|_| Log::default()).collect(),
            keyless: 0,
            epochs: BTreeMap::new(),
        });
        (name, topic)
    }

    /// The partitions of a topic, which is made where it is not there.
    pub fn splits(&mut self, name: &str) -> Vec<Split> {
        let (name, topic) = self.topic(name);
        (0..topic.logs.len() as u32).map(|partition| (name.clone(), partition)).collect()
    }

    pub fn log(&mut self, split: &Split) -> &mut Log {
        &mut self.topic(&split.0).1.logs[split.1 as usize]
    }

    /// The partition that an event belongs to.
    pub fn place(&mut self, topic: &str, key: Option<&[u8]>) -> Split {
        let (name, topic) = self.topic(topic);
        let partitions = topic.logs.len() as u32;
        let partition = match key {
            Some(key) => partition_of(key, partitions),
            None => {
                topic.keyless = topic.keyless.wrapping_add(1);
                (topic.keyless - 1) % partitions
            }
        };
        (name, partition)
    }

    pub fn push(&mut self, split: &Split, event: Event) -> u64 {
        let capacity = self.capacity;
        let offset = self.log(split).push(Arc::new(event), capacity);
        self.wake_readers();
        if self.log(split).is_awaited() {
            self.wake_publishers();
        }
        offset
    }

    /// Whether a topic has no room in some partition.
    pub fn is_full(&mut self, topic: &str) -> bool {
        let capacity = self.capacity;
        self.topic(topic).1.logs.iter().any(|log| log.is_full(capacity))
    }

    /// A new member of a group.
    pub fn join(&mut self, topics: &[&str], group: &Arc<str>) -> u64 {
        let member = self.new_id();
        let splits: Vec<Split> = topics.iter().flat_map(|topic| self.splits(topic)).collect();
        for split in &splits {
            self.place_of(group, split);
        }
        let names = topics.iter().map(|topic| self.topic(topic).0).collect();
        let joined = self.groups.entry(group.clone()).or_default();
        joined.join(member, names);
        let places = splits.iter().map(|split| joined.places[split].committed);
        let places: Vec<u64> = places.collect();
        for (split, committed) in splits.iter().zip(places) {
            self.log(split).hold(Holder::Group(group.clone()), committed);
        }
        self.wake_readers();
        member
    }

    /// Where the group is in a partition; with the oldest event, where it is nowhere yet.
    pub fn place_of(&mut self, group: &Arc<str>, split: &Split) -> &mut Place {
        let first = self.log(split).first();
        let group = self.groups.entry(group.clone()).or_default();
        let begin = || Place { committed: first, next: first, ..Place::default() };
        group.places.entry(split.clone()).or_insert_with(begin)
    }

    /// A member leaves.
    pub fn leave(&mut self, group: &Arc<str>, member: u64) {
        self.forget(member);
        let Some(left) = self.groups.get_mut(group) else { return };
        left.leave(member);
        let free = left.places.keys().filter(|(topic, _)| !left.reads(topic));
        let free: Vec<Split> = free.cloned().collect();
        for split in free {
            self.log(&split).release(&Holder::Group(group.clone()));
        }
        self.wake_readers();
        self.wake_publishers();
    }

    /// What a member is given next, its partitions by turns.
    pub fn next(&mut self, group: &Arc<str>, member: u64, last: Option<&Split>) -> Option<Given> {
        let owned = self.groups.get(group)?.owned(member, last);
        let capacity = self.capacity;
        owned.into_iter().find_map(|split| {
            let place = self.groups.get(group)?.places.get(&split)?;
            let (next, is_behind) = (place.next, place.progress.is_full());
            let log = self.log(&split);
            let (first, event) = (log.first(), log.get(next).cloned());
            // All that the partition can hold is out with this member, and somebody waits for room.
            let blocks = event.is_none() && log.is_full(capacity) && log.is_awaited();
            if is_behind || blocks {
                let (oldest, count) = self.place_of(group, &split).progress.reminder()?;
                return Some(Given::Held(split, oldest, count));
            }
            if next < first {
                self.place_of(group, &split).next = first;
                self.commit(group, &split, first);
                return Some(Given::Lost(split, first - next));
            }
            let event = event?;
            let place = self.place_of(group, &split);
            place.next = next + 1;
            place.progress.delivered(next);
            Some(Given::Event(split, next, event))
        })
    }

    /// A member has handled an event.
    pub fn acknowledge(&mut self, group: &Arc<str>, split: &Split, offset: u64) {
        let progress = &mut self.place_of(group, split).progress;
        let was_full = progress.is_full();
        if let Some(committed) = progress.acknowledged(offset) {
            self.commit(group, split, committed);
            if was_full {
                self.wake_readers();
            }
        }
    }

    /// The group has handled everything before `offset`.
    pub fn commit(&mut self, group: &Arc<str>, split: &Split, offset: u64) {
        let place = self.place_of(group, split);
        place.committed = offset;
        if place.owner.is_some() {
            self.log(split).hold(Holder::Group(group.clone()), offset);
            self.wake_publishers();
        }
    }

    /// The committed place of a group, where it has one.
    pub fn committed_of(&self, group: &str, split: &Split) -> Option<u64> {
        Some(self.groups.get(group)?.places.get(split)?.committed)
    }

    /// Puts events in; nobody waits for room here.
    pub fn publish_all(&mut self, topic: &str, events: Vec<Event>) {
        for event in events {
            let split = self.place(topic, event.key.as_deref());
            self.push(&split, event);
        }
    }

    /// Starts a new run of a job's sink: its epochs count from 1 again.
    pub fn start_run(&mut self, topic: &str, sink: &str) {
        self.topic(topic).1.epochs.remove(sink);
    }

    /// The last epoch of a job's sink.
    pub fn committed(&mut self, topic: &str, sink: &str) -> Option<Epoch> {
        self.topic(topic).1.epochs.get(sink).copied()
    }

    /// Puts an epoch's events in, all in one go; once, however often it is asked to. Nobody waits for room
    /// here: the sink's writers have.
    pub fn commit_epoch(&mut self, topic: &str, sink: &str, epoch: Epoch, events: Vec<Event>) {
        if self.committed(topic, sink) >= Some(epoch) {
            return;
        }
        self.publish_all(topic, events);
        self.topic(topic).1.epochs.insert(sink.to_owned(), epoch);
    }
}

/// An offset's text as a number.
///
/// # Errors
/// It is none.
pub(crate) fn parse_offset(split: &Split, offset: &Offset) -> Result<u64, BusError> {
    offset.0.parse().map_err(|_| BusError::InvalidOffset {
        topic: split.0.to_string(),
        partition: split.1,
        offset: offset.0.clone(),
    })
}
