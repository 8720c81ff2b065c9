//! The exchange: bounded channels between shards, routing by key group, and the gate that keeps
//! idle inputs exact.
//!
//! A channel has one producing and one consuming shard. Its capacity is soft by one step of the
//! producer: a station runs only while all its outlets have room, and then may emit what one step
//! emits. Barriers and watermarks ride in the same queue as rows and are never dropped; a watermark may take the
//! place of a lower one that nothing lies behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use parking_lot::Mutex;
use tidemill_core::{Batch, Element, EventTime, Result, key, time};

use crate::memory::{Account, rows_bytes};
use crate::waker::ShardWaker;

/// Elements that a channel between two shards holds before its producer waits.
pub(crate) const CHANNEL_CAPACITY: usize = 8;

/// An element on its way, and when the source batch was read that caused it.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub element: Element,
    /// Nanoseconds since the job started.
    pub cause: u64,
    /// What its rows weigh.
    bytes: usize,
}

impl Envelope {
    pub fn new(element: Element, cause: u64) -> Self {
        let bytes = match &element {
            Element::Batch(batch) => rows_bytes(&batch.rows),
            Element::Parcel(parcel) => parcel.bytes,
            _ => 0,
        };
        Self { element, cause, bytes }
    }
}

/// A queue between two stations of a shard. Its bound is kept by the shard, which runs a station only
/// while there is room behind it.
pub(crate) struct LocalQueue {
    queue: VecDeque<Envelope>,
    account: Account,
}

impl LocalQueue {
    pub fn new(account: Account) -> Self {
        Self { queue: VecDeque::new(), account }
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn push(&mut self, envelope: Envelope) {
        self.account.add(envelope.bytes);
        self.queue.push_back(envelope);
    }

    pub fn pop(&mut self) -> Option<Envelope> {
        self.pop_if(|_| true)
    }

    /// The first element, where it is one of these.
    pub fn pop_if(&mut self, wanted: impl FnOnce(&Element) -> bool) -> Option<Envelope> {
        let envelope = self.queue.pop_front_if(|first| wanted(&first.element))?;
        self.account.subtract(envelope.bytes);
        Some(envelope)
    }
}

/// A bounded queue from one shard to another. Others lie on other lines of the cache: shards that write to different
/// queues need not wait for each other.
#[repr(align(128))]
pub(crate) struct Channel {
    queue: Mutex<VecDeque<Envelope>>,
    /// Length of the queue, readable without the lock.
    len: AtomicUsize,
    producer: ShardWaker,
    consumer: ShardWaker,
    account: Account,
}

impl Channel {
    fn new(producer: ShardWaker, consumer: ShardWaker, account: Account) -> Self {
        Self { queue: Mutex::default(), len: AtomicUsize::new(0), producer, consumer, account }
    }

    pub fn has_room(&self) -> bool {
        self.len() < CHANNEL_CAPACITY
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Puts an element at the end. A watermark takes the place of one that is there already, and keeps its cause: a
    /// consumer whose processor does other things for some milliseconds must not hold its producers up for what comes
    /// to one number.
    pub fn push(&self, envelope: Envelope) {
        self.account.add(envelope.bytes);
        let mut queue = self.queue.lock();
        if let Element::Watermark(watermark) = envelope.element
            && let Some(Envelope { element: Element::Watermark(last), .. }) = queue.back_mut()
        {
            // The consumer was woken when that one came.
            *last = watermark.max(*last);
            return;
        }
        queue.push_back(envelope);
        self.len.store(queue.len(), Ordering::Release);
        drop(queue);
        self.consumer.wake();
    }

    pub fn pop(&self) -> Option<Envelope> {
        self.pop_if(|_| true)
    }

    /// The first element, where it is one of these.
    pub fn pop_if(&self, wanted: impl FnOnce(&Element) -> bool) -> Option<Envelope> {
        if self.len() == 0 {
            return None;
        }
        let mut queue = self.queue.lock();
        let was_full = queue.len() >= CHANNEL_CAPACITY;
        let envelope = queue.pop_front_if(|first| wanted(&first.element));
        let has_room = queue.len() < CHANNEL_CAPACITY;
        self.len.store(queue.len(), Ordering::Release);
        drop(queue);
        if let Some(envelope) = &envelope {
            self.account.subtract(envelope.bytes);
        }
        if was_full && has_room {
            self.producer.wake();
        }
        envelope
    }
}

/// The channels from one producer to the owners of its rows' keys.
///
/// A watermark comes with every batch, and would be a queue to lock and lines of memory to hand from processor to
/// processor for each owner. So one that no rows came with is held back, and the next takes its place, until
/// [`Owners::release`] is called: at the end of each round of steps, so that a shard never parks with one.
pub(crate) struct Owners {
    channels: Vec<Arc<Channel>>,
    keys: Vec<usize>,
    /// The highest watermark that was held back, and the cause of the first.
    held: Option<(EventTime, u64)>,
}

impl Owners {
    pub fn new(channels: Vec<Arc<Channel>>, keys: Vec<usize>) -> Self {
        Self { channels, keys, held: None }
    }

    pub fn has_room(&self) -> bool {
        self.channels.iter().all(|channel| channel.has_room())
    }

    /// Sends what a step emitted: rows to the owners of their keys, parcels to theirs, everything else to all.
    /// A watermark goes at once where the step emitted rows or parcels, too: they may be what it completes.
    pub fn send(&mut self, element: &Element, with_rows: bool, cause: u64) -> Result<()> {
        match element {
            Element::Batch(batch) => {
                for (shard, rows) in route(&batch.rows, &self.keys, self.channels.len())? {
                    self.channels[shard]
                        .push(Envelope::new(Element::Batch(Batch::new(rows)), cause));
                }
            }
            Element::Parcel(parcel) => {
                self.channels[parcel.owner].push(Envelope::new(element.clone(), cause));
            }
            Element::Watermark(watermark) => {
                let (before, first) = self.held.unwrap_or((*watermark, cause));
                self.held = Some((before.max(*watermark), first));
                if with_rows {
                    self.release();
                }
            }
            Element::Barrier(_) | Element::Idle | Element::End => {
                self.release();
                self.send_to_all(element, cause);
            }
        }
        Ok(())
    }

    /// Sends what was held back.
    pub fn release(&mut self) {
        if let Some((watermark, cause)) = self.held.take() {
            self.send_to_all(&Element::Watermark(watermark), cause);
        }
    }

    fn send_to_all(&self, element: &Element, cause: u64) {
        for channel in &self.channels {
            channel.push(Envelope::new(element.clone(), cause));
        }
    }
}

/// Splits rows by the shard that owns their key group: one batch per shard that gets any.
fn route(
    rows: &RecordBatch,
    key_columns: &[usize],
    shards: usize,
) -> Result<Vec<(usize, RecordBatch)>> {
    let keys: Vec<ArrayRef> = key_columns.iter().map(|c| rows.column(*c).clone()).collect();
    let mut by_shard: Vec<Vec<u32>> = vec![Vec::new(); shards];
    for (row, hash) in key::hash_rows(&keys, rows.num_rows())?.into_iter().enumerate() {
        by_shard[key::owner(key::key_group(hash), shards)].push(row as u32);
    }
    let mut routed = Vec::new();
    for (shard, indices) in by_shard.into_iter().enumerate() {
        if indices.len() == rows.num_rows() {
            return Ok(vec![(shard, rows.clone())]);
        }
        if !indices.is_empty() {
            routed.push((shard, take_record_batch(rows, &UInt32Array::from(indices))?));
        }
    }
    Ok(routed)
}

/// Keeps watermarks exact while inputs of an exchange are idle.
///
/// A consumer that passes an idle producer promises not to go back; a producer that wakes starts at
/// what has been promised. Both look here, so that neither can overtake the other while an element
/// is on its way.
pub(crate) struct IdleGate {
    state: Mutex<GateState>,
}

struct GateState {
    idle: Vec<bool>,
    promised: EventTime,
}

impl IdleGate {
    fn new(producers: usize) -> Self {
        let state = GateState { idle: vec![false; producers], promised: time::BEGINNING };
        Self { state: Mutex::new(state) }
    }

    /// A producer is about to send [`Element::Idle`].
    pub fn sleep(&self, producer: usize) {
        self.state.lock().idle[producer] = true;
    }

    /// A producer has rows again: the watermark that they must be judged by at least.
    pub fn wake(&self, producer: usize) -> EventTime {
        let mut state = self.state.lock();
        state.idle[producer] = false;
        state.promised
    }

    /// A consumer wants to rise to `watermark` past an idle producer. Where that one has woken
    /// meanwhile the promise is not made, and the answer is no.
    pub fn promise(&self, watermark: EventTime, producer: usize) -> bool {
        let mut state = self.state.lock();
        if state.idle[producer] {
            state.promised = state.promised.max(watermark);
        }
        state.idle[producer]
    }
}

/// The gates of the exchanges that a station sends to, with the number of its shard.
pub(crate) type Gates = Vec<(Arc<IdleGate>, usize)>;

/// Shared handles of one exchange edge: `channels[from][to]`, and its gate.
pub(crate) struct Exchange {
    pub channels: Vec<Vec<Arc<Channel>>>,
    pub gate: Arc<IdleGate>,
}

impl Exchange {
    /// An exchange whose queues are accounted for in `account`.
    pub fn new(wakers: &[ShardWaker], account: &Account) -> Self {
        let channel = |from: &ShardWaker, to: &ShardWaker| {
            Arc::new(Channel::new(from.clone(), to.clone(), account.clone()))
        };
        let to_all = |from: &ShardWaker| wakers.iter().map(|to| channel(from, to)).collect();
        Self {
            channels: wakers.iter().map(to_all).collect(),
            gate: Arc::new(IdleGate::new(wakers.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use crate::memory::{Memory, MemoryKind};

    use super::*;

    #[test]
    fn a_watermark_takes_the_place_of_one_that_waits_and_overtakes_nothing() {
        let waker = ShardWaker::default;
        let account = Memory::new(None).account(MemoryKind::Queues, "exchange");
        let channel = Channel::new(waker(), waker(), account);
        let watermark = |at| Envelope::new(Element::Watermark(at), at.unsigned_abs());
        for at in 1..=100 {
            channel.push(watermark(at));
        }
        assert!(channel.has_room(), "however many there are, they are one");
        channel.push(Envelope::new(Element::Idle, 101));
        channel.push(watermark(103));
        channel.push(watermark(102));
        let told = std::iter::from_fn(|| channel.pop());
        let told: Vec<_> = told.map(|told| (format!("{:?}", told.element), told.cause)).collect();
        let expected = [("Watermark(100)", 1), ("Idle", 101), ("Watermark(103)", 103)];
        assert_eq!(told, expected.map(|(element, cause)| (element.to_owned(), cause)));
    }

    /// One owner, and what waits for it.
    fn owners() -> (Owners, impl Fn() -> Vec<String>) {
        let waker = ShardWaker::default;
        let account = Memory::new(None).account(MemoryKind::Queues, "exchange");
        let channel = Arc::new(Channel::new(waker(), waker(), account));
        let owners = Owners::new(vec![channel.clone()], Vec::new());
        let told = move || {
            let told = std::iter::from_fn(|| channel.pop());
            told.map(|told| format!("{:?} of {}", told.element, told.cause)).collect()
        };
        (owners, told)
    }

    #[test]
    fn watermarks_by_themselves_are_held_back_until_they_are_released_as_one() {
        let (mut owners, told) = owners();
        for at in [20, 25, 21] {
            owners.send(&Element::Watermark(at), false, at.unsigned_abs()).unwrap();
        }
        assert!(told().is_empty());
        owners.release();
        assert_eq!(told(), ["Watermark(25) of 20"], "the highest, and the cause of the first");
        owners.release();
        assert!(told().is_empty());
    }

    #[test]
    fn what_follows_a_watermark_does_not_overtake_it_unless_it_is_rows() {
        let (mut owners, told) = owners();
        for (cause, (element, with_rows)) in [
            (Element::Watermark(1), false),
            (Element::Barrier(7), false),
            (Element::Watermark(2), false),
            (Element::Watermark(4), true),
            (Element::Idle, false),
            (Element::Watermark(5), false),
            (Element::End, false),
        ]
        .into_iter()
        .enumerate()
        {
            owners.send(&element, with_rows, cause as u64).unwrap();
        }
        let all = [("Watermark(1)", 0), ("Barrier(7)", 1), ("Watermark(4)", 2), ("Idle", 4)];
        let all = all.into_iter().chain([("Watermark(5)", 5), ("End", 6)]);
        let all: Vec<_> = all.map(|(element, cause)| format!("{element} of {cause}")).collect();
        assert_eq!(told(), all);
    }

    #[test]
    fn routing_keeps_every_row_once_and_equal_keys_together() {
        let keys: Int64Array = (0..1000).map(|n| n % 37).collect();
        let rows = RecordBatch::try_from_iter([("k", Arc::new(keys) as ArrayRef)]).unwrap();
        let routed = route(&rows, &[0], 3).unwrap();
        assert_eq!(routed.iter().map(|(_, part)| part.num_rows()).sum::<usize>(), 1000);
        let mut owner = [None; 37];
        for (shard, part) in routed {
            for key in part.column(0).as_primitive::<Int64Type>().values() {
                let seen = owner[*key as usize].get_or_insert(shard);
                assert_eq!(*seen, shard);
            }
        }
    }

    #[test]
    fn a_producer_that_woke_first_stops_the_promise_and_one_that_wakes_later_keeps_to_it() {
        let gate = IdleGate::new(2);
        gate.sleep(0);
        assert!(gate.promise(50, 0));
        assert_eq!(gate.wake(0), 50);
        assert!(!gate.promise(80, 0));
        assert_eq!(gate.wake(1), 50);
    }
}
