//! The values of one column as payloads.

use arrow::array::cast::AsArray;
use arrow::array::types::{Float32Type, Float64Type, Int64Type};
use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use tidemill_core::{Error, Result};

use super::{Kind, RawFormat};
use crate::Encoder;

/// Encodes the values of one column. See the [module](super).
pub struct RawEncoder {
    format: RawFormat,
    kind: Kind,
}

impl RawEncoder {
    pub(super) fn new(format: RawFormat, kind: Kind) -> Self {
        Self { format, kind }
    }

    fn append(&self, values: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match self.kind {
            Kind::Text => {
                let text = values.as_string_view().value(row);
                return self.format.charset.encode(text, out).ok_or_else(|| {
                    let charset = self.format.charset.name();
                    Error::permanent(format!("'{text}' has letters that {charset} does not have"))
                });
            }
            Kind::Bytes => out.extend_from_slice(values.as_binary_view().value(row)),
            Kind::Boolean => out.push(u8::from(values.as_boolean().value(row))),
            Kind::Integer(width) => {
                let bytes = values.as_primitive::<Int64Type>().value(row).to_be_bytes();
                out.extend_from_slice(&bytes[8 - width..]);
            }
            Kind::Float => {
                out.extend_from_slice(
                    &values.as_primitive::<Float32Type>().value(row).to_be_bytes(),
                );
            }
            Kind::Double => {
                out.extend_from_slice(
                    &values.as_primitive::<Float64Type>().value(row).to_be_bytes(),
                );
            }
        }
        let is_number = matches!(self.kind, Kind::Integer(_) | Kind::Float | Kind::Double);
        if is_number && self.format.little_endian {
            out.reverse();
        }
        Ok(())
    }
}

impl Encoder for RawEncoder {
    /// A null is an empty payload.
    ///
    /// # Errors
    /// A permanent error where a text has letters that the charset does not have.
    fn encode(&mut self, rows: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let wide = match self.kind {
            Kind::Text => DataType::Utf8View,
            Kind::Bytes => DataType::BinaryView,
            Kind::Boolean => DataType::Boolean,
            Kind::Integer(_) => DataType::Int64,
            Kind::Float => DataType::Float32,
            Kind::Double => DataType::Float64,
        };
        let values = cast(rows.column(0), &wide)?;
        let mut payload = Vec::new();
        for row in 0..values.len() {
            payload.clear();
            if values.is_valid(row) {
                self.append(values.as_ref(), row, &mut payload)?;
            }
            each(&payload);
        }
        Ok(())
    }

    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}
