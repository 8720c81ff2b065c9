//! A bound on how much is under way to a server: who comes when all permits are out waits, and gets one in
//! the order of coming.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// See the module.
#[derive(Debug)]
pub(crate) struct Permits {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    last_id: u64,
    waiting: VecDeque<(u64, Waker)>,
}

impl Permits {
    pub fn new(free: usize) -> Arc<Self> {
        let state = State { free, last_id: 0, waiting: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// A permit, as soon as there is one.
    pub fn acquire(self: &Arc<Self>) -> Acquire {
        Acquire { permits: self.clone(), id: None }
    }

    /// Wakes whoever is first in the queue, if there is a permit for it.
    fn wake_first(&self) {
        let state = self.state.lock();
        let first = state.waiting.front().filter(|_| state.free > 0);
        let first = first.map(|(_, waker)| waker.clone());
        drop(state);
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

/// Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.state.lock().free += 1;
        self.0.wake_first();
    }
}

/// Waits for a permit.
pub(crate) struct Acquire {
    permits: Arc<Permits>,
    /// Its number in the queue, once it stands there.
    id: Option<u64>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let permits = self.permits.clone();
        let mut state = permits.state.lock();
        let place = self.id.and_then(|id| state.waiting.iter().position(|(w, _)| *w == id));
        let is_first = place.map_or(state.waiting.is_empty(), |place| place == 0);
        if state.free > 0 && is_first {
            state.free -= 1;
            if self.id.take().is_some() {
                state.waiting.pop_front();
            }
            drop(state);
            permits.wake_first();
            return Poll::Ready(Permit(permits));
        }
        match place {
            Some(place) => state.waiting[place].1 = context.waker().clone(),
            None => {
                state.last_id += 1;
                let id = state.last_id;
                state.waiting.push_back((id, context.waker().clone()));
                self.id = Some(id);
            }
        }
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.permits.state.lock().waiting.retain(|(waiting, _)| *waiting != id);
            self.permits.wake_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn permits_go_round_in_the_order_of_coming() {
        let permits = Permits::new(1);
        let mut context = Context::from_waker(Waker::noop());
        let held = permits.acquire().now_or_never().unwrap();
        let (mut first, mut second) = (permits.acquire(), permits.acquire());
        assert!(first.poll_unpin(&mut context).is_pending());
        assert!(second.poll_unpin(&mut context).is_pending());
        drop(held);
        assert!(second.poll_unpin(&mut context).is_pending(), "the other came first");
        drop(first);
        assert!(second.poll_unpin(&mut context).is_ready());
        assert!(permits.acquire().now_or_never().is_some(), "it was given back");
    }
}
