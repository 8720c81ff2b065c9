//! From entries to rows: the record through its format, metadata beside it.
//!
//! Invariant: an entry is one row or one dead letter.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::source::{ReadBatch, SplitId};
use tidemill_core::{Error, Result};
use tidemill_formats::Decoder;
use tidemill_formats::fields::FieldsDecoder;

use super::layout::{Content, Layout, Metadata, Part};
use super::metadata;
use super::records::{StreamRecords, Taken};
use crate::streams::Stream;

/// Turns entries of one stream into batches.
pub(crate) struct BatchDecoder {
    split: SplitId,
    stream: Stream,
    layout: Arc<Layout>,
    content: Decoding,
    reads_time: bool,
}

enum Decoding {
    Payload(Box<dyn Decoder>),
    Fields(FieldsDecoder),
    /// No column comes from the record.
    Nothing,
}

impl BatchDecoder {
    /// For `stream`.
    ///
    /// # Errors
    /// As for [`tidemill_formats::Format::decoder`].
    pub fn new(stream: Stream, layout: Arc<Layout>) -> Result<Self> {
        let columns = layout.columns.clone();
        let content = match &layout.content {
            _ if columns.fields().is_empty() => Decoding::Nothing,
            Content::Payload(format) => Decoding::Payload(format.decoder(columns)?),
            Content::Fields => Decoding::Fields(FieldsDecoder::new(columns)?),
        };
        let reads_time = layout.parts.contains(&Part::Metadata(Metadata::Timestamp));
        Ok(Self { split: SplitId::new(&stream.key), stream, layout, content, reads_time })
    }

    /// The rows in `taken`.
    ///
    /// # Errors
    /// Where an entry could not be judged through no fault of its own; of kind transient where the same
    /// entries may be tried again.
    pub fn decode(&mut self, taken: &Taken) -> Result<ReadBatch> {
        let mut rows = Vec::with_capacity(taken.len());
        let mut dead_letters = Vec::new();
        for index in 0..taken.len() {
            match self.decode_one(taken, index) {
                Ok(()) => rows.push(index as u32),
                Err(reason) => {
                    let record = taken.record(index, &self.layout);
                    dead_letters.push(DeadLetter::new(self.split.clone(), record, reason));
                }
            }
        }
        let columns = match &mut self.content {
            Decoding::Payload(decoder) => decoder.finish()?.columns().to_vec(),
            Decoding::Fields(decoder) => decoder.finish()?.columns().to_vec(),
            Decoding::Nothing => Vec::new(),
        };
        let schema = self.layout.schema.clone();
        let columns =
            self.layout.parts.iter().zip(schema.fields()).map(|(part, field)| match part {
                Part::Value(n) => Ok(columns[*n].clone()),
                Part::Metadata(what) => {
                    let names = (&self.stream, self.layout.key_field.as_str());
                    metadata::column(what, names, taken, &rows, field.data_type())
                }
            });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options);
        let records = StreamRecords::new(taken.clone(), rows, self.layout.clone());
        Ok(ReadBatch {
            rows: batch.map_err(|error| Error::from(error).at(&self.split))?,
            dead_letters,
            skipped: 0,
            records: Some(Arc::new(records)),
        })
    }

    fn decode_one(&mut self, taken: &Taken, index: usize) -> Result<(), String> {
        if self.reads_time && taken.id(index).time().is_none() {
            return Err("the time in the entry's id is out of range".to_owned());
        }
        match &mut self.content {
            Decoding::Payload(decoder) => match taken.field(index, &self.layout.value_field) {
                Some(payload) => decoder.decode(payload),
                None => decoder.decode_null().map_err(|_| {
                    let field = &self.layout.value_field;
                    format!("the entry has no field '{field}' (option 'value.field')")
                }),
            },
            Decoding::Fields(decoder) => decoder.decode(taken.fields(index)),
            Decoding::Nothing => Ok(()),
        }
    }
}
