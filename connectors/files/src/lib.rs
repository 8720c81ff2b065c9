//! Files as source and sink: CSV, JSON lines, Parquet and raw lines; one file, a folder or a glob.
//!
//! | module | what it does |
//! |---|---|
//! | `location` | which files a path means, and their names as splits |
//! | `lanes`, `starts` | large files cut into splits of blocks, and where a block's records begin |
//! | `input`, `chunk`, `framing`, `pool` | bytes of a file in large pieces, cut into records |
//! | `text`, `columnar` | the readers of one split: records through a decoder, Parquet |
//! | `records` | the bytes behind a batch's rows |
//! | `constants` | columns that are the same in a whole file: metadata and partitions |
//! | [`source`], [`sink`], [`factory`] | what plugs into the engine |
//!
//! Invariant of the source: a file's records are the same whatever the sizes of reads, and reading
//! on from any offset gives the rest of them; the splits that a file is cut into have its records
//! between them, each once. Invariant of the sink: a file under its final name is
//! complete, and holds what one shard wrote in one epoch that has a checkpoint (or in a whole run
//! without checkpoints).

#![deny(missing_docs)]

mod chunk;
mod columnar;
mod constants;
pub mod factory;
mod framing;
mod input;
mod lanes;
mod location;
mod pool;
mod records;
pub mod sink;
pub mod source;
mod starts;
#[cfg(test)]
mod tests;
mod text;

pub use factory::FilesFactory;
pub use sink::FileSink;
pub use source::{FileFormat, FileSource, FormattedFiles};
