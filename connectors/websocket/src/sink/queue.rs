//! What waits for one client.
//!
//! Invariant: at most as many messages and bytes as allowed; but a client that has taken everything that
//! came before gets the next batch whole, whatever its size: it is not slow. The memory
//! that messages hold is their own, or that of batches of which all that follows waits too.

use std::collections::VecDeque;
use std::ops::Range;

use axum::extract::ws::Message;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::SlowClient;
use super::parcel::{Parcel, copy, size};

/// How much may wait for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub messages: usize,
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { messages: 16_384, bytes: 4 << 20 }
    }
}

/// See the module.
pub(crate) struct Queue {
    limits: Limits,
    policy: SlowClient,
    state: Mutex<State>,
    changed: Notify,
    broken: Notify,
}

#[derive(Default)]
struct State {
    parcels: VecDeque<(Parcel, Range<usize>)>,
    messages: usize,
    bytes: usize,
    end: Option<End>,
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The job has ended: what waits is still sent.
    Job,
    /// The client was too slow, and what waited is gone.
    TooSlow,
}

/// What the client gets next.
#[derive(Debug)]
pub(crate) enum Next {
    /// A message.
    Message(Message),
    /// Nothing for now.
    Empty,
    /// Nothing any more.
    End(End),
}

impl Queue {
    pub fn new(limits: Limits, policy: SlowClient) -> Self {
        let (changed, broken) = (Notify::new(), Notify::new());
        Self { limits, policy, state: Mutex::default(), changed, broken }
    }

    /// Puts messages in, and returns how many were dropped: of these or of older ones.
    pub fn offer(&self, parcel: &Parcel) -> usize {
        if parcel.is_empty() {
            return 0;
        }
        let mut state = self.state.lock();
        let dropped = state.offer(parcel, self.limits, self.policy);
        match state.end {
            Some(End::TooSlow) => self.broken.notify_one(),
            _ => self.changed.notify_one(),
        }
        dropped
    }

    /// Nothing more comes.
    pub fn end(&self, end: End) {
        self.state.lock().end.get_or_insert(end);
        self.changed.notify_one();
    }

    /// What the client gets next.
    pub fn next(&self) -> Next {
        let mut state = self.state.lock();
        match state.pop() {
            Some(message) => Next::Message(message),
            None => state.end.map_or(Next::Empty, Next::End),
        }
    }

    /// Returns when [`Queue::next`] may have something new to say.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns when the client is to be disconnected at once, whatever it is just being sent.
    pub async fn broken(&self) {
        self.broken.notified().await;
    }
}

impl State {
    fn offer(&mut self, parcel: &Parcel, limits: Limits, policy: SlowClient) -> usize {
        if self.end.is_some() {
            return 0;
        }
        let was_empty = self.messages == 0;
        self.push(parcel, 0..parcel.len());
        if was_empty || self.fits(limits) {
            return 0;
        }
        let mut dropped = 0;
        match policy {
            SlowClient::DropOldest => {
                while !self.fits(limits) && self.messages > 1 {
                    self.pop();
                    dropped += 1;
                }
            }
            SlowClient::DropNewest => {
                let mut left = parcel.len();
                while !self.fits(limits) && left > 0 {
                    self.pop_newest();
                    (dropped, left) = (dropped + 1, left - 1);
                }
                if dropped > 0 && left > 0 {
                    self.detach_newest();
                }
            }
            SlowClient::Disconnect => {
                dropped = self.messages;
                *self = Self { end: Some(End::TooSlow), ..Self::default() };
            }
        }
        dropped
    }

    fn fits(&self, limits: Limits) -> bool {
        self.messages <= limits.messages && self.bytes <= limits.bytes
    }

    fn push(&mut self, parcel: &Parcel, range: Range<usize>) {
        self.messages += range.len();
        self.bytes += parcel[range.clone()].iter().map(size).sum::<usize>();
        self.parcels.push_back((parcel.clone(), range));
    }

    fn pop(&mut self) -> Option<Message> {
        let (parcel, range) = self.parcels.front_mut()?;
        let message = parcel[range.start].clone();
        range.start += 1;
        if range.start == range.end {
            self.parcels.pop_front();
        }
        self.forget(&message);
        Some(message)
    }

    fn pop_newest(&mut self) {
        let Some((parcel, range)) = self.parcels.back_mut() else { return };
        range.end -= 1;
        let message = parcel[range.end].clone();
        if range.start == range.end {
            self.parcels.pop_back();
        }
        self.forget(&message);
    }

    /// What is left of a batch that was cut no longer holds the memory of the whole batch: there may be as many
    /// such batches as messages.
    fn detach_newest(&mut self) {
        let Some((parcel, range)) = self.parcels.back_mut() else { return };
        *parcel = parcel[range.clone()].iter().map(copy).collect();
        *range = 0..parcel.len();
    }

    fn forget(&mut self, message: &Message) {
        self.messages -= 1;
        self.bytes -= size(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(texts: &[&str]) -> Parcel {
        texts.iter().map(|text| Message::Text((*text).into())).collect()
    }

    fn drain(queue: &Queue) -> (Vec<String>, Option<End>) {
        let mut texts = Vec::new();
        loop {
            match queue.next() {
                Next::Message(Message::Text(text)) => texts.push(text.as_str().to_owned()),
                Next::Message(other) => panic!("{other:?}"),
                Next::Empty => return (texts, None),
                Next::End(end) => return (texts, Some(end)),
            }
        }
    }

    fn queue(messages: usize, bytes: usize, policy: SlowClient) -> Queue {
        Queue::new(Limits { messages, bytes }, policy)
    }

    #[test]
    fn each_policy_drops_what_it_says_and_says_how_much() {
        let offer = |queue: &Queue| {
            let dropped =
                queue.offer(&parcel(&["a", "b"])) + queue.offer(&parcel(&["c", "d", "e"]));
            (dropped, drain(queue))
        };
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let oldest = queue(3, 100, SlowClient::DropOldest);
        assert_eq!(offer(&oldest), (2, (texts(&["c", "d", "e"]), None)));
        let newest = queue(3, 100, SlowClient::DropNewest);
        assert_eq!(offer(&newest), (2, (texts(&["a", "b", "c"]), None)));
        let strict = queue(3, 100, SlowClient::Disconnect);
        assert_eq!(offer(&strict), (5, (Vec::new(), Some(End::TooSlow))));
        let roomy = queue(5, 5, SlowClient::Disconnect);
        assert_eq!(offer(&roomy), (0, (texts(&["a", "b", "c", "d", "e"]), None)));
    }

    #[test]
    fn bytes_are_bounded_as_messages_are() {
        let queue = queue(100, 10, SlowClient::DropOldest);
        let dropped: usize = (0..50).map(|_| queue.offer(&parcel(&["four"]))).sum();
        assert_eq!((dropped, drain(&queue).0.len()), (48, 2));
    }

    #[test]
    fn a_client_that_has_taken_everything_gets_the_next_batch_whole() {
        for policy in SlowClient::ALL {
            let queue = queue(2, 4, policy);
            assert_eq!(queue.offer(&parcel(&["first", "second", "third"])), 0);
            assert_eq!(drain(&queue).0.len(), 3);
        }
    }

    #[test]
    fn what_waits_when_the_job_ends_is_still_sent() {
        let queue = queue(2, 100, SlowClient::DropOldest);
        queue.offer(&parcel(&["a"]));
        queue.end(End::Job);
        assert_eq!(queue.offer(&parcel(&["b"])), 0);
        assert_eq!(drain(&queue), (vec!["a".to_owned()], Some(End::Job)));
    }
}
