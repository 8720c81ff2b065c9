//! Which event is what, when it happens, and which people and auctions there are by then.
//!
//! Events come in rounds (of 50 by default): first the people, then the auctions, then the bids.
//! So the identifiers that exist at event `n` follow from `n`, with nothing to remember. Most that can be
//! said of a bid is the same for all bids of a round; it is worked out once for each [`Stretch`].

use std::ops::Range;

use tidemill_core::table::Options;
use tidemill_core::{Error, EventTime, Result};

use super::divide::Divisor;
use super::stretch::Stretch;
use crate::numbered::at_least_one;
use crate::random::{Draw, Stream};

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
        self.kind_at(self.round.divide(n).1).0
    }

    /// What the event at this place of its round is, and at which place events of that kind end.
    fn kind_at(&self, place: u64) -> (Kind, u64) {
        let auctions = self.people + self.auctions;
        match place {
            place if place < self.people => (Kind::Person, self.people),
            place if place < auctions => (Kind::Auction, auctions),
            _ => (Kind::Bid, self.round.get()),
        }
    }

    /// The stretch that event `n` belongs to, as far as it goes: which numbers it could have.
    pub(crate) fn stretch(&self, n: u64) -> (Stretch, Range<u64>) {
        let (round, place) = self.round.divide(n);
        let (kind, end) = self.kind_at(place);
        let first = n - place;
        (Stretch { kind, round, first, places: 0..0 }, n..first.saturating_add(end))
    }

    /// Events per second of event time.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.get()
    }

    /// When event `n` happens, to the millisecond.
    pub(crate) fn time(&self, n: u64, base: EventTime) -> EventTime {
        let millis = self.millis(n).and_then(|millis| i64::try_from(millis).ok());
        let since = millis.and_then(|millis| millis.checked_mul(1_000));
        since.map_or(EventTime::MAX, |since| base.saturating_add(since))
    }

    /// The millisecond of event `n`, where it is one that can be counted to.
    fn millis(&self, n: u64) -> Option<u64> {
        match n.checked_mul(1_000) {
            Some(thousands) => Some(self.rate.divide(thousands).0),
            None => u64::try_from(u128::from(n) * 1_000 / u128::from(self.rate.get())).ok(),
        }
    }

    /// The events from `n` on that happen when it does.
    pub(crate) fn at_the_time_of(&self, n: u64) -> Range<u64> {
        let next = self.millis(n).and_then(|millis| (millis + 1).checked_mul(self.rate.get()));
        n..next.map_or(n, |thousands| thousands.div_ceil(1_000)).max(n.saturating_add(1))
    }

    /// Identifier of the person that event `n` of this stretch is.
    pub(crate) fn person(&self, of: &Stretch, n: u64) -> u64 {
        FIRST_PERSON + of.round * self.people + (n - of.first)
    }

    /// Identifier of the auction that event `n` of this stretch is.
    pub(crate) fn auction(&self, of: &Stretch, n: u64) -> u64 {
        FIRST_AUCTION + of.round * self.auctions + (n - of.first - self.people)
    }

    /// Who sells the auctions of a stretch.
    pub(crate) fn seller(&self, of: &Stretch) -> impl Fn(Draw) -> u64 + use<> {
        self.hot_or_active_person(of, self.hot_sellers, 0)
    }

    /// Who makes the bids of a stretch: hot bidders stand beside hot sellers, so that they are not the same.
    pub(crate) fn bidder(&self, of: &Stretch) -> impl Fn(Draw) -> u64 + use<> {
        self.hot_or_active_person(of, self.hot_bidders, 1)
    }

    fn hot_or_active_person(
        &self,
        of: &Stretch,
        ratio: u64,
        beside: u64,
    ) -> impl Fn(Draw) -> u64 + use<> {
        // Auctions and bids come when all people of their round are there.
        let last = of.round * self.people + self.people - 1;
        let active = (last + 1).min(PEOPLE_ACTIVE);
        let hot = last / HOT_EVERY * HOT_EVERY + beside;
        hot_or_one_of(ratio, FIRST_PERSON + hot, FIRST_PERSON + last + 1 - active, active + LEAD)
    }

    /// What the bids of a stretch are for.
    pub(crate) fn auction_of_bid(&self, of: &Stretch) -> impl Fn(Draw) -> u64 + use<> {
        let last = of.round * self.auctions + self.auctions - 1;
        let first = last.saturating_sub(AUCTIONS_IN_FLIGHT);
        let hot = FIRST_AUCTION + last / HOT_EVERY * HOT_EVERY;
        hot_or_one_of(self.hot_auctions, hot, FIRST_AUCTION + first, last - first + 1 + LEAD)
    }

    /// When auction `n` ends: on average when as many auctions have begun after it as are in
    /// flight.
    pub(crate) fn expires(&self, n: u64, base: EventTime, mut draw: Draw) -> EventTime {
        let now = self.time(n, base);
        let events = AUCTIONS_IN_FLIGHT * self.round.get() / self.auctions;
        let horizon = self.time(n.saturating_add(events), base).saturating_sub(now) / 1_000;
        let millis = 1 + draw.below(horizon.unsigned_abs().saturating_mul(2).max(1));
        now.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000))
    }

    /// The random numbers of one field.
    pub(crate) fn stream(&self, draw: u64) -> Stream {
        Stream::new(self.seed, draw)
    }
}

/// All but one draw in `ratio` choose the hot one, the others one of `count` from `first` on.
fn hot_or_one_of(ratio: u64, hot: u64, first: u64, count: u64) -> impl Fn(Draw) -> u64 {
    move |mut draw| {
        let is_hot = draw.below(ratio) > 0;
        let other = first + draw.below(count);
        // Which it is cannot be foreseen: both are at hand rather than guessed.
        std::hint::select_unpredictable(is_hot, hot, other)
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
