//! The `upsert-kafka` connector of SQL: a topic as a table whose rows have keys.
//!
//! As a sink it writes what `kafka` writes, under the primary key: the last record of a key is the
//! row. As a source it is refused: a new value of a key takes back the old one, and streams here only
//! append.

use std::sync::Arc;

use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Error, Result};

use crate::factory::KafkaFactory;
use crate::sink::options;

/// Makes sinks of tables with `'connector' = 'upsert-kafka'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct UpsertKafkaFactory;

impl ConnectorFactory for UpsertKafkaFactory {
    fn name(&self) -> &'static str {
        "upsert-kafka"
    }

    fn options(&self) -> Vec<OptionSpec> {
        KafkaFactory.options()
    }

    fn source(&self, _: &TableSpec) -> Result<Arc<dyn Source>> {
        let message = "'upsert-kafka' cannot be read: a new value of a key takes back the old one, and \
                       windows here count what was appended. Read the topic with 'kafka', where every \
                       record is a row, or keep the last row of a key with a query";
        Err(Error::option("connector", message))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(options::sink(table, true)?))
    }
}
