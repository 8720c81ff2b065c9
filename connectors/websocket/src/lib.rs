//! WebSockets: a server whose clients get results as they come, and a client that reads a feed.

#![deny(missing_docs)]
