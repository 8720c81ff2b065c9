//! What kernels are given: the benchmark's rows with the watermark after each batch, and records as
//! text. Invariant: equal in every run.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, TimestampMicrosecondType};
use arrow::array::{Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_core::table::{Options, TableSpec};
use tidemill_core::{EventTime, Result};
use tidemill_generator::workload::{Keys, tumbling_rows, tumbling_rows_by_text};

/// How far rows are out of order, in microseconds.
pub const DISORDER: i64 = 1_000_000;

const SEED: u64 = 1;

/// What a shard is given: batches, each with the watermark that follows it.
pub type Steps = Vec<(RecordBatch, EventTime)>;

/// Rows `(key BIGINT, ts TIMESTAMP, value DOUBLE)`, 100 000 to a second of event time.
pub fn rows(rows: usize, keys: Keys) -> Steps {
    with_watermarks(tumbling_rows(rows, keys, DISORDER, SEED))
}

/// The same with keys of 16 characters.
pub fn rows_by_text(rows: usize, keys: Keys) -> Steps {
    with_watermarks(tumbling_rows_by_text(rows, keys, DISORDER, SEED))
}

fn with_watermarks(batches: Vec<RecordBatch>) -> Steps {
    let mut newest = EventTime::MIN;
    let step = |batch: RecordBatch| {
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
        newest = times.iter().copied().fold(newest, EventTime::max);
        (batch, newest.saturating_sub(DISORDER))
    };
    batches.into_iter().map(step).collect()
}

/// How many rows these are.
pub fn count(steps: &Steps) -> usize {
    steps.iter().map(|(batch, _)| batch.num_rows()).sum()
}

/// The bids among so many of Nexmark's events, with the columns that its first query passes on.
pub fn bids(events: usize) -> TableSpec {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let columns = [
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("dateTime", time),
        ("extra", DataType::Utf8View),
    ];
    let columns = columns.map(|(name, data_type)| Field::new(name, data_type, true));
    let events = events.to_string();
    TableSpec {
        name: "bids".to_owned(),
        schema: Arc::new(Schema::new(columns.to_vec())),
        metadata: Vec::new(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: Options::from_iter([("nexmark.table", "bid"), ("events.num", events.as_str())]),
    }
}

/// The rows as records of a format, one payload each, with their columns. Values are rounded to
/// hundredths, as prices are.
///
/// # Errors
/// A format that cannot hold them.
pub fn payloads(format: &str, steps: &Steps) -> Result<(SchemaRef, Vec<Vec<u8>>)> {
    let schema = steps[0].0.schema();
    let mut encoder = tidemill_formats::encoder(format, schema.clone(), &Options::default())?;
    let mut payloads = Vec::new();
    for (batch, _) in steps {
        let batch = in_hundredths(batch)?;
        encoder.encode(&batch, &mut |payload| payloads.push(payload.to_vec()))?;
    }
    Ok((schema, payloads))
}

fn in_hundredths(batch: &RecordBatch) -> Result<RecordBatch> {
    let values = batch.column(2).as_primitive::<Float64Type>();
    let rounded: Float64Array = values.unary(|value| (value * 100.0).round() / 100.0);
    let mut columns = batch.columns().to_vec();
    columns[2] = Arc::new(rounded);
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}
