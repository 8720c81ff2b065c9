//! Columns of scalars in the one form that they are read in, and their values on the wire.

use arrow::array::cast::AsArray;
use arrow::array::types::{Decimal128Type, Float64Type, Int64Type};
use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use tidemill_core::{Error, Result};

use super::super::plan::Scalar;
use super::super::wire::{WireType, put_bytes, put_tag, put_varint, zigzag};
use crate::column::{Bad, Fit};

/// A scalar column in the one form that it is read in.
pub(super) enum Plain {
    Boolean(BooleanArray),
    Integer(Int64Array),
    Float(Float64Array),
    Decimal(Decimal128Array),
    Text(StringViewArray),
    Binary(BinaryViewArray),
}

impl Plain {
    pub(super) fn new(array: &ArrayRef) -> Result<Self> {
        let to = |data_type| cast(array, &data_type);
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Int32 | DataType::Int64 => {
                Self::Integer(to(DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Float32 | DataType::Float64 => {
                Self::Float(to(DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::Decimal128(_, _) => {
                Self::Decimal(array.as_primitive::<Decimal128Type>().clone())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Self::Binary(to(DataType::BinaryView)?.as_binary_view().clone())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text(text(array)?),
            other => return Err(unsuited(other)),
        })
    }
}

pub(super) fn text(array: &ArrayRef) -> Result<StringViewArray> {
    Ok(cast(array, &DataType::Utf8View)?.as_string_view().clone())
}

/// An array without its dictionary.
pub(super) fn unpacked(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, values) => Ok(cast(array, values)?),
        _ => Ok(array.clone()),
    }
}

pub(super) fn put_scalar(scalar: &Scalar, values: &Plain, row: usize, out: &mut Vec<u8>) -> Fit {
    match values {
        Plain::Boolean(values) => out.push(values.value(row).into()),
        Plain::Integer(values) => return put_integer(scalar, values.value(row).into(), out),
        Plain::Decimal(values) => return put_integer(scalar, values.value(row), out),
        Plain::Float(values) => match scalar {
            Scalar::Float => out.extend_from_slice(&(values.value(row) as f32).to_le_bytes()),
            _ => out.extend_from_slice(&values.value(row).to_le_bytes()),
        },
        Plain::Binary(values) => put_bytes(values.value(row), out),
        Plain::Text(values) => match scalar {
            Scalar::Enum(_) => {
                let number = number_of(scalar, values.value(row))?;
                put_varint(i64::from(number) as u64, out);
            }
            _ => put_bytes(values.value(row).as_bytes(), out),
        },
    }
    Ok(())
}

/// The number of an enum's value.
pub(super) fn number_of(scalar: &Scalar, name: &str) -> Fit<i32> {
    let Scalar::Enum(names) = scalar else { return Err(Bad::new("no enum: a defect")) };
    names.number(name).ok_or_else(|| Bad::new(format!("'{name}' is not in the enum")))
}

fn put_integer(scalar: &Scalar, value: i128, out: &mut Vec<u8>) -> Fit {
    let narrow = || i32::try_from(value).map_err(|_| exceeds(value));
    let unsigned = || u32::try_from(value).map_err(|_| exceeds(value));
    let wide = || i64::try_from(value).map_err(|_| exceeds(value));
    let wide_unsigned = || u64::try_from(value).map_err(|_| exceeds(value));
    match scalar {
        Scalar::Int32 | Scalar::Enum(_) => put_varint(i64::from(narrow()?) as u64, out),
        Scalar::Sint32 => put_varint(zigzag(narrow()?.into()), out),
        Scalar::Uint32 => put_varint(unsigned()?.into(), out),
        Scalar::Int64 => put_varint(wide()? as u64, out),
        Scalar::Sint64 => put_varint(zigzag(wide()?), out),
        Scalar::Uint64 => put_varint(wide_unsigned()?, out),
        Scalar::Fixed32 => out.extend_from_slice(&unsigned()?.to_le_bytes()),
        Scalar::Sfixed32 => out.extend_from_slice(&narrow()?.to_le_bytes()),
        Scalar::Fixed64 => out.extend_from_slice(&wide_unsigned()?.to_le_bytes()),
        Scalar::Sfixed64 => out.extend_from_slice(&wide()?.to_le_bytes()),
        Scalar::Bool | Scalar::Float | Scalar::Double | Scalar::String | Scalar::Bytes => {
            return Err(Bad::new("the field is no integer: a defect"));
        }
    }
    Ok(())
}

#[cold]
fn exceeds(value: i128) -> Box<Bad> {
    Bad::new(format!("{value} exceeds the field's type"))
}

/// The body of a `Timestamp` or a `Duration`, with its length.
pub(super) fn put_seconds(seconds: i64, nanos: i64, out: &mut Vec<u8>) -> Fit {
    length_prefixed(out, |out| {
        for (number, value) in [(1, seconds), (2, nanos)] {
            if value != 0 {
                put_tag(number, WireType::Varint, out);
                put_varint(value as u64, out);
            }
        }
        Ok(())
    })
}

/// What `body` appends, with its length in front.
pub(super) fn length_prefixed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>) -> Fit) -> Fit {
    let start = out.len();
    out.push(0);
    body(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_varint(length as u64, &mut prefix);
        out.splice(start..=start, prefix);
    }
    Ok(())
}

pub(super) fn unsuited(data_type: &DataType) -> Error {
    Error::internal(format!("{data_type} does not fit the plan that was made for the table"))
}
