//! Between a thread that talks to a server and the stream of a subscriber: events one way, acknowledgements
//! the other.
//!
//! Invariant: the thread puts no more into it than there is room for, so that a slow subscriber stops the
//! thread's reading and nothing else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::subscription::Feed;
use crate::{BusError, Delivery};

/// How many events are held ready that the subscriber has not asked for.
pub(crate) const CAPACITY: usize = 1024;

/// A partition of a topic.
pub(crate) type Split = (Arc<str>, u32);

/// Which streams to ask, of those that there are in their order, and for how many events each: no more than
/// there is room for in all. Where there are more streams than room, those behind `last` have their turn.
pub(crate) fn share<T>(
    streams: &mut Vec<(Split, T)>,
    room: usize,
    most: usize,
    last: Option<&Split>,
) -> usize {
    let behind = streams.iter().position(|(split, _)| Some(split) > last).unwrap_or(0);
    streams.rotate_left(behind);
    streams.truncate(room);
    (room / streams.len().max(1)).min(most)
}

/// See the module. `O` is the place of an event in its partition.
pub(crate) struct Mailbox<O> {
    state: Mutex<State<O>>,
    /// Something has happened that the thread may wait for.
    news: Condvar,
}

struct State<O> {
    ready: VecDeque<(Split, Result<Delivery, BusError>)>,
    acknowledged: Vec<(Split, O)>,
    waker: Option<Waker>,
    is_closing: bool,
    /// How the thread has ended.
    ended: Option<Result<(), BusError>>,
}

impl<O: Send + 'static> Mailbox<O> {
    pub fn new() -> Arc<Self> {
        let state = State {
            ready: VecDeque::new(),
            acknowledged: Vec::new(),
            waker: None,
            is_closing: false,
            ended: None,
        };
        Arc::new(Self { state: Mutex::new(state), news: Condvar::new() })
    }

    /// How many more events there is room for.
    pub fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.state.lock().ready.len())
    }

    /// Something for the subscriber.
    pub fn put(&self, split: &Split, item: Result<Delivery, BusError>) {
        let mut state = self.state.lock();
        state.ready.push_back((split.clone(), item));
        wake(state);
    }

    /// What nobody has asked for yet from this partition is not for this subscriber any more.
    pub fn purge(&self, split: &Split) {
        self.state.lock().ready.retain(|(of, item)| of != split || item.is_err());
    }

    pub fn acknowledge(&self, split: Split, place: O) {
        self.state.lock().acknowledged.push((split, place));
        self.news.notify_one();
    }

    /// What was acknowledged since the last call.
    pub fn take_acknowledged(&self) -> Vec<(Split, O)> {
        std::mem::take(&mut self.state.lock().acknowledged)
    }

    pub fn is_closing(&self) -> bool {
        self.state.lock().is_closing
    }

    /// Waits until the subscriber does something that concerns the thread, for `patience` at most.
    pub fn wait(&self, patience: Duration) {
        let mut state = self.state.lock();
        if !state.is_closing && state.acknowledged.is_empty() {
            self.news.wait_for(&mut state, patience);
        }
    }

    /// The thread ends.
    pub fn end(&self, how: Result<(), BusError>) {
        let mut state = self.state.lock();
        state.ended = Some(how);
        wake(state);
    }
}

fn wake<O>(mut state: parking_lot::MutexGuard<'_, State<O>>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The subscriber's side.
pub(crate) struct MailboxFeed<O: Send + 'static>(pub Arc<Mailbox<O>>);

impl<O: Send + 'static> MailboxFeed<O> {
    fn close(&self) {
        self.0.state.lock().is_closing = true;
        self.0.news.notify_one();
    }
}

impl<O: Send + 'static> Feed for MailboxFeed<O> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Delivery, BusError>>> {
        let mut state = self.0.state.lock();
        if let Some((_, item)) = state.ready.pop_front() {
            return Poll::Ready(Some(item));
        }
        if let Some(ended) = &mut state.ended {
            return Poll::Ready(std::mem::replace(ended, Ok(())).err().map(Err));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BusError>> {
        self.close();
        let mut state = self.0.state.lock();
        if let Some(ended) = &state.ended {
            return Poll::Ready(ended.clone());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<O: Send + 'static> Drop for MailboxFeed<O> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_streams_than_there_is_room_for_have_their_turns() {
        let all: Vec<(Split, ())> = (0..5).map(|n| (("t".into(), n), ())).collect();
        let (mut last, mut asked) = (None, Vec::new());
        for _ in 0..5 {
            let mut streams = all.clone();
            assert_eq!(share(&mut streams, 2, 256, last.as_ref()), 1);
            asked.extend(streams.iter().map(|((_, n), ())| *n));
            last = streams.pop().map(|(split, ())| split);
        }
        assert_eq!(asked, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
        let share_of = |room| {
            let mut streams = all.clone();
            (share(&mut streams, room, 256, None), streams.len())
        };
        assert_eq!([0, 12, 5000].map(share_of), [(0, 0), (2, 5), (256, 5)]);
    }
}
