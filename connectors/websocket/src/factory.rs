//! The `websocket` connector of SQL.

use std::sync::Arc;

use tidemill_core::Result;
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};

use crate::{feed, sink};

/// Makes sources and sinks of tables with `'connector' = 'websocket'`.
#[derive(Debug, Default, Clone, Copy)]
pub struct WebSocketFactory;

/// What sources and sinks both take.
const COMMON: [OptionSpec; 4] = [
    OptionSpec::new(
        "format",
        "How records are written down. A sink: json (default) or arrow-ipc; a source: avro, \
         avro-confluent, csv, json, protobuf, protobuf-confluent, raw.",
    ),
    OptionSpec::new(
        "token",
        "The bearer token: that a sink's clients must show, or a feed is shown.",
    ),
    OptionSpec::new("token.file", "A file that holds the token, in its first line."),
    OptionSpec::new(
        "ping.interval",
        "How often the other side is pinged; it is given up when it is silent twice as long \
         (default: 15 s).",
    ),
];

impl ConnectorFactory for WebSocketFactory {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let formats = tidemill_formats::options();
        let formats = formats.into_iter().filter(|option| option.name != "format");
        let own = [&COMMON[..], &sink::options::OPTIONS, &feed::options::OPTIONS].concat();
        own.into_iter().chain(formats).collect()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(feed::options::source(table)?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::options::sink(table)?))
    }
}
