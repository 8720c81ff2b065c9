//! `'connector' = 'bus'`: topics of a bus as tables, whichever bus it is.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | what a table may say, and the same of all buses |
//! | `delegate` | on Kafka and Redis: the table of the connector that is meant |
//! | `same` | around those connectors: metadata, and names in errors, as on every bus |
//! | `layout`, `decode` | in memory: events to rows |
//! | `source`, `sink`, `staged` | in memory: replayable splits; an epoch's events in one go |
//!
//! Invariant: a table whose `bus` alone changes has the same columns, keys and guarantees.

mod decode;
mod delegate;
mod layout;
mod options;
mod same;
mod sink;
mod source;
mod staged;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tidemill_core::Result;
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, GroupLag, OptionSpec, TableSpec};

use self::options::BusTable;
use self::sink::MemoryBusSink;
use self::source::MemoryBusSource;
use crate::address::Kind;

/// Makes sources and sinks of tables with `'connector' = 'bus'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct BusFactory;

impl ConnectorFactory for BusFactory {
    fn name(&self) -> &'static str {
        "bus"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let formats = tidemill_formats::options();
        options::OPTIONS.into_iter().chain(formats).collect()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        let parsed = BusTable::parse(table)?;
        match &parsed.address.kind {
            Kind::Memory { .. } => Ok(Arc::new(MemoryBusSource::of_table(&parsed)?)),
            _ => delegate::source(&parsed),
        }
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        let parsed = BusTable::parse(table)?;
        if parsed.topics.len() != 1 {
            let message = "a sink writes to one topic: use a table for each";
            return Err(tidemill_core::Error::option("topic", message));
        }
        match &parsed.address.kind {
            Kind::Memory { .. } => Ok(Arc::new(MemoryBusSink::of_table(&parsed)?)),
            _ => delegate::sink(&parsed),
        }
    }

    fn lag(&self, table: &TableSpec, job: &str) -> Result<Option<GroupLag>> {
        let parsed = BusTable::parse(table)?;
        match &parsed.address.kind {
            // A bus in memory is seen by its own process alone.
            Kind::Memory { .. } => Ok(None),
            _ => delegate::lag(&parsed, job),
        }
    }
}
