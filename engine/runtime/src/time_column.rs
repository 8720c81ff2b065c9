//! The time attribute as a column: read it before rows are judged, or set it to the wall clock. Invariant:
//! only the time column changes.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use tidemill_core::{Error, EventTime, Result};

/// A timestamp column as microseconds.
pub(crate) fn micros_column(rows: &RecordBatch, column: usize) -> Result<Int64Array> {
    let values = rows.column(column);
    let micros = values.as_primitive_opt::<TimestampMicrosecondType>();
    micros.map(|micros| micros.reinterpret_cast()).ok_or_else(|| {
        Error::internal(format!("an event-time column has type {}", values.data_type()))
    })
}

/// The rows with one timestamp in all of a column.
pub(crate) fn with_constant_time(
    rows: &RecordBatch,
    column: usize,
    time: EventTime,
) -> Result<RecordBatch> {
    let schema = rows.schema();
    let zone = match schema.field(column).data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => return Err(Error::internal(format!("a time column has type {other}"))),
    };
    let mut columns = rows.columns().to_vec();
    let times = TimestampMicrosecondArray::from_value(time, rows.num_rows());
    columns[column] = Arc::new(times.with_timezone_opt(zone));
    Ok(RecordBatch::try_new(schema, columns)?)
}
