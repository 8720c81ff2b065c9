//! Job files against what they become: graphs, results, errors.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod alignment;
mod demand;
mod functions;
mod goldens;
mod nested;
mod results;
