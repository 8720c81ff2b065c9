//! Publishing in memory: done at once, or as soon as there is room.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidemill_core::source::Offset;
use tidemill_core::time::Clock as _;

use super::Inner;
use super::group::Split;
use crate::{BusError, Event, Receipt};

/// An event on its way into a partition. Those of the same partition go in in the order in which they
/// have begun to wait.
pub(super) struct Publishing {
    bus: Arc<Inner>,
    topic: String,
    event: Option<Event>,
    /// Its number among the publishers, and where it goes, once it has been asked for.
    place: Option<(u64, Split)>,
}

impl Publishing {
    pub fn new(bus: Arc<Inner>, topic: &str, mut event: Event) -> Self {
        event.timestamp = Some(event.timestamp.unwrap_or_else(|| bus.clock.now()));
        Self { bus, topic: topic.to_owned(), event: Some(event), place: None }
    }
}

impl Future for Publishing {
    type Output = Result<Receipt, BusError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { bus, topic, event, place } = &mut *self;
        bus.with(|state| {
            let key = event.as_ref().and_then(|event| event.key.as_deref());
            let is_new = place.is_none();
            let (id, split) =
                place.get_or_insert_with(|| (state.new_id(), state.place(topic, key)));
            let capacity = state.capacity;
            if !state.log(split).has_room(*id, capacity) {
                state.await_room(*id, context.waker());
                if is_new {
                    // Whoever holds everything is told that somebody waits.
                    state.wake_readers();
                }
                return Poll::Pending;
            }
            let Some(event) = event.take() else { return Poll::Ready(Err(BusError::Closed)) };
            let offset = Offset(state.push(split, event).to_string());
            Poll::Ready(Ok(Receipt { topic: topic.clone(), partition: split.1, offset }))
        })
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        if let Some((id, split)) = &self.place {
            self.bus.with(|state| {
                state.forget(*id);
                state.log(split).give_up(*id);
                // It may have been the next in the queue.
                if state.log(split).is_awaited() {
                    state.wake_publishers();
                }
            });
        }
    }
}
