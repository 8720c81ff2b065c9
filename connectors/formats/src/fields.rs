//! Records that come as named fields of text or bytes, one for each column, as entries of Redis streams do.
//!
//! Numbers, times and the like stand as CSV writes them; text and `BYTES` are taken byte for byte. A
//! field that no column is called after is passed over; a column without its field, and an empty text where
//! the column is no text, is null. Of fields with the same name the last counts.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use tidemill_core::{Error, Result};

use crate::column::{Fit, Record, Values, type_name};

/// Decodes named fields into the columns of the same names. See the [module](self).
pub struct FieldsDecoder {
    record: Record,
    schema: SchemaRef,
    rows: usize,
}

impl FieldsDecoder {
    /// A decoder into `schema`.
    ///
    /// # Errors
    /// A configuration error that names a column whose type a field cannot hold.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        for field in schema.fields() {
            check(field.name(), field.data_type())?;
        }
        Ok(Self { record: Record::new(schema.fields())?, schema, rows: 0 })
    }

    /// Appends one row, or leaves the columns as they were and says why, with the field's name.
    ///
    /// # Errors
    /// The reason.
    pub fn decode<'a>(
        &mut self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), String> {
        match self.append(fields) {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(bad) => {
                self.record.truncate(self.rows);
                Err(bad.reason(""))
            }
        }
    }

    fn append<'a>(&mut self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Fit {
        let rows = self.rows;
        for (n, (name, value)) in fields.enumerate() {
            let Some(column) = self.column(n, name) else { continue };
            let target = &mut self.record.columns[column];
            target.truncate(rows);
            let put = match &target.values {
                Values::Text(_) => target.append_text(value),
                Values::Binary(_) => {
                    target.append_bytes(value);
                    Ok(())
                }
                _ if value.trim_ascii().is_empty() => target.append_null(),
                _ => target.append_text(value.trim_ascii()),
            };
            let names = &self.record.names;
            put.map_err(|bad| bad.inside(format_args!(".{}", names[column])))?;
        }
        for (column, name) in self.record.columns.iter_mut().zip(&self.record.names) {
            if column.len() == rows {
                column.append_null().map_err(|bad| bad.inside(format_args!(".{name}")))?;
            }
        }
        Ok(())
    }

    /// The column called `name`, which is that of the n-th field of the record before, more often than
    /// not.
    fn column(&mut self, n: usize, name: &[u8]) -> Option<usize> {
        let Record { names, order, .. } = &mut self.record;
        let is = |column: usize| names.get(column).is_some_and(|other| other.as_bytes() == name);
        if let Some(column) = order.get(n).copied().filter(|column| is(*column)) {
            return Some(column);
        }
        let column = (0..names.len()).find(|column| is(*column))?;
        if let Some(last) = order.get_mut(n) {
            *last = column;
        }
        Some(column)
    }

    /// How many rows wait for [`FieldsDecoder::finish`].
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows so far, in order; the decoder is empty afterwards.
    ///
    /// # Errors
    /// A defect.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        Ok(RecordBatch::try_new(self.schema.clone(), self.record.finish(rows)?)?)
    }
}

fn check(column: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Struct(_) | DataType::List(_) | DataType::Map(_, _) => {
            let name = type_name(data_type);
            let message =
                format!("column '{column}': a field cannot hold {name}; use format 'json'");
            Err(Error::configuration(message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn decoder() -> FieldsDecoder {
        FieldsDecoder::new(Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8View, true),
            Field::new("raw", DataType::BinaryView, true),
        ])))
        .unwrap()
    }

    fn decode(decoder: &mut FieldsDecoder, fields: &[(&str, &[u8])]) -> Result<(), String> {
        decoder.decode(fields.iter().map(|(name, value)| (name.as_bytes(), *value)))
    }

    #[test]
    fn fields_find_their_columns_in_any_order() {
        let mut decoder = decoder();
        decode(&mut decoder, &[("id", b"1"), ("name", b"a"), ("raw", b"\xff\x00")]).unwrap();
        decode(&mut decoder, &[("raw", b""), ("other", b"x"), ("id", b" 2 ")]).unwrap();
        decode(&mut decoder, &[("name", b""), ("id", b"0"), ("id", b"3")]).unwrap();
        let rows = decoder.finish().unwrap();
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 2, 3]);
        let names: Vec<_> = rows.column(1).as_string_view().iter().collect();
        assert_eq!(names, [Some("a"), None, Some("")]);
        let raw: Vec<_> = rows.column(2).as_binary_view().iter().collect();
        assert_eq!(raw, [Some(&b"\xff\x00"[..]), Some(b""), None]);
    }

    #[test]
    fn a_bad_entry_leaves_no_trace() {
        let mut decoder = decoder();
        decode(&mut decoder, &[("id", b"1")]).unwrap();
        let reasons = [
            decode(&mut decoder, &[("name", b"x"), ("id", b"one")]).unwrap_err(),
            decode(&mut decoder, &[("name", b"\xff"), ("id", b"1")]).unwrap_err(),
            decode(&mut decoder, &[("name", b"x")]).unwrap_err(),
        ];
        for (reason, part) in reasons.iter().zip(["id: 'one'", "name: invalid UTF-8", "id: null"]) {
            assert!(reason.contains(part), "{reason}");
        }
        decode(&mut decoder, &[("id", b"2")]).unwrap();
        let rows = decoder.finish().unwrap();
        assert_eq!((rows.num_rows(), rows.column(1).null_count()), (2, 2));
    }
}
