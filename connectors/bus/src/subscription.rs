//! A subscription: the stream of what a group's member is given.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::{BusError, Delivery};

/// How many events of a partition are delivered to a subscriber beyond one that it has not acknowledged. Then
/// it is told so ([`BusError::Unacknowledged`]), and given no more of the partition.
pub const UNACKNOWLEDGED_MAX: usize = 16_384;

/// What stands behind a [`Subscription`]: a bus of one's own implements this.
///
/// Dropping it leaves the group: what was delivered and not acknowledged goes to others.
pub trait Feed: Send {
    /// The next event, or what went wrong. After `None` nothing comes any more. At most a bounded number
    /// of events is held ready that nobody has asked for.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Delivery, BusError>>>;

    /// Leaves the group once all acknowledgements are with the bus.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BusError>>;
}

/// Events for one member of a group, in order within each partition.
///
/// After an error the stream goes on, unless it ends. Dropping it leaves the group, without waiting for
/// the bus to be told.
pub struct Subscription {
    feed: Box<dyn Feed>,
}

impl Subscription {
    /// Of a feed.
    pub fn new(feed: impl Feed + 'static) -> Self {
        Self { feed: Box::new(feed) }
    }

    /// The next event; `None` when the bus is closed.
    pub async fn next(&mut self) -> Option<Result<Delivery, BusError>> {
        std::future::poll_fn(|context| self.feed.poll_next(context)).await
    }

    /// Leaves the group once all acknowledgements are with the bus.
    ///
    /// # Errors
    /// Some of them could not be brought there: those events come again.
    pub async fn close(mut self) -> Result<(), BusError> {
        std::future::poll_fn(|context| self.feed.poll_close(context)).await
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, BusError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.feed.poll_next(context)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
