//! Scalars, and the wrappers around them that tell zero from absent.

use super::super::plan::Scalar;
use super::super::wire::{Reader, unzigzag};
use super::{expect, unsuited};
use crate::column::{Bad, Column, Fit, Values};

impl Scalar {
    /// Reads one value and appends it.
    #[inline]
    pub(super) fn append(&self, reader: &mut Reader<'_>, column: &mut Column) -> Fit {
        match &mut column.values {
            Values::Integer { values, .. } => values.push(self.integer(reader)?),
            Values::Text(_) => return self.append_text(reader, column),
            Values::Float { values, .. } => values.push(match self {
                Self::Float => f32::from_le_bytes(reader.fixed32()?).into(),
                _ => f64::from_le_bytes(reader.fixed64()?),
            }),
            Values::Boolean(values) => values.push(reader.varint()? != 0),
            Values::Decimal { values, .. } => values.push(self.unsigned(reader)?.into()),
            Values::Binary(_) => {
                let bytes = reader.length_delimited()?;
                column.append_bytes(bytes);
                return Ok(());
            }
            _ => return Err(unsuited()),
        }
        column.appended();
        Ok(())
    }

    #[inline]
    fn integer(&self, reader: &mut Reader<'_>) -> Fit<i64> {
        Ok(match self {
            Self::Int64 => reader.varint()? as i64,
            Self::Int32 => narrow::<i32>(reader.varint()? as i64, "int32")?,
            Self::Enum(_) => (reader.varint()? as i32).into(),
            Self::Uint32 => narrow::<u32>(reader.varint()? as i64, "uint32")?,
            Self::Sint32 => narrow::<i32>(unzigzag(reader.varint()?), "sint32")?,
            Self::Sint64 => unzigzag(reader.varint()?),
            Self::Fixed32 => u32::from_le_bytes(reader.fixed32()?).into(),
            Self::Sfixed32 => i32::from_le_bytes(reader.fixed32()?).into(),
            Self::Sfixed64 => i64::from_le_bytes(reader.fixed64()?),
            _ => {
                let value = self.unsigned(reader)?;
                i64::try_from(value).map_err(|_| {
                    Bad::new(format!("{value} exceeds a BIGINT: declare the column DECIMAL(20, 0)"))
                })?
            }
        })
    }

    fn unsigned(&self, reader: &mut Reader<'_>) -> Fit<u64> {
        match self {
            Self::Fixed64 => Ok(u64::from_le_bytes(reader.fixed64()?)),
            _ => reader.varint(),
        }
    }

    #[inline]
    fn append_text(&self, reader: &mut Reader<'_>, column: &mut Column) -> Fit {
        if let Self::Enum(names) = self {
            let number = reader.varint()? as i32;
            names.name(number, |name| column.append_bytes(name));
            return Ok(());
        }
        let bytes = reader.length_delimited()?;
        if !bytes.is_ascii() && std::str::from_utf8(bytes).is_err() {
            return Err(Bad::new("invalid UTF-8"));
        }
        column.append_bytes(bytes);
        Ok(())
    }
}

/// A number of 32 bits, as the schema says. A writer whose schema says 64 may put more on the wire, and
/// half of such a number would be a number, too.
#[inline]
fn narrow<T: TryFrom<i64>>(value: i64, kind: &str) -> Fit<i64> {
    match T::try_from(value) {
        Ok(_) => Ok(value),
        Err(_) => Err(Bad::new(format!(
            "{value} exceeds {kind}, which the schema says: it was written with a wider one"
        ))),
    }
}

/// The scalar in field 1 of a message; zero where it is not there.
pub(super) fn wrapper(
    mut inner: Reader<'_>,
    scalar: &Scalar,
    column: &mut Column,
    mut again: bool,
    depth: usize,
) -> Fit {
    while !inner.is_empty() {
        let (number, wire_type) = inner.tag()?;
        if number != 1 {
            inner.skip(number, wire_type, depth + 1)?;
            continue;
        }
        expect(wire_type, scalar.wire_type())?;
        if again {
            column.truncate(column.len() - 1);
        }
        scalar.append(&mut inner, column)?;
        again = true;
    }
    if !again {
        // Zeros are zero in every wire type: no length, no varint, no bit.
        scalar.append(&mut Reader::new(&[0; 8]), column)?;
    }
    Ok(())
}
