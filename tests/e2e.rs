//! The end-to-end tests: one binary, so that the engine is linked once.

#![allow(clippy::unwrap_used)]

#[path = "e2e/oracle.rs"]
mod oracle;
#[path = "e2e/pipelines.rs"]
mod pipelines;
#[path = "e2e/properties.rs"]
mod properties;
