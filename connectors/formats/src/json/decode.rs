//! One JSON object into columns.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::Result;

use super::scan::{Scanner, check_depth};
use crate::column::{Bad, Column, Fit, Record, Temporal, Values, clipped};
use crate::{Decoder, number, temporal};

/// Decodes JSON objects. See the [module](super).
pub struct JsonDecoder {
    schema: SchemaRef,
    record: Record,
    rows: usize,
}

impl JsonDecoder {
    /// A decoder into `schema`.
    ///
    /// # Errors
    /// A configuration error that names a column whose type JSON cannot hold.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        Ok(Self { record: Record::new(schema.fields())?, schema, rows: 0 })
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, payload: &[u8]) -> Result<(), String> {
        match read_record(payload, &mut self.record, self.rows) {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(bad) => {
                self.record.truncate(self.rows);
                Err(bad.reason("$"))
            }
        }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.rows = 0;
        Ok(RecordBatch::try_new(self.schema.clone(), self.record.finish()?)?)
    }
}

fn read_record(payload: &[u8], record: &mut Record, row: usize) -> Fit {
    if let Err(error) = std::str::from_utf8(payload) {
        return Err(Bad::new(format!("invalid UTF-8 at byte {}", error.valid_up_to())));
    }
    let mut scanner = Scanner::new(payload);
    if scanner.peek() != b'{' {
        return Err(scanner.unexpected("an object"));
    }
    read_object(&mut scanner, record, row, 0)?;
    scanner.end()
}

/// An object into row `row` of `record`; its opening brace is where the scanner is.
fn read_object(scanner: &mut Scanner, record: &mut Record, row: usize, depth: usize) -> Fit {
    check_depth(depth)?;
    let mut more = !scanner.open(b'}');
    let mut position = 0;
    while more {
        let key = scanner.key()?;
        match find(record, &key, position) {
            Some(found) => {
                let column = &mut record.columns[found];
                // Of duplicate fields the last counts.
                column.truncate(row);
                read_value(scanner, column, depth + 1)
                    .map_err(|bad| bad.inside(format_args!(".{}", record.names[found])))?;
            }
            None => {
                scanner.any(depth + 1).map_err(|bad| {
                    bad.inside(format_args!(".{}", String::from_utf8_lossy(&key)))
                })?;
            }
        }
        position += 1;
        more = scanner.more(b'}')?;
    }
    for (column, name) in record.columns.iter_mut().zip(&record.names) {
        if column.len() == row {
            column.append_null().map_err(|bad| bad.inside(format_args!(".{name}")))?;
        }
    }
    Ok(())
}

/// The column called `key`, tried first where the record before had it.
#[inline]
fn find(record: &mut Record, key: &[u8], position: usize) -> Option<usize> {
    if let Some(guess) = record.order.get(position)
        && record.names[*guess].as_bytes() == key
    {
        return Some(*guess);
    }
    let found = record.names.iter().position(|name| name.as_bytes() == key)?;
    if let Some(guess) = record.order.get_mut(position) {
        *guess = found;
    }
    Some(found)
}

fn read_value(scanner: &mut Scanner, column: &mut Column, depth: usize) -> Fit {
    let first = scanner.peek();
    if first == b'n' {
        scanner.literal("null")?;
        return column.append_null();
    }
    match &mut column.values {
        Values::Text(_) => return read_text(scanner, column, first, depth),
        Values::Integer { .. } | Values::Float { .. } | Values::Decimal { .. } => {
            return read_number(scanner, column, first, depth);
        }
        Values::Boolean(values) if first == b't' => {
            scanner.literal("true")?;
            values.push(true);
        }
        Values::Boolean(values) if first == b'f' => {
            scanner.literal("false")?;
            values.push(false);
        }
        Values::Temporal { .. } | Values::Binary(_) if first == b'"' => {
            let text = scanner.string()?;
            return column.append_text(&text);
        }
        Values::Temporal { kind: Temporal::Timestamp(_), .. }
            if matches!(first, b'-' | b'0'..=b'9') =>
        {
            return read_epoch(scanner, column);
        }
        Values::Struct(record) if first == b'{' => {
            let row = column_rows(record);
            read_object(scanner, record, row, depth)?;
        }
        Values::List { ends, item } if first == b'[' => {
            check_depth(depth)?;
            let start = item.len();
            let mut more = !scanner.open(b']');
            while more {
                let n = item.len() - start;
                read_value(scanner, item, depth + 1)
                    .map_err(|bad| bad.inside(format_args!("[{n}]")))?;
                more = scanner.more(b']')?;
            }
            ends.push(offset(item.len())?);
        }
        Values::Map { ends, key, value } if first == b'{' => {
            check_depth(depth)?;
            read_map(scanner, key, value, depth)?;
            ends.push(offset(key.len())?);
        }
        _ => return Err(wrong_type(scanner, column, depth)),
    }
    column.appended();
    Ok(())
}

/// How many rows a struct's columns have: they are as long as each other between values.
fn column_rows(record: &Record) -> usize {
    record.columns.first().map_or(0, Column::len)
}

fn read_text(scanner: &mut Scanner, column: &mut Column, first: u8, depth: usize) -> Fit {
    if first == b'"' {
        let text = scanner.string()?;
        column.append_bytes(&text);
    } else {
        let text = scanner.any(depth)?;
        column.append_bytes(text);
    }
    Ok(())
}

fn read_number(scanner: &mut Scanner, column: &mut Column, first: u8, depth: usize) -> Fit {
    match (&mut column.values, first) {
        (Values::Integer { values, min, max }, b'-' | b'0'..=b'9') => {
            let (text, whole) = scanner.number()?;
            match number::parse_integer(text) {
                Some(value) if whole && (*min..=*max).contains(&value) => values.push(value),
                _ => return Err(column.mismatch(&clipped(text))),
            }
            column.appended();
            Ok(())
        }
        (_, b'-' | b'0'..=b'9') => {
            let (text, _) = scanner.number()?;
            column.append_text(text)
        }
        // Decimals are quoted to keep their digits, floats where JSON has no name for them.
        (Values::Decimal { .. }, b'"') => {
            let text = scanner.string()?;
            column.append_text(&text)
        }
        (Values::Float { .. }, b'"') => {
            let text = scanner.string()?;
            if matches!(&*text, b"NaN" | b"Infinity" | b"-Infinity") {
                return column.append_text(&text);
            }
            Err(column.mismatch(&format!("\"{}\"", clipped(&text))))
        }
        _ => Err(wrong_type(scanner, column, depth)),
    }
}

/// A number of milliseconds since the epoch.
fn read_epoch(scanner: &mut Scanner, column: &mut Column) -> Fit {
    let (text, whole) = scanner.number()?;
    let value = match &column.values {
        Values::Temporal { kind: Temporal::Timestamp(unit), .. } if whole => {
            number::parse_integer(text).and_then(|millis| {
                let value = i128::from(millis) * i128::from(temporal::per_second(*unit));
                i64::try_from(value.div_euclid(1_000)).ok()
            })
        }
        _ => None,
    };
    let Some(value) = value else { return Err(column.mismatch(&clipped(text))) };
    if let Values::Temporal { values, .. } = &mut column.values {
        values.push(value);
    }
    column.appended();
    Ok(())
}

/// Entries of a map; of duplicate keys the last counts.
fn read_map(scanner: &mut Scanner, keys: &mut Column, values: &mut Column, depth: usize) -> Fit {
    let mut entries: Vec<(Cow<[u8]>, &[u8])> = Vec::new();
    let mut known: HashMap<Cow<[u8]>, usize> = HashMap::new();
    let mut more = !scanner.open(b'}');
    while more {
        let key = scanner.key()?;
        let value = scanner.any(depth + 1)?;
        match known.entry(key.clone()) {
            Entry::Occupied(entry) => entries[*entry.get()].1 = value,
            Entry::Vacant(entry) => {
                entry.insert(entries.len());
                entries.push((key, value));
            }
        }
        more = scanner.more(b'}')?;
    }
    for (key, value) in entries {
        keys.append_bytes(&key);
        read_value(&mut Scanner::new(value), values, depth + 1)
            .map_err(|bad| bad.inside(format_args!(".{}", String::from_utf8_lossy(&key))))?;
    }
    Ok(())
}

fn offset(len: usize) -> Fit<i32> {
    i32::try_from(len).map_err(|_| Bad::new("more elements than one batch can hold"))
}

/// The reason why the next value is not one of `column`: it is no JSON, or of another type.
#[cold]
fn wrong_type(scanner: &mut Scanner, column: &Column, depth: usize) -> Box<Bad> {
    match scanner.any(depth) {
        Ok(text) => column.mismatch(&clipped(text)),
        Err(bad) => bad,
    }
}
