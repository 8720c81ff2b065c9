//! What the core kernels cost, counted and not timed.
//!
//! Stands beside the data path: it drives the operators, decoders and hashes that every row passes,
//! one at a time, on one thread, without the runtime.
//!
//! | module | what it does |
//! |---|---|
//! | [`input`] | the rows, payloads and watermarks that kernels are given |
//! | [`windows`] | the windowed aggregations among the kernels, and how they are fed |
//! | [`kernels`] | every kernel by its name: what is prepared, what is counted, for how many rows |
//! | [`callgrind`] | counts a kernel in a process of its own |
//! | [`baseline`] | what was counted before, and the verdict |
//!
//! Invariant: a kernel does the same work in every run. Its input follows from constants, it starts
//! no thread and reads no clock.

#![deny(missing_docs)]

pub mod baseline;
pub mod callgrind;
pub mod input;
pub mod kernels;
pub mod windows;
