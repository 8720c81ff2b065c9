//! From events in memory to rows.
//!
//! Invariant: an event is one row, one dead letter or skipped.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BinaryViewBuilder, Int32Array, MapBuilder, MapFieldNames, RecordBatch,
    RecordBatchOptions, StringBuilder, StringViewArray, StringViewBuilder,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use tidemill_core::Result;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::{Records, SourceRecord};
use tidemill_core::source::{ReadBatch, SplitId};
use tidemill_formats::Decoder;

use super::layout::{Layout, Metadata, Part};
use crate::Event;
use crate::memory::Split;

/// An event and its offset.
pub(super) type Taken = (u64, Arc<Event>);

/// Turns events of one partition into batches.
pub(super) struct EventDecoder {
    split: Split,
    id: SplitId,
    layout: Arc<Layout>,
    decoder: Option<Box<dyn Decoder>>,
}

/// The events behind a batch's rows.
#[derive(Debug)]
struct EventRecords(Vec<Taken>);

impl Records for EventRecords {
    fn record(&self, index: usize) -> SourceRecord {
        record(&self.0[index])
    }
}

fn record((offset, event): &Taken) -> SourceRecord {
    SourceRecord {
        position: format!("offset {offset}"),
        payload: event.payload.clone(),
        key: event.key.clone(),
        headers: event.headers.clone(),
        timestamp: event.timestamp,
    }
}

impl EventDecoder {
    /// # Errors
    /// As for [`tidemill_formats::Format::decoder`].
    pub fn new(split: Split, id: SplitId, layout: Arc<Layout>) -> Result<Self> {
        let decoder = match layout.value.fields().is_empty() {
            true => None,
            false => Some(layout.format.decoder(layout.value.clone())?),
        };
        Ok(Self { split, id, layout, decoder })
    }

    /// The rows in `events`.
    ///
    /// # Errors
    /// An event could not be judged through no fault of its own; of kind transient where the same
    /// events may be tried again.
    pub fn decode(&mut self, events: &[Taken]) -> Result<ReadBatch> {
        let (mut rows, mut dead_letters, mut skipped) = (Vec::new(), Vec::new(), 0);
        for taken in events {
            if taken.1.payload.is_none() && !self.layout.takes_null() {
                skipped += 1;
                continue;
            }
            match self.decode_one(&taken.1) {
                Ok(()) => rows.push(taken.clone()),
                Err(reason) => {
                    let letter = DeadLetter::new(self.id.clone(), record(taken), reason);
                    dead_letters.push(letter);
                }
            }
        }
        let value = self.decoder.as_mut().map(|decoder| decoder.finish()).transpose()?;
        let columns = self.layout.parts.iter().zip(self.layout.schema.fields());
        let columns = columns.map(|(part, field)| match (part, &value) {
            (Part::Value(n), Some(value)) => Ok(value.column(*n).clone()),
            (Part::Value(_), None) => Err(tidemill_core::Error::internal("a column of no payload")),
            (Part::Metadata(metadata), _) => {
                column(metadata, &self.split, &rows, field.data_type())
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = self.layout.schema.clone();
        Ok(ReadBatch {
            rows: RecordBatch::try_new_with_options(schema, columns, &options)?,
            dead_letters,
            skipped,
            records: Some(Arc::new(EventRecords(rows))),
        })
    }

    fn decode_one(&mut self, event: &Event) -> Result<(), String> {
        match (&mut self.decoder, &event.payload) {
            (None, _) => Ok(()),
            (Some(decoder), Some(payload)) => decoder.decode(payload),
            (Some(decoder), None) => decoder.decode_null(),
        }
    }
}

/// The column of `metadata` for these events.
fn column(
    metadata: &Metadata,
    split: &Split,
    rows: &[Taken],
    data_type: &DataType,
) -> Result<ArrayRef> {
    let column: ArrayRef = match metadata {
        Metadata::Topic => {
            let topics = std::iter::repeat_n(&*split.0, rows.len());
            Arc::new(StringViewArray::from_iter_values(topics))
        }
        Metadata::Partition => Arc::new(Int32Array::from_value(split.1 as i32, rows.len())),
        Metadata::Offset => {
            let offsets = rows.iter().map(|(offset, _)| offset.to_string());
            Arc::new(StringViewArray::from_iter_values(offsets))
        }
        Metadata::Timestamp => {
            let times = rows.iter().map(|(_, event)| event.timestamp);
            let zone = match data_type {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone_opt(zone))
        }
        Metadata::Key => bytes(rows, data_type, |event| event.key.as_deref()),
        Metadata::Header(name) => bytes(rows, data_type, |event| {
            let mut named = event.headers.iter().rev().filter(|header| header.name == *name);
            named.next()?.value.as_deref()
        }),
        Metadata::Headers => headers(rows),
    };
    Ok(if column.data_type() == data_type { column } else { cast(&column, data_type)? })
}

/// Bytes, or text: bytes that are no text are shown as well as they can be.
fn bytes<'a>(
    rows: &'a [Taken],
    data_type: &DataType,
    of: impl Fn(&'a Event) -> Option<&'a [u8]>,
) -> ArrayRef {
    let values = rows.iter().map(|(_, event)| of(event));
    if *data_type == DataType::BinaryView {
        let mut column = BinaryViewBuilder::new();
        values.for_each(|value| column.append_option(value));
        return Arc::new(column.finish());
    }
    let mut column = StringViewBuilder::new();
    values.for_each(|value| column.append_option(value.map(String::from_utf8_lossy)));
    Arc::new(column.finish())
}

fn headers(rows: &[Taken]) -> ArrayRef {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for (_, event) in rows {
        for (index, header) in event.headers.iter().enumerate() {
            let is_last = event.headers[index + 1..].iter().all(|later| later.name != header.name);
            if is_last {
                map.keys().append_value(&header.name);
                map.values().append_option(header.value.as_deref());
            }
        }
        map.append(true).expect("as many values as keys were appended");
    }
    Arc::new(map.finish())
}
