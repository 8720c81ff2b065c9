//! Rows as payloads of a format: what stands in a string, a message of a channel or an entry of a stream.
//!
//! Invariant: a row is either a payload or one reason why it cannot be encoded; a bad row costs nothing to
//! those around it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Schema, SchemaRef};
use tidemill_core::{ErrorKind, Result};
use tidemill_formats::{Encoder, Format};

/// Encodes some of the columns in some format.
pub(crate) struct PayloadEncoder {
    columns: Vec<usize>,
    schema: SchemaRef,
    encoder: Box<dyn Encoder>,
    /// The format has no way to write NULL but to write nothing at all.
    null_is_absent: bool,
}

impl PayloadEncoder {
    /// # Errors
    /// A configuration error where the format cannot hold a column.
    pub fn new(schema: &Schema, columns: Vec<usize>, format: &Format) -> Result<Self> {
        let fields: Vec<_> = columns.iter().map(|column| schema.field(*column).clone()).collect();
        let schema = Arc::new(Schema::new(fields));
        let encoder = format.encoder(schema.clone())?;
        let null_is_absent = matches!(format, Format::Raw(_));
        Ok(Self { columns, schema, encoder, null_is_absent })
    }

    /// The payloads of all rows.
    ///
    /// # Errors
    /// Where the format fails through no fault of a row.
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| rows.column(*c).clone()).collect();
        let absent = if self.null_is_absent { columns[0].logical_nulls() } else { None };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let mut payloads = Payloads { bytes: Vec::new(), ends: Vec::new(), absent };
        match payloads.add(self.encoder.as_mut(), &rows) {
            Err(error) if error.kind() == ErrorKind::Permanent => {
                payloads.bytes.clear();
                payloads.ends.clear();
                for row in 0..rows.num_rows() {
                    payloads.add_row(self.encoder.as_mut(), &rows.slice(row, 1))?;
                }
            }
            result => result?,
        }
        Ok(payloads)
    }
}

/// The payloads of a batch, one behind the other.
pub(crate) struct Payloads {
    bytes: Vec<u8>,
    /// Where each ends, and why there is none where there is none.
    ends: Vec<(usize, Option<String>)>,
    absent: Option<NullBuffer>,
}

impl Payloads {
    fn add(&mut self, encoder: &mut dyn Encoder, rows: &RecordBatch) -> Result<()> {
        encoder.encode(rows, &mut |payload| {
            self.bytes.extend_from_slice(payload);
            self.ends.push((self.bytes.len(), None));
        })
    }

    /// A row that may be the one that cannot be encoded.
    fn add_row(&mut self, encoder: &mut dyn Encoder, row: &RecordBatch) -> Result<()> {
        let (bytes, ends) = (self.bytes.len(), self.ends.len());
        match self.add(encoder, row) {
            Err(error) if error.kind() == ErrorKind::Permanent => {
                self.bytes.truncate(bytes);
                self.ends.truncate(ends);
                self.ends.push((bytes, Some(error.to_string())));
                Ok(())
            }
            result => result,
        }
    }

    /// The payload of a row; `None` where it is a null that the format does not write.
    ///
    /// # Errors
    /// Why the row cannot be encoded.
    pub fn get(&self, row: usize) -> Result<Option<&[u8]>, String> {
        let (end, why) = &self.ends[row];
        if let Some(why) = why {
            return Err(why.clone());
        }
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let is_absent = self.absent.as_ref().is_some_and(|nulls| nulls.is_null(row));
        Ok((!is_absent).then(|| &self.bytes[start..*end]))
    }
}
