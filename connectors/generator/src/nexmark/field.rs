//! Each field of a person, an auction and a bid, as one column.
//!
//! A field is made for a list of events of its kind, from random numbers of its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use tidemill_core::EventTime;

use super::config::{Config, Kind};
use super::price::price;
use super::text;
use crate::random::Random;

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

const FIRST_CATEGORY: i64 = 10;
const CATEGORIES: u64 = 5;

/// A field of an event.
pub(crate) struct Field {
    /// The column's name.
    pub(crate) name: &'static str,
    /// The family of types it can be declared as.
    pub(crate) family: Family,
    make: fn(&Events<'_>) -> ArrayRef,
}

/// How the text of a field is made.
type MakeText = fn(&mut Random) -> String;

/// A family of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Number,
    Text,
    Time,
}

impl Family {
    pub(crate) fn holds(self, data_type: &DataType) -> bool {
        match data_type {
            DataType::Int64 => self == Self::Number,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => self == Self::Text,
            DataType::Timestamp(_, _) => self == Self::Time,
            _ => false,
        }
    }

    /// As SQL spells it.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Number => "BIGINT",
            Self::Text => "STRING",
            Self::Time => "TIMESTAMP(3)",
        }
    }
}

/// Events of one kind.
pub(crate) struct Events<'a> {
    pub(crate) config: &'a Config,
    pub(crate) numbers: &'a [u64],
    pub(crate) base: EventTime,
}

/// Streams of random numbers: one for each decision, never renumbered, for the same seed must
/// give the same events.
mod draw {
    pub(super) const PERSON_NAME: u64 = 0;
    pub(super) const PERSON_EMAIL: u64 = 1;
    pub(super) const PERSON_CARD: u64 = 2;
    pub(super) const PERSON_CITY: u64 = 3;
    pub(super) const PERSON_STATE: u64 = 4;
    pub(super) const PERSON_EXTRA: u64 = 5;
    pub(super) const AUCTION_NAME: u64 = 16;
    pub(super) const AUCTION_DESCRIPTION: u64 = 17;
    pub(super) const AUCTION_PRICE: u64 = 18;
    pub(super) const AUCTION_RESERVE: u64 = 19;
    pub(super) const AUCTION_EXPIRES: u64 = 20;
    pub(super) const AUCTION_SELLER: u64 = 21;
    pub(super) const AUCTION_CATEGORY: u64 = 22;
    pub(super) const AUCTION_EXTRA: u64 = 23;
    pub(super) const BID_AUCTION: u64 = 32;
    pub(super) const BID_BIDDER: u64 = 33;
    pub(super) const BID_PRICE: u64 = 34;
    pub(super) const BID_CHANNEL: u64 = 35;
    pub(super) const BID_EXTRA: u64 = 36;
}

use Family::{Number, Text, Time};

const PERSON: [Field; 8] = [
    Field { name: "id", family: Number, make: |e| e.numbers(|c, n| c.person(n)) },
    Field { name: "name", family: Text, make: |e| e.texts(draw::PERSON_NAME, name) },
    Field { name: "emailAddress", family: Text, make: |e| e.texts(draw::PERSON_EMAIL, email) },
    Field { name: "creditCard", family: Text, make: |e| e.texts(draw::PERSON_CARD, card) },
    Field { name: "city", family: Text, make: |e| e.texts(draw::PERSON_CITY, city) },
    Field { name: "state", family: Text, make: |e| e.texts(draw::PERSON_STATE, state) },
    Field { name: "dateTime", family: Time, make: |e| e.times() },
    Field { name: "extra", family: Text, make: person_extra },
];

const AUCTION: [Field; 10] = [
    Field { name: "id", family: Number, make: |e| e.numbers(|c, n| c.auction(n)) },
    Field { name: "itemName", family: Text, make: |e| e.texts(draw::AUCTION_NAME, item) },
    Field {
        name: "description",
        family: Text,
        make: |e| e.texts(draw::AUCTION_DESCRIPTION, description),
    },
    Field {
        name: "initialBid",
        family: Number,
        make: |e| e.drawn(draw::AUCTION_PRICE, |_, _, r| price(r)),
    },
    Field { name: "reserve", family: Number, make: reserve },
    Field { name: "dateTime", family: Time, make: |e| e.times() },
    Field { name: "expires", family: Time, make: expires },
    Field {
        name: "seller",
        family: Number,
        make: |e| e.drawn(draw::AUCTION_SELLER, |c, n, r| c.seller(n, r) as i64),
    },
    Field {
        name: "category",
        family: Number,
        make: |e| e.drawn(draw::AUCTION_CATEGORY, |_, _, r| category(r)),
    },
    Field { name: "extra", family: Text, make: auction_extra },
];

const BID: [Field; 7] = [
    Field {
        name: "auction",
        family: Number,
        make: |e| e.drawn(draw::BID_AUCTION, |c, n, r| c.auction_of_bid(n, r) as i64),
    },
    Field {
        name: "bidder",
        family: Number,
        make: |e| e.drawn(draw::BID_BIDDER, |c, n, r| c.bidder(n, r) as i64),
    },
    Field { name: "price", family: Number, make: |e| e.drawn(draw::BID_PRICE, |_, _, r| price(r)) },
    Field { name: "channel", family: Text, make: |e| text::channels(e.channels()) },
    Field { name: "url", family: Text, make: |e| text::urls(e.channels()) },
    Field { name: "dateTime", family: Time, make: |e| e.times() },
    Field { name: "extra", family: Text, make: bid_extra },
];

impl Field {
    /// The fields of a kind of event.
    pub(crate) fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Person => &PERSON,
            Kind::Auction => &AUCTION,
            Kind::Bid => &BID,
        }
    }

    /// The field's values.
    pub(crate) fn make(&self, events: &Events<'_>) -> ArrayRef {
        (self.make)(events)
    }
}

impl Events<'_> {
    fn random(&self, draw: u64) -> impl Iterator<Item = (u64, Random)> {
        let stream = self.config.stream(draw);
        self.numbers.iter().map(move |n| (*n, stream.at(*n)))
    }

    fn numbers(&self, number: impl Fn(&Config, u64) -> u64) -> ArrayRef {
        let numbers = self.numbers.iter().map(|n| number(self.config, *n) as i64);
        Arc::new(Int64Array::from_iter_values(numbers))
    }

    fn drawn(&self, draw: u64, number: impl Fn(&Config, u64, &mut Random) -> i64) -> ArrayRef {
        let numbers = self.random(draw).map(|(n, mut random)| number(self.config, n, &mut random));
        Arc::new(Int64Array::from_iter_values(numbers))
    }

    fn texts(&self, draw: u64, text: MakeText) -> ArrayRef {
        let texts = self.random(draw).map(|(_, mut random)| Some(text(&mut random)));
        Arc::new(texts.collect::<StringViewArray>())
    }

    /// Length of a text of event `n`, for the filler.
    fn length(&self, n: u64, draw: u64, text: MakeText) -> u64 {
        text(&mut self.config.stream(draw).at(n)).len() as u64
    }

    fn times(&self) -> ArrayRef {
        let times = self.numbers.iter().map(|n| self.config.time(*n, self.base));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times))
    }

    fn channels(&self) -> impl Iterator<Item = usize> {
        self.random(draw::BID_CHANNEL).map(|(_, mut random)| text::channel_number(&mut random))
    }

    /// Filler for events whose other fields take `size` bytes.
    fn extra(&self, draw: u64, average: u64, size: impl Fn(u64) -> u64) -> ArrayRef {
        text::fillers(self.random(draw).map(|(n, mut random)| {
            let length = text::filler_length(size(n), average, &mut random);
            (length, random)
        }))
    }
}

fn category(random: &mut Random) -> i64 {
    FIRST_CATEGORY + random.below(CATEGORIES) as i64
}

fn name(random: &mut Random) -> String {
    let first = text::one_of(&FIRST_NAMES, random);
    format!("{first} {}", text::one_of(&LAST_NAMES, random))
}

fn email(random: &mut Random) -> String {
    let user = text::word(random, 7, ' ');
    format!("{user}@{}.com", text::word(random, 5, ' '))
}

fn card(random: &mut Random) -> String {
    let mut four = || random.below(10_000);
    format!("{:04} {:04} {:04} {:04}", four(), four(), four(), four())
}

fn city(random: &mut Random) -> String {
    text::one_of(&CITIES, random).to_owned()
}

fn state(random: &mut Random) -> String {
    text::one_of(&STATES, random).to_owned()
}

fn item(random: &mut Random) -> String {
    text::word(random, 20, ' ')
}

fn description(random: &mut Random) -> String {
    text::word(random, 100, ' ')
}

fn reserve(events: &Events<'_>) -> ArrayRef {
    let initial = events.config.stream(draw::AUCTION_PRICE);
    events.drawn(draw::AUCTION_RESERVE, |_, n, random| price(&mut initial.at(n)) + price(random))
}

fn expires(events: &Events<'_>) -> ArrayRef {
    let expires = |(n, mut random)| events.config.expires(n, events.base, &mut random);
    Arc::new(TimestampMicrosecondArray::from_iter_values(
        events.random(draw::AUCTION_EXPIRES).map(expires),
    ))
}

fn person_extra(events: &Events<'_>) -> ArrayRef {
    let texts: [(u64, MakeText); 5] = [
        (draw::PERSON_NAME, name),
        (draw::PERSON_EMAIL, email),
        (draw::PERSON_CARD, card),
        (draw::PERSON_CITY, city),
        (draw::PERSON_STATE, state),
    ];
    events.extra(draw::PERSON_EXTRA, events.config.person_bytes, |n| {
        8 + texts.iter().map(|(draw, text)| events.length(n, *draw, *text)).sum::<u64>()
    })
}

fn auction_extra(events: &Events<'_>) -> ArrayRef {
    events.extra(draw::AUCTION_EXTRA, events.config.auction_bytes, |n| {
        6 * 8
            + events.length(n, draw::AUCTION_NAME, item)
            + events.length(n, draw::AUCTION_DESCRIPTION, description)
    })
}

fn bid_extra(events: &Events<'_>) -> ArrayRef {
    events.extra(draw::BID_EXTRA, events.config.bid_bytes, |_| 4 * 8)
}
