//! Each field of a person, an auction and a bid, as one column.
//!
//! A field is made for the events of its kind in a batch, each in its place, from random numbers of its
//! own. Invariant: a value depends on its event alone, whatever else is in the batch.

use std::slice;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use tidemill_core::EventTime;

use super::config::{Config, Kind};
use super::price::Prices;
use super::stretch::Stretch;
use super::text::{self, Filler, Lengths};
use crate::random::{Draw, Random};

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

const FIRST_CATEGORY: u64 = 10;
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

/// The events of one kind in a batch.
pub(crate) struct Events<'a> {
    pub(crate) config: &'a Config,
    pub(crate) kind: Kind,
    /// All events of the batch.
    pub(crate) numbers: &'a [u64],
    /// Their stretches, of every kind.
    pub(crate) stretches: &'a [Stretch],
    /// Which of them are of this kind, where not all are.
    pub(crate) valid: Option<NullBuffer>,
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
    Field { name: "id", family: Number, make: |e| e.numbered(Config::person) },
    Field { name: "name", family: Text, make: |e| e.texts(draw::PERSON_NAME, name) },
    Field { name: "emailAddress", family: Text, make: |e| e.texts(draw::PERSON_EMAIL, email) },
    Field { name: "creditCard", family: Text, make: |e| e.texts(draw::PERSON_CARD, card) },
    Field { name: "city", family: Text, make: |e| e.texts(draw::PERSON_CITY, city) },
    Field { name: "state", family: Text, make: |e| e.texts(draw::PERSON_STATE, state) },
    Field { name: "dateTime", family: Time, make: |e| e.times() },
    Field { name: "extra", family: Text, make: person_extra },
];

const AUCTION: [Field; 10] = [
    Field { name: "id", family: Number, make: |e| e.numbered(Config::auction) },
    Field { name: "itemName", family: Text, make: |e| e.texts(draw::AUCTION_NAME, item) },
    Field {
        name: "description",
        family: Text,
        make: |e| e.texts(draw::AUCTION_DESCRIPTION, description),
    },
    Field { name: "initialBid", family: Number, make: |e| e.prices(draw::AUCTION_PRICE) },
    Field { name: "reserve", family: Number, make: reserve },
    Field { name: "dateTime", family: Time, make: |e| e.times() },
    Field { name: "expires", family: Time, make: expires },
    Field {
        name: "seller",
        family: Number,
        make: |e| e.drawn(draw::AUCTION_SELLER, Config::seller),
    },
    Field {
        name: "category",
        family: Number,
        make: |e| e.drawn(draw::AUCTION_CATEGORY, |_, _| category),
    },
    Field { name: "extra", family: Text, make: auction_extra },
];

const BID: [Field; 7] = [
    Field {
        name: "auction",
        family: Number,
        make: |e| e.drawn(draw::BID_AUCTION, Config::auction_of_bid),
    },
    Field { name: "bidder", family: Number, make: |e| e.drawn(draw::BID_BIDDER, Config::bidder) },
    Field { name: "price", family: Number, make: |e| e.prices(draw::BID_PRICE) },
    Field { name: "channel", family: Text, make: |e| e.of_channels(text::channels()) },
    Field { name: "url", family: Text, make: |e| e.of_channels(text::urls()) },
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
    /// A value for each event of the batch: for those of the kind what is written for their stretch.
    fn fill_with<T: Default + Clone>(
        &self,
        mut write: impl FnMut(&Stretch, &[u64], &mut Vec<T>),
    ) -> Vec<T> {
        let mut values = Vec::with_capacity(self.numbers.len());
        for stretch in self.stretches.iter().filter(|stretch| stretch.kind == self.kind) {
            values.resize(stretch.places.start, T::default());
            write(stretch, &self.numbers[stretch.places.clone()], &mut values);
        }
        values.resize(self.numbers.len(), T::default());
        values
    }

    /// A value for each event, by a function for each stretch.
    fn fill<T: Default + Clone, F: FnMut(u64) -> T>(&self, of: impl Fn(&Stretch) -> F) -> Vec<T> {
        self.fill_with(|stretch, numbers, values| {
            let mut value = of(stretch);
            values.extend(numbers.iter().map(|n| value(*n)));
        })
    }

    fn numbers(&self, numbers: Vec<i64>) -> ArrayRef {
        Arc::new(Int64Array::new(numbers.into(), self.valid.clone()))
    }

    fn numbered(&self, number: fn(&Config, &Stretch, u64) -> u64) -> ArrayRef {
        self.numbers(self.fill_with(|stretch, numbers, values| {
            let number = |n: &u64| number(self.config, stretch, *n) as i64;
            values.extend(numbers.iter().map(number));
        }))
    }

    fn drawn<F: Fn(Draw) -> u64>(
        &self,
        draw: u64,
        of: impl Fn(&Config, &Stretch) -> F,
    ) -> ArrayRef {
        let stream = self.config.stream(draw);
        self.numbers(self.fill(|stretch| {
            let number = of(self.config, stretch);
            move |n| number(stream.draw(n)) as i64
        }))
    }

    fn prices(&self, draw: u64) -> ArrayRef {
        let (stream, prices) = (self.config.stream(draw), Prices::get());
        self.numbers(self.fill(|_| move |n| prices.price(stream.draw(n))))
    }

    fn times(&self) -> ArrayRef {
        let (mut same, mut time) = (0..0, self.base);
        let times = self.fill_with(|_, numbers, values| {
            values.extend(numbers.iter().map(|n| {
                if !same.contains(n) {
                    (same, time) =
                        (self.config.at_the_time_of(*n), self.config.time(*n, self.base));
                }
                time
            }));
        });
        Arc::new(TimestampMicrosecondArray::new(times.into(), self.valid.clone()))
    }

    fn texts(&self, draw: u64, text: MakeText) -> ArrayRef {
        let stream = self.config.stream(draw);
        let own = self.stretches.iter().filter(|stretch| stretch.kind == self.kind);
        let own = own.flat_map(|stretch| &self.numbers[stretch.places.clone()]);
        let texts: StringViewArray = own.map(|n| Some(text(&mut stream.at(*n)))).collect();
        let mut views = texts.views().iter().copied();
        let views =
            self.fill_with(|_, numbers, all| all.extend(views.by_ref().take(numbers.len())));
        // SAFETY: each view is one of `texts`, whose blocks these are, or 0.
        unsafe { text::array(views, texts.data_buffers(), self.valid.clone()) }
    }

    /// Length of a text of event `n`, for the filler.
    fn length(&self, n: u64, draw: u64, text: MakeText) -> u64 {
        text(&mut self.config.stream(draw).at(n)).len() as u64
    }

    /// Texts of the channels that bids come through.
    fn of_channels(&self, texts: &text::Pool) -> ArrayRef {
        let stream = self.config.stream(draw::BID_CHANNEL);
        let views = self.fill(|_| |n| texts.view(text::channel_number(stream.draw(n))));
        // SAFETY: each view is one of this pool, or 0.
        unsafe { text::array(views, slice::from_ref(texts.text()), self.valid.clone()) }
    }

    /// Filler for events, of as many lengths as their other fields leave.
    fn extra(&self, draw: u64, lengths: impl Fn(u64) -> Lengths) -> ArrayRef {
        let (stream, filler) = (self.config.stream(draw), Filler::get());
        let views = self.fill(|_| {
            |n| {
                let mut draw = stream.draw(n);
                let length = lengths(n).choose(&mut draw);
                filler.view(length, draw)
            }
        });
        // SAFETY: each view is one of this filler, or 0.
        unsafe { text::array(views, slice::from_ref(filler.text()), self.valid.clone()) }
    }
}

fn category(mut draw: Draw) -> u64 {
    FIRST_CATEGORY + draw.below(CATEGORIES)
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
    let stream = |draw| events.config.stream(draw);
    let (initial, more) = (stream(draw::AUCTION_PRICE), stream(draw::AUCTION_RESERVE));
    let prices = Prices::get();
    let reserve = move |n| prices.price(initial.draw(n)) + prices.price(more.draw(n));
    events.numbers(events.fill(|_| reserve))
}

fn expires(events: &Events<'_>) -> ArrayRef {
    let stream = events.config.stream(draw::AUCTION_EXPIRES);
    let expires = |n| events.config.expires(n, events.base, stream.draw(n));
    let times = events.fill(|_| expires);
    Arc::new(TimestampMicrosecondArray::new(times.into(), events.valid.clone()))
}

fn person_extra(events: &Events<'_>) -> ArrayRef {
    let texts: [(u64, MakeText); 5] = [
        (draw::PERSON_NAME, name),
        (draw::PERSON_EMAIL, email),
        (draw::PERSON_CARD, card),
        (draw::PERSON_CITY, city),
        (draw::PERSON_STATE, state),
    ];
    events.extra(draw::PERSON_EXTRA, |n| {
        let length = |(draw, text): &(u64, MakeText)| events.length(n, *draw, *text);
        Lengths::of(8 + texts.iter().map(length).sum::<u64>(), events.config.person_bytes)
    })
}

fn auction_extra(events: &Events<'_>) -> ArrayRef {
    events.extra(draw::AUCTION_EXTRA, |n| {
        let name = events.length(n, draw::AUCTION_NAME, item);
        let description = events.length(n, draw::AUCTION_DESCRIPTION, description);
        Lengths::of(6 * 8 + name + description, events.config.auction_bytes)
    })
}

fn bid_extra(events: &Events<'_>) -> ArrayRef {
    let lengths = Lengths::of(4 * 8, events.config.bid_bytes);
    events.extra(draw::BID_EXTRA, move |_| lengths)
}
