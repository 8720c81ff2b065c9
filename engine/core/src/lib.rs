//! Contracts of the Tidemill engine: the words that every other crate speaks.
//!
//! | module | what it fixes |
//! |---|---|
//! | [`time`] | event time, durations, clocks |
//! | [`window`] | windows, slices and their arithmetic |
//! | [`key`] | persisted key hashes, key groups, who owns them |
//! | [`watermark`] | per-split watermarks, minimum over inputs |
//! | [`element`] | what flows between operators |
//! | [`filter`], [`prefetch`] | rows by a mask; memory before it is needed |
//! | [`source`], [`sink`], [`operator`] | what plugs into the engine |
//! | [`need`] | what a job looks at of a source's rows |
//! | [`graph`] | the dataflow graph that front-ends build and the runtime executes |
//! | [`table`] | tables with options, as SQL declares them, and the factories that connect them |
//! | [`part`] | what a node's results depend on, for checkpoints |
//! | [`record`] | a source's record: bytes, key, headers |
//! | [`error`], [`dead_letter`] | what can go wrong, and what becomes of a bad record |
//! | [`retry`] | backoff and circuit breaker, as pure decisions |
//! | [`interceptor`] | code of one's own around sources and sinks |
//! | [`testing`] | a harness that drives one operator by hand |
//!
//! This crate knows Arrow and nothing else: no async runtime, no query engine, no I/O.

#![deny(missing_docs)]

pub mod dead_letter;
pub mod element;
pub mod error;
pub mod filter;
pub mod graph;
pub mod interceptor;
pub mod key;
pub mod need;
pub mod operator;
pub mod part;
pub mod prefetch;
pub mod record;
pub mod retry;
pub mod sink;
pub mod source;
pub mod table;
pub mod testing;
pub mod time;
pub mod watermark;
pub mod window;

pub use element::{Batch, Element, Epoch, Parcel};
pub use error::{Error, ErrorClass, ErrorKind, Result};
pub use time::EventTime;
