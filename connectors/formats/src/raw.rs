//! Raw: the payload is the value of the only column, as Flink's format of that name has it.
//!
//! Text in a charset, bytes as they are, numbers in as many bytes as their type has. A record
//! without a payload is null.

mod charset;
mod encode;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use tidemill_core::table::{OptionSpec, Options};
use tidemill_core::{Error, Result};

pub use self::charset::Charset;
pub use self::encode::RawEncoder;
use crate::Decoder;
use crate::column::{Column, Record, Values, type_name};

/// What [`RawFormat::parse`] understands.
pub(crate) const OPTIONS: [OptionSpec; 2] = [
    OptionSpec::new(
        "raw.charset",
        "How a STRING is written: UTF-8 (default), US-ASCII, ISO-8859-1, UTF-16BE or UTF-16LE.",
    ),
    OptionSpec::new(
        "raw.endianness",
        "Which byte of a number comes first: 'big-endian' (default) or 'little-endian'.",
    ),
];

/// Raw payloads and how exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawFormat {
    /// How text is written.
    pub charset: Charset,
    /// Whether the lowest byte of a number comes first.
    pub little_endian: bool,
}

/// What the payload of a column's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bytes,
    Boolean,
    /// So many bytes.
    Integer(usize),
    Float,
    Double,
}

impl RawFormat {
    /// Raw payloads as `options` say.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(options: &Options) -> Result<Self> {
        let endianness = ["big-endian", "little-endian"];
        Ok(Self {
            charset: Charset::parse(options, "raw.charset")?,
            little_endian: options.choice("raw.endianness", &endianness, 0)? == 1,
        })
    }

    /// A decoder into the only column of `schema`.
    ///
    /// # Errors
    /// A configuration error where there are more columns, or its type has no raw form.
    pub fn decoder(&self, schema: SchemaRef) -> Result<RawDecoder> {
        let kind = kind(&schema)?;
        Ok(RawDecoder { format: *self, kind, record: Record::new(schema.fields())?, schema })
    }

    /// An encoder of the only column of `schema`. Errors as for [`RawFormat::decoder`].
    pub fn encoder(&self, schema: SchemaRef) -> Result<RawEncoder> {
        Ok(RawEncoder::new(*self, kind(&schema)?))
    }

    /// Whether the payloads of this schema's column are lines of text.
    pub(crate) fn is_text(&self, schema: &SchemaRef) -> Result<bool> {
        let kind = kind(schema)?;
        let bytewise = !matches!(self.charset, Charset::Utf16Be | Charset::Utf16Le);
        Ok(kind == Kind::Bytes || kind == Kind::Text && bytewise)
    }
}

fn kind(schema: &SchemaRef) -> Result<Kind> {
    let [field] = schema.fields().as_ref() else {
        let message = format!(
            "format 'raw' takes exactly one column: this table has {}",
            schema.fields().len()
        );
        return Err(Error::option("format", message));
    };
    Ok(match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Bytes,
        DataType::Boolean => Kind::Boolean,
        DataType::Int8 => Kind::Integer(1),
        DataType::Int16 => Kind::Integer(2),
        DataType::Int32 => Kind::Integer(4),
        DataType::Int64 => Kind::Integer(8),
        DataType::Float32 => Kind::Float,
        DataType::Float64 => Kind::Double,
        other => {
            let message = format!(
                "format 'raw' cannot hold column '{}' of type {}: it takes STRING, BYTES, BOOLEAN, \
                 integers, FLOAT and DOUBLE",
                field.name(),
                type_name(other)
            );
            return Err(Error::option("format", message));
        }
    })
}

/// Decodes raw payloads. See the [module](self).
pub struct RawDecoder {
    format: RawFormat,
    kind: Kind,
    schema: SchemaRef,
    record: Record,
}

impl RawDecoder {
    fn append(&mut self, payload: &[u8]) -> Option<()> {
        let column = &mut self.record.columns[0];
        let in_order = |payload| highest_first(payload, self.format.little_endian);
        match (self.kind, &mut column.values) {
            (Kind::Text, _) => {
                let text = self.format.charset.decode(payload)?;
                column.append_bytes(&text);
                return Some(());
            }
            (Kind::Bytes, _) => {
                column.append_bytes(payload);
                return Some(());
            }
            (Kind::Boolean, Values::Boolean(values)) => match payload {
                [byte] => values.push(*byte != 0),
                _ => return None,
            },
            (Kind::Integer(width), Values::Integer { values, .. }) if payload.len() == width => {
                values.push(integer(&in_order(payload)));
            }
            (Kind::Float, Values::Float { values, .. }) => {
                let bytes = in_order(payload);
                values.push(f64::from(f32::from_be_bytes(bytes.as_ref().try_into().ok()?)));
            }
            (Kind::Double, Values::Float { values, .. }) => {
                let bytes = in_order(payload);
                values.push(f64::from_be_bytes(bytes.as_ref().try_into().ok()?));
            }
            _ => return None,
        }
        self.record.columns[0].appended();
        Some(())
    }

    fn column(&self) -> &Column {
        &self.record.columns[0]
    }
}

/// The bytes of a number, the highest first.
fn highest_first(bytes: &[u8], little_endian: bool) -> Cow<'_, [u8]> {
    if little_endian { bytes.iter().rev().copied().collect() } else { Cow::Borrowed(bytes) }
}

/// A signed big-endian number of at most 8 bytes.
fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| *byte >= 0x80) { -1 } else { 0 };
    bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte))
}

impl Decoder for RawDecoder {
    fn decode(&mut self, payload: &[u8]) -> Result<(), String> {
        self.append(payload).ok_or_else(|| {
            let what = match self.kind {
                Kind::Text => format!("text that is not {}", self.format.charset.name()),
                _ => format!("{} bytes", payload.len()),
            };
            self.column().mismatch(&what).reason(self.schema.field(0).name())
        })
    }

    fn decode_null(&mut self) -> Result<(), String> {
        let appended = self.record.columns[0].append_null();
        appended.map_err(|bad| bad.reason(self.schema.field(0).name()))
    }

    fn len(&self) -> usize {
        self.column().len()
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let rows = self.len();
        Ok(RecordBatch::try_new(self.schema.clone(), self.record.finish(rows)?)?)
    }
}
