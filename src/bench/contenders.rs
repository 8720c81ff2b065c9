//! Who takes part: the engine and the yardsticks, over the same rows.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use tidemill_core::Result;
use tidemill_files::FileSource;
use tidemill_memory::MemorySource;

use super::input::{self, Split, TextFiles, TextFormat};
use super::measure::{Contender, Outcome};
use super::{batch, engine, hand, text};

/// What a contender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// The loop written by hand, row by row.
    HandRows,
    /// The kernel written by hand, column by column.
    HandColumns,
    /// DataFusion's batch `GROUP BY`.
    DataFusion,
    /// The engine.
    Tidemill,
    /// The engine, with a checkpoint every second.
    TidemillCheckpointed,
    /// A job file.
    JobFile,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HandRows => "hand-written loop",
            Self::HandColumns => "hand-written columns",
            Self::DataFusion => "DataFusion batch",
            Self::Tidemill => "Tidemill",
            Self::TidemillCheckpointed => "Tidemill, checkpoints",
            Self::JobFile => "Tidemill, job file",
        })
    }
}

/// Where rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum RowSource {
    /// Arrow batches in memory.
    Memory,
    /// Files of CSV.
    Csv,
    /// Files of JSON, one object a line.
    Ndjson,
}

/// What is measured.
#[derive(Debug, Clone, Serialize)]
pub struct Workload {
    /// How many rows.
    pub rows: usize,
    /// Over how many keys, equally frequent.
    pub keys: u64,
    /// Where they come from.
    pub source: RowSource,
    /// On how many threads contenders run, one after the other.
    pub parallelism: Vec<usize>,
    /// Where the engine keeps checkpoints, in runs of their own.
    pub checkpoints: Option<String>,
}

/// All contenders for a workload. Makes its rows, which takes a while.
///
/// # Errors
/// Files that cannot be written.
pub fn contenders(workload: &Workload) -> Result<Vec<Contender>> {
    let rows = input::rows(workload.rows, workload.keys);
    let mut all = Vec::new();
    for threads in &workload.parallelism {
        let splits = input::deal(&rows, *threads);
        let folder = workload.checkpoints.clone();
        all.extend(match workload.source {
            RowSource::Memory => over_memory(splits, folder),
            RowSource::Csv => over_text(TextFormat::Csv, &splits, folder)?,
            RowSource::Ndjson => over_text(TextFormat::Json, &splits, folder)?,
        });
    }
    Ok(all)
}

fn over_memory(splits: Vec<Split>, checkpoints: Option<String>) -> Vec<Contender> {
    let threads = splits.len();
    let schema = splits.iter().flatten().next().map(|batch| batch.schema());
    let source = schema.map(|schema| MemorySource::new(schema, splits.clone()));
    let splits = Arc::new(splits);
    let by_hand = |family, run: fn(&[Split]) -> Result<_>| {
        let splits = splits.clone();
        Contender::new(family, threads, move || Ok(Outcome::of(run(&splits)?)))
    };
    let mut all = vec![
        by_hand(Family::HandRows, |splits| Ok(hand::rows(splits))),
        by_hand(Family::HandColumns, |splits| Ok(hand::columnar(splits))),
        by_hand(Family::DataFusion, batch::memory),
    ];
    if let Some(source) = source {
        all.extend(engines(threads, checkpoints, move || source.clone()));
    }
    all
}

fn over_text(
    format: TextFormat,
    splits: &[Split],
    checkpoints: Option<String>,
) -> Result<Vec<Contender>> {
    let threads = splits.len();
    let Some(schema) = splits.iter().flatten().next().map(|batch| batch.schema()) else {
        return Ok(Vec::new());
    };
    let files = Arc::new(TextFiles::write(format, splits)?);
    let (by_hand, by_batch) = (files.clone(), files.clone());
    let batch_schema = schema.clone();
    let mut all = vec![
        Contender::new(Family::HandRows, threads, move || Ok(Outcome::of(text::rows(&by_hand)?))),
        Contender::new(Family::DataFusion, threads, move || {
            Ok(Outcome::of(batch::text(&by_batch, &batch_schema)?))
        }),
    ];
    all.extend(engines(threads, checkpoints, move || {
        let source = FileSource::new(files.folder());
        match format {
            TextFormat::Csv => source.csv(schema.clone()),
            TextFormat::Json => source.json(schema.clone()),
        }
    }));
    Ok(all)
}

/// The engine, without checkpoints and, where there is a folder for them, with.
fn engines<S: tidemill_core::source::Source + 'static>(
    threads: usize,
    checkpoints: Option<String>,
    source: impl Fn() -> S + Clone + 'static,
) -> Vec<Contender> {
    let engine = |family, folder: Option<String>| {
        let source = source.clone();
        Contender::new(family, threads, move || {
            let (checksum, summary) = engine::run(source(), threads, folder.as_deref())?;
            Ok(Outcome { emit_delay: Some(summary.emit_delay), ..Outcome::of(checksum) })
        })
    };
    let mut all = vec![engine(Family::Tidemill, None)];
    if checkpoints.is_some() {
        all.push(engine(Family::TidemillCheckpointed, checkpoints));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::measure::measure;
    use super::*;

    /// Every contender gives the results of the row-at-a-time loop, which `measure` checks.
    fn all_agree(source: RowSource, checkpoints: Option<String>) -> usize {
        let parallelism = vec![1, 2, 3];
        let workload = Workload { rows: 60_000, keys: 100, source, parallelism, checkpoints };
        let contenders = contenders(&workload).unwrap();
        let measured = measure(&contenders, 0, 1, |_| {}).unwrap();
        let results = measured.iter().map(|m| m.samples[0].outcome.checksum.unwrap().results);
        assert!(results.clone().all(|results| results == 200), "100 keys, before and after 1970");
        measured.len()
    }

    #[test]
    fn all_contenders_give_the_same_results_from_memory() {
        assert_eq!(all_agree(RowSource::Memory, None), 3 * 4);
    }

    #[test]
    fn all_contenders_give_the_same_results_from_text() {
        assert_eq!(all_agree(RowSource::Csv, None), 3 * 3);
        assert_eq!(all_agree(RowSource::Ndjson, None), 3 * 3);
    }

    #[test]
    fn checkpoints_change_no_result() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().display().to_string();
        assert_eq!(all_agree(RowSource::Memory, Some(url)), 3 * 5);
    }
}
