//! Recovery: a job dies in its third checkpoint, another one resumes on other shards, and the result is
//! as if nothing had happened.
//!
//! `cargo run --example 03_recover_after_a_crash`

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, TimestampMicrosecondArray};
use arrow::util::pretty::pretty_format_batches;
use tidemill::memory::MemoryHandle;
use tidemill::prelude::*;
use tidemill::testing::{CrashPoint, crash_at};

const ROWS: i64 = 20_000;

/// Counts and sums by key, in windows of ten seconds; a row comes every 10 ms.
fn job(results: &MemoryHandle, checkpoints: &Path) -> tidemill::Result<Job> {
    let columns = schema([("key", DataType::Int64), ("n", DataType::Int64), ("ts", TIMESTAMP)]);
    let rows = RecordBatch::try_new(
        columns.clone(),
        vec![
            Arc::new(Int64Array::from_iter_values((0..ROWS).map(|n| n % 7))),
            Arc::new(Int64Array::from_iter_values(0..ROWS)),
            Arc::new(TimestampMicrosecondArray::from_iter_values((0..ROWS).map(|n| n * 10_000))),
        ],
    )?;
    let mut job = Job::named("recover");
    job.source(MemorySource::new(columns, vec![vec![rows]]))
        .event_time("ts", Watermarks::bounded(Duration::from_secs(1)))
        .key_by(["key"])
        .window(Tumbling::of(Duration::from_secs(10)))
        .aggregate([count().alias("rows"), sum(col("n")).alias("total")])
        .sink(results.sink());
    // As often as possible, so that there is a third checkpoint to die in.
    job.checkpoints(checkpoints.display().to_string(), Duration::ZERO);
    job.settings().batch_rows = 100;
    Ok(job)
}

fn sorted(results: &MemoryHandle) -> tidemill::Result<Vec<String>> {
    let table = pretty_format_batches(&results.batches())?.to_string();
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// Runs the job undisturbed, and again with a crash in the middle; both give the same.
pub fn main() -> tidemill::Result<()> {
    let folder = tempfile::tempdir()?;
    let (undisturbed, _) = collect();
    job(&undisturbed, &folder.path().join("undisturbed"))?.run_blocking()?;

    // The checkpoint exists, and the process dies before its results are made visible.
    let (results, _) = collect();
    let checkpoints = folder.path().join("disturbed");
    let mut first = job(&results, &checkpoints)?;
    first.parallelism(2);
    crash_at(&mut first, 3, CrashPoint::BeforeCommit);
    let crash = first.run_blocking().expect_err("the job was told to crash");
    eprintln!("crashed, {} rows are visible: {crash}", results.rows());

    let summary = job(&results, &checkpoints)?.parallelism(3).run_blocking()?;
    eprintln!("resumed from epoch {:?}", summary.checkpoints.restored);
    assert_eq!(summary.checkpoints.restored, Some(3));
    assert!(summary.records_in < ROWS as u64, "what a checkpoint holds is not read again");
    assert_eq!(sorted(&results)?, sorted(&undisturbed)?);
    Ok(())
}
