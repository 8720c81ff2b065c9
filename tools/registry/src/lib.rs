//! A small schema registry that speaks the REST API of Confluent's, for tests and for trying things
//! out.
//!
//! What it has: registration, look-up, versions, ids, references, compatibility levels, the error
//! codes of the original, one authorization header, and faults on request. What it has not: a memory
//! beyond its process, deletion, and a check of compatibility (levels are stored, never enforced); of
//! a Protobuf schema it checks only that there is one.
//!
//! ```
//! let registry = tidemill_registry::Server::new().start("127.0.0.1:0")?;
//! assert!(registry.url().starts_with("http://127.0.0.1:"));
//! registry.fail_next(2, 503);
//! # std::io::Result::Ok(())
//! ```

#![deny(missing_docs)]

mod api;
mod store;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use self::api::Shared;

/// A registry that is not running yet.
#[derive(Default)]
pub struct Server {
    authorization: Option<String>,
}

/// A registry on a thread of its own. It ends when this is dropped.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A registry that answers everybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers only those whose `Authorization` header is this: `Basic …`, `Bearer …`.
    #[must_use]
    pub fn authorization(mut self, header: impl Into<String>) -> Self {
        self.authorization = Some(header.into());
        self
    }

    /// Serves on this address; port 0 is any that is free.
    ///
    /// # Errors
    /// The address is taken, or the system refuses a thread.
    pub fn start(self, address: impl ToSocketAddrs) -> io::Result<Running> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { authorization: self.authorization, ..Shared::default() });
        let router = api::router(shared.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                // Connections that clients keep open would hold a graceful end up for ever.
                tokio::select! {
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("registry".into()).spawn(serve)?;
        Ok(Running { address, shared, stop: Some(stop), thread: Some(thread) })
    }
}

impl Running {
    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `count` requests get `status` instead of an answer.
    pub fn fail_next(&self, count: usize, status: u16) {
        self.shared.lock().failing = (count, status);
    }

    /// The next `count` requests are answered so much later.
    pub fn delay_next(&self, count: usize, by: Duration) {
        self.shared.lock().delayed = (count, by);
    }

    /// The requests so far: `GET /subjects`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().requests.clone()
    }

    /// Waits until the registry ends, which it does only with its process.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
