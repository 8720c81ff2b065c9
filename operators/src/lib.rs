//! The operators of Tidemill: what happens to rows between a source and a sink.
//!
//! | module | what it does |
//! |---|---|
//! | [`project`], [`filter`], [`union`] | row by row, without state |
//! | [`function`] | users' functions: retried, isolated, declined |
//! | [`window`] | windowed aggregation: combine, merge, fire |
//! | [`aggregate`] | aggregate calls whose results do not depend on how rows were split up |
//!
//! This crate knows the contracts of `tidemill-core`, Arrow and DataFusion's expressions and
//! aggregates. It knows no runtime, no connector and no SQL: front-ends build its operators, the
//! runtime drives them.

#![deny(missing_docs)]

pub mod aggregate;
mod choice;
mod constant;
mod decimal;
pub mod filter;
pub mod function;
mod kernel;
mod pages;
mod parts;
pub mod project;
mod reject;
mod stateless;
pub mod union;
pub mod window;

pub use aggregate::AggregateSpec;
pub use filter::Filter;
pub use function::{Function, RetryPolicy};
pub use project::{Projection, RowOperator};
pub use union::Union;
pub use window::{WindowAggregate, WindowAggregateSpec};

use tidemill_core::{Error, ErrorKind};

/// An error of an expression or an aggregate, without the library's own decoration.
fn failed(error: datafusion_common::DataFusionError) -> Error {
    Error::new(ErrorKind::Internal, error.strip_backtrace())
}
