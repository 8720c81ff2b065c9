//! Events for topics and files: what `tidemill generate` sends.
//!
//! | module | what it makes |
//! |---|---|
//! | `user` | what users of a shop do: login, click, purchase, logout |
//! | `customer` | changes of customers, as JSON or Protobuf |
//! | `booking` | commands of a booking service |
//! | `nexmark` | the events of the Nexmark benchmark, as JSON |
//! | `shares` | which rows are malformed, late, duplicates or of an unknown type |
//!
//! Row `n` follows from the settings and from `n` alone: its key, its bytes, its headers, and whether
//! something is wrong with it. Wrong rows are spread so evenly that their numbers are exact.

mod booking;
mod customer;
mod keys;
mod message;
mod nexmark;
mod rows;
mod shares;
mod text;
mod user;

use std::ops::Range;

use tidemill_core::{Error, EventTime, Result};

pub use customer::Encoding;
pub use shares::{Fate, Share, Shares};

/// What kind of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Login, click, purchase and logout, keyed by user, as JSON.
    UserEvents,
    /// Changes of customers, keyed by customer.
    CustomerEvents(Encoding),
    /// Commands to reserve, confirm and cancel, keyed by booking, as JSON.
    Bookings,
    /// People, auctions and bids of the Nexmark benchmark, as JSON.
    Nexmark,
}

/// All that events depend on, besides their number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventSettings {
    /// Another seed, other events.
    pub seed: u64,
    /// How many keys there are. Nexmark has keys of its own.
    pub keys: u64,
    /// Zipf's exponent: 0 for keys that are equally frequent, 1 where the second is half as frequent
    /// as the first.
    pub skew: f64,
    /// Event time of row 0.
    pub start: EventTime,
    /// Event time from one row to the next, in microseconds.
    pub interval_us: i64,
    /// How many rows have something wrong with them.
    pub shares: Shares,
    /// How far late rows lie behind their neighbours, in microseconds.
    pub late_by_us: i64,
}

/// One event, as it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What it is partitioned by.
    pub key: &'a [u8],
    /// The payload.
    pub value: &'a [u8],
    /// What stands beside the payload.
    pub headers: Headers<'a>,
    /// What is wrong with it.
    pub fate: Fate,
}

/// What stands beside a payload, for those who do not decode it.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// What has happened.
    pub event_type: &'a str,
    /// The event's own identifier.
    pub event_id: &'a [u8],
    /// What belongs together has the same.
    pub correlation_id: &'a [u8],
    /// Identifier of what the event is the consequence of, where it is one.
    pub causation_id: Option<&'a [u8]>,
    /// The payload's media type.
    pub content_type: &'static str,
}

impl<'a> Headers<'a> {
    /// Names and values, in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'a [u8])> {
        let always = [
            ("event-type", self.event_type.as_bytes()),
            ("event-id", self.event_id),
            ("correlation-id", self.correlation_id),
            ("content-type", self.content_type.as_bytes()),
            ("source", b"tidemill-generate"),
        ];
        always.into_iter().chain(self.causation_id.map(|id| ("causation-id", id)))
    }
}

/// Makes events by number.
pub trait EventGenerator: Send {
    /// Calls `each` with every row of `rows`, in order.
    ///
    /// # Errors
    /// A row whose time is out of range, and whatever `each` returns: it is not called again then.
    fn generate(
        &mut self,
        rows: Range<u64>,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()>;
}

/// A generator of this kind of events.
///
/// # Errors
/// Settings that contradict each other.
pub fn generator(kind: EventKind, settings: EventSettings) -> Result<Box<dyn EventGenerator>> {
    check(&kind, &settings)?;
    Ok(match kind {
        EventKind::UserEvents => Box::new(rows::Rows::new(user::Users, settings)),
        EventKind::CustomerEvents(encoding) => {
            Box::new(rows::Rows::new(customer::Customers::new(encoding), settings))
        }
        EventKind::Bookings => Box::new(rows::Rows::new(booking::Bookings, settings)),
        EventKind::Nexmark => Box::new(nexmark::NexmarkEvents::new(settings)?),
    })
}

fn check(kind: &EventKind, settings: &EventSettings) -> Result<()> {
    settings.shares.check()?;
    if settings.keys == 0 {
        return Err(Error::configuration("there must be at least 1 key"));
    }
    if !settings.skew.is_finite() || settings.skew < 0.0 {
        return Err(Error::configuration("the skew of keys must be a number of at least 0"));
    }
    if settings.interval_us < 0 || settings.late_by_us < 0 {
        return Err(Error::configuration("times between events must not be negative"));
    }
    let knows_types = matches!(kind, EventKind::CustomerEvents(_));
    if !knows_types && settings.shares.unknown_type != Share::default() {
        return Err(Error::configuration("only customer-events can be of an unknown type"));
    }
    Ok(())
}
