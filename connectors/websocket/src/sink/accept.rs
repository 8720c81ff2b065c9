//! From a connection to a request: what is open before it belongs to a client.
//!
//! Invariant: at most [`HANDSHAKES_MAX`] connections are open that are no clients', each for a bounded time and for
//! one request. More wait in the kernel, where they cost the job no descriptor. Those of clients are bounded by
//! their seats.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How many connections may be there of which nobody knows yet what they want.
pub(crate) const HANDSHAKES_MAX: usize = 64;

/// How much of a request is read: an address and headers.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// How long to wait when no connection can be taken, as when the machine has no descriptor left.
const RETRY: Duration = Duration::from_secs(1);

/// Answers whoever connects; never returns. A connection may take so long to say what it wants, and to take
/// the answer.
pub(crate) async fn serve(listener: TcpListener, router: Router, handshake: Duration) {
    let router = router.layer(map_response(last));
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    // Nobody closes the semaphore.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((socket, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    answer(socket, router, handshake).await;
                    drop(place);
                });
            }
            // Of this connection only; the next may be there already.
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                tracing::warn!("WebSocket clients cannot connect at the moment: {error}");
                sleep(RETRY).await;
            }
        }
    }
}

/// An answer behind which the connection is closed, unless it is a client's from here on.
async fn last(mut answer: Response) -> Response {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers one request; returns when the connection is closed, or is a client's.
async fn answer(socket: TcpStream, router: Router, handshake: Duration) {
    // Results are small and wanted now.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!("a WebSocket client may get results late: {error}");
    }
    let connection = http1::Builder::new()
        // The time for all of it is bounded here.
        .header_read_timeout(None)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router))
        .with_upgrades();
    match timeout(handshake, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a WebSocket client was not answered: {error}"),
        Err(_) => tracing::debug!("who connected did not say what for within {handshake:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::WouldBlock;
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// How long a test waits for what must come.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn server(handshake: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Router::new(), handshake));
        address
    }

    /// Everything that is answered until the connection is closed.
    async fn answer_to(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(PATIENCE, socket.read_to_string(&mut answer)).await;
        read.expect("the server closes the connection").unwrap();
        answer
    }

    #[tokio::test]
    async fn a_connection_is_good_for_one_request() {
        let address = server(PATIENCE * 2).await;
        let answer = answer_to(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }

    #[tokio::test]
    async fn who_does_not_finish_a_request_is_cut() {
        let address = server(Duration::from_millis(100)).await;
        for request in ["", "GET / HTTP/1.1\r\nHost: x\r\n"] {
            assert_eq!(answer_to(address, request).await, "");
        }
    }

    #[tokio::test]
    async fn no_more_connections_are_open_than_may_however_many_knock() {
        let address = server(Duration::from_secs(1)).await;
        let mut idle = Vec::new();
        for _ in 0..HANDSHAKES_MAX {
            idle.push(std::net::TcpStream::connect(address).unwrap());
        }
        let answer = answer_to(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        let is_open = |socket: &std::net::TcpStream| {
            socket.set_nonblocking(true).unwrap();
            socket.peek(&mut [0]).is_err_and(|error| error.kind() == WouldBlock)
        };
        assert!(!idle.iter().all(is_open), "one of them had to go first");
    }
}
