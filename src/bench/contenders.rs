//! Who takes part: the engine and the yardsticks, over the same rows; the engine over others beside them.

use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::Result;
use tidemill_core::source::Source;
use tidemill_files::FileSource;
use tidemill_memory::MemorySource;

use super::checksum::Checksum;
use super::group_table::{Aggregates, GroupTable};
use super::hand::Windows;
use super::input::{self, Files};
use super::measure::{Contender, Outcome};
use super::scan::{Place, Scan};
use super::served::kafka::Topic;
use super::served::redis::Streams;
use super::served::{Servers, yardsticks as yardsticks_beside};
use super::table::{ColumnTable, Count, Totals};
use super::text::{Fields, TextKey};
use super::workload::{KeyType, Query, RowSource, Workload};
use super::{batch, engine, hand, sessions, text};

/// The loop written by hand, row by row.
pub const HAND_ROWS: &str = "hand-written loop";

/// The kernel written by hand, column by column.
pub const HAND_COLUMNS: &str = "hand-written columns";

/// All values of rows in memory read, and nothing done with them.
pub const PASS: &str = "bare pass";

/// A scanner for lines of one form, and the loop.
pub const SCANNER: &str = "hand-written scanner and loop";

/// A scanner for JSON objects with their fields in any order, and the loop.
pub const ANY_ORDER_SCANNER: &str = "hand-written scanner, any order";

/// DataFusion's group table and accumulators, driven by hand.
pub const GROUP_TABLE: &str = "DataFusion's group table";

/// DataFusion's batch `GROUP BY`.
pub const DATAFUSION: &str = "DataFusion batch";

/// The engine.
pub const TIDEMILL: &str = "Tidemill";

/// The engine, with a checkpoint every second.
pub const CHECKPOINTED: &str = "Tidemill, checkpoints";

/// A job file.
pub const JOB_FILE: &str = "Tidemill, job file";

/// The engine over another workload: what this begins with says which.
pub const TIDEMILL_OVER: &str = "Tidemill over ";

/// Another workload, over which the engine takes turns with all others.
pub struct Beside {
    /// What is different in it, as it was written.
    pub differences: String,
    /// The workload; its rows are in memory.
    pub workload: Workload,
}

/// Runs beside which checkpoints are measured take about so long: several fall into each. Tests are content
/// with a few passes over their rows.
const CHECKPOINTED_RUN: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });

/// Windows in which a row lies, at most, if the loop by hand is to merge their slices at each firing.
const OVERLAP_MAX: i64 = 100;

/// All contenders for a workload, and the engine over another one. Makes their rows, which takes a while.
///
/// # Errors
/// A window that cannot be, files that cannot be written, or a server that cannot be filled.
pub fn contenders(
    workload: &Workload,
    beside: Option<&Beside>,
    servers: &Servers,
) -> Result<Vec<Contender>> {
    // Says what is wrong with a window before rows are made and anybody runs.
    for workload in iter::once(workload).chain(beside.map(|beside| &beside.workload)) {
        engine::aggregate(workload)?;
    }
    let rows = input::rows(workload);
    let schema = input::schema(workload);
    let mut all = Vec::new();
    for &threads in &workload.parallelism {
        let workload = Arc::new(workload.clone());
        if matches!(workload.source, RowSource::Kafka | RowSource::Redis) {
            all.extend(served(&workload, &rows, threads, servers)?);
        } else if workload.source == RowSource::Memory {
            let splits = input::deal(&rows, threads);
            let source = MemorySource::new(schema.clone(), splits.clone());
            let place = |split| Scan { schema: schema.clone(), place: Place::Memory(split) };
            let scans: Vec<Scan> = splits.into_iter().map(place).collect();
            all.extend(yardsticks(&workload, &Arc::new(scans)));
            all.extend(engines(&workload, threads, move || source.clone())?);
        } else {
            let files = Files::write(&workload, &rows, threads)?;
            all.extend(yardsticks(&workload, &Arc::new(files.scans())));
            let (schema, format) = (schema.clone(), workload.source);
            all.extend(engines(&workload, threads, move || source(&files, format, &schema))?);
        }
    }
    if let Some(beside) = beside {
        all.extend(over(beside, workload, rows)?);
    }
    Ok(all)
}

/// The engine over another workload, which has these rows if it has the same ones.
fn over(beside: &Beside, workload: &Workload, rows: Vec<RecordBatch>) -> Result<Vec<Contender>> {
    let other = Arc::new(beside.workload.clone());
    let [theirs, ours] = [other.as_ref(), workload].map(|of| (of.keys, of.skew));
    let rows = if theirs == ours { rows } else { input::rows(&other) };
    let on = |threads: &usize| {
        let source = MemorySource::new(input::schema(&other), input::deal(&rows, *threads));
        let passes = passes(&other, *threads, &|| source.clone())?;
        let (name, threads, other) =
            (format!("{TIDEMILL_OVER}{}", beside.differences), *threads, other.clone());
        let run = move || engine_run(&other, source.clone(), threads, None, passes);
        Ok(Contender::new(name, threads, run).over(&beside.differences))
    };
    workload.parallelism.iter().map(on).collect()
}

/// The engine and yardsticks over rows that a server keeps, in a split for each thread.
fn served(
    workload: &Arc<Workload>,
    rows: &[RecordBatch],
    threads: usize,
    servers: &Servers,
) -> Result<Vec<Contender>> {
    let (windows, merges) = (windows(workload), merges_few(workload));
    let of_source = workload.clone();
    if workload.source == RowSource::Kafka {
        let topic = Topic::fill(servers.brokers.as_deref(), workload, rows, threads)?;
        let topic = Arc::new(topic);
        let mut all = yardsticks_beside(workload, windows, merges, &Arc::new(topic.splits()));
        all.extend(engines(workload, threads, move || topic.source(&of_source))?);
        return Ok(all);
    }
    let streams = Arc::new(Streams::fill(servers.redis.as_deref(), workload, rows, threads)?);
    let mut all = yardsticks_beside(workload, windows, merges, &Arc::new(streams.splits()));
    all.extend(engines(workload, threads, move || streams.source(&of_source))?);
    Ok(all)
}

fn source(files: &Files, format: RowSource, schema: &SchemaRef) -> impl Source + use<> {
    let source = FileSource::new(files.folder());
    match format {
        RowSource::Csv => source.csv(schema.clone()),
        RowSource::Json => source.json(schema.clone()),
        _ => source.parquet(schema.clone()),
    }
}

/// The engine, without checkpoints and, where there is a folder for them, with.
fn engines<S: Source + 'static>(
    workload: &Arc<Workload>,
    threads: usize,
    source: impl Fn() -> S + 'static,
) -> Result<Vec<Contender>> {
    let passes = passes(workload, threads, &source)?;
    let source = Arc::new(source);
    let engine = |name, folder: Option<String>| {
        let (source, workload) = (source.clone(), workload.clone());
        Contender::new(name, threads, move || {
            engine_run(&workload, source(), threads, folder.as_deref(), passes)
        })
    };
    let mut all = vec![engine(TIDEMILL, None)];
    if workload.checkpoints.is_some() {
        all.push(engine(CHECKPOINTED, workload.checkpoints.clone()));
    }
    Ok(all)
}

/// How often the engine goes over the rows in a run: once; where checkpoints are measured, so often that several fall
/// into it.
fn passes<S: Source + 'static>(
    workload: &Workload,
    threads: usize,
    source: &impl Fn() -> S,
) -> Result<u32> {
    if workload.checkpoints.is_none() {
        return Ok(1);
    }
    // The first warms up.
    let mut start = Instant::now();
    engine::run(workload, source(), threads, None, 1)?;
    if start.elapsed() < CHECKPOINTED_RUN {
        start = Instant::now();
        engine::run(workload, source(), threads, None, 1)?;
    }
    Ok(CHECKPOINTED_RUN.div_duration_f64(start.elapsed()).ceil() as u32)
}

fn engine_run(
    workload: &Workload,
    source: impl Source + 'static,
    threads: usize,
    checkpoints: Option<&str>,
    passes: u32,
) -> Result<Outcome> {
    let (checksum, summary) = engine::run(workload, source, threads, checkpoints, passes)?;
    let (emit_delay, passes) = (Some(summary.emit_delay), Some(passes));
    Ok(Outcome { emit_delay, passes, ..Outcome::of(checksum) })
}

/// What a yardstick does with the rows of each split.
type Work = fn(&Workload, &[Scan]) -> Result<Checksum>;

/// Those that can do the workload.
fn yardsticks(workload: &Arc<Workload>, scans: &Arc<Vec<Scan>>) -> Vec<Contender> {
    let is_tumbling = matches!(workload.query, Query::Tumbling { .. });
    let is_session = matches!(workload.query, Query::Session { .. });
    let is_text = matches!(workload.source, RowSource::Csv | RowSource::Json);
    let by_integer = workload.key_type == KeyType::Integer;
    let merges_few = merges_few(workload);
    // Sessions by hand want the rows in the order of time.
    let in_order = !(workload.one_file && scans.len() > 1);
    let all: [(&str, bool, Work); 6] = [
        (HAND_ROWS, if is_session { in_order } else { merges_few && !is_text }, by_loop),
        (SCANNER, is_text && !is_session && merges_few, by_scanner),
        (
            ANY_ORDER_SCANNER,
            workload.source == RowSource::Json && !is_session && merges_few,
            by_any_order_scanner,
        ),
        (HAND_COLUMNS, is_tumbling && by_integer && !is_text, by_columns),
        (GROUP_TABLE, is_tumbling && !is_text, by_group_table),
        (DATAFUSION, is_tumbling, by_batch),
    ];
    let takes_part = all.into_iter().filter(|(_, can, _)| *can);
    let contender = |(name, _, work): (&str, bool, Work)| {
        let (workload, scans) = (workload.clone(), scans.clone());
        Contender::new(name, scans.len(), move || Ok(Outcome::of(work(&workload, &scans)?)))
    };
    let is_in_memory = workload.source == RowSource::Memory;
    let pass = (is_tumbling && by_integer && is_in_memory).then(|| bare_pass(scans));
    takes_part.map(contender).chain(pass).collect()
}

fn bare_pass(scans: &Arc<Vec<Scan>>) -> Contender {
    let scans = scans.clone();
    Contender::new(PASS, scans.len(), move || {
        Ok(Outcome { rows: Some(hand::pass(&scans)?), ..Outcome::default() })
    })
}

/// The windows that follow one another at a fixed step; those of sessions mean nothing.
fn windows(workload: &Workload) -> Windows {
    let (size, slide) = match workload.query {
        Query::Tumbling { size_us: size } | Query::Session { gap_us: size } => (size, size),
        Query::Hopping { size_us, slide_us } => (size_us, slide_us),
    };
    Windows { size, slide, disorder: workload.disorder_us }
}

/// Whether a window has so few slices that a loop by hand may merge them when it fires.
fn merges_few(workload: &Workload) -> bool {
    let windows = windows(workload);
    windows.size / windows.slide <= OVERLAP_MAX
}

fn by_loop(workload: &Workload, scans: &[Scan]) -> Result<Checksum> {
    fn of<K: TextKey>(workload: &Workload, scans: &[Scan]) -> Result<Checksum> {
        match workload.query {
            Query::Tumbling { .. } => hand::rows::<K, Totals>(scans, windows(workload)),
            Query::Hopping { .. } => hand::rows::<K, Count>(scans, windows(workload)),
            Query::Session { gap_us } => sessions::rows::<K>(scans, gap_us, workload.disorder_us),
        }
    }
    match workload.key_type {
        KeyType::Integer => of::<i64>(workload, scans),
        KeyType::Text => of::<Box<[u8]>>(workload, scans),
    }
}

fn by_scanner(workload: &Workload, scans: &[Scan]) -> Result<Checksum> {
    scanned(workload, scans, Fields::InOrder)
}

fn by_any_order_scanner(workload: &Workload, scans: &[Scan]) -> Result<Checksum> {
    scanned(workload, scans, Fields::InAnyOrder)
}

fn scanned(workload: &Workload, scans: &[Scan], fields: Fields) -> Result<Checksum> {
    let windows = windows(workload);
    let counts = matches!(workload.query, Query::Hopping { .. });
    match (workload.key_type, counts) {
        (KeyType::Integer, false) => text::rows::<i64, Totals>(scans, windows, fields),
        (KeyType::Integer, true) => text::rows::<i64, Count>(scans, windows, fields),
        (KeyType::Text, false) => text::rows::<Box<[u8]>, Totals>(scans, windows, fields),
        (KeyType::Text, true) => text::rows::<Box<[u8]>, Count>(scans, windows, fields),
    }
}

fn by_columns(workload: &Workload, scans: &[Scan]) -> Result<Checksum> {
    hand::batches::<ColumnTable>(scans, windows(workload), &())
}

fn by_group_table(workload: &Workload, scans: &[Scan]) -> Result<Checksum> {
    let aggregates = Aggregates::new(&input::schema(workload))?;
    hand::batches::<GroupTable>(scans, windows(workload), &aggregates)
}

fn by_batch(workload: &Workload, scans: &[Scan]) -> Result<Checksum> {
    batch::tumbling(scans, windows(workload))
}

#[cfg(test)]
mod tests {
    use super::super::measure::measure;
    use super::super::workload::Skew;
    use super::*;

    const SECOND: i64 = 1_000_000;

    const QUERIES: [Query; 4] = [
        Query::Tumbling { size_us: SECOND / 10 },
        Query::Hopping { size_us: SECOND / 5, slide_us: SECOND / 25 },
        Query::Session { gap_us: SECOND / 1_000 },
        Query::Session { gap_us: 10 * SECOND },
    ];

    /// 0.6 s of event time, out of order by more than a batch: some keys have many sessions.
    fn workload() -> Workload {
        Workload {
            rows: 60_000,
            keys: 100,
            disorder_us: SECOND / 10,
            parallelism: vec![1, 2, 3],
            ..Workload::default()
        }
    }

    /// Every contender gives the same results, which `measure` checks: their names on one thread.
    fn all_agree(workload: &Workload) -> Vec<String> {
        let contenders = contenders(workload, None, &Servers::default()).unwrap();
        let measured = measure(&contenders, 0, 1, |_| {}).unwrap();
        for contender in &measured {
            match contender.samples[0].outcome {
                Outcome { checksum: Some(checksum), .. } => {
                    assert!(checksum.results >= workload.keys, "{workload}: {}", contender.name);
                }
                Outcome { rows, .. } => {
                    assert_eq!((contender.name.as_str(), rows), (PASS, Some(workload.rows as u64)));
                }
            }
        }
        measured.into_iter().filter(|m| m.threads == 1).map(|m| m.name).collect()
    }

    #[test]
    fn all_contenders_give_the_same_results_from_memory() {
        for query in QUERIES {
            for (key_type, skew) in [
                (KeyType::Integer, Skew::Uniform),
                (KeyType::Integer, Skew::Zipf { exponent: 1.1 }),
                (KeyType::Text, Skew::Uniform),
            ] {
                let names = all_agree(&Workload { query, key_type, skew, ..workload() });
                let expected: &[&str] = match (query, key_type) {
                    (Query::Tumbling { .. }, KeyType::Integer) => {
                        &[HAND_ROWS, HAND_COLUMNS, GROUP_TABLE, DATAFUSION, PASS, TIDEMILL]
                    }
                    (Query::Tumbling { .. }, KeyType::Text) => {
                        &[HAND_ROWS, GROUP_TABLE, DATAFUSION, TIDEMILL]
                    }
                    _ => &[HAND_ROWS, TIDEMILL],
                };
                assert_eq!(names, expected);
            }
        }
    }

    #[test]
    fn one_key_is_a_workload_too() {
        let names = all_agree(&Workload { keys: 1, ..workload() });
        assert_eq!(names.len(), 6);
    }

    #[test]
    fn all_contenders_give_the_same_results_from_files() {
        for source in [RowSource::Csv, RowSource::Json, RowSource::Parquet] {
            for query in QUERIES {
                for key_type in [KeyType::Integer, KeyType::Text] {
                    all_agree(&Workload { query, key_type, source, ..workload() });
                }
            }
        }
    }

    #[test]
    fn all_contenders_give_the_same_results_from_one_file() {
        for source in [RowSource::Csv, RowSource::Json] {
            for query in QUERIES {
                all_agree(&Workload { query, source, one_file: true, ..workload() });
            }
        }
        let parquet = Workload { source: RowSource::Parquet, one_file: true, ..workload() };
        let error = contenders(&parquet, None, &Servers::default()).err().unwrap();
        assert!(error.to_string().contains("--one-file"), "{error}");
    }

    #[test]
    fn checkpoints_change_no_result() {
        for query in QUERIES {
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = Some(folder.path().display().to_string());
            let names = all_agree(&Workload { query, checkpoints, ..workload() });
            assert_eq!(names.last().unwrap(), CHECKPOINTED);
        }
    }

    #[test]
    fn the_engine_takes_turns_over_another_workload() {
        let workload = workload();
        for other in [
            Workload { query: Query::Tumbling { size_us: SECOND / 5 }, ..workload.clone() },
            Workload { keys: 3, ..workload.clone() },
        ] {
            let beside = Beside { differences: "other".to_owned(), workload: other };
            let all = contenders(&workload, Some(&beside), &Servers::default()).unwrap();
            let measured = measure(&all, 0, 2, |_| {}).unwrap();
            let of_other = measured.iter().filter(|m| m.name == "Tidemill over other");
            let threads: Vec<_> = of_other.map(|m| (m.threads, m.samples.len())).collect();
            assert_eq!(threads, [(1, 2), (2, 2), (3, 2)]);
        }
    }

    #[test]
    fn windows_that_cannot_be_are_refused_before_anything_runs() {
        let query = Query::Hopping { size_us: 10 * SECOND, slide_us: 3 * SECOND };
        assert!(contenders(&Workload { query, ..workload() }, None, &Servers::default()).is_err());
    }
}
