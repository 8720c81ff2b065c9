//! Cells of a batch as text, the same in every text format.

use std::io::Write;
use std::ops::Range;

use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use tidemill_core::{Error, Result};

use crate::column::type_name;
use crate::temporal::{self, TimestampStyle};
use crate::{base64, number};

/// The cells of a column, ready to be written row by row.
pub(crate) struct Cells<'a> {
    array: &'a dyn Array,
    pub(crate) kind: Kind<'a>,
}

type Write1<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;
type TextOf<'a> = Box<dyn Fn(usize) -> &'a [u8] + 'a>;

/// How the cells of a column are written.
pub(crate) enum Kind<'a> {
    /// Numbers and booleans.
    Bare(Write1<'a>),
    /// Floats; those that are not finite have names.
    Float { write: Write1<'a>, is_finite: Box<dyn Fn(usize) -> bool + 'a> },
    /// Text of letters that never need escaping: times, base64.
    Quoted(Write1<'a>),
    /// Any text.
    Text(TextOf<'a>),
    /// Named fields.
    Struct(Vec<(String, Cells<'a>)>),
    /// Elements of `item`, between offsets.
    List { offsets: &'a [i32], item: Box<Cells<'a>> },
    /// Entries between offsets, keys being text.
    Map { offsets: &'a [i32], keys: Box<Cells<'a>>, values: Box<Cells<'a>> },
}

/// The columns of a batch, dictionaries unpacked.
pub(crate) fn plain_columns(rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let plain = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values).map_err(Error::from),
        _ => Ok(column.clone()),
    };
    rows.columns().iter().map(plain).collect()
}

/// The elements of `row` between offsets.
pub(crate) fn range(offsets: &[i32], row: usize) -> Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

impl<'a> Cells<'a> {
    /// The cells of `array`.
    ///
    /// # Errors
    /// A configuration error for a type that no text format holds.
    pub(crate) fn new(array: &'a dyn Array, style: TimestampStyle) -> Result<Self> {
        Ok(Self { array, kind: Kind::new(array, style)? })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }
}

impl<'a> Kind<'a> {
    fn new(array: &'a dyn Array, style: TimestampStyle) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Null => Self::Bare(Box::new(|_, _| {})),
            DataType::Boolean => {
                let array = array.as_boolean();
                Self::Bare(Box::new(move |row, out| {
                    out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
                }))
            }
            DataType::Int8 => integers::<Int8Type>(array),
            DataType::Int16 => integers::<Int16Type>(array),
            DataType::Int32 => integers::<Int32Type>(array),
            DataType::Int64 => integers::<Int64Type>(array),
            DataType::UInt8 => integers::<UInt8Type>(array),
            DataType::UInt16 => integers::<UInt16Type>(array),
            DataType::UInt32 => integers::<UInt32Type>(array),
            DataType::UInt64 => integers::<UInt64Type>(array),
            DataType::Float32 => {
                let array = array.as_primitive::<Float32Type>();
                Self::Float {
                    write: Box::new(move |row, out| number::write_f32(array.value(row), out)),
                    is_finite: Box::new(move |row| array.value(row).is_finite()),
                }
            }
            DataType::Float64 => {
                let array = array.as_primitive::<Float64Type>();
                Self::Float {
                    write: Box::new(move |row, out| number::write_f64(array.value(row), out)),
                    is_finite: Box::new(move |row| array.value(row).is_finite()),
                }
            }
            DataType::Decimal128(_, scale) => {
                let (array, scale) = (array.as_primitive::<Decimal128Type>(), *scale);
                Self::Bare(Box::new(move |row, out| {
                    number::write_decimal(array.value(row), scale, out);
                }))
            }
            DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) => times(array)?,
            DataType::Timestamp(unit, zone) => timestamps(array, *unit, style, zone.is_some()),
            DataType::Struct(_) => {
                let array = array.as_struct();
                let cell = |(name, column): (&str, &'a ArrayRef)| {
                    Ok((name.to_owned(), Cells::new(column.as_ref(), style)?))
                };
                let names = array.column_names();
                Self::Struct(
                    names.into_iter().zip(array.columns()).map(cell).collect::<Result<_>>()?,
                )
            }
            DataType::List(_) => {
                let array = array.as_list::<i32>();
                let item = Box::new(Cells::new(array.values().as_ref(), style)?);
                Self::List { offsets: array.value_offsets(), item }
            }
            DataType::Map(_, _) => {
                let array = array.as_map();
                let keys = Box::new(Cells::new(array.keys().as_ref(), style)?);
                let values = Box::new(Cells::new(array.values().as_ref(), style)?);
                Self::Map { offsets: array.value_offsets(), keys, values }
            }
            _ => text(array)?,
        })
    }

    /// Appends the text of a cell that is neither null nor text nor nested.
    pub(crate) fn write_scalar(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bare(write) | Self::Quoted(write) | Self::Float { write, .. } => write(row, out),
            Self::Text(value) => out.extend_from_slice(value(row)),
            Self::Struct(_) | Self::List { .. } | Self::Map { .. } => {}
        }
    }
}

fn integers<T>(array: &dyn Array) -> Kind<'_>
where
    T: ArrowPrimitiveType,
    T::Native: std::fmt::Display,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    Kind::Bare(Box::new(move |row, out| {
        write!(out, "{}", array.value(row)).expect("a Vec takes every write");
    }))
}

fn times(array: &dyn Array) -> Result<Kind<'_>> {
    Ok(match array.data_type() {
        DataType::Date32 => {
            let array = array.as_primitive::<Date32Type>();
            Kind::Quoted(Box::new(move |row, out| {
                temporal::write_date(array.value(row).into(), out);
            }))
        }
        DataType::Time32(TimeUnit::Second) => time::<Time32SecondType>(array, TimeUnit::Second),
        DataType::Time32(_) => time::<Time32MillisecondType>(array, TimeUnit::Millisecond),
        DataType::Time64(TimeUnit::Nanosecond) => {
            time::<Time64NanosecondType>(array, TimeUnit::Nanosecond)
        }
        _ => time::<Time64MicrosecondType>(array, TimeUnit::Microsecond),
    })
}

fn time<T>(array: &dyn Array, unit: TimeUnit) -> Kind<'_>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    Kind::Quoted(Box::new(move |row, out| {
        temporal::write_time(array.value(row).into(), unit, out);
    }))
}

fn timestamps(array: &dyn Array, unit: TimeUnit, style: TimestampStyle, zulu: bool) -> Kind<'_> {
    let values: &[i64] = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    };
    Kind::Quoted(Box::new(move |row, out| {
        temporal::write_timestamp(values[row], unit, style, zulu, out);
    }))
}

fn text(array: &dyn Array) -> Result<Kind<'_>> {
    fn base64_of<'a>(value: impl Fn(usize) -> &'a [u8] + 'a) -> Kind<'a> {
        Kind::Quoted(Box::new(move |row, out| base64::encode(value(row), out)))
    }
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Kind::Text(Box::new(move |row| array.value(row).as_bytes()))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            Kind::Text(Box::new(move |row| array.value(row).as_bytes()))
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            Kind::Text(Box::new(move |row| array.value(row).as_bytes()))
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            base64_of(move |row| array.value(row))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>();
            base64_of(move |row| array.value(row))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view();
            base64_of(move |row| array.value(row))
        }
        other => {
            let name = type_name(other);
            let message = format!("a text format cannot hold {name}: cast it in the query");
            return Err(Error::configuration(message));
        }
    })
}
