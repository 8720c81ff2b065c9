//! `'connector' = 'nexmark'`: the events of the Nexmark benchmark.
//!
//! Nexmark (Tucker, Tufte, Papadimos, Maier: "NEXMark, a Benchmark for Queries over Data Streams",
//! 2002) models an auction site: people register, put things up for auction, and bid. The
//! proportions, identifier ranges, hot keys, sizes and vocabulary are those of Apache Beam's
//! generator and of nexmark-flink, which the published figures of other engines rest on:
//!
//! | module | what it fixes |
//! |---|---|
//! | [`config`] | which event is what, when, and the identifiers there are by then |
//! | [`field`] | each field of a person, an auction and a bid |
//! | [`price`] | prices, without a power for each |
//! | [`divide`] | where an event stands in its round, without a division |
//! | [`stretch`] | events of one kind and round, next to each other in a batch |
//! | [`text`] | the texts that fields are drawn from |
//! | [`shape`] | the declared columns: events with three rows, or one kind flat |
//!
//! Event `n` depends on the seed and on `n` alone, field by field: columns that a table does not
//! declare, or a job does not look at, are not generated, and do not change the others.
//!
//! One deliberate difference: nexmark-flink adds the first person's identifier to a bidder twice,
//! so that no bidder is a person; here, as in Beam, bids join people.

mod config;
mod divide;
mod field;
mod price;
mod shape;
mod stretch;
mod text;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::need::Need;
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Error, EventTime, Result};

use crate::numbered::{
    NumberedSource, Numbering, Recipe, at_least_one, base_time, refuse_metadata,
};
use config::Config;
use shape::Shape;

/// Time of the first event where `'base-time'` is not set, as in Beam: 2015-07-15T00:00:00Z.
const BASE_TIME: EventTime = 1_436_918_400_000_000;

/// Makes sources of Nexmark events.
///
/// A table declares the columns it wants, by name: `event_type INT`, `person ROW<…>`,
/// `auction ROW<…>` and `bid ROW<…>` as in nexmark-flink, each row with the fields it wants; or,
/// with `'nexmark.table' = 'person' | 'auction' | 'bid'`, the fields of one kind as flat columns.
/// `'events.num'` counts events of all kinds, whichever of them a table keeps.
#[derive(Debug, Clone, Copy, Default)]
pub struct NexmarkFactory;

impl ConnectorFactory for NexmarkFactory {
    fn name(&self) -> &'static str {
        "nexmark"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let option = OptionSpec::new;
        vec![
            option("nexmark.table", "'person', 'auction' or 'bid': flat rows of this kind alone."),
            option("events.num", "Events of all kinds in all; default 0: no end."),
            option("first-event.rate", "Events per second of event time; default 10000."),
            option("next-event.rate", "The same: only a constant rate is supported."),
            option("rate.limited", "'true': events come at that rate instead of flat out."),
            option("base-time", "Time of the first event (UTC); default 2015-07-15 00:00:00."),
            option("seed", "Another seed, other events; default 0."),
            option("splits", "Splits that can be read in parallel; default 1."),
            option("person.proportion", "People in a round of events; default 1."),
            option("auction.proportion", "Auctions in a round of events; default 3."),
            option("bid.proportion", "Bids in a round of events; default 46."),
            option("bid.hot-ratio.auctions", "All but one in so many bids go to a hot auction; 2."),
            option("bid.hot-ratio.bidders", "All but one in so many bids are a hot bidder's; 4."),
            option("auction.hot-ratio.sellers", "All but one in so many auctions: hot seller; 4."),
            option("person.avg-size", "Average bytes of a person; default 200."),
            option("auction.avg-size", "Average bytes of an auction; default 500."),
            option("bid.avg-size", "Average bytes of a bid; default 100."),
        ]
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        refuse_metadata(table)?;
        let options = &table.options;
        let base = base_time(options)?.unwrap_or(BASE_TIME);
        let config = Config::from_options(options)?;
        let limited = options.parsed("rate.limited")?.unwrap_or(false);
        let numbering = Numbering {
            splits: at_least_one(options, "splits")?.unwrap_or(1),
            end: options.parsed("events.num")?.filter(|events| *events > 0),
            per_second: limited.then_some(config.rate()),
            base: Some(base),
        };
        let shape = Shape::resolve(table)?;
        let recipe = Nexmark { schema: table.schema.clone(), config, shape };
        Ok(Arc::new(NumberedSource::new("nexmark", numbering, Arc::new(recipe))))
    }

    fn sink(&self, _: &TableSpec) -> Result<Arc<dyn Sink>> {
        Err(Error::option(
            "connector",
            "'nexmark' only generates rows: nothing can be written to it",
        ))
    }
}

/// What makes the rows of a table, for others than sources.
pub(crate) fn recipe(table: &TableSpec) -> Result<Arc<dyn Recipe>> {
    let config = Config::from_options(&table.options)?;
    let shape = Shape::resolve(table)?;
    Ok(Arc::new(Nexmark { schema: table.schema.clone(), config, shape }))
}

struct Nexmark {
    schema: SchemaRef,
    config: Config,
    shape: Shape,
}

impl Recipe for Nexmark {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn retain(&self, numbers: &mut Vec<u64>) {
        if let Some(kind) = self.shape.kind() {
            numbers.retain(|number| self.config.kind(*number) == kind);
        }
    }

    fn rows(&self, numbers: &[u64], base: EventTime) -> Result<RecordBatch> {
        let columns = self.shape.columns(&self.config, numbers, base)?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn reading(&self, needs: &[Need]) -> Option<Arc<dyn Recipe>> {
        let shape = self.shape.reading(needs);
        Some(Arc::new(Self { schema: self.schema.clone(), config: self.config.clone(), shape }))
    }

    fn describe(&self) -> String {
        self.shape.kind().map_or("events".to_owned(), |kind| format!("{}s", kind.name()))
    }
}
