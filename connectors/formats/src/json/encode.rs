//! Rows as JSON objects.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use tidemill_core::Result;

use super::JsonFormat;
use crate::Encoder;
use crate::cells::{Cells, Kind, plain_columns, range};

/// Encodes rows as JSON objects. See the [module](super).
pub struct JsonEncoder {
    format: JsonFormat,
    /// `"a":`, `"b":` and so on: what stands before each value.
    keys: Vec<Vec<u8>>,
}

impl JsonEncoder {
    pub(super) fn new(format: JsonFormat, schema: SchemaRef) -> Result<Self> {
        let empty = RecordBatch::new_empty(schema.clone());
        for column in plain_columns(&empty)? {
            Cells::new(column.as_ref(), format.timestamps)?;
        }
        Ok(Self { format, keys: keys(&schema) })
    }
}

fn keys(schema: &Schema) -> Vec<Vec<u8>> {
    schema.fields().iter().map(|field| key(field.name())).collect()
}

fn key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 3);
    write_string(name.as_bytes(), &mut key);
    key.push(b':');
    key
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let columns = plain_columns(rows)?;
        let cell = |column| Cells::new(column, self.format.timestamps);
        let cells = columns.iter().map(|c| cell(c.as_ref())).collect::<Result<Vec<_>>>()?;
        let omits_nulls = self.format.omits_nulls;
        let mut record = Vec::new();
        for row in 0..rows.num_rows() {
            record.clear();
            let fields = self.keys.iter().zip(&cells);
            let fields = fields.filter(|(_, cells)| !omits_nulls || !cells.is_null(row));
            write_nested(&mut record, b'{', b'}', fields, |(key, cells), out| {
                out.extend_from_slice(key);
                write_cell(cells, row, omits_nulls, out);
            });
            each(&record);
        }
        Ok(())
    }

    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}

fn write_cell(cells: &Cells, row: usize, omits_nulls: bool, out: &mut Vec<u8>) {
    if cells.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match &cells.kind {
        Kind::Bare(write) => write(row, out),
        Kind::Float { write, is_finite } if is_finite(row) => write(row, out),
        Kind::Float { write, .. } | Kind::Quoted(write) => {
            out.push(b'"');
            write(row, out);
            out.push(b'"');
        }
        Kind::Text(value) => write_string(value(row), out),
        Kind::Struct(fields) => {
            let fields = fields.iter().filter(|(_, cells)| !omits_nulls || !cells.is_null(row));
            write_nested(out, b'{', b'}', fields, |(name, cells), out| {
                write_string(name.as_bytes(), out);
                out.push(b':');
                write_cell(cells, row, omits_nulls, out);
            });
        }
        Kind::List { offsets, item } => {
            write_nested(out, b'[', b']', range(offsets, row), |row, out| {
                write_cell(item, row, omits_nulls, out);
            });
        }
        Kind::Map { offsets, keys, values } => {
            write_nested(out, b'{', b'}', range(offsets, row), |row, out| {
                let mut key = Vec::new();
                keys.kind.write_scalar(row, &mut key);
                write_string(&key, out);
                out.push(b':');
                write_cell(values, row, omits_nulls, out);
            });
        }
    }
}

fn write_nested<T>(
    out: &mut Vec<u8>,
    open: u8,
    close: u8,
    elements: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(open);
    for (n, element) in elements.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(element, out);
    }
    out.push(close);
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}
