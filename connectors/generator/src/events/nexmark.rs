//! `nexmark`: the events of the Nexmark benchmark as JSON: `event_type`, and a row for each kind, two
//! of the three null, as nexmark-flink writes them to Kafka.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::array::types::{Int32Type, Int64Type};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use tidemill_core::table::{Options, TableSpec};
use tidemill_core::{Error, EventTime, Result};
use tidemill_formats::{Encoder, Format};

use super::rows::damage_json;
use super::shares::{Fate, Fates};
use super::text::id;
use super::{Event, EventGenerator, EventSettings, Headers};
use crate::nexmark::recipe;
use crate::numbered::Recipe;
use crate::random::Stream;

/// Events that are made at once.
const BATCH_ROWS: u64 = 1_024;

/// Streams of random numbers, never renumbered; those of the fields are below 64.
mod draw {
    pub(super) const EVENT_ID: u64 = 64;
    pub(super) const CORRELATION_ID: u64 = 65;
    pub(super) const DAMAGE: u64 = 66;
}

/// The kinds of events, by `event_type`.
const KINDS: [&str; 3] = ["person", "auction", "bid"];

/// Fields of each kind; those named `dateTime` and `expires` are times, the rest numbers or texts.
const NUMBERS: [&str; 8] =
    ["id", "initialBid", "reserve", "seller", "category", "auction", "bidder", "price"];
const PERSON: [&str; 8] =
    ["id", "name", "emailAddress", "creditCard", "city", "state", "dateTime", "extra"];
const AUCTION: [&str; 10] = [
    "id",
    "itemName",
    "description",
    "initialBid",
    "reserve",
    "dateTime",
    "expires",
    "seller",
    "category",
    "extra",
];
const BID: [&str; 7] = ["auction", "bidder", "price", "channel", "url", "dateTime", "extra"];

/// Nexmark's events, keyed by person or auction.
pub(super) struct NexmarkEvents {
    settings: EventSettings,
    fates: Fates,
    recipe: Arc<dyn Recipe>,
    encoder: Box<dyn Encoder>,
}

impl NexmarkEvents {
    pub(super) fn new(settings: EventSettings) -> Result<Self> {
        let recipe = recipe(&table(&settings)?)?;
        let encoder = Format::parse("json", &Options::default())?.encoder(recipe.schema())?;
        Ok(Self { settings, fates: Fates::new(settings.seed, settings.shares), recipe, encoder })
    }

    /// Rows that have the same fate to their time, made and encoded at once.
    fn run(
        &mut self,
        rows: Range<u64>,
        base: EventTime,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let repeated = |row: u64| match self.fates.of(row) {
            Fate::Duplicate => self.fates.repeated_by(row),
            _ => row,
        };
        let numbers: Vec<u64> = rows.clone().map(repeated).collect();
        let batch = self.recipe.rows(&numbers, base)?;
        let (settings, fates) = (self.settings, self.fates);
        let mut place = 0;
        let mut result = Ok(());
        self.encoder.encode(&batch, &mut |payload| {
            if result.is_ok() {
                let row = rows.start + place as u64;
                let made = Made { batch: &batch, place, number: numbers[place] };
                result = made.send(&settings, row, fates.of(row), payload, each);
            }
            place += 1;
        })?;
        result
    }
}

/// An event of a batch.
struct Made<'a> {
    batch: &'a RecordBatch,
    place: usize,
    /// Its number in Nexmark.
    number: u64,
}

impl Made<'_> {
    fn send(
        &self,
        settings: &EventSettings,
        row: u64,
        fate: Fate,
        payload: &[u8],
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let random = |draw, number| Stream::new(settings.seed, draw).at(number);
        let (kind, key) = self.key();
        let mut payload = payload.to_vec();
        if fate == Fate::Malformed {
            damage_json(&mut payload, random(draw::DAMAGE, row));
        }
        each(&Event {
            key: key.to_string().as_bytes(),
            value: &payload,
            headers: Headers {
                event_type: kind,
                event_id: &id(random(draw::EVENT_ID, self.number)),
                correlation_id: &id(random(draw::CORRELATION_ID, key.unsigned_abs())),
                causation_id: None,
                content_type: "application/json",
            },
            fate,
        })
    }

    /// The kind, and the identifier of the person, or of the auction that it is about.
    fn key(&self) -> (&'static str, i64) {
        let kind = self.batch.column(0).as_primitive::<Int32Type>().value(self.place) as usize;
        let fields = self.batch.column(1 + kind).as_struct();
        (KINDS[kind], fields.column(0).as_primitive::<Int64Type>().value(self.place))
    }
}

impl EventGenerator for NexmarkEvents {
    fn generate(
        &mut self,
        rows: Range<u64>,
        each: &mut dyn FnMut(&Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut start = rows.start;
        while start < rows.end {
            let late = self.fates.of(start) == Fate::Late;
            let end = rows.end.min(start + if late { 1 } else { BATCH_ROWS });
            let next_late = (start + 1..end).find(|row| self.fates.of(*row) == Fate::Late);
            let end = next_late.unwrap_or(end);
            let behind = if late { self.settings.late_by_us } else { 0 };
            self.run(start..end, self.settings.start.saturating_sub(behind), each)?;
            start = end;
        }
        Ok(())
    }
}

/// All columns of all kinds, with events so far apart.
fn table(settings: &EventSettings) -> Result<TableSpec> {
    let interval = settings.interval_us;
    if interval == 0 || 1_000_000 % interval != 0 {
        return Err(Error::configuration(
            "events of nexmark come so many times a second: the interval must divide one second",
        ));
    }
    let row = |name: &str, fields: &[&str]| {
        let fields: Fields =
            fields.iter().map(|name| Field::new(*name, of_type(name), true)).collect();
        Field::new(name, DataType::Struct(fields), true)
    };
    let columns = vec![
        Field::new("event_type", DataType::Int32, false),
        row("person", &PERSON),
        row("auction", &AUCTION),
        row("bid", &BID),
    ];
    let rate = (1_000_000 / interval).to_string();
    let options = [("first-event.rate", rate), ("seed", settings.seed.to_string())];
    Ok(TableSpec {
        name: "nexmark".to_owned(),
        schema: Arc::new(Schema::new(columns)),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
        options: Options::from_iter(options),
    })
}

fn of_type(field: &str) -> DataType {
    match field {
        "dateTime" | "expires" => DataType::Timestamp(TimeUnit::Microsecond, None),
        field if NUMBERS.contains(&field) => DataType::Int64,
        _ => DataType::Utf8View,
    }
}
