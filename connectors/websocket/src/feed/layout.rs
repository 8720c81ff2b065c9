//! Which part of a message each column comes from: its payload, or what is known of it besides.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_core::{Error, Result};
use tidemill_formats::{Decoder, Format};

use super::inlet::Received;

/// What is known of a message besides its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metadata {
    /// When it was read.
    Timestamp,
    /// The number of the connection that it came over.
    Connection,
}

/// Where a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Column of the decoded payload.
    Value(usize),
    Metadata(Metadata),
}

/// See the module.
pub(super) struct Layout {
    pub schema: SchemaRef,
    pub format: Format,
    parts: Vec<Part>,
    value: SchemaRef,
}

impl Layout {
    /// All columns come from the payload but those of `metadata`.
    ///
    /// # Errors
    /// A column whose type the format, or the metadata, does not have.
    pub fn new(schema: SchemaRef, metadata: &[(usize, String)], format: Format) -> Result<Self> {
        let (mut parts, mut value) = (Vec::new(), Vec::new());
        for (index, field) in schema.fields().iter().enumerate() {
            parts.push(match metadata.iter().find(|(column, _)| *column == index) {
                Some((_, key)) => Part::Metadata(checked(key, field)?),
                None => {
                    value.push(field.clone());
                    Part::Value(value.len() - 1)
                }
            });
        }
        if value.is_empty() {
            let message = "a feed needs at least one column that is no metadata";
            return Err(Error::configuration(message));
        }
        let value = Arc::new(Schema::new(value));
        let layout = Self { schema, format, parts, value };
        // Whether the format can hold the columns is to be known before anything runs.
        layout.decoder()?;
        Ok(layout)
    }

    /// A decoder of payloads.
    ///
    /// # Errors
    /// None after [`Layout::new`] has made one, unless a file has gone.
    pub fn decoder(&self) -> Result<Box<dyn Decoder>> {
        self.format.decoder(self.value.clone())
    }

    /// Decoded payloads and what is known of their messages, as rows.
    ///
    /// # Errors
    /// A defect.
    pub fn assemble(&self, value: &RecordBatch, messages: &[&Received]) -> Result<RecordBatch> {
        let columns = self.parts.iter().zip(self.schema.fields()).map(|(part, field)| match part {
            Part::Value(n) => Ok(value.column(*n).clone()),
            Part::Metadata(metadata) => column(*metadata, messages, field.data_type()),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(messages.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn checked(key: &str, field: &Field) -> Result<Metadata> {
    use DataType::{Int32, Int64, Timestamp};
    use TimeUnit::{Microsecond, Millisecond};
    let (metadata, fits, wanted) = match (key, field.data_type()) {
        ("timestamp", Timestamp(Millisecond | Microsecond, _)) => (Metadata::Timestamp, true, ""),
        ("timestamp", _) => (Metadata::Timestamp, false, "TIMESTAMP_LTZ(3)"),
        ("connection", Int32 | Int64) => (Metadata::Connection, true, ""),
        ("connection", _) => (Metadata::Connection, false, "BIGINT"),
        _ => {
            let message = format!(
                "a message of a feed has no metadata '{key}': there are timestamp and connection"
            );
            return Err(Error::configuration(message));
        }
    };
    if fits {
        return Ok(metadata);
    }
    let column = field.name();
    Err(Error::configuration(format!("column '{column}': metadata '{key}' is {wanted}")))
}

fn column(metadata: Metadata, messages: &[&Received], data_type: &DataType) -> Result<ArrayRef> {
    let column: ArrayRef = match (metadata, data_type) {
        (Metadata::Timestamp, DataType::Timestamp(_, zone)) => {
            let times = messages.iter().map(|message| message.read_at);
            let times = TimestampMicrosecondArray::from_iter_values(times);
            Arc::new(times.with_timezone_opt(zone.clone()))
        }
        (Metadata::Timestamp, _) => Arc::new(TimestampMicrosecondArray::from_iter_values(
            messages.iter().map(|m| m.read_at),
        )),
        (Metadata::Connection, _) => {
            Arc::new(Int64Array::from_iter_values(messages.iter().map(|m| m.connection)))
        }
    };
    if column.data_type() == data_type { Ok(column) } else { Ok(cast(&column, data_type)?) }
}
