//! A feed that is read: messages of a WebSocket server, one record each.
//!
//! | module | what it does |
//! |---|---|
//! | [`options`] | what the options of a table say |
//! | `connection` | connects, subscribes, reads, and connects again |
//! | `inlet` | what has been read and waits for the job |
//! | `layout`, `reader`, `records` | from messages to rows |
//!
//! First link of the data path. Invariant: every message that was read is one row or one dead letter. What
//! the server sends while nobody is connected is lost: a feed cannot be asked again, so it is read at most
//! once. An offset counts messages, and going on from one means going on with what comes now.

mod connection;
mod inlet;
mod layout;
pub mod options;
mod reader;
mod records;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tidemill_core::source::{Offset, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::{Epoch, Error, ErrorKind, Result};
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;
use tidemill_formats::raw::RawFormat;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use url::Url;

use self::layout::Layout;
use self::reader::Reader;
use crate::secret::TokenSource;

/// A message of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// Says what to send when a connection is made: see [`Feed::on_connect`].
type Greeting = Arc<dyn Fn(Option<&FeedMessage>) -> Vec<FeedMessage> + Send + Sync>;

/// A feed to read, before it is said what is in its messages.
#[derive(Clone)]
pub struct Feed {
    url: String,
    headers: Vec<(String, String)>,
    token: TokenSource,
    subscribe: Option<String>,
    greeting: Option<Greeting>,
    ping_every: Duration,
    /// Columns and the metadata that they hold.
    metadata: Vec<(String, String)>,
}

impl Feed {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            headers: Vec::new(),
            token: TokenSource::None,
            subscribe: None,
            greeting: None,
            ping_every: Duration::from_secs(15),
            metadata: Vec::new(),
        }
    }

    /// A header of the request that opens the connection.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The bearer token to show.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: TokenSource::Text(token.into()), ..self }
    }

    /// A file whose first line is the bearer token to show.
    #[must_use]
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        Self { token: TokenSource::File(path.into()), ..self }
    }

    /// A text message that is sent whenever a connection has been made.
    #[must_use]
    pub fn subscribe(self, message: impl Into<String>) -> Self {
        Self { subscribe: Some(message.into()), ..self }
    }

    /// Messages that are sent whenever a connection has been made, behind that of [`Feed::subscribe`].
    /// The function is given the last message that was read in this run, so that it can ask the server
    /// to resume behind it; none before the first.
    #[must_use]
    pub fn on_connect(
        self,
        greeting: impl Fn(Option<&FeedMessage>) -> Vec<FeedMessage> + Send + Sync + 'static,
    ) -> Self {
        Self { greeting: Some(Arc::new(greeting)), ..self }
    }

    /// How often the server is pinged; when it is silent twice as long, the connection is made anew.
    #[must_use]
    pub fn ping_every(self, interval: Duration) -> Self {
        Self { ping_every: interval, ..self }
    }

    /// Column `column` holds metadata: `timestamp`, when a message was read, or `connection`, the number
    /// of the connection that it came over, from 1 in each run.
    #[must_use]
    pub fn metadata(mut self, column: impl Into<String>, key: impl Into<String>) -> Self {
        self.metadata.push((column.into(), key.into()));
        self
    }

    /// Messages are JSON objects.
    pub fn json(self, schema: SchemaRef) -> WebSocketSource {
        self.format(Format::Json(JsonFormat::default()), schema)
    }

    /// Messages are the value of the only column that is no metadata.
    pub fn raw(self, schema: SchemaRef) -> WebSocketSource {
        self.format(Format::Raw(RawFormat::default()), schema)
    }

    /// Messages are of this format; `schema` has their columns and those of metadata.
    pub fn format(self, format: Format, schema: SchemaRef) -> WebSocketSource {
        let index = |column: &String| {
            let missing = |_| Error::configuration(format!("the schema has no column '{column}'"));
            schema.index_of(column).map_err(missing)
        };
        let metadata = self.metadata.iter().map(|(column, key)| Ok((index(column)?, key.clone())));
        let metadata: Result<Vec<_>> = metadata.collect();
        let config = metadata.and_then(|metadata| self.config(format, &schema, &metadata));
        let config = config
            .map(Arc::new)
            .map_err(|error| Mistake { kind: error.kind(), message: error.to_string() });
        WebSocketSource { schema, config }
    }

    fn config(
        &self,
        format: Format,
        schema: &SchemaRef,
        metadata: &[(usize, String)],
    ) -> Result<FeedConfig> {
        if self.ping_every.is_zero() {
            let message = "'ping.interval' must be longer than nothing";
            return Err(Error::option("ping.interval", message));
        }
        let url = address(&self.url)?;
        Ok(FeedConfig {
            place: place(&url),
            url,
            headers: self.headers.iter().map(|(n, v)| header(n, v)).collect::<Result<_>>()?,
            token: self.token.clone(),
            subscribe: self.subscribe.clone(),
            greeting: self.greeting.clone(),
            ping_every: self.ping_every,
            layout: Layout::new(schema.clone(), metadata, format)?,
        })
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = address(&self.url).map_or_else(|_| "no address".to_owned(), |url| place(&url));
        f.debug_struct("Feed")
            .field("url", &url)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// What is fixed of a feed.
struct FeedConfig {
    url: Url,
    /// The address without anything that may be a secret.
    place: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    token: TokenSource,
    subscribe: Option<String>,
    greeting: Option<Greeting>,
    ping_every: Duration,
    layout: Layout,
}

/// # Errors
/// No address of a feed, or one that this build cannot reach.
fn address(text: &str) -> Result<Url> {
    let wrong = |message: &str| Error::option("url", format!("option 'url' {message}"));
    let url = Url::parse(text)
        .map_err(|_| wrong("is no address: write 'ws://host:port/path' or 'wss://…'"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "holds a user or password: use 'token', 'token.file' or 'header.Authorization'",
        ));
    }
    match url.scheme() {
        _ if !url.has_host() => Err(wrong("names no host: write 'ws://host:port/path'")),
        "ws" => Ok(url),
        "wss" if cfg!(feature = "tls") => Ok(url),
        "wss" => {
            Err(wrong("is wss://, and this build has no TLS: build it with the feature 'tls'"))
        }
        other => Err(wrong(&format!("begins with '{other}:': write 'ws://' or 'wss://'"))),
    }
}

fn place(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let wrong = |what: &str| {
        let option = format!("header.{name}");
        Error::option(&option, format!("'{option}': {what} is not allowed in a header"))
    };
    let value = HeaderValue::from_str(value).map_err(|_| wrong("a character of the value"))?;
    Ok((name.parse().map_err(|_| wrong("a character of the name"))?, value))
}

/// A mistake in a builder that cannot return one.
#[derive(Clone)]
struct Mistake {
    kind: ErrorKind,
    message: String,
}

/// A feed as a source. See the [module](self).
#[derive(Clone)]
pub struct WebSocketSource {
    schema: SchemaRef,
    /// Or what is wrong with it, which the job says when it starts.
    config: Result<Arc<FeedConfig>, Mistake>,
}

impl WebSocketSource {
    fn config(&self) -> Result<&Arc<FeedConfig>> {
        let config = self.config.as_ref();
        config.map_err(|mistake| Error::new(mistake.kind, mistake.message.clone()))
    }
}

impl Source for WebSocketSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(vec![SplitId::new(&self.config()?.place)])
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(Reader::open(self.config()?.clone(), split, from, context)?))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        let Ok(config) = &self.config else { return "websocket feed".to_owned() };
        format!("websocket feed {} ({}, at most once)", config.place, config.layout.format.name())
    }
}
