//! Runs a dataflow graph: shards and their stations, the exchange between them, checkpoints and
//! recovery, counters and metrics.
//!
//! ```text
//!   coordinator ── barrier e ──▶ shard 0 … shard n      (one thread each)
//!        ▲                          │  source ─▶ operators ─▶ combiner ─┐
//!        │                          │                              exchange
//!        └── state, staged output ──┘  merger ─▶ operators ─▶ sink ◀────┘
//! ```
//!
//! This crate knows the contracts of `tidemill-core` and the protocol of `tidemill-checkpoint`. It
//! does not know which operators and connectors exist.

#![deny(missing_docs)]

mod align;
mod backlog;
mod build;
mod commit;
mod coordinate;
mod delay;
mod delivery;
mod discover;
mod epoch;
mod exchange;
mod fragments;
mod gather;
mod guard;
pub mod job;
mod layout;
mod link;
mod memory;
mod metrics;
mod offsets;
mod patience;
mod query;
mod rate;
mod recover;
mod rejects;
mod shard;
mod source;
mod station;
mod stats;
mod status;
mod time_column;
mod waker;

pub use delay::EmitDelay;
pub use job::{
    CheckpointSettings, Crash, CrashPoint, JobControl, JobHandle, JobSettings, StartFrom, start,
};
pub use link::LinkStatus;
pub use memory::{MemoryKind, MemoryStatus};
pub use source::SplitStatus;
pub use stats::{Counts, Ledger};
pub use status::{BreakerStatus, CheckpointStatus, JobStatus, JobSummary, NodeStatus, Phase};
