//! Rows as Avro data.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use tidemill_core::{Error, Result};

use super::default::default_bytes;
use super::schema::{Field, Kind, Logical, Schema, Type};
use super::wire::{write_long, write_prefixed};
use crate::Encoder;
use crate::cells::{plain_columns, range};
use crate::column::type_name;
use crate::registry::{Definition, Registry, framing};
use crate::temporal::per_second;

/// Encodes rows as Avro data. See the [module](super).
pub struct AvroEncoder {
    schema: Arc<Schema>,
    frame: Option<Frame>,
}

/// What goes in front of each datum.
pub(super) struct Frame {
    pub(super) registry: Registry,
    pub(super) subject: String,
    pub(super) definition: Definition,
}

impl AvroEncoder {
    /// An encoder of rows of `columns` as data of `schema`.
    ///
    /// # Errors
    /// A configuration error that names a field which the columns cannot fill.
    pub(super) fn new(
        columns: &SchemaRef,
        schema: Arc<Schema>,
        frame: Option<Frame>,
    ) -> Result<Self> {
        let empty = RecordBatch::new_empty(columns.clone());
        row_writer(&schema, &empty, &plain_columns(&empty)?)?;
        Ok(Self { schema, frame })
    }
}

impl Encoder for AvroEncoder {
    /// # Errors
    /// A permanent error where a value is none of the schema's; as the
    /// [registry](crate::registry) says where the schema cannot be registered.
    fn encode(&mut self, rows: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut datum = Vec::new();
        if let Some(Frame { registry, subject, definition }) = &self.frame {
            framing::write_header(registry.register(subject, definition)?, &mut datum);
        }
        let header = datum.len();
        let columns = plain_columns(rows)?;
        let writer = row_writer(&self.schema, rows, &columns)?;
        for row in 0..rows.num_rows() {
            datum.truncate(header);
            writer.write(row, &mut datum)?;
            each(&datum);
        }
        Ok(())
    }

    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}

fn row_writer<'a>(
    schema: &'a Schema,
    rows: &RecordBatch,
    columns: &'a [ArrayRef],
) -> Result<Writer<'a>> {
    let Some(fields) = schema.fields(&schema.root) else {
        let root = schema.describe(&schema.root);
        return Err(Error::configuration(format!("the Avro schema is {root}, and no record")));
    };
    let batch = rows.schema();
    let column = |name: &str| batch.index_of(name).ok().map(|index| &columns[index]);
    let record = record(schema, fields, &column)?;
    Ok(match &schema.root {
        Type::Union(branches) => {
            let branch = branches.iter().position(|branch| schema.fields(branch).is_some());
            Writer::Branch { branch: branch.unwrap_or(0) as i64, value: Box::new(record) }
        }
        _ => record,
    })
}

type Number<'a> = Box<dyn Fn(usize) -> i64 + 'a>;
type Bytes<'a> = Box<dyn Fn(usize) -> &'a [u8] + 'a>;

/// Writes the values of one array, row by row.
enum Writer<'a> {
    Boolean(&'a arrow::array::BooleanArray),
    /// `int` or `long`, between these bounds.
    Integer {
        value: Number<'a>,
        range: std::ops::RangeInclusive<i64>,
    },
    Float(Box<dyn Fn(usize) -> f32 + 'a>),
    Double(Box<dyn Fn(usize) -> f64 + 'a>),
    Prefixed(Bytes<'a>),
    Fixed {
        value: Bytes<'a>,
        size: usize,
    },
    Symbol {
        value: Bytes<'a>,
        symbols: HashMap<&'a [u8], i64>,
    },
    Decimal {
        array: &'a arrow::array::Decimal128Array,
        size: Option<usize>,
        multiply: i128,
    },
    Record(Vec<(&'a str, Writer<'a>)>),
    Array {
        offsets: &'a [i32],
        item: Box<Writer<'a>>,
    },
    Map {
        offsets: &'a [i32],
        keys: Bytes<'a>,
        value: Box<Writer<'a>>,
    },
    /// Null or a value, each with the number of its branch; without a null branch null is refused.
    Nullable {
        array: &'a dyn Array,
        null: Option<i64>,
        value: Box<Writer<'a>>,
    },
    /// The number of a branch, and its value.
    Branch {
        branch: i64,
        value: Box<Writer<'a>>,
    },
    /// Always the same.
    Constant(Vec<u8>),
}

fn record<'a>(
    schema: &'a Schema,
    fields: &'a [Field],
    column: &dyn Fn(&str) -> Option<&'a ArrayRef>,
) -> Result<Writer<'a>> {
    let field = |field: &'a Field| {
        let Field { name, data_type, default, .. } = field;
        let writer = match (column(name), default) {
            (Some(array), _) => writer(schema, data_type, array.as_ref())
                .map_err(|error| error.at(format_args!("field '{name}'")))?,
            (None, Some(default)) => {
                let bytes = default_bytes(schema, data_type, default);
                Writer::Constant(bytes.map_err(Error::configuration)?)
            }
            (None, None) => {
                return Err(Error::configuration(format!(
                    "field '{name}' of the Avro schema has no default, and no column fills it"
                )));
            }
        };
        Ok((name.as_str(), writer))
    };
    Ok(Writer::Record(fields.iter().map(field).collect::<Result<_>>()?))
}

/// A writer of `array` as values of type `of`.
fn writer<'a>(schema: &'a Schema, of: &'a Type, array: &'a dyn Array) -> Result<Writer<'a>> {
    let Type::Union(branches) = of else {
        let value = value_writer(schema, of, array)?;
        return Ok(Writer::Nullable { array, null: None, value: Box::new(value) });
    };
    let null = branches.iter().position(|branch| *branch == Type::Null).map(|null| null as i64);
    let mut first = None;
    for (branch, of) in branches.iter().enumerate().filter(|(_, of)| **of != Type::Null) {
        match value_writer(schema, of, array) {
            Ok(value) => {
                let value = Writer::Branch { branch: branch as i64, value: Box::new(value) };
                return Ok(Writer::Nullable { array, null, value: Box::new(value) });
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| mismatch(schema, of, array)))
}

#[cold]
fn mismatch(schema: &Schema, of: &Type, array: &dyn Array) -> Error {
    Error::configuration(format!(
        "the Avro schema has {}, which {} cannot be written as",
        schema.describe(of),
        type_name(array.data_type())
    ))
}

/// As [`writer`], of values that are not null.
fn value_writer<'a>(schema: &'a Schema, of: &'a Type, array: &'a dyn Array) -> Result<Writer<'a>> {
    let int = i64::from(i32::MIN)..=i64::from(i32::MAX);
    let found = match of {
        Type::Boolean => array.as_boolean_opt().map(Writer::Boolean),
        Type::Int(logical) => {
            number(array, *logical).map(|value| Writer::Integer { value, range: int })
        }
        Type::Long(logical) => {
            let range = i64::MIN..=i64::MAX;
            number(array, *logical).map(|value| Writer::Integer { value, range })
        }
        Type::Float => float(array).map(Writer::Float),
        Type::Double => double(array).map(Writer::Double),
        Type::Bytes(logical @ Logical::Decimal { .. }) if is_decimal(array) => {
            decimal(array, *logical, None)
        }
        Type::Bytes(_) => bytes(array).map(Writer::Prefixed),
        Type::String => text(array).map(Writer::Prefixed),
        Type::Array(item) => match array.as_list_opt::<i32>() {
            Some(list) => Some(Writer::Array {
                offsets: list.value_offsets(),
                item: Box::new(writer(schema, item, list.values().as_ref())?),
            }),
            None => None,
        },
        Type::Map(value) => match array.as_map_opt() {
            Some(map) => text(map.keys().as_ref())
                .map(|keys| -> Result<_> {
                    let value = Box::new(writer(schema, value, map.values().as_ref())?);
                    Ok(Writer::Map { offsets: map.value_offsets(), keys, value })
                })
                .transpose()?,
            None => None,
        },
        Type::Named(index) => named(schema, *index, array)?,
        Type::Null | Type::Union(_) => None,
    };
    found.ok_or_else(|| mismatch(schema, of, array))
}

fn named<'a>(schema: &'a Schema, index: usize, array: &'a dyn Array) -> Result<Option<Writer<'a>>> {
    Ok(match &schema.named(index).kind {
        Kind::Record(fields) => match array.as_struct_opt() {
            Some(rows) => Some(record(schema, fields, &|name| rows.column_by_name(name))?),
            None => None,
        },
        Kind::Enum(symbols) => text(array).map(|value| {
            let symbols = symbols.iter().zip(0..);
            let symbols = symbols.map(|(symbol, index)| (symbol.as_bytes(), index)).collect();
            Writer::Symbol { value, symbols }
        }),
        Kind::Fixed { size, logical: logical @ Logical::Decimal { .. } } if is_decimal(array) => {
            decimal(array, *logical, Some(*size))
        }
        Kind::Fixed { size, .. } => bytes(array).map(|value| Writer::Fixed { value, size: *size }),
    })
}

impl Writer<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Boolean(array) => out.push(u8::from(array.value(row))),
            Self::Integer { value, range } => {
                let value = value(row);
                if !range.contains(&value) {
                    return Err(Error::permanent(format!("{value} does not fit an Avro int")));
                }
                write_long(value, out);
            }
            Self::Float(value) => out.extend_from_slice(&value(row).to_le_bytes()),
            Self::Double(value) => out.extend_from_slice(&value(row).to_le_bytes()),
            Self::Prefixed(value) => write_prefixed(value(row), out),
            Self::Fixed { value, size } => {
                let bytes = value(row);
                if bytes.len() != *size {
                    let message = format!("{} bytes are no fixed of {size}", bytes.len());
                    return Err(Error::permanent(message));
                }
                out.extend_from_slice(bytes);
            }
            Self::Symbol { value, symbols } => match symbols.get(value(row)) {
                Some(index) => write_long(*index, out),
                None => {
                    let text = String::from_utf8_lossy(value(row)).into_owned();
                    let message = format!("'{text}' is no symbol of the Avro enum");
                    return Err(Error::permanent(message));
                }
            },
            Self::Decimal { array, size, multiply } => {
                write_decimal(array.value(row), *multiply, *size, out)?;
            }
            Self::Record(fields) => {
                for (name, writer) in fields {
                    writer.write(row, out).map_err(|e| e.at(format_args!("field '{name}'")))?;
                }
            }
            Self::Array { offsets, item } => {
                return write_block(range(offsets, row), out, |row, out| item.write(row, out));
            }
            Self::Map { offsets, keys, value } => {
                return write_block(range(offsets, row), out, |row, out| {
                    write_prefixed(keys(row), out);
                    value.write(row, out)
                });
            }
            Self::Nullable { array, null, value } => match null {
                _ if array.is_valid(row) => return value.write(row, out),
                Some(null) => write_long(*null, out),
                None => {
                    let message = "null, where the Avro schema has no null";
                    return Err(Error::permanent(message));
                }
            },
            Self::Branch { branch, value } => {
                write_long(*branch, out);
                return value.write(row, out);
            }
            Self::Constant(bytes) => out.extend_from_slice(bytes),
        }
        Ok(())
    }
}

fn write_block(
    rows: std::ops::Range<usize>,
    out: &mut Vec<u8>,
    mut item: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    if !rows.is_empty() {
        write_long(rows.len() as i64, out);
        for row in rows {
            item(row, out)?;
        }
    }
    write_long(0, out);
    Ok(())
}

/// Two's complement, big-endian, in as few bytes as hold it or in `size`.
fn write_decimal(
    value: i128,
    multiply: i128,
    size: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let too_large = || Error::permanent("a decimal has more digits than the Avro schema allows");
    let value = value.checked_mul(multiply).ok_or_else(too_large)?;
    let bytes = value.to_be_bytes();
    let filler = if value < 0 { 0xff } else { 0 };
    let redundant = |n: &usize| bytes[*n] == filler && (bytes[n + 1] ^ filler) < 0x80;
    let needed = &bytes[(0..15).take_while(redundant).count()..];
    match size {
        None => write_prefixed(needed, out),
        Some(size) if needed.len() > size => return Err(too_large()),
        Some(size) => {
            out.resize(out.len() + size - needed.len(), filler);
            out.extend_from_slice(needed);
        }
    }
    Ok(())
}

fn is_decimal(array: &dyn Array) -> bool {
    matches!(array.data_type(), DataType::Decimal128(_, _))
}

fn decimal<'a>(array: &'a dyn Array, logical: Logical, size: Option<usize>) -> Option<Writer<'a>> {
    let (Logical::Decimal { scale, .. }, DataType::Decimal128(_, from)) =
        (logical, array.data_type())
    else {
        return None;
    };
    let more = scale.checked_sub(u32::try_from(*from).ok()?)?;
    let array = array.as_primitive_opt()?;
    Some(Writer::Decimal { array, size, multiply: 10i128.checked_pow(more)? })
}

/// The values of an array of integers or times, as a schema's `logical` type has them.
fn number<'a>(array: &'a dyn Array, logical: Logical) -> Option<Number<'a>> {
    macro_rules! plain {
        ($type:ty) => {{
            let array = array.as_primitive_opt::<$type>()?;
            Some(Box::new(move |row| i64::from(array.value(row))) as Number)
        }};
    }
    match (array.data_type(), logical) {
        (DataType::Int8, _) => plain!(Int8Type),
        (DataType::Int16, _) => plain!(Int16Type),
        (DataType::Int32, _) => plain!(Int32Type),
        (DataType::Int64, _) => plain!(Int64Type),
        (DataType::UInt8, _) => plain!(UInt8Type),
        (DataType::UInt16, _) => plain!(UInt16Type),
        (DataType::UInt32, _) => plain!(UInt32Type),
        (DataType::Date32, Logical::Date | Logical::Plain) => plain!(Date32Type),
        (DataType::Time32(unit) | DataType::Time64(unit), Logical::Time(to)) => {
            Some(scaled(times(array)?, *unit, to))
        }
        (DataType::Timestamp(unit, _), Logical::Timestamp(to)) => {
            Some(scaled(times(array)?, *unit, to))
        }
        // Where the schema does not say what a long means, milliseconds, as it is read.
        (DataType::Timestamp(unit, _), Logical::Plain) => {
            Some(scaled(times(array)?, *unit, TimeUnit::Millisecond))
        }
        _ => None,
    }
}

fn times<'a>(array: &'a dyn Array) -> Option<Number<'a>> {
    macro_rules! of {
        ($type:ty) => {{
            let array = array.as_primitive_opt::<$type>()?;
            Some(Box::new(move |row| i64::from(array.value(row))) as Number)
        }};
    }
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => of!(Time32SecondType),
        DataType::Time32(_) => of!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Nanosecond) => of!(Time64NanosecondType),
        DataType::Time64(_) => of!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Second, _) => of!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => of!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => of!(TimestampNanosecondType),
        _ => None,
    }
}

/// Finer digits are cut off; what is too far away for the finer unit stays at its end.
fn scaled(value: Number<'_>, from: TimeUnit, to: TimeUnit) -> Number<'_> {
    let (from, to) = (per_second(from), per_second(to));
    match to.cmp(&from) {
        std::cmp::Ordering::Equal => value,
        std::cmp::Ordering::Greater => Box::new(move |row| value(row).saturating_mul(to / from)),
        std::cmp::Ordering::Less => Box::new(move |row| value(row).div_euclid(from / to)),
    }
}

fn float<'a>(array: &'a dyn Array) -> Option<Box<dyn Fn(usize) -> f32 + 'a>> {
    let array = array.as_primitive_opt::<Float32Type>()?;
    Some(Box::new(move |row| array.value(row)))
}

fn double<'a>(array: &'a dyn Array) -> Option<Box<dyn Fn(usize) -> f64 + 'a>> {
    if let Some(array) = array.as_primitive_opt::<Float32Type>() {
        return Some(Box::new(move |row| f64::from(array.value(row))));
    }
    let array = array.as_primitive_opt::<Float64Type>()?;
    Some(Box::new(move |row| array.value(row)))
}

fn text<'a>(array: &'a dyn Array) -> Option<Bytes<'a>> {
    Some(match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |row| array.value(row).as_bytes())
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            Box::new(move |row| array.value(row).as_bytes())
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            Box::new(move |row| array.value(row).as_bytes())
        }
        _ => return None,
    })
}

fn bytes<'a>(array: &'a dyn Array) -> Option<Bytes<'a>> {
    Some(match array.data_type() {
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            Box::new(move |row| array.value(row))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>();
            Box::new(move |row| array.value(row))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view();
            Box::new(move |row| array.value(row))
        }
        _ => return text(array),
    })
}
