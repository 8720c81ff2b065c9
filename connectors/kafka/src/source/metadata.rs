//! Columns of what the broker says about records.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryBuilder, Int32Array, Int64Array, MapBuilder, MapFieldNames,
    StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use tidemill_core::Result;

use super::layout::Metadata;
use super::queue::{Messages, TimestampType};

/// The partition that all messages come from.
pub(crate) struct Place {
    pub topic: String,
    pub partition: i32,
}

/// The column of `metadata` for the messages numbered `rows`.
pub(crate) fn column(
    metadata: &Metadata,
    place: &Place,
    messages: &Messages,
    rows: &[u32],
    data_type: &DataType,
) -> Result<ArrayRef> {
    let each = || rows.iter().map(|row| messages.get(*row as usize));
    let count = rows.len();
    let column: ArrayRef = match metadata {
        Metadata::Topic => {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&place.topic, count)))
        }
        Metadata::Partition => Arc::new(Int32Array::from_value(place.partition, count)),
        Metadata::Offset => Arc::new(Int64Array::from_iter_values(each().map(|m| m.offset()))),
        Metadata::Timestamp => {
            // What does not fit was not made a row.
            let micros =
                each().map(|message| message.timestamp().0.map(|ms| ms.saturating_mul(1000)));
            let zone = match data_type {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone_opt(zone))
        }
        Metadata::TimestampType => {
            let names = each().map(|message| match message.timestamp().1 {
                TimestampType::None => "NoTimestampType",
                TimestampType::Create => "CreateTime",
                TimestampType::LogAppend => "LogAppendTime",
            });
            Arc::new(StringArray::from_iter_values(names))
        }
        Metadata::LeaderEpoch => Arc::new(Int32Array::from_iter(each().map(|m| m.leader_epoch()))),
        Metadata::Headers => headers(messages, rows),
        Metadata::Header(name) => last_header(name, messages, rows),
        Metadata::Key => {
            let mut keys = BinaryBuilder::new();
            each().for_each(|message| keys.append_option(message.key()));
            Arc::new(keys.finish())
        }
    };
    match (metadata, data_type) {
        // Bytes that are no text are shown as well as they can be.
        (Metadata::Header(_) | Metadata::Key, DataType::Utf8 | DataType::Utf8View) => {
            Ok(cast(&lossy(&column), data_type)?)
        }
        _ if column.data_type() == data_type => Ok(column),
        _ => Ok(cast(&column, data_type)?),
    }
}

/// All headers of each message; of those with the same name the last counts.
fn headers(messages: &Messages, rows: &[u32]) -> ArrayRef {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    let mut found: Vec<(String, Option<Vec<u8>>)> = Vec::new();
    for row in rows {
        found.clear();
        messages.headers(*row as usize, |name, value| {
            found.retain(|(other, _)| other != name);
            found.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        });
        for (name, value) in &found {
            map.keys().append_value(name);
            map.values().append_option(value.as_deref());
        }
        map.append(true).expect("as many values as keys were appended");
    }
    Arc::new(map.finish())
}

/// The last header called `name` of each message.
fn last_header(name: &str, messages: &Messages, rows: &[u32]) -> ArrayRef {
    let mut values = BinaryBuilder::new();
    for row in rows {
        let mut last = None;
        messages.headers(*row as usize, |other, value| {
            if other == name {
                last = value.map(<[u8]>::to_vec);
            }
        });
        values.append_option(last.as_deref());
    }
    Arc::new(values.finish())
}

fn lossy(bytes: &ArrayRef) -> ArrayRef {
    let texts = bytes.as_binary::<i32>().iter();
    let texts = texts.map(|bytes| bytes.map(String::from_utf8_lossy));
    let mut column = StringBuilder::new();
    texts.for_each(|text| column.append_option(text));
    Arc::new(column.finish())
}
