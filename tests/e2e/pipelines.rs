//! Jobs over random input, and ways to run them: shards, batch sizes, checkpoints, crashes.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemill::prelude::*;
use tidemill::runtime::JobSummary;
use tidemill::testing::{CrashPoint, crash_at};

/// One row of input.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub key: Option<i64>,
    pub name: Option<&'static str>,
    /// Microseconds.
    pub ts: i64,
    pub value: Option<f64>,
    pub n: i64,
    /// Of any magnitude: no order of plain summing gives the same twice.
    pub wild: f64,
}

/// Rows of each split, in order.
pub type Splits = Vec<Vec<Row>>;

/// A window, in microseconds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Tumbling { size: i64, offset: i64 },
    Hopping { size: i64, slide: i64, offset: i64 },
    Cumulating { size: i64, step: i64 },
    Session { gap: i64 },
}

/// A job: a window over random input.
#[derive(Debug, Clone)]
pub struct Case {
    pub kind: Kind,
    /// Watermark bound in microseconds.
    pub bound: i64,
    /// How many of the two key columns are used.
    pub keys: usize,
    pub splits: Splits,
}

/// How a job is run.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub shards: usize,
    pub batch_rows: usize,
}

const NAMES: [&str; 3] = ["a", "bb", "a-name-longer-than-twelve-bytes"];

/// A random case. Values are multiples of a quarter, so that any order of summing is exact.
pub fn case(seed: u64) -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let unit = 1_000;
    let kind = match rng.random_range(0..4) {
        0 => {
            Kind::Tumbling { size: rng.random_range(1..20) * unit, offset: rng.random_range(0..5) }
        }
        1 => {
            let slide = rng.random_range(1..5) * unit;
            let size = slide * rng.random_range(1..12);
            Kind::Hopping { size, slide, offset: rng.random_range(0..3) }
        }
        2 => {
            let step = rng.random_range(1..5) * unit;
            Kind::Cumulating { size: step * rng.random_range(1..6), step }
        }
        _ => Kind::Session { gap: rng.random_range(1..4) * unit },
    };
    let bound = rng.random_range(0..10) * unit;
    let splits = (0..rng.random_range(1..=8)).map(|_| split(&mut rng, bound, unit)).collect();
    Case { kind, bound, keys: rng.random_range(0..3), splits }
}

fn split(rng: &mut impl Rng, bound: i64, unit: i64) -> Vec<Row> {
    let mut now = rng.random_range(-20..20) * unit;
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..rng.random_range(0..120) {
        if rng.random_bool(0.05)
            && let Some(row) = rows.last().cloned()
        {
            rows.push(row);
            continue;
        }
        now += if rng.random_bool(0.03) {
            rng.random_range(0..60) * unit
        } else {
            rng.random_range(0..unit)
        };
        let behind = if rng.random_bool(0.2) { rng.random_range(0..=2 * bound + unit) } else { 0 };
        rows.push(Row {
            key: rng.random_bool(0.9).then(|| rng.random_range(-3..4)),
            name: rng.random_bool(0.9).then(|| NAMES[rng.random_range(0..NAMES.len())]),
            ts: now - behind,
            value: rng.random_bool(0.9).then(|| f64::from(rng.random_range(-400..400)) / 4.0),
            n: rng.random_range(-1000..1000),
            wild: rng.random_range(-1.0..1.0) * 10f64.powi(rng.random_range(-30..30)),
        });
    }
    rows
}

pub fn input_schema() -> SchemaRef {
    schema([
        ("key", DataType::Int64),
        ("name", DataType::Utf8View),
        ("ts", TIMESTAMP),
        ("value", DataType::Float64),
        ("n", DataType::Int64),
        ("wild", DataType::Float64),
    ])
}

/// Rows as Arrow columns.
pub fn batch(rows: &[Row]) -> RecordBatch {
    let times = rows.iter().map(|row| row.ts);
    RecordBatch::try_new(
        input_schema(),
        vec![
            Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.name).collect::<StringViewArray>()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
            Arc::new(rows.iter().map(|row| row.value).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.n)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.wild)).collect::<Float64Array>()),
        ],
    )
    .unwrap()
}

/// The aggregates that every case computes: some that combine, some that need their rows in order.
pub fn aggregates() -> Vec<Expr> {
    vec![
        count().alias("rows"),
        sum(col("value")).alias("total"),
        avg(col("value")).alias("mean"),
        min(col("value")).alias("low"),
        max(col("n")).alias("high"),
        count_distinct(col("name")).alias("names"),
        stddev(col("value")).alias("spread"),
    ]
}

/// Aggregates that depend on the order of rows or of additions, if one lets them.
pub fn delicate_aggregates() -> Vec<Expr> {
    vec![
        sum(col("wild")).alias("total"),
        avg(col("wild")).alias("mean"),
        stddev(col("wild")).alias("spread"),
        approx_percentile_cont(col("wild").sort(true, false), lit(0.9), None).alias("p90"),
        array_agg(col("n")).alias("all"),
        first_value(col("n"), vec![]).alias("first"),
        last_value(col("wild"), vec![]).alias("last"),
    ]
}

const MICRO: Duration = Duration::from_micros(1);

fn length(micros: i64) -> Duration {
    MICRO * u32::try_from(micros).unwrap()
}

/// Builds the case's job around a source and a sink.
fn job(case: &Case, aggregates: &[Expr], way: Way, handle: &tidemill::memory::MemoryHandle) -> Job {
    let mut job = Job::named("case");
    let splits = case.splits.iter().map(|rows| vec![batch(rows)]).collect();
    let stream = job
        .source(MemorySource::new(input_schema(), splits))
        .event_time("ts", Watermarks::bounded(length(case.bound)));
    let keyed = stream
        .filter(col("n").not_eq(lit(7i64)))
        .key_by(["key", "name"].into_iter().take(case.keys));
    let windowed = match case.kind {
        Kind::Tumbling { size, offset } => {
            keyed.window(Tumbling::of(length(size)).offset(length(offset)))
        }
        Kind::Hopping { size, slide, offset } => {
            keyed.window(Hopping::of(length(size), length(slide)).offset(length(offset)))
        }
        Kind::Cumulating { size, step } => keyed.window(Cumulating::of(length(size), length(step))),
        Kind::Session { gap } => keyed.window(Session::gap(length(gap))),
    };
    windowed.aggregate(aggregates.iter().cloned()).sink(handle.sink());
    job.parallelism(way.shards);
    job.settings().batch_rows = way.batch_rows;
    job
}

/// How a run ended.
pub struct Ran {
    /// The result rows, sorted.
    pub rows: Vec<String>,
    pub summary: JobSummary,
    /// Whether the crash that was asked for has happened.
    pub crashed: bool,
}

/// Runs a case to its end.
pub fn run(case: &Case, aggregates: &[Expr], way: Way) -> Ran {
    let (handle, _) = collect();
    let summary = job(case, aggregates, way, &handle).run_blocking().unwrap();
    Ran { rows: sorted_rows(&handle.batches()), summary, crashed: false }
}

/// Runs a case with checkpoints as fast as they can be made, and with a crash, which is survived on
/// another number of shards.
pub fn run_with_crash(
    case: &Case,
    aggregates: &[Expr],
    ways: [Way; 2],
    at: CrashPoint,
    epoch: u64,
) -> Ran {
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let url = folder.path().to_str().unwrap();
    let (handle, _) = collect();
    let mut first = job(case, aggregates, ways[0], &handle);
    first.checkpoints(url, Duration::ZERO);
    crash_at(&mut first, epoch, at);
    if let Ok(summary) = first.run_blocking() {
        return Ran { rows: sorted_rows(&handle.batches()), summary, crashed: false };
    }
    let mut second = job(case, aggregates, ways[1], &handle);
    second.checkpoints(url, Duration::ZERO);
    let summary = second.run_blocking().unwrap();
    Ran { rows: sorted_rows(&handle.batches()), summary, crashed: true }
}

/// A folder in memory where there is one: checkpoints sync their files.
pub fn fast_disk() -> std::path::PathBuf {
    let memory = std::path::PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Rows as text that tells every bit, sorted.
pub fn sorted_rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        let options = FormatOptions::default().with_null("NULL");
        let columns: Vec<ArrayFormatter> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            rows.push(cells.join("|"));
        }
    }
    rows.sort();
    rows
}
