//! The payload as it is: one column of text or bytes.

use arrow::array::{Array, BinaryViewArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use tidemill_core::{Error, Result};

use crate::column::{Column, Record};
use crate::{Decoder, Encoder};

/// See the module.
pub struct RawDecoder {
    schema: SchemaRef,
    record: Record,
    text: bool,
}

impl RawDecoder {
    /// A decoder into the only column of `schema`, which is STRING or BYTES.
    ///
    /// # Errors
    /// A configuration error where the schema is another.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let text = check(&schema)?;
        Ok(Self { record: Record::new(schema.fields())?, schema, text })
    }

    fn column(&mut self) -> &mut Column {
        &mut self.record.columns[0]
    }
}

impl Decoder for RawDecoder {
    fn decode(&mut self, payload: &[u8]) -> Result<(), String> {
        if self.text && std::str::from_utf8(payload).is_err() {
            return Err(format!("{}: invalid UTF-8", self.schema.field(0).name()));
        }
        self.column().append_bytes(payload);
        Ok(())
    }

    fn len(&self) -> usize {
        self.record.columns[0].len()
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(self.schema.clone(), self.record.finish()?)?)
    }
}

/// See the module.
pub struct RawEncoder;

impl RawEncoder {
    /// An encoder of the only column of `schema`. Errors as for [`RawDecoder::new`].
    pub fn new(schema: SchemaRef) -> Result<Self> {
        check(&schema)?;
        Ok(Self)
    }
}

impl Encoder for RawEncoder {
    /// A null is an empty payload.
    fn encode(&mut self, rows: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let bytes = cast(rows.column(0), &DataType::BinaryView)?;
        let bytes = bytes.as_any().downcast_ref::<BinaryViewArray>();
        let bytes = bytes.expect("a cast gives the type it was asked for");
        (0..bytes.len())
            .for_each(|row| each(if bytes.is_null(row) { b"" } else { bytes.value(row) }));
        Ok(())
    }

    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}

/// Whether the only column is text; an error where it is neither text nor bytes.
fn check(schema: &SchemaRef) -> Result<bool> {
    let wrong = || {
        Error::option("format", "format 'raw' takes exactly one column, of type STRING or BYTES")
    };
    let [field] = schema.fields().as_ref() else { return Err(wrong()) };
    match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(true),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Ok(false),
        _ => Err(wrong()),
    }
}
