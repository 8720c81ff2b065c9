//! The typed way to sinks and sources: what the options of a table say, in Rust.

use crate::feed::Feed;
use crate::sink::WebSocketSink;

/// WebSockets at either end of a job.
///
/// ```
/// use std::sync::Arc;
/// use arrow::datatypes::{DataType, Field, Schema};
/// use tidemill_websocket::WebSocket;
///
/// // Browsers get results from ws://127.0.0.1:8090/streams/per-minute
/// let sink = WebSocket::stream("per-minute").port(8090).key(["user_id"]);
///
/// let schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Float64, true)]));
/// let trades = WebSocket::feed("ws://localhost:9000/trades").subscribe("{\"op\":\"trades\"}").json(schema);
/// ```
///
/// A mistake (an address that is none, a column that is not in the schema) is said when the job starts.
#[derive(Debug, Clone, Copy)]
pub struct WebSocket;

impl WebSocket {
    /// Serves results to clients, under `ws://127.0.0.1:8090/streams/NAME` if nothing else is said.
    pub fn stream(name: impl Into<String>) -> WebSocketSink {
        WebSocketSink::new(name.into())
    }

    /// Reads the messages of a feed, from a `ws://` or `wss://` address.
    pub fn feed(url: impl Into<String>) -> Feed {
        Feed::new(url.into())
    }
}
