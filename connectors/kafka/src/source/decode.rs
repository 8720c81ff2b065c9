//! From messages to rows: value and key through their formats, metadata beside them.
//!
//! Invariant: a message is one row, one dead letter or skipped. A message whose value is good and whose
//! key is bad leaves a decoded value that no row uses; then the others are picked out.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::source::{ReadBatch, SplitId};
use tidemill_core::{Error, Result};
use tidemill_formats::Decoder;

use super::layout::{Coded, Layout, Metadata, Part};
use super::metadata::{Place, column};
use super::queue::{Message, Messages};
use super::records::{KafkaRecords, record};

/// Turns messages of one partition into batches.
pub(crate) struct BatchDecoder {
    split: SplitId,
    place: Place,
    layout: Arc<Layout>,
    key: Option<CodedPart>,
    value: Option<CodedPart>,
    reads_time: bool,
}

/// One decoder, and which of its rows are wanted.
struct CodedPart {
    decoder: Box<dyn Decoder>,
    takes_null: bool,
    rows: Vec<u32>,
}

impl CodedPart {
    fn new(coded: &Coded) -> Result<Self> {
        let (decoder, takes_null) = (coded.decoder()?, coded.takes_null());
        Ok(Self { decoder, takes_null, rows: Vec::new() })
    }

    fn decode(&mut self, bytes: Option<&[u8]>) -> Result<(), String> {
        match bytes {
            Some(bytes) => self.decoder.decode(bytes),
            None => self.decoder.decode_null(),
        }
    }

    /// The row decoded last is wanted.
    fn keep(&mut self) {
        self.rows.push(self.decoder.len() as u32 - 1);
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let rows = std::mem::take(&mut self.rows);
        let decoded = self.decoder.finish()?;
        if rows.len() == decoded.num_rows() {
            return Ok(decoded.columns().to_vec());
        }
        let rows = UInt32Array::from(rows);
        let picked = decoded.columns().iter().map(|column| take(column, &rows, None));
        Ok(picked.collect::<Result<_, _>>()?)
    }
}

/// What becomes of a message.
enum Fate {
    Row,
    Skipped,
    Bad(String),
}

impl BatchDecoder {
    /// For `split`, which is partition `partition` of `topic`.
    ///
    /// # Errors
    /// As for [`Coded::decoder`].
    pub fn new(split: SplitId, topic: &str, partition: i32, layout: Arc<Layout>) -> Result<Self> {
        let reads_time = layout.parts.contains(&Part::Metadata(Metadata::Timestamp));
        Ok(Self {
            split,
            place: Place { topic: topic.to_owned(), partition },
            key: layout.key.as_ref().map(CodedPart::new).transpose()?,
            value: layout.value.as_ref().map(CodedPart::new).transpose()?,
            layout,
            reads_time,
        })
    }

    /// The rows in `messages`, all of which are records.
    ///
    /// # Errors
    /// Where a message could not be judged through no fault of its own; of kind transient where the
    /// same messages may be tried again.
    pub fn decode(&mut self, messages: &Messages) -> Result<Decoded> {
        let mut decoded = Decoded::default();
        for (index, message) in messages.iter().enumerate() {
            match self.decode_one(message) {
                Fate::Row => decoded.rows.push(index as u32),
                Fate::Skipped => decoded.skipped += 1,
                Fate::Bad(reason) => {
                    let record = record(messages, index);
                    decoded.letters.push(DeadLetter::new(self.split.clone(), record, reason));
                }
            }
        }
        // Both are emptied, whatever becomes of either.
        let value = self.value.as_mut().map_or_else(|| Ok(Vec::new()), CodedPart::finish);
        let key = self.key.as_mut().map_or_else(|| Ok(Vec::new()), CodedPart::finish);
        decoded.batch = Some(self.assemble(messages, &decoded.rows, &key?, &value?)?);
        Ok(decoded)
    }

    fn decode_one(&mut self, message: &Message) -> Fate {
        if message.payload().is_none() && self.value.as_ref().is_some_and(|v| !v.takes_null) {
            return Fate::Skipped;
        }
        if self.reads_time && message.timestamp().0.is_some_and(|t| t.checked_mul(1000).is_none()) {
            return Fate::Bad("the record's timestamp is out of range".to_owned());
        }
        if let Some(value) = &mut self.value
            && let Err(reason) = value.decode(message.payload())
        {
            return Fate::Bad(reason);
        }
        if let Some(key) = &mut self.key {
            if let Err(reason) = key.decode(message.key()) {
                return Fate::Bad(format!("key: {reason}"));
            }
            key.keep();
        }
        if let Some(value) = &mut self.value {
            value.keep();
        }
        Fate::Row
    }

    fn assemble(
        &self,
        messages: &Messages,
        rows: &[u32],
        key: &[ArrayRef],
        value: &[ArrayRef],
    ) -> Result<RecordBatch> {
        let columns = self.layout.parts.iter().zip(self.layout.schema.fields());
        let columns = columns.map(|(part, field)| match part {
            Part::Key(n) => Ok(key[*n].clone()),
            Part::Value(n) => Ok(value[*n].clone()),
            Part::Metadata(metadata) => {
                column(metadata, &self.place, messages, rows, field.data_type())
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)
            .map_err(|error| Error::from(error).at(&self.split))
    }
}

/// What messages have become.
#[derive(Default)]
pub(crate) struct Decoded {
    batch: Option<RecordBatch>,
    /// For each row its message.
    rows: Vec<u32>,
    letters: Vec<DeadLetter>,
    skipped: usize,
}

impl Decoded {
    /// With the messages themselves behind the rows.
    pub fn with(self, messages: Messages, schema: &arrow::datatypes::SchemaRef) -> ReadBatch {
        ReadBatch {
            rows: self.batch.unwrap_or_else(|| RecordBatch::new_empty(schema.clone())),
            dead_letters: self.letters,
            skipped: self.skipped,
            records: Some(Arc::new(KafkaRecords::new(messages, self.rows))),
        }
    }
}
