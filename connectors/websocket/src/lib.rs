//! WebSockets: a server whose clients get results as they come, and a client that reads a feed.
//!
//! | module | what it does |
//! |---|---|
//! | [`builder`] | the typed way to both |
//! | [`factory`] | the connector `websocket` of SQL |
//! | [`feed`] | a feed that is read |
//! | [`sink`] | a stream that clients subscribe to |
//! | `secret` | bearer tokens |
//!
//! Invariant: neither end ever makes the other wait. A client that is too slow loses messages, which are
//! counted; a feed that is faster than the job is not read until there is room.

#![deny(missing_docs)]

pub mod builder;
pub mod factory;
pub mod feed;
mod secret;
pub mod sink;

pub use builder::WebSocket;
pub use factory::WebSocketFactory;
pub use feed::{Feed, FeedMessage, WebSocketSource};
pub use sink::{SlowClient, WebSocketSink};
