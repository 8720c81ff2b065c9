//! Metrics, health and status of a job over HTTP: read-only, on a thread of its own.
//!
//! | route | what |
//! |---|---|
//! | `/metrics` | Prometheus text |
//! | `/livez` | 200 while the job works, else 503 |
//! | `/readyz` | 200 once the job reads and writes, else 503 |
//! | `/status` | the job as JSON |
//!
//! The server stands beside the data path: it reads what the job publishes and can change nothing.
//! Knows the contracts of the engine only; the job comes in as a [`StatusSource`].

#![deny(missing_docs)]

mod recorder;
mod routes;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidemill_core::{Error, Result};
use tokio::sync::oneshot;

pub use metrics_exporter_prometheus::PrometheusHandle;
pub use recorder::install_recorder;

/// How long a request that is under way may hold up the end of the server.
const GRACE: Duration = Duration::from_secs(1);

/// What the server shows of a job. Called on the server's thread, once per request; it should
/// answer within milliseconds and must not wait for the job.
pub trait StatusSource: Send + Sync {
    /// The job's state, without secrets.
    fn status(&self) -> serde_json::Value;

    /// Whether the job reads and writes.
    fn ready(&self) -> bool;

    /// Whether the job still works, so that restarting it would not help.
    fn live(&self) -> bool;
}

/// A running server. It stops when this is dropped: no new requests are taken, and those under
/// way have a second to finish.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves a job's metrics and status on `address` (port 0: any free one).
///
/// An address that others can reach is served as well, for it was asked for, but with a warning:
/// there is no authentication.
///
/// # Errors
/// The address is taken or not of this machine, or the thread cannot be started.
pub fn serve(
    address: SocketAddr,
    status: Arc<dyn StatusSource>,
    metrics: PrometheusHandle,
) -> Result<ServerHandle> {
    let (listener, address) = listen(address).map_err(|error| {
        Error::configuration(format!(
            "cannot serve HTTP on {address}: choose another port, or 0 for any free one"
        ))
        .caused_by(error)
    })?;
    if !address.ip().is_loopback() {
        tracing::warn!("{address} can be reached from other machines and asks for no password");
    }
    let failed = |error| Error::external("the HTTP server cannot be started").caused_by(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let router = routes::router(status, metrics);
    let thread = thread::Builder::new().name("tidemill-http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            if let Err(error) = run(listener, router, stopped).await {
                tracing::error!("the HTTP server has ended: {error}");
            }
        });
    });
    Ok(ServerHandle { address, stop: Some(stop), thread: Some(thread.map_err(failed)?) })
}

fn listen(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until `stopped`, then at most [`GRACE`] longer.
async fn run(
    listener: TcpListener,
    router: axum::Router,
    stopped: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (end, ending) = oneshot::channel::<()>();
    // Either end of a channel that closes says the same as a message.
    let ending = async move { drop(ending.await) };
    let serving = axum::serve(listener, router).with_graceful_shutdown(ending);
    let deadline = async move {
        let _ = stopped.await;
        drop(end);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served,
        () = deadline => Ok(()),
    }
}

impl ServerHandle {
    /// The address that is served: the one asked for, with the port that was found.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the HTTP server's thread has panicked");
        }
    }
}

#[cfg(test)]
mod tests;
