//! Tidemill: windowed stream processing in one process.
//!
//! A job is a dataflow graph: sources, filters and functions, windows with aggregates, sinks. It
//! runs on sharded executors, checkpoints offsets and state, and gives the same answer whatever the
//! number of shards, the timing and the crashes on the way.
//!
//! ```
//! use std::time::Duration;
//!
//! use tidemill::prelude::*;
//!
//! # fn main() -> tidemill::Result<()> {
//! let flights = schema([
//!     ("carrier", DataType::Utf8View),
//!     ("departed_at", TIMESTAMP),
//!     ("dep_delay_min", DataType::Float64),
//! ]);
//! let (results, sink) = collect();
//! let mut job = Job::named("departures");
//! job.source(FileSource::new("examples/data/flights-2013-01.csv").csv(flights).with_header())
//!     .event_time("departed_at", Watermarks::bounded(Duration::from_secs(3600)))
//!     .filter(col("departed_at").is_not_null())
//!     .key_by(["carrier"])
//!     .window(Tumbling::of(Duration::from_secs(3600)))
//!     .aggregate([count().alias("departures"), avg(col("dep_delay_min")).alias("mean_delay")])
//!     .sink(sink);
//! let summary = job.run_blocking()?;
//! assert!(summary.ledgers.iter().all(|ledger| ledger.balances()));
//! assert!(results.rows() > 0);
//! # Ok(())
//! # }
//! ```
//!
//! The same graph can be written in a job file of Flink SQL: see [`Job::from_sql`].

#![deny(missing_docs)]

#[doc(hidden)]
pub mod bench;
#[cfg(doctest)]
mod book;
pub mod cli;
mod dead_letters;
pub mod explain;
mod expr;
mod functions;
mod generate;
pub mod interceptors;
mod job;
mod rows;
mod settings;
mod stream;
pub mod testing;
mod windows;

pub use tidemill_bus as bus;
pub use tidemill_core as core;
pub use tidemill_core::{Error, ErrorKind, Result};
pub use tidemill_files as files;
pub use tidemill_formats as formats;
pub use tidemill_generator as generator;
pub use tidemill_kafka as kafka;
pub use tidemill_memory as memory;
pub use tidemill_operators as operators;
pub use tidemill_print as print;
pub use tidemill_redis as redis;
pub use tidemill_runtime as runtime;
pub use tidemill_sql as sql;
pub use tidemill_websocket as websocket;

pub use dead_letters::DeadLetters;
pub use expr::IntoExpr;
pub use job::Job;
pub use stream::{Keyed, Stream, Windowed};
pub use windows::{Cumulating, Hopping, Session, Tumbling, Watermarks, Window};

/// What most programs need.
pub mod prelude {
    pub use arrow::array::RecordBatch;
    pub use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    pub use datafusion_expr::{Expr, ident as col, lit};
    pub use datafusion_functions_aggregate::expr_fn::{
        approx_distinct, approx_percentile_cont, array_agg, avg, bool_and, bool_or, count_distinct,
        first_value, last_value, max, min, stddev, sum,
    };
    pub use tidemill_core::graph::{Buffer, BufferCapacity};
    pub use tidemill_core::sink::Sink;
    pub use tidemill_core::source::Source;
    pub use tidemill_files::{FileSink, FileSource};
    pub use tidemill_kafka::{Kafka, KafkaSink};
    pub use tidemill_memory::{MemorySink, MemorySource};
    pub use tidemill_operators::RetryPolicy;
    pub use tidemill_print::{Blackhole, Print};
    pub use tidemill_redis::{Redis, RedisSink, RedisStream};
    pub use tidemill_websocket::{WebSocket, WebSocketSink};

    pub use crate::expr::{TIMESTAMP, collect, count, schema};
    pub use crate::interceptors::Intercept;
    pub use crate::{
        Cumulating, Hopping, Job, Keyed, Session, Stream, Tumbling, Watermarks, Window, Windowed,
    };
}
