//! The benchmark suite: windowed queries, the engine, and the yardsticks beside it.
//!
//! Stands outside the data path: `tidemill bench` and the criterion benches in `benches/` both
//! measure what is here, so that a figure means the same wherever it is printed. Whoever has a
//! contender of their own adds it to [`contenders::contenders`] and lets all take turns in
//! [`measure::measure`].
//!
//! | module | what it is |
//! |---|---|
//! | [`workload`] | what is measured: query, rows, source |
//! | [`input`], [`scan`] | the rows: in memory, or in files |
//! | [`served`] | the rows on a server, and yardsticks that read them there |
//! | [`checksum`] | what every contender's results add up to |
//! | [`hand`], `table`, `text` | yardstick: loops written by hand, over columns and over lines of text |
//! | `sessions` | yardstick: sessions written by hand |
//! | `group_table` | yardstick: DataFusion's group table, driven by hand |
//! | [`batch`] | yardstick: DataFusion's `GROUP BY` over the whole input |
//! | [`engine`] | the engine, running the same query as a job |
//! | [`nexmark`] | the Nexmark queries, beside their generator |
//! | [`again`] | rows that are gone through more than once |
//! | [`contenders`] | all of them over one workload |
//! | [`measure`], [`process`] | rounds in which contenders take turns, and what each run cost |
//! | [`report`], [`machine`] | medians, spreads, ratios, and where they were measured |
//! | [`open_loop`] | how long results take while rows become due by a schedule |
//! | [`statistics`], [`compare`] | how sure a difference is, and what got slower since an older report |
//! | [`html`] | a report as a page with charts |
//!
//! Invariant: no figure is told of a contender whose results differ from the others'.

pub mod again;
pub mod batch;
pub mod checksum;
pub mod compare;
pub mod contenders;
pub mod engine;
mod group_table;
pub mod hand;
pub mod html;
pub mod input;
pub mod machine;
pub mod measure;
pub mod nexmark;
pub mod open_loop;
pub mod process;
pub mod report;
pub mod scan;
pub mod served;
mod sessions;
pub mod statistics;
mod table;
mod text;
pub mod workload;
