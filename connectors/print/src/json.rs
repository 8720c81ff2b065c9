//! Rows as NDJSON, for machines.
//!
//! One object a line, nulls written out, timestamps in SQL's style (`2013-01-01 10:00:00`, an
//! instant with a `Z` behind it), so that the `json` format reads back what was printed.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use tidemill_core::Result;

use crate::cell::{Precision, time_text};

/// The rows, one JSON object a line.
pub(crate) fn lines(batch: &RecordBatch) -> Result<Vec<u8>> {
    let options = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_timestamp_format("%Y-%m-%d %H:%M:%S%.f".to_owned())
        .with_timestamp_tz_format("%Y-%m-%d %H:%M:%S%.f%:z".to_owned());
    let mut writer = options.build::<_, LineDelimited>(Vec::new());
    writer.write(&times_as_text(batch)?)?;
    Ok(writer.into_inner())
}

/// The batch with its timestamp columns as text: Arrow's writer fails on times that its calendar
/// does not reach, and a row must be printed whatever its time.
fn times_as_text(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if let DataType::Timestamp(unit, zone) = field.data_type() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(texts(column, *unit, zone.is_some())?);
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

fn texts(times: &ArrayRef, unit: TimeUnit, zoned: bool) -> Result<ArrayRef> {
    let times = cast(times, &DataType::Int64)?;
    let times = times.as_primitive::<Int64Type>().iter();
    let text = |time| {
        let precision = Precision::of(time, unit).max(Precision::Second);
        time_text(time, unit, zoned, precision)
    };
    Ok(Arc::new(times.map(|time| time.map(text)).collect::<StringArray>()))
}
