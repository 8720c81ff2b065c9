//! What subscribers of a bus in memory get: a group's events, or a replay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidemill_core::source::Offset;

use super::group::Split;
use super::state::{Given, parse_offset};
use super::{Inner, RETENTION};
use crate::subscription::Feed;
use crate::{BusError, Delivery, Event, Start};

type Next = Poll<Option<Result<Delivery, BusError>>>;

/// A member of a group.
pub(super) struct Member {
    pub bus: Arc<Inner>,
    pub group: Arc<str>,
    pub id: u64,
    /// The partition that had its turn last.
    pub last: Option<Split>,
}

fn lost(split: Split, count: u64) -> BusError {
    let reason = RETENTION.to_owned();
    BusError::EventsLost { topic: split.0.to_string(), partition: split.1, count, reason }
}

fn delivery(
    split: &Split,
    offset: u64,
    event: &Event,
    acknowledge: impl FnOnce() + Send + 'static,
) -> Delivery {
    let place = Offset(offset.to_string());
    Delivery::new(split.0.clone(), split.1, place, event.clone(), acknowledge)
}

impl Feed for Member {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Next {
        let given = self.bus.with(|state| {
            let given = state.next(&self.group, self.id, self.last.as_ref());
            if given.is_none() {
                state.await_events(self.id, context.waker());
            }
            given
        });
        match given {
            None => Poll::Pending,
            Some(Given::Lost(split, count)) => Poll::Ready(Some(Err(lost(split, count)))),
            Some(Given::Held(split, oldest, count)) => {
                let (topic, offset) = (split.0.to_string(), oldest.to_string());
                let partition = split.1;
                let held = BusError::Unacknowledged { topic, partition, offset, count };
                Poll::Ready(Some(Err(held)))
            }
            Some(Given::Event(split, offset, event)) => {
                self.last = Some(split.clone());
                let (bus, group, of) = (self.bus.clone(), self.group.clone(), split.clone());
                let acknowledge = move || bus.with(|state| state.acknowledge(&group, &of, offset));
                Poll::Ready(Some(Ok(delivery(&split, offset, &event, acknowledge))))
            }
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BusError>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.bus.with(|state| state.leave(&self.group, self.id));
    }
}

/// A replay: nobody's progress but its own.
pub(super) struct Replaying {
    bus: Arc<Inner>,
    id: u64,
    next: BTreeMap<Split, u64>,
    last: Option<Split>,
}

impl Replaying {
    pub fn new(bus: Arc<Inner>, topic: &str, from: &Start) -> Result<Self, BusError> {
        let (id, next) = bus.with(|state| {
            let mut next = BTreeMap::new();
            for split in state.splits(topic) {
                let log = state.log(&split);
                let offset = match from {
                    Start::Earliest => log.first(),
                    Start::Time(time) => log.at_time(*time),
                    Start::Offsets(offsets) => match offsets.get(&split.1) {
                        Some(offset) => parse_offset(&split, offset)?,
                        None => log.first(),
                    },
                };
                next.insert(split, offset);
            }
            Ok((state.new_id(), next))
        })?;
        Ok(Self { bus, id, next, last: None })
    }
}

impl Feed for Replaying {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Next {
        let Self { bus, id, next, last } = self;
        let last_turn = last.clone();
        bus.with(|state| {
            let (behind, before): (Vec<_>, Vec<_>) =
                next.iter_mut().partition(|(split, _)| Some(*split) > last_turn.as_ref());
            for (split, next) in behind.into_iter().chain(before) {
                let log = state.log(split);
                if *next < log.first() {
                    let count = log.first() - *next;
                    *next = log.first();
                    return Poll::Ready(Some(Err(lost(split.clone(), count))));
                }
                if let Some(event) = log.get(*next) {
                    *next += 1;
                    *last = Some(split.clone());
                    return Poll::Ready(Some(Ok(delivery(split, *next - 1, event, || {}))));
                }
            }
            state.await_events(*id, context.waker());
            Poll::Pending
        })
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BusError>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Replaying {
    fn drop(&mut self) {
        self.bus.with(|state| state.forget(self.id));
    }
}
