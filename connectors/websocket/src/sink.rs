//! A stream that clients subscribe to: results as they come, to whoever is connected.
//!
//! ```text
//! write ─▶ inbox ─┬─▶ history                            the job's thread │ the server's thread
//!                 └─▶ encoded once per form ─▶ queue of each client ─▶ socket
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`options`] | what the options of a table say |
//! | `access` | which origins and tokens are let in |
//! | `encode`, `parcel` | rows into messages, once for all clients |
//! | `history` | the last rows, for whoever connects |
//! | `stream`, `inbox` | from the job to the queues of the clients |
//! | `queue`, `client` | one client: what waits for it, and its connection |
//! | `server`, `accept`, `routes`, `shared` | one server for each address of the process |
//! | `descriptors` | how many connections the process may have |
//!
//! Last link of the data path. Invariant: a write only puts a batch into a bounded inbox; whatever clients
//! do, the job does not wait for them.

mod accept;
mod access;
mod client;
mod descriptors;
mod encode;
mod history;
mod inbox;
pub mod options;
mod parcel;
mod queue;
mod routes;
mod server;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tidemill_core::sink::{
    Delivered, Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill_core::{Batch, Epoch, Error, Result};
use tidemill_formats::json::JsonFormat;

use self::access::Origins;
use self::encode::Encodings;
use self::parcel::Form;
use self::queue::Limits;
use self::server::Publication;
use self::stream::StreamSettings;
use crate::secret::TokenSource;

/// The port where nothing is said.
pub const DEFAULT_PORT: u16 = 8090;

/// What happens to a client for which more waits than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowClient {
    /// The oldest of what waits is dropped.
    #[default]
    DropOldest,
    /// What comes is dropped until there is room.
    DropNewest,
    /// It is disconnected, with the close code 1013, and may come back for a snapshot.
    Disconnect,
}

impl SlowClient {
    /// The policies, in the order of their names.
    pub(crate) const ALL: [Self; 3] = [Self::DropOldest, Self::DropNewest, Self::Disconnect];
    /// Their names, as in `'slow-client'`.
    pub(crate) const NAMES: [&'static str; 3] = ["drop-oldest", "drop-newest", "disconnect"];
}

/// Serves results to WebSocket clients.
///
/// ```
/// # use tidemill_websocket::{SlowClient, WebSocket};
/// let sink = WebSocket::stream("per-minute")
///     .port(8090)
///     .key(["user_id"])
///     .snapshot_rows(500)
///     .slow_client(SlowClient::Disconnect);
/// ```
#[derive(Debug)]
pub struct WebSocketSink {
    name: String,
    host: String,
    port: u16,
    arrow: bool,
    json: JsonFormat,
    key: Vec<String>,
    upsert: Vec<String>,
    snapshot_rows: usize,
    limits: Limits,
    slow: SlowClient,
    ping_every: Duration,
    origins: Origins,
    token: TokenSource,
    connections_max: usize,
    /// What its writers share while there are any.
    publication: Mutex<Weak<Publication>>,
}

impl WebSocketSink {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            host: "127.0.0.1".to_owned(),
            port: DEFAULT_PORT,
            arrow: false,
            json: JsonFormat::default(),
            key: Vec::new(),
            upsert: Vec::new(),
            snapshot_rows: 1000,
            limits: Limits::default(),
            slow: SlowClient::default(),
            ping_every: Duration::from_secs(15),
            origins: Origins::Loopback,
            token: TokenSource::None,
            connections_max: 1024,
            publication: Mutex::new(Weak::new()),
        }
    }

    /// The port; 0 for any free one, which the log names.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The address to listen on; this machine's own loopback if nothing is said.
    #[must_use]
    pub fn host(self, host: impl Into<String>) -> Self {
        Self { host: host.into(), ..self }
    }

    /// Rows in JSON, written this way.
    #[must_use]
    pub fn json(self, json: JsonFormat) -> Self {
        Self { json, arrow: false, ..self }
    }

    /// Batches in Arrow's IPC format for clients that do not ask for another.
    #[must_use]
    pub fn arrow(self) -> Self {
        Self { arrow: true, ..self }
    }

    /// The columns that `?key=` filters by.
    #[must_use]
    pub fn key<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// These columns are the key of a table: of rows with the same key, a snapshot holds the last.
    #[must_use]
    pub fn upsert<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.upsert = columns.into_iter().map(Into::into).collect();
        self
    }

    /// How many of the last rows a client gets on connecting; 1 000 if nothing is said, 0 for none.
    #[must_use]
    pub fn snapshot_rows(self, rows: usize) -> Self {
        Self { snapshot_rows: rows, ..self }
    }

    /// How much may wait for one client.
    #[must_use]
    pub fn client_buffer(self, messages: usize, bytes: usize) -> Self {
        Self { limits: Limits { messages, bytes }, ..self }
    }

    /// What happens to a client for which more waits.
    #[must_use]
    pub fn slow_client(self, policy: SlowClient) -> Self {
        Self { slow: policy, ..self }
    }

    /// How often clients are pinged; one that is silent twice as long is disconnected.
    #[must_use]
    pub fn ping_every(self, interval: Duration) -> Self {
        Self { ping_every: interval, ..self }
    }

    /// The origins whose pages may connect: `https://example.com`, `http://localhost:*`, `null` (pages
    /// from files) or `*`. If nothing is said, pages that this machine serves.
    ///
    /// # Errors
    /// One that is no origin.
    pub fn allow_origins<'a>(self, origins: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        Ok(Self { origins: Origins::list(origins)?, ..self })
    }

    /// The bearer token that clients must show.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: TokenSource::Text(token.into()), ..self }
    }

    /// A file whose first line is the bearer token that clients must show.
    #[must_use]
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        Self { token: TokenSource::File(path.into()), ..self }
    }

    /// How many clients may be connected; 1 024 if nothing is said.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        Self { connections_max: connections, ..self }
    }

    /// Where clients connect, while the job runs: `ws://127.0.0.1:8090/streams/NAME`.
    pub fn url(&self) -> Option<String> {
        self.publication.lock().upgrade().map(|publication| publication.url())
    }

    /// Whether the options can be meant, as far as that shows without the network.
    ///
    /// # Errors
    /// A configuration error that names the option or the column.
    pub fn check(&self, schema: &SchemaRef) -> Result<()> {
        let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || !self.name.chars().all(named) {
            let message = format!(
                "'{}' cannot be the name of a stream, for it is part of an address: choose letters, \
                 digits, '-', '_' and '.' with 'name'",
                self.name
            );
            return Err(Error::option("name", message));
        }
        if self.ping_every.is_zero() {
            return Err(Error::option(
                "ping.interval",
                "'ping.interval' must be longer than nothing",
            ));
        }
        if self.limits.messages == 0 || self.limits.bytes == 0 {
            return Err(Error::option("client.buffer", "a client's buffer must hold something"));
        }
        let columns = [(&self.key, "key.fields"), (&self.upsert, "connector")];
        for (columns, option) in columns {
            self.indices(schema, columns).map_err(|e| Error::option(option, e.to_string()))?;
        }
        Encodings::new(schema, self.json, &self.indices(schema, &self.key)?)?;
        Ok(())
    }

    fn indices(&self, schema: &SchemaRef, columns: &[String]) -> Result<Vec<usize>> {
        let index = |name: &String| {
            schema.index_of(name).map_err(|_| {
                let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let names = names.join(", ");
                Error::configuration(format!("there is no key column '{name}', only {names}"))
            })
        };
        columns.iter().map(index).collect()
    }

    fn settings(&self, schema: &SchemaRef) -> Result<StreamSettings> {
        self.check(schema)?;
        Ok(StreamSettings {
            schema: schema.clone(),
            form: if self.arrow { Form::Arrow } else { Form::Rows },
            json: self.json,
            key: self.indices(schema, &self.key)?,
            upsert: self.indices(schema, &self.upsert)?,
            snapshot_rows: self.snapshot_rows,
            limits: self.limits,
            slow: self.slow,
            ping_every: self.ping_every,
            origins: self.origins.clone(),
            token: self.token.read()?,
            connections_max: self.connections_max,
        })
    }

    fn address(&self) -> Result<SocketAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let unknown = |cause: Option<std::io::Error>| {
            let message = format!("option 'host' = '{}' is no address of this machine", self.host);
            let error = Error::option("host", message);
            match cause {
                Some(cause) => error.caused_by(cause),
                None => error,
            }
        };
        let mut found = (host, self.port).to_socket_addrs().map_err(|e| unknown(Some(e)))?;
        found.next().ok_or_else(|| unknown(None))
    }

    fn publication(&self, context: &SinkContext) -> Result<Arc<Publication>> {
        let mut shared = self.publication.lock();
        if let Some(publication) = shared.upgrade() {
            return Ok(publication);
        }
        let settings = self.settings(&context.schema)?;
        let publication = Publication::open(self.address()?, &self.name, &context.node, settings)?;
        *shared = Arc::downgrade(&publication);
        Ok(publication)
    }
}

impl Sink for WebSocketSink {
    fn guarantee(&self, _: bool) -> Guarantee {
        let why = "a row goes to the clients that are connected when it is emitted, without waiting \
                   for the checkpoint: a slow client loses some, and after a crash some come again or \
                   are missing; write to a topic as well where every row counts"
            .to_owned();
        Guarantee { delivery: Delivery::AtMostOnce, why }
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            publication: self.publication(context)?,
            accounts: context.shard == 0,
        }))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        let format = if self.arrow { "arrow-ipc" } else { "json" };
        let key = match self.key.is_empty() {
            true => String::new(),
            false => format!(", key {}", self.key.join(", ")),
        };
        let (host, port, name) = (&self.host, self.port, &self.name);
        format!("websocket ws://{host}:{port}/streams/{name} ({format}{key})")
    }
}

/// Puts batches into the stream's inbox.
struct Writer {
    publication: Arc<Publication>,
    /// One of the writers says what waits in the inbox that they share.
    accounts: bool,
}

impl SinkWriter for Writer {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.publication.send(&batch.rows);
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged::default()))
    }

    fn buffered_bytes(&self) -> usize {
        if self.accounts { self.publication.waiting_bytes() } else { 0 }
    }
}
