//! Columns under construction that can take back their last rows.
//!
//! Arrow's builders only grow. Here a decoder appends the fields of a record as it meets them, and
//! cuts every column back to where it was when the record turns out to be bad.

mod bytes;
mod key;
mod unread;

use std::fmt::Display;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, MapArray,
    NullBufferBuilder, StructArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use tidemill_core::need::Need;
use tidemill_core::{Error, Result};

use self::bytes::Views;
pub(crate) use self::key::Key;
use self::unread::Unread;
use crate::{base64, number, temporal};

/// Why a value does not fit its column, and the path to it from the column inwards.
#[derive(Debug)]
pub(crate) struct Bad {
    path: String,
    what: String,
}

impl Bad {
    pub(crate) fn new(what: impl Into<String>) -> Box<Self> {
        Box::new(Self { path: String::new(), what: what.into() })
    }

    /// The same, found inside `step` (`.field`, `[3]`).
    pub(crate) fn inside(mut self: Box<Self>, step: impl Display) -> Box<Self> {
        self.path.insert_str(0, &step.to_string());
        self
    }

    /// The reason in words, its path beginning with `root`.
    pub(crate) fn reason(self, root: &str) -> String {
        let path = format!("{root}{}", self.path);
        let path = path.strip_prefix('.').unwrap_or(&path);
        if path.is_empty() { self.what } else { format!("{path}: {}", self.what) }
    }
}

/// `Ok`, or why not. Boxed, so that the good case travels in a register.
pub(crate) type Fit<T = ()> = Result<T, Box<Bad>>;

/// A column under construction.
pub(crate) struct Column {
    field: FieldRef,
    pub(crate) values: Values,
    nulls: NullBufferBuilder,
}

/// The values of a column, by how they are read.
pub(crate) enum Values {
    Boolean(Vec<bool>),
    /// Integers of any width, kept as i64 until the end.
    Integer {
        values: Vec<i64>,
        min: i64,
        max: i64,
    },
    /// Dates, times and timestamps in the column's own unit.
    Temporal {
        values: Vec<i64>,
        kind: Temporal,
    },
    Float {
        values: Vec<f64>,
        single: bool,
    },
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Text(Views),
    /// Bytes, which stand as base64 in text.
    Binary(Views),
    Struct(Box<Record>),
    List {
        ends: Vec<i32>,
        item: Box<Column>,
    },
    Map {
        ends: Vec<i32>,
        key: Box<Column>,
        value: Box<Column>,
    },
}

/// Which kind of time a column holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Temporal {
    Date,
    Time(TimeUnit),
    Timestamp(TimeUnit),
}

/// Columns with names: a row, or a struct within one.
pub(crate) struct Record {
    pub(crate) names: Vec<String>,
    /// Each name as JSON usually has it in front of a value.
    pub(crate) keys: Vec<Key>,
    pub(crate) columns: Vec<Column>,
    /// For the n-th field of the payload before: which column it was.
    pub(crate) order: Vec<usize>,
    /// Columns that nobody looks at.
    unread: Vec<Unread>,
}

impl Record {
    pub(crate) fn new(fields: &Fields) -> Result<Self> {
        let columns = fields.iter().map(Column::new).collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = fields.iter().map(|field| field.name().clone()).collect();
        let keys = names.iter().map(|name| Key::new(name)).collect();
        Ok(Self { names, keys, order: (0..columns.len()).collect(), columns, unread: Vec::new() })
    }

    /// As [`Record::new`], without what nobody looks at and may be null.
    pub(crate) fn reading(fields: &Fields, needs: &[Need]) -> Result<Self> {
        let mut record = Self::new(fields)?;
        let all = (record.columns.drain(..), record.names.drain(..), record.keys.drain(..));
        let (mut columns, mut names, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (((column, name), key), need)) in
            all.0.zip(all.1).zip(all.2).zip(needs).enumerate()
        {
            if need.is_nothing() && column.field.is_nullable() {
                record.unread.push(Unread::new(place, column.field.data_type()));
                continue;
            }
            columns.push(column.reading(need)?);
            names.push(name);
            keys.push(key);
        }
        record.order = (0..columns.len()).collect();
        Ok(Self { columns, names, keys, ..record })
    }

    /// Where in [`Self::columns`] the field at `place` of the schema is, if anybody looks at it.
    pub(crate) fn column_of(&self, place: usize) -> Option<usize> {
        let before = self.unread.partition_point(|unread| unread.place < place);
        let is_unread = self.unread.get(before).is_some_and(|unread| unread.place == place);
        (!is_unread).then(|| place - before)
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// The arrays of all columns, which have so many rows.
    pub(crate) fn finish(&mut self, rows: usize) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<_> =
            self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        for unread in &mut self.unread {
            columns.insert(unread.place, unread.nulls(rows));
        }
        Ok(columns)
    }
}

impl Column {
    /// An empty column for `field`.
    ///
    /// # Errors
    /// A configuration error for a type that no text format holds.
    pub(crate) fn new(field: &FieldRef) -> Result<Self> {
        let values = Values::new(field)?;
        Ok(Self { field: field.clone(), values, nulls: NullBufferBuilder::new(0) })
    }

    /// An empty column for `field`, whose values a format has made room for itself.
    pub(crate) fn of(field: &FieldRef, values: Values) -> Self {
        Self { field: field.clone(), values, nulls: NullBufferBuilder::new(0) }
    }

    /// The same column, still empty, of which no more than `need` is looked at.
    fn reading(mut self, need: &Need) -> Result<Self> {
        if let (Need::Fields(_), DataType::Struct(fields)) = (need, self.field.data_type()) {
            let needs: Vec<_> = fields.iter().map(|field| need.of_field(field.name())).collect();
            let record = Record::reading(fields, &needs)?;
            // What a row has by itself is seen by a field of it.
            if !record.columns.is_empty() {
                self.values = Values::Struct(Box::new(record));
            }
        }
        Ok(self)
    }

    pub(crate) fn field(&self) -> &FieldRef {
        &self.field
    }

    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Counts the value that was just appended to [`Self::values`].
    #[inline]
    pub(crate) fn appended(&mut self) {
        self.nulls.append_non_null();
    }

    pub(crate) fn append_null(&mut self) -> Fit {
        if !self.field.is_nullable() {
            return Err(Bad::new("null, or missing, in a NOT NULL column"));
        }
        self.append_filler();
        Ok(())
    }

    /// A null, also in a NOT NULL column below a struct that is null: who looks at such a column
    /// without its struct must not take anything for a value.
    fn append_filler(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Integer { values, .. } | Values::Temporal { values, .. } => values.push(0),
            Values::Float { values, .. } => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Text(views) | Values::Binary(views) => views.push(b""),
            Values::Struct(record) => record.columns.iter_mut().for_each(Self::append_filler),
            Values::List { ends, item } => ends.push(item.len() as i32),
            Values::Map { ends, key, .. } => ends.push(key.len() as i32),
        }
        self.nulls.append_null();
    }

    /// Appends the value that `text` stands for, as text formats write it.
    pub(crate) fn append_text(&mut self, text: &[u8]) -> Fit {
        let read = match &mut self.values {
            Values::Boolean(values) => parse_boolean(text).map(|value| values.push(value)),
            Values::Integer { values, min, max } => number::parse_integer(text)
                .filter(|value| (*min..=*max).contains(value))
                .map(|value| values.push(value)),
            Values::Temporal { values, kind } => kind.parse(text).map(|value| values.push(value)),
            Values::Float { values, single } => {
                let parsed =
                    if *single { number::parse_f32(text) } else { number::parse_f64(text) };
                parsed.map(|value| values.push(value))
            }
            Values::Decimal { values, precision, scale } => {
                number::parse_decimal(text, *precision, *scale).map(|value| values.push(value))
            }
            Values::Text(views) => {
                if std::str::from_utf8(text).is_err() {
                    return Err(Bad::new("invalid UTF-8"));
                }
                views.push(text);
                Some(())
            }
            Values::Binary(views) => {
                let mut bytes = Vec::new();
                base64::decode(text, &mut bytes).map(|()| views.push(&bytes))
            }
            Values::Struct(_) | Values::List { .. } | Values::Map { .. } => None,
        };
        match read {
            Some(()) => {
                self.appended();
                Ok(())
            }
            None => Err(self.mismatch(&format!("'{}'", clipped(text)))),
        }
    }

    /// Appends bytes to a column of text (which must be valid UTF-8) or bytes.
    #[inline]
    pub(crate) fn append_bytes(&mut self, bytes: &[u8]) {
        if let Values::Text(views) | Values::Binary(views) = &mut self.values {
            views.push(bytes);
            self.nulls.append_non_null();
        }
    }

    /// The reason where `what` stands instead of a value of this column.
    #[cold]
    pub(crate) fn mismatch(&self, what: &str) -> Box<Bad> {
        let wanted = type_name(self.field.data_type());
        Bad::new(format!("{what} is not a valid {wanted}"))
    }

    /// Cuts the column back to its first `rows` rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if self.len() <= rows && self.loose_values() <= rows {
            return;
        }
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Integer { values, .. } | Values::Temporal { values, .. } => {
                values.truncate(rows);
            }
            Values::Float { values, .. } => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Text(views) | Values::Binary(views) => views.truncate(rows),
            Values::Struct(record) => record.truncate(rows),
            Values::List { ends, item } => {
                ends.truncate(rows);
                item.truncate(last_end(ends));
            }
            Values::Map { ends, key, value } => {
                ends.truncate(rows);
                key.truncate(last_end(ends));
                value.truncate(last_end(ends));
            }
        }
        self.nulls.truncate(rows);
    }

    /// Nested columns may hold parts of a row that never became one.
    fn loose_values(&self) -> usize {
        match self.values {
            Values::Struct(_) | Values::List { .. } | Values::Map { .. } => usize::MAX,
            _ => 0,
        }
    }

    /// The array, leaving an empty column of the same capacity.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        let rows = self.nulls.len();
        let nulls = self.nulls.finish();
        let data_type = self.field.data_type();
        Ok(match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(taken(values).into(), nulls)),
            Values::Integer { values, .. } => {
                cast(&Int64Array::new(taken(values).into(), nulls), data_type)?
            }
            Values::Temporal { values, kind } => {
                let values = Int64Array::new(taken(values).into(), nulls);
                if kind.is_narrow() {
                    cast(&cast(&values, &DataType::Int32)?, data_type)?
                } else {
                    cast(&values, data_type)?
                }
            }
            Values::Float { values, .. } => {
                cast(&Float64Array::new(taken(values).into(), nulls), data_type)?
            }
            Values::Decimal { values, precision, scale } => Arc::new(
                Decimal128Array::new(taken(values).into(), nulls)
                    .with_precision_and_scale(*precision, *scale)?,
            ),
            Values::Text(views) | Values::Binary(views) => views.finish(nulls, data_type)?,
            Values::Struct(record) => {
                let DataType::Struct(fields) = data_type else { return Err(changed_type()) };
                let columns = record.finish(rows)?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)?)
            }
            Values::List { ends, item } => {
                let array =
                    ListArray::try_new(item.field.clone(), offsets(ends), item.finish()?, nulls)?;
                Arc::new(array)
            }
            Values::Map { ends, key, value } => {
                let DataType::Map(entries, sorted) = data_type else { return Err(changed_type()) };
                let fields = Fields::from(vec![key.field.clone(), value.field.clone()]);
                let columns = vec![key.finish()?, value.finish()?];
                let array = StructArray::try_new(fields, columns, None)?;
                Arc::new(MapArray::try_new(entries.clone(), offsets(ends), array, nulls, *sorted)?)
            }
        })
    }
}

impl Values {
    fn new(field: &Field) -> Result<Self> {
        let integer = |min, max| Self::Integer { values: Vec::new(), min, max };
        let temporal = |kind| Self::Temporal { values: Vec::new(), kind };
        Ok(match field.data_type() {
            DataType::Boolean => Self::Boolean(Vec::new()),
            DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => integer(i64::MIN, i64::MAX),
            DataType::UInt8 => integer(0, u8::MAX.into()),
            DataType::UInt16 => integer(0, u16::MAX.into()),
            DataType::UInt32 => integer(0, u32::MAX.into()),
            DataType::Float32 => Self::Float { values: Vec::new(), single: true },
            DataType::Float64 => Self::Float { values: Vec::new(), single: false },
            DataType::Decimal128(precision, scale) => {
                Self::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Date32 => temporal(Temporal::Date),
            DataType::Time32(unit) | DataType::Time64(unit) => temporal(Temporal::Time(*unit)),
            DataType::Timestamp(unit, _) => temporal(Temporal::Timestamp(*unit)),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(Views::default())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Self::Binary(Views::default())
            }
            DataType::Struct(fields) if !fields.is_empty() => {
                Self::Struct(Box::new(Record::new(fields)?))
            }
            DataType::List(item) => {
                Self::List { ends: Vec::new(), item: Box::new(Column::new(item)?) }
            }
            DataType::Map(entries, _) => map(entries)?,
            other => return Err(unsupported(field.name(), other)),
        })
    }
}

fn map(entries: &Field) -> Result<Values> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(unsupported(entries.name(), entries.data_type()));
    };
    let [key, value] = fields.as_ref() else {
        return Err(unsupported(entries.name(), entries.data_type()));
    };
    let (key, value) = (Box::new(Column::new(key)?), Box::new(Column::new(value)?));
    if !matches!(key.values, Values::Text(_)) {
        let message =
            format!("{}: the keys of a MAP must be STRING in text formats", entries.name());
        return Err(Error::configuration(message));
    }
    Ok(Values::Map { ends: Vec::new(), key, value })
}

impl Temporal {
    pub(crate) fn parse(self, text: &[u8]) -> Option<i64> {
        match self {
            Self::Date => temporal::parse_date(text).filter(|days| i32::try_from(*days).is_ok()),
            Self::Time(unit) => temporal::parse_time(text, unit),
            Self::Timestamp(unit) => temporal::parse_timestamp(text, unit),
        }
    }

    /// Whether Arrow keeps it in 32 bits.
    fn is_narrow(self) -> bool {
        matches!(self, Self::Date | Self::Time(TimeUnit::Second | TimeUnit::Millisecond))
    }
}

fn parse_boolean(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// The values so far, leaving as much room for the next ones.
fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(values.len());
    std::mem::replace(values, next)
}

fn last_end(ends: &[i32]) -> usize {
    ends.last().map_or(0, |end| *end as usize)
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let offsets: Vec<i32> = std::iter::once(0).chain(ends.drain(..)).collect();
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn changed_type() -> Error {
    Error::internal("a column's builder is not of the column's type")
}

fn unsupported(column: &str, data_type: &DataType) -> Error {
    let name = type_name(data_type);
    Error::configuration(format!("column '{column}': a text format cannot hold {name}"))
}

/// The start of a value, for an error message.
pub(crate) fn clipped(text: &[u8]) -> String {
    const CHARS_MAX: usize = 60;
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * CHARS_MAX)]).into_owned();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A type as SQL calls it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP_LTZ".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES (base64)".into(),
        DataType::Struct(_) => "ROW".into(),
        DataType::List(_) => "ARRAY".into(),
        DataType::Map(_, _) => "MAP".into(),
        other => other.to_string(),
    }
}
