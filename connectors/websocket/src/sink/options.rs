//! What the options of a table say about a stream.

use tidemill_core::table::{OptionSpec, Options, TableSpec};
use tidemill_core::{Error, Result};
use tidemill_formats::json::JsonFormat;

use super::access::Origins;
use super::{SlowClient, WebSocketSink};
use crate::secret::TokenSource;

/// What a sink takes.
pub(crate) const OPTIONS: [OptionSpec; 10] = [
    OptionSpec::new("port", "A sink's port (default 8090; 0 for any free one)."),
    OptionSpec::new("host", "The address a sink listens on (default 127.0.0.1)."),
    OptionSpec::new("name", "The stream's name, behind /streams/ (default: that of the table)."),
    OptionSpec::new(
        "key.fields",
        "Columns that ?key= filters by, separated by semicolons (default: the PRIMARY KEY).",
    ),
    OptionSpec::new(
        "snapshot.rows",
        "How many of the last rows a client gets on connecting; of each PRIMARY KEY only the last \
         (default 1000).",
    ),
    OptionSpec::new("client.buffer", "How many messages may wait for one client (default 16384)."),
    OptionSpec::new(
        "client.buffer.bytes",
        "How many bytes may wait for one client (default 4194304).",
    ),
    OptionSpec::new(
        "slow-client",
        "What happens to a client for which more waits: 'drop-oldest' (default), 'drop-newest' or \
         'disconnect'.",
    ),
    OptionSpec::new(
        "allowed-origins",
        "Origins whose pages may connect, separated by semicolons; 'http://localhost:*' for any port, \
         'null' for pages from files, '*' for all (default: pages that this machine serves).",
    ),
    OptionSpec::new("max-connections", "How many clients may be connected (default 1024)."),
];

/// Options that only a source takes: here they would have no effect.
const OF_SOURCES: [&str; 2] = ["url", "subscribe"];

/// The sink of a table.
///
/// # Errors
/// A configuration error that names the option.
pub(crate) fn sink(table: &TableSpec) -> Result<WebSocketSink> {
    let options = &table.options;
    if let Some(option) = OF_SOURCES.into_iter().find(|option| options.get(option).is_some()) {
        let message = format!(
            "'{option}' is for a table that is read: a sink is a server, at 'host' and 'port'"
        );
        return Err(Error::option(option, message));
    }
    if let Some((column, _)) = table.metadata.first() {
        let name = table.schema.field(*column).name();
        let message = format!("a WebSocket sink writes no metadata: declare '{name}' VIRTUAL");
        return Err(Error::configuration(message));
    }
    let mut sink = WebSocketSink::new(options.get("name").unwrap_or(&table.name).to_owned());
    if let Some(host) = options.get("host") {
        sink.host = host.to_owned();
    }
    set(&mut sink.port, options.parsed("port")?);
    sink.arrow = is_arrow(options)?;
    sink.json = JsonFormat::parse(options)?;
    let name = |column: &usize| table.schema.field(*column).name().clone();
    sink.upsert = table.primary_key.iter().map(name).collect();
    sink.key = match options.get("key.fields") {
        Some(fields) => fields.split(';').map(|field| field.trim().to_owned()).collect(),
        None => sink.upsert.clone(),
    };
    set(&mut sink.snapshot_rows, options.parsed("snapshot.rows")?);
    set(&mut sink.limits.messages, options.parsed("client.buffer")?);
    set(&mut sink.limits.bytes, options.parsed("client.buffer.bytes")?);
    sink.slow = SlowClient::ALL[options.choice("slow-client", &SlowClient::NAMES, 0)?];
    set(&mut sink.ping_every, options.duration("ping.interval")?);
    if let Some(origins) = options.get("allowed-origins") {
        sink.origins = Origins::list(origins.split(';'))?;
    }
    sink.token = TokenSource::parse(options)?;
    set(&mut sink.connections_max, options.parsed("max-connections")?);
    sink.check(&table.schema)?;
    Ok(sink)
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn is_arrow(options: &Options) -> Result<bool> {
    match options.get("format") {
        None | Some("json") => Ok(false),
        Some("arrow-ipc") => Ok(true),
        Some(other) => {
            let message =
                format!("clients get 'json' or 'arrow-ipc', not '{other}': change 'format'");
            Err(Error::option("format", message))
        }
    }
}
