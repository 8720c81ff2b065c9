//! One server for each address of the process, on a thread of its own, and the streams that it serves.
//!
//! Invariant: a server is there as long as one of its streams is, a stream as long as one of its writers
//! is; whoever opens the same again waits until the last is gone.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use tidemill_core::{Error, Result};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

use super::accept;
use super::descriptors;
use super::routes;
use super::shared::Shared;
use super::stream::{Stream, StreamSettings};

/// How long clients may take for what is left for them when the job ends.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// How long a connection may take to become a client's.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What the kernel holds for one client: without a bound it is megabytes for each that has stalled.
const SEND_BUFFER_BYTES: u32 = 64 << 10;

/// How many clients may knock at once.
const BACKLOG: u32 = 1024;

static SERVERS: Shared<SocketAddr, Server> = Shared::new();
static PUBLICATIONS: Shared<(SocketAddr, String), Publication> = Shared::new();

/// The streams of a server, by name.
pub(crate) type Streams = Mutex<BTreeMap<String, Arc<Stream>>>;

/// A stream that is served.
pub(crate) struct Publication {
    name: String,
    stream: Arc<Stream>,
    server: Arc<Server>,
    /// Says when all clients have got what was left for them.
    finished: Mutex<mpsc::Receiver<()>>,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication").field("url", &self.url()).finish()
    }
}

impl Publication {
    /// Serves a stream called `name`. Sinks that say the same of it share it.
    ///
    /// # Errors
    /// The address is taken, or the name by a stream of other settings.
    pub fn open(
        address: SocketAddr,
        name: &str,
        sink: &str,
        settings: StreamSettings,
    ) -> Result<Arc<Self>> {
        let server = Server::at(address)?;
        let key = (server.address, name.to_owned());
        if settings.token.is_none() && !server.address.ip().is_loopback() {
            tracing::warn!(
                "{} can be reached from other machines and asks for no token: set 'token.file'",
                server.address
            );
        }
        let wanted = settings.clone();
        let publication = PUBLICATIONS.get(key, || Self::new(server, name, sink, settings))?;
        if publication.stream.settings == wanted {
            return Ok(publication);
        }
        let message = format!(
            "{} is already served by a sink with other columns or options: choose another 'name'",
            publication.url()
        );
        Err(Error::option("name", message))
    }

    fn new(server: Arc<Server>, name: &str, sink: &str, settings: StreamSettings) -> Result<Self> {
        let connections_max = descriptors::connections(settings.connections_max);
        let stream = Arc::new(Stream::new(sink, connections_max, settings)?);
        let (finish, finished) = mpsc::channel();
        let running = stream.clone();
        server.runtime.spawn(async move {
            running.run().await;
            // Nobody waits where the grace is over.
            let _ = finish.send(());
        });
        server.streams.lock().insert(name.to_owned(), stream.clone());
        let publication =
            Self { name: name.to_owned(), stream, server, finished: Mutex::new(finished) };
        tracing::info!("serving {}", publication.url());
        Ok(publication)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("ws://{}/streams/{}", self.server.address, self.name)
    }

    /// Takes rows from the job.
    pub fn send(&self, rows: &RecordBatch) {
        self.stream.send(rows);
    }

    /// Bytes of rows that wait to be encoded.
    pub fn waiting_bytes(&self) -> usize {
        self.stream.waiting_bytes()
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.stream.close();
        if self.finished.lock().recv_timeout(GRACE).is_err() {
            tracing::debug!("{}: not every client took what was left for it", self.url());
        }
        self.server.streams.lock().remove(&self.name);
        PUBLICATIONS.released(&(self.server.address, self.name.clone()));
    }
}

/// See the module.
struct Server {
    address: SocketAddr,
    streams: Arc<Streams>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The server at `address`; a new one for port 0.
    fn at(address: SocketAddr) -> Result<Arc<Self>> {
        if address.port() != 0 {
            return SERVERS.get(address, || Self::start(Bound::to(address)?));
        }
        let bound = Bound::to(address)?;
        SERVERS.get(bound.address, || Self::start(bound))
    }

    fn start(bound: Bound) -> Result<Self> {
        let Bound { address, runtime, listener } = bound;
        let streams = Arc::new(Streams::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let serving = accept::serve(listener, routes::router(streams.clone()), HANDSHAKE);
        let thread = thread::Builder::new().name("tidemill-ws".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        });
        let thread = Some(thread.map_err(cannot_start)?);
        Ok(Self { address, streams, runtime: handle, stop: Some(stop), thread })
    }
}

fn cannot_start(error: io::Error) -> Error {
    Error::external("the WebSocket server cannot start").caused_by(error)
}

/// An address that is listened to, and who will serve it.
struct Bound {
    address: SocketAddr,
    runtime: Runtime,
    listener: TcpListener,
}

impl Bound {
    fn to(address: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(cannot_start)?;
        let listener = {
            let _entered = runtime.enter();
            listen(address).map_err(|error| {
                let message = format!(
                    "cannot listen on {address}: choose another 'port' (0 for any free one), or an \
                     address of this machine as 'host'"
                );
                Error::option("port", message).caused_by(error)
            })?
        };
        let address = listener.local_addr().map_err(cannot_start)?;
        Ok(Self { address, runtime, listener })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the WebSocket server's thread has panicked");
        }
        SERVERS.released(&self.address);
    }
}
