//! Redis as source and sink: streams that are read and written, and structures that results are put into.
//!
//! | module | what it does |
//! |---|---|
//! | [`builder`] | the typed way to a source |
//! | [`client`] | where Redis is, connections, errors: what source and sink share |
//! | [`factory`] | the connectors `redis-stream` and `redis` of SQL |
//! | `lag` | how far a consumer group is behind |
//! | [`sink`] | structures and streams that results are written to |
//! | [`source`] | streams that are read |
//! | [`streams`] | names of streams: `orders:{0..7}` |
//!
//! This crate knows entries, keys and formats; of windows, checkpoints and jobs it knows what the
//! contracts of `tidemill-core` say.

#![deny(missing_docs)]

pub mod builder;
pub mod client;
pub mod factory;
mod lag;
pub mod sink;
pub mod source;
pub mod streams;

pub use builder::RedisStream;
pub use factory::{RedisFactory, RedisStreamFactory};
pub use sink::{DeliveryGuarantee, Redis, RedisSink};
pub use source::{OutOfRange, ReadMode, RedisStreamSource, StartAt, StopAt};
