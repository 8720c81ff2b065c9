//! The connectors `redis-stream` and `redis` of SQL.

use std::sync::Arc;

use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, GroupLag, OptionSpec, TableSpec};
use tidemill_core::{Error, Result};

use crate::source::{self, RedisStreamSource};
use crate::{client, lag, sink};

/// Makes sources and sinks of tables with `'connector' = 'redis-stream'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct RedisStreamFactory;

/// Makes sinks of tables with `'connector' = 'redis'`: hashes, strings, sorted sets, counters, channels.
#[derive(Debug, Default, Clone, Copy)]
pub struct RedisFactory;

/// What source and sink of a stream both take: which streams, and how entries are laid out.
pub(crate) const STREAM: [OptionSpec; 3] = [
    OptionSpec::new(
        "stream",
        "The stream; a partitioned one as 'orders:{0..7}'; several to read from, separated by \
         semicolons.",
    ),
    OptionSpec::new(
        "value.field",
        "The field that holds the record, in a format (default: payload).",
    ),
    OptionSpec::new("key.field", "The field that holds the record's key (default: key)."),
];

impl ConnectorFactory for RedisStreamFactory {
    fn name(&self) -> &'static str {
        "redis-stream"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let sink = &sink::options::STREAM_OPTIONS;
        let own = [&client::config::OPTIONS[..], &STREAM, &source::config::OPTIONS, sink].concat();
        own.into_iter().chain(tidemill_formats::options()).collect()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(RedisStreamSource::of_table(table)?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::options::stream(table)?))
    }

    fn lag(&self, table: &TableSpec, job: &str) -> Result<Option<GroupLag>> {
        lag::of_table(table, job).map(Some)
    }
}

impl ConnectorFactory for RedisFactory {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let own = [&client::config::OPTIONS[..], &sink::options::STRUCTURE_OPTIONS].concat();
        own.into_iter().chain(tidemill_formats::options()).collect()
    }

    fn source(&self, _table: &TableSpec) -> Result<Arc<dyn Source>> {
        let message = "'redis' is written, not read: to read a stream, use 'redis-stream'";
        Err(Error::option("connector", message))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::options::structure(table)?))
    }
}
