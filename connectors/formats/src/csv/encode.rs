//! Rows as CSV records.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use memchr::memchr3;
use tidemill_core::{Error, Result};

use super::CsvFormat;
use crate::Encoder;
use crate::cells::{Cells, Kind, plain_columns, range};
use crate::column::type_name;
use crate::temporal::TimestampStyle;

/// Encodes rows as CSV records. See the [module](super).
pub struct CsvEncoder {
    format: CsvFormat,
    schema: SchemaRef,
}

/// Refuses a column that does not fit into a field.
pub(super) fn check_column(name: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::List(item) if !is_nested(item.data_type()) => Ok(()),
        nested if is_nested(nested) => Err(Error::configuration(format!(
            "column '{name}': CSV cannot hold {}; use format 'json'",
            type_name(nested)
        ))),
        _ => Ok(()),
    }
}

fn is_nested(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(_) | DataType::List(_) | DataType::Map(_, _))
}

impl CsvEncoder {
    pub(super) fn new(format: CsvFormat, schema: SchemaRef) -> Result<Self> {
        for field in schema.fields() {
            check_column(field.name(), field.data_type())?;
        }
        Ok(Self { format, schema })
    }

    /// Appends a field, quoted where it must be to read back as it is.
    fn write_field(&self, text: &[u8], out: &mut Vec<u8>) {
        let CsvFormat { delimiter, quote, null_literal, .. } = &self.format;
        let special = memchr3(*delimiter, *quote, b'\n', text).is_some() || text.contains(&b'\r');
        if !special && text != null_literal.as_bytes() {
            out.extend_from_slice(text);
            return;
        }
        out.push(*quote);
        for byte in text {
            if byte == quote {
                out.push(*quote);
            }
            out.push(*byte);
        }
        out.push(*quote);
    }

    fn write_cell(&self, cells: &Cells, row: usize, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        if cells.is_null(row) {
            out.extend_from_slice(self.format.null_literal.as_bytes());
            return;
        }
        match &cells.kind {
            Kind::Text(value) => self.write_field(value(row), out),
            Kind::List { offsets, item } => {
                text.clear();
                for (n, element) in range(offsets, row).enumerate() {
                    if n > 0 {
                        text.push(self.format.array_delimiter);
                    }
                    match &item.kind {
                        _ if item.is_null(element) => {
                            text.extend_from_slice(self.format.null_literal.as_bytes());
                        }
                        Kind::Text(value) => text.extend_from_slice(value(element)),
                        kind => kind.write_scalar(element, text),
                    }
                }
                self.write_field(text, out);
            }
            kind => {
                text.clear();
                kind.write_scalar(row, text);
                self.write_field(text, out);
            }
        }
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, rows: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let columns = plain_columns(rows)?;
        let cell = |column| Cells::new(column, TimestampStyle::Sql);
        let cells = columns.iter().map(|c| cell(c.as_ref())).collect::<Result<Vec<_>>>()?;
        let (mut record, mut text) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            record.clear();
            for (n, cells) in cells.iter().enumerate() {
                if n > 0 {
                    record.push(self.format.delimiter);
                }
                self.write_cell(cells, row, &mut text, &mut record);
            }
            each(&record);
        }
        Ok(())
    }

    fn header(&self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        for (n, field) in self.schema.fields().iter().enumerate() {
            if n > 0 {
                line.push(self.format.delimiter);
            }
            self.write_field(field.name().as_bytes(), &mut line);
        }
        self.format.header.then_some(line)
    }
}
