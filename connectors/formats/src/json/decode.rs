//! One JSON object into columns.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::Result;
use tidemill_core::need::Need;

use super::JsonFormat;
use super::map::read_map;
use super::scan::{Scanner, check_depth};
use super::shape::Usual;
use crate::column::{Bad, Column, Fit, Record, Temporal, Values, clipped};
use crate::{Decoder, number, temporal};

/// Decodes JSON objects. See the [module](super).
pub struct JsonDecoder {
    format: JsonFormat,
    schema: SchemaRef,
    record: Record,
    rows: usize,
    usual: Usual,
}

impl JsonDecoder {
    pub(super) fn new(format: JsonFormat, schema: SchemaRef) -> Result<Self> {
        let (record, usual) = (Record::new(schema.fields())?, Usual::default());
        Ok(Self { format, record, schema, rows: 0, usual })
    }

    /// The same decoder, which has no rows yet, for a job that looks at no more than this of the columns: the rest
    /// is taken as fields that no column is called after, and is null. Where every field must be there, all are
    /// read.
    ///
    /// # Errors
    /// A defect: the decoder could be made.
    pub fn reading(mut self, needs: &[Need]) -> Result<Self> {
        if !self.format.needs_all_fields {
            self.record = Record::reading(self.schema.fields(), needs)?;
        }
        Ok(self)
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, payload: &[u8]) -> Result<(), String> {
        if self.usual.read(payload, &mut self.record, self.format) {
            self.rows += 1;
            return Ok(());
        }
        self.record.truncate(self.rows);
        match read_record(payload, &mut self.record, self.rows, self.format) {
            Ok(()) => {
                self.rows += 1;
                self.usual.learn(payload, &self.record, self.format);
                Ok(())
            }
            Err(bad) => {
                self.record.truncate(self.rows);
                Err(bad.reason("$"))
            }
        }
    }

    fn decode_lines(&mut self, text: &[u8], max: usize, ends: &mut Vec<u32>) {
        let mut at = 0;
        for _ in 0..max {
            let Some(next) = self.usual.read_line(text, at, &mut self.record, self.format) else {
                self.record.truncate(self.rows);
                break;
            };
            self.rows += 1;
            at = next;
            ends.push(next as u32);
        }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        Ok(RecordBatch::try_new(self.schema.clone(), self.record.finish(rows)?)?)
    }
}

fn read_record(payload: &[u8], record: &mut Record, row: usize, format: JsonFormat) -> Fit {
    if let Err(error) = std::str::from_utf8(payload) {
        return Err(Bad::new(format!("invalid UTF-8 at byte {}", error.valid_up_to())));
    }
    let mut scanner = Scanner::new(payload, format);
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
    let (mut position, mut filled) = (0, 0);
    while more {
        // Usually a field stands where it stood in the record before.
        let guess = record.order.get(position).copied();
        let found = match guess {
            Some(guess) if scanner.take_key(&record.keys[guess]) => Some(guess),
            _ => find(scanner, record, position, depth)?,
        };
        if let Some(found) = found {
            let column = &mut record.columns[found];
            if column.len() > row {
                // Of duplicate fields the last counts.
                column.truncate(row);
            } else {
                filled += 1;
            }
            read_value(scanner, column, depth + 1)
                .map_err(|bad| bad.inside(format_args!(".{}", record.names[found])))?;
        }
        position += 1;
        more = scanner.more(b'}')?;
    }
    if filled == record.columns.len() { Ok(()) } else { fill_missing(scanner, record, row) }
}

/// Nulls for columns that the object did not have.
fn fill_missing(scanner: &Scanner, record: &mut Record, row: usize) -> Fit {
    for (column, name) in record.columns.iter_mut().zip(&record.names) {
        if column.len() == row {
            if scanner.format.needs_all_fields {
                return Err(Bad::new("the field is missing").inside(format_args!(".{name}")));
            }
            column.append_null().map_err(|bad| bad.inside(format_args!(".{name}")))?;
        }
    }
    Ok(())
}

/// Takes the key at `position` of an object, and finds its column. Where there is none the value
/// is taken, too.
fn find(
    scanner: &mut Scanner,
    record: &mut Record,
    position: usize,
    depth: usize,
) -> Fit<Option<usize>> {
    let key = scanner.key()?;
    let Some(found) = record.names.iter().position(|name| name.as_bytes() == &*key) else {
        let skipped = scanner.any(depth + 1);
        skipped.map_err(|bad| bad.inside(format_args!(".{}", String::from_utf8_lossy(&key))))?;
        return Ok(None);
    };
    if let Some(guess) = record.order.get_mut(position) {
        *guess = found;
    }
    Ok(Some(found))
}

pub(super) fn read_value(scanner: &mut Scanner, column: &mut Column, depth: usize) -> Fit {
    let first = scanner.peek();
    if first == b'n' {
        scanner.literal("null")?;
        return column.append_null();
    }
    match &mut column.values {
        Values::Text(_) => return read_text(scanner, column, first, depth),
        Values::Integer { values, min, max } => match scanner.short_integer() {
            Some(value) if (*min..=*max).contains(&value) => values.push(value),
            Some(value) => return Err(column.mismatch(&value.to_string())),
            None => return read_integer(scanner, column, first, depth),
        },
        Values::Float { values, single: false } => match scanner.short_float() {
            Some(value) => values.push(value),
            None => return read_number(scanner, column, first, depth),
        },
        Values::Float { .. } | Values::Decimal { .. } => {
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

/// An integer that is not short, or none at all.
fn read_integer(scanner: &mut Scanner, column: &mut Column, first: u8, depth: usize) -> Fit {
    let (Values::Integer { values, min, max }, b'-' | b'0'..=b'9') = (&mut column.values, first)
    else {
        return Err(wrong_type(scanner, column, depth));
    };
    let (text, whole) = scanner.number()?;
    match number::parse_integer(text) {
        Some(value) if whole && (*min..=*max).contains(&value) => values.push(value),
        _ => return Err(column.mismatch(&clipped(text))),
    }
    column.appended();
    Ok(())
}

fn read_number(scanner: &mut Scanner, column: &mut Column, first: u8, depth: usize) -> Fit {
    match (&column.values, first) {
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

/// A number of seconds, milliseconds and so on since the epoch.
fn read_epoch(scanner: &mut Scanner, column: &mut Column) -> Fit {
    let epoch = temporal::per_second(scanner.format.epoch);
    let Values::Temporal { kind: Temporal::Timestamp(unit), values } = &mut column.values else {
        return Err(wrong_type(scanner, column, 0));
    };
    let unit = temporal::per_second(*unit);
    let before = scanner.clone();
    let short = scanner.short_integer().and_then(|value| {
        if unit >= epoch {
            value.checked_mul(unit / epoch)
        } else {
            Some(value.div_euclid(epoch / unit))
        }
    });
    let value = match short {
        Some(value) => value,
        None => {
            *scanner = before;
            let (text, _) = scanner.number()?;
            match epoch_of(text, epoch, unit) {
                Some(value) => value,
                None => return Err(column.mismatch(&clipped(text))),
            }
        }
    };
    values.push(value);
    column.appended();
    Ok(())
}

/// A number that counts `epoch` to the second, as one that counts `unit`; finer digits are cut
/// off.
fn epoch_of(text: &[u8], epoch: i64, unit: i64) -> Option<i64> {
    const NANOS_DIGITS: i8 = 9;
    let digits = NANOS_DIGITS - epoch.ilog10() as i8;
    let nanos = number::parse_decimal(text, 38, digits)?;
    i64::try_from(nanos.div_euclid(i128::from(1_000_000_000 / unit))).ok()
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
