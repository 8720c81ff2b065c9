//! SQL from code: a job file over tables that live in the program.
//!
//! `cargo run --example 05_sql_from_code`

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use tidemill::memory::MemoryTables;
use tidemill::prelude::*;
use tidemill::sql::Registry;

const JOB: &str = "
    CREATE TABLE clicks (
      page STRING, ts TIMESTAMP(3), n BIGINT,
      WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
    ) WITH ('connector' = 'memory');

    CREATE TABLE per_minute (page STRING, clicks BIGINT) WITH ('connector' = 'memory');

    INSERT INTO per_minute
    SELECT page, SUM(n)
    FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
    GROUP BY window_start, window_end, page;
";

/// Plans the job over two in-memory tables, runs it, and reads the result.
pub fn main() -> tidemill::Result<()> {
    let columns = schema([("page", DataType::Utf8View), ("ts", TIMESTAMP), ("n", DataType::Int64)]);
    let rows = RecordBatch::try_new(
        columns.clone(),
        vec![
            Arc::new(StringViewArray::from(vec!["home", "home", "about", "home"])),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 30_000_000, 31_000_000, 60_000_000])),
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        ],
    )?;
    let tables = MemoryTables::new().with_source("clicks", columns, vec![vec![rows]]);
    let per_minute = tables.sink("per_minute");

    let registry = Registry::new(vec![Arc::new(tables)]);
    Job::from_sql("clicks.sql", JOB, &registry)?.run_blocking()?;

    let mut results: Vec<(String, i64)> = Vec::new();
    for batch in per_minute.batches() {
        let pages = batch.column(0).as_string_view().iter().flatten().map(str::to_owned);
        let clicks = batch.column(1).as_primitive::<Int64Type>().values();
        results.extend(pages.zip(clicks.iter().copied()));
    }
    results.sort();
    assert_eq!(results, [("about".into(), 3), ("home".into(), 3), ("home".into(), 4)]);
    eprintln!("{results:?}");
    Ok(())
}
