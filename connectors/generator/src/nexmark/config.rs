//! Which event is what, when it happens, and which people and auctions there are by then.
//!
//! Events come in rounds (of 50 by default): first the people, then the auctions, then the bids.
//! So the identifiers that exist at event `n` follow from `n`, with nothing to remember.

use tidemill_core::table::Options;
use tidemill_core::{Error, EventTime, Result};

use super::divide::Divisor;
use crate::numbered::at_least_one;
use crate::random::{Random, Stream};

const FIRST_PERSON: u64 = 1_000;
const FIRST_AUCTION: u64 = 1_000;

/// One in so many people is hot as a seller, the next one as a bidder; one in so many auctions is
/// hot.
const HOT_EVERY: u64 = 100;

/// Bids and auctions may name people and auctions that are so many events of theirs early.
const LEAD: u64 = 10;

/// Auctions that are open at any time.
const AUCTIONS_IN_FLIGHT: u64 = 100;

/// People who still take part.
const PEOPLE_ACTIVE: u64 = 1_000;

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Person,
    Auction,
    Bid,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Person, Self::Auction, Self::Bid];

    /// Name of the kind and of its column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        }
    }
}

/// The generator's parameters.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    /// Events per second of event time.
    rate: Divisor,
    people: u64,
    auctions: u64,
    round: Divisor,
    pub(crate) hot_auctions: u64,
    pub(crate) hot_bidders: u64,
    pub(crate) hot_sellers: u64,
    pub(crate) person_bytes: u64,
    pub(crate) auction_bytes: u64,
    pub(crate) bid_bytes: u64,
}

impl Config {
    pub(crate) fn from_options(options: &Options) -> Result<Self> {
        let number =
            |name, default| Ok::<_, Error>(at_least_one(options, name)?.unwrap_or(default));
        let share = |name, default| match number(name, default)? {
            share if share <= 1_000_000 => Ok(share),
            _ => Err(Error::option(name, format!("option '{name}' must be at most 1000000"))),
        };
        let (people, auctions) = (share("person.proportion", 1)?, share("auction.proportion", 3)?);
        Ok(Self {
            seed: options.parsed("seed")?.unwrap_or(0),
            rate: Divisor::new(rate(options)?),
            people,
            auctions,
            round: Divisor::new(people + auctions + share("bid.proportion", 46)?),
            hot_auctions: number("bid.hot-ratio.auctions", 2)?,
            hot_bidders: number("bid.hot-ratio.bidders", 4)?,
            hot_sellers: number("auction.hot-ratio.sellers", 4)?,
            person_bytes: bytes(options, "person.avg-size", 200)?,
            auction_bytes: bytes(options, "auction.avg-size", 500)?,
            bid_bytes: bytes(options, "bid.avg-size", 100)?,
        })
    }

    /// What event `n` is.
    pub(crate) fn kind(&self, n: u64) -> Kind {
        match self.round.divide(n).1 {
            place if place < self.people => Kind::Person,
            place if place < self.people + self.auctions => Kind::Auction,
            _ => Kind::Bid,
        }
    }

    /// Events per second of event time.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.get()
    }

    /// When event `n` happens, to the millisecond.
    pub(crate) fn time(&self, n: u64, base: EventTime) -> EventTime {
        let millis = match n.checked_mul(1_000) {
            Some(thousands) => i64::try_from(self.rate.divide(thousands).0).ok(),
            None => i64::try_from(u128::from(n) * 1_000 / u128::from(self.rate.get())).ok(),
        };
        let since = millis.and_then(|millis| millis.checked_mul(1_000));
        since.map_or(EventTime::MAX, |since| base.saturating_add(since))
    }

    /// Identifier of the person that event `n` is, or of the last one before it.
    pub(crate) fn person(&self, n: u64) -> u64 {
        FIRST_PERSON + self.last_person(n)
    }

    /// Identifier of the auction that event `n` is.
    pub(crate) fn auction(&self, n: u64) -> u64 {
        FIRST_AUCTION + self.last_auction(n)
    }

    fn last_person(&self, n: u64) -> u64 {
        let (round, place) = self.round.divide(n);
        round * self.people + place.min(self.people - 1)
    }

    /// For an auction or a bid.
    fn last_auction(&self, n: u64) -> u64 {
        let (round, place) = self.round.divide(n);
        round * self.auctions + place.saturating_sub(self.people).min(self.auctions - 1)
    }

    /// Who sells auction `n`.
    pub(crate) fn seller(&self, n: u64, random: &mut Random) -> u64 {
        FIRST_PERSON + self.hot_or_active_person(n, self.hot_sellers, 0, random)
    }

    /// Who makes bid `n`: hot bidders stand beside hot sellers, so that they are not the same.
    pub(crate) fn bidder(&self, n: u64, random: &mut Random) -> u64 {
        FIRST_PERSON + self.hot_or_active_person(n, self.hot_bidders, 1, random)
    }

    fn hot_or_active_person(&self, n: u64, ratio: u64, beside: u64, random: &mut Random) -> u64 {
        let last = self.last_person(n);
        if random.below(ratio) > 0 {
            return last / HOT_EVERY * HOT_EVERY + beside;
        }
        let active = (last + 1).min(PEOPLE_ACTIVE);
        last + 1 - active + random.below(active + LEAD)
    }

    /// What bid `n` is for.
    pub(crate) fn auction_of_bid(&self, n: u64, random: &mut Random) -> u64 {
        let last = self.last_auction(n);
        FIRST_AUCTION
            + if random.below(self.hot_auctions) > 0 {
                last / HOT_EVERY * HOT_EVERY
            } else {
                let first = last.saturating_sub(AUCTIONS_IN_FLIGHT);
                first + random.below(last - first + 1 + LEAD)
            }
    }

    /// When auction `n` ends: on average when as many auctions have begun after it as are in
    /// flight.
    pub(crate) fn expires(&self, n: u64, base: EventTime, random: &mut Random) -> EventTime {
        let now = self.time(n, base);
        let events = AUCTIONS_IN_FLIGHT * self.round.get() / self.auctions;
        let horizon = self.time(n.saturating_add(events), base).saturating_sub(now) / 1_000;
        let millis = 1 + random.below(horizon.unsigned_abs().saturating_mul(2).max(1));
        now.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000))
    }

    /// The random numbers of one field.
    pub(crate) fn stream(&self, draw: u64) -> Stream {
        Stream::new(self.seed, draw)
    }
}

fn rate(options: &Options) -> Result<u64> {
    let first = at_least_one(options, "first-event.rate")?;
    let next = at_least_one(options, "next-event.rate")?;
    match (first, next) {
        (Some(first), Some(next)) if first != next => Err(Error::option(
            "next-event.rate",
            format!(
                "option 'next-event.rate' = '{next}' differs from 'first-event.rate' = '{first}': \
                 only a constant rate is supported"
            ),
        )),
        (first, next) => Ok(first.or(next).unwrap_or(10_000)),
    }
}

/// A size as nexmark-flink takes it: `200` or `200b`.
fn bytes(options: &Options, name: &str, default: u64) -> Result<u64> {
    let Some(text) = options.get(name) else { return Ok(default) };
    let number = text.trim().trim_end_matches("bytes").trim_end_matches('b').trim_end();
    let size = number.parse().ok().filter(|size| *size <= super::text::EXTRA_MAX);
    size.ok_or_else(|| {
        let most = super::text::EXTRA_MAX;
        Error::option(name, format!("option '{name}' = '{text}' is no size of up to {most} bytes"))
    })
}
