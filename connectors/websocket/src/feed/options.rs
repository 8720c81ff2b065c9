//! What the options of a table say about a feed.

use tidemill_core::table::{OptionSpec, TableSpec};
use tidemill_core::{Error, Result};
use tidemill_formats::Format;

use super::{Feed, WebSocketSource};
use crate::secret::TokenSource;
use crate::sink;

/// What a source takes.
pub(crate) const OPTIONS: [OptionSpec; 3] = [
    OptionSpec::new(
        "url",
        "The feed to read: ws://host:port/path, or wss://… in a build with TLS.",
    ),
    OptionSpec::new("header.*", "A header of the request that opens the connection to a feed."),
    OptionSpec::new(
        "subscribe",
        "A text message that is sent whenever a feed has been connected to.",
    ),
];

/// The source of a table.
///
/// # Errors
/// A configuration error that names the option or the column.
pub(crate) fn source(table: &TableSpec) -> Result<WebSocketSource> {
    let options = &table.options;
    if let Some(spec) = sink::options::OPTIONS.iter().find(|spec| options.get(spec.name).is_some())
    {
        let message = format!(
            "'{}' is for a table that is written: a source is a client, of the server at 'url'",
            spec.name
        );
        return Err(Error::option(spec.name, message));
    }
    let mut feed = Feed::new(options.required("url")?.to_owned());
    feed.token = TokenSource::parse(options)?;
    feed.subscribe = options.get("subscribe").map(str::to_owned);
    if let Some(interval) = options.duration("ping.interval")? {
        feed.ping_every = interval;
    }
    for (option, value) in options.iter() {
        if let Some(name) = option.strip_prefix("header.") {
            feed.headers.push((name.to_owned(), value.to_owned()));
        }
    }
    let format = Format::parse(options.required("format")?, options)?;
    let config = feed.config(format, &table.schema, &table.metadata)?;
    Ok(WebSocketSource { schema: table.schema.clone(), config: Ok(config.into()) })
}
