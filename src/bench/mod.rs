//! The tumbling-window benchmark: one workload, the engine, and the yardsticks beside it.
//!
//! Stands outside the data path: `tidemill bench` and the criterion benches in `benches/` both
//! measure what is here, so that a figure means the same wherever it is printed.
//!
//! | module | what it is |
//! |---|---|
//! | [`input`] | the rows: in memory, or in files of text |
//! | [`checksum`] | what every contender's results add up to |
//! | [`hand`], [`text`] | yardstick: loops written by hand, over columns and over lines of text |
//! | [`batch`] | yardstick: DataFusion's `GROUP BY` over the whole input |
//! | [`engine`] | the engine, running the same aggregation as a job |
//! | [`contenders`] | all of them over one workload |
//! | [`measure`], [`process`] | rounds in which contenders take turns, and what each run cost |
//! | [`report`], [`machine`] | medians, spreads, ratios, and where they were measured |
//!
//! Invariant: no figure is told of a contender whose results differ from the others'.

pub mod batch;
pub mod checksum;
pub mod contenders;
pub mod engine;
pub mod hand;
pub mod input;
pub mod machine;
pub mod measure;
pub mod process;
pub mod report;
mod table;
pub mod text;

/// Length of the windows, in microseconds.
pub const WINDOW: i64 = 10_000_000;

/// How far out of order rows come, in microseconds; also the bound of watermarks.
pub const DISORDER: i64 = 1_000_000;
