//! Which part of an event each column of a table comes from: the payload, or what the bus says of it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_core::table::TableSpec;
use tidemill_core::{Error, Result};
use tidemill_formats::Format;

/// What a bus says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Metadata {
    Topic,
    Partition,
    /// In the bus's notation: a number, or the id of an entry.
    Offset,
    Timestamp,
    Key,
    /// All headers; of those with the same name the last counts.
    Headers,
    /// The last header of this name.
    Header(String),
}

impl Metadata {
    /// The metadata that a table calls `key`, for a column that can hold it.
    ///
    /// # Errors
    /// A configuration error that lists the keys, or names the type.
    pub fn parse(key: &str, field: &Field) -> Result<Self> {
        let metadata = match (key, key.strip_prefix("header.").filter(|name| !name.is_empty())) {
            ("topic", _) => Self::Topic,
            ("partition", _) => Self::Partition,
            ("offset", _) => Self::Offset,
            ("timestamp", _) => Self::Timestamp,
            ("key", _) => Self::Key,
            ("headers", _) => Self::Headers,
            (_, Some(name)) => Self::Header(name.to_owned()),
            _ => {
                let message = format!(
                    "an event has no metadata '{key}': there are topic, partition, offset, \
                     timestamp, key, headers and header.<name>"
                );
                return Err(Error::configuration(message));
            }
        };
        let (fits, wanted) = metadata.fits(field.data_type());
        if fits {
            return Ok(metadata);
        }
        let column = field.name();
        Err(Error::configuration(format!("column '{column}': metadata '{key}' is {wanted}")))
    }

    fn fits(&self, data_type: &DataType) -> (bool, &'static str) {
        use DataType::*;
        let is_text = *data_type == Utf8View;
        let is_bytes = *data_type == BinaryView;
        match self {
            Self::Topic | Self::Offset => (is_text, "STRING"),
            Self::Partition => (matches!(data_type, Int32 | Int64), "INT"),
            Self::Timestamp => {
                let unit = matches!(data_type, Timestamp(TimeUnit::Microsecond, _));
                (unit, "TIMESTAMP_LTZ(3)")
            }
            Self::Key => (is_text || is_bytes, "BYTES"),
            Self::Headers => (matches!(data_type, Map(..)), "MAP<STRING, BYTES>"),
            Self::Header(_) => (is_text || is_bytes, "STRING"),
        }
    }
}

/// Where a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Column of the decoded payload.
    Value(usize),
    Metadata(Metadata),
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub schema: SchemaRef,
    pub parts: Vec<Part>,
    pub format: Format,
    /// The columns of the payload; there may be none.
    pub value: SchemaRef,
}

impl Layout {
    /// The layout that a table declares.
    ///
    /// # Errors
    /// A configuration error that names the option or the column.
    pub fn parse(table: &TableSpec) -> Result<Self> {
        let format = Format::parse(table.options.required("format")?, &table.options)?;
        let (mut parts, mut value) = (Vec::new(), Vec::new());
        for (index, field) in table.schema.fields().iter().enumerate() {
            let metadata = table.metadata.iter().find(|(column, _)| *column == index);
            parts.push(match metadata {
                Some((_, key)) => Part::Metadata(Metadata::parse(key, field)?),
                None => {
                    value.push(field.as_ref().clone());
                    Part::Value(value.len() - 1)
                }
            });
        }
        let layout = Self {
            schema: table.schema.clone(),
            parts,
            format,
            value: Arc::new(Schema::new(value)),
        };
        if !layout.value.fields().is_empty() {
            // Whether the format can hold the columns is to be known before anything runs.
            layout.format.decoder(layout.value.clone())?;
        }
        Ok(layout)
    }

    /// Whether an event without a payload has a row all the same.
    pub fn takes_null(&self) -> bool {
        matches!(self.format, Format::Raw(_)) || self.value.fields().is_empty()
    }
}
