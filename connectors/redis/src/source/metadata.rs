//! Columns of what Redis says about entries.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryBuilder, Int32Array, MapBuilder, MapFieldNames, StringArray,
    StringBuilder, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use tidemill_core::Result;

use super::layout::Metadata;
use super::records::Taken;
use crate::streams::Stream;

/// The column of `what` for the entries numbered `rows`, all of `stream`, whose keys stand in `key_field`.
pub(crate) fn column(
    what: &Metadata,
    (stream, key_field): (&Stream, &str),
    taken: &Taken,
    rows: &[u32],
    data_type: &DataType,
) -> Result<ArrayRef> {
    let each = || rows.iter().map(|row| *row as usize);
    let count = rows.len();
    let column: ArrayRef = match what {
        Metadata::Id => {
            let ids = each().map(|index| taken.id(index).to_string());
            Arc::new(StringArray::from_iter_values(ids))
        }
        Metadata::Stream => {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&stream.key, count)))
        }
        Metadata::Partition => Arc::new(Int32Array::from_value(stream.partition, count)),
        Metadata::Timestamp => {
            let zone = match data_type {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            // What is out of range was not made a row.
            let micros = each().map(|index| taken.id(index).time());
            Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone_opt(zone))
        }
        Metadata::Key => bytes(each().map(|index| taken.field(index, key_field))),
        Metadata::Header(name) => {
            let last =
                |index| taken.headers(index).filter(|(other, _)| *other == name.as_bytes()).last();
            bytes(each().map(|index| last(index).map(|(_, value)| value)))
        }
        Metadata::Headers => headers(taken, rows),
    };
    match (what, data_type) {
        // Bytes that are no text are shown as well as they can be.
        (
            Metadata::Header(_) | Metadata::Key,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
        ) => Ok(cast(&lossy(&column), data_type)?),
        _ if column.data_type() == data_type => Ok(column),
        _ => Ok(cast(&column, data_type)?),
    }
}

fn bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    values.for_each(|value| builder.append_option(value));
    Arc::new(builder.finish())
}

/// All headers of each entry; of those with the same name the last counts.
fn headers(taken: &Taken, rows: &[u32]) -> ArrayRef {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    let mut found: Vec<(&[u8], &[u8])> = Vec::new();
    for row in rows {
        found.clear();
        for (name, value) in taken.headers(*row as usize) {
            found.retain(|(other, _)| *other != name);
            found.push((name, value));
        }
        for (name, value) in &found {
            map.keys().append_value(String::from_utf8_lossy(name));
            map.values().append_value(value);
        }
        map.append(true).expect("as many values as keys were appended");
    }
    Arc::new(map.finish())
}

fn lossy(bytes: &ArrayRef) -> ArrayRef {
    let texts = bytes.as_binary::<i32>().iter();
    let texts = texts.map(|bytes| bytes.map(String::from_utf8_lossy));
    let mut column = StringBuilder::new();
    texts.for_each(|text| column.append_option(text));
    Arc::new(column.finish())
}
