//! Defaults of a reader's schema: JSON that stands for a value, as the bytes of that value.
//!
//! So a default is read by the same code as what was written.

use serde_json::Value;

use super::schema::{Kind, Schema, Type};
use super::wire::{write_long, write_prefixed};

/// The bytes of a field's default, of type `of`.
///
/// # Errors
/// Why it is no value of that type.
pub(super) fn default_bytes(schema: &Schema, of: &Type, value: &Value) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match write(schema, of, value, &mut bytes) {
        Some(()) => Ok(bytes),
        None => Err(format!("the default {value} is no {}", schema.describe(of))),
    }
}

fn write(schema: &Schema, of: &Type, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match of {
        Type::Null => value.is_null().then_some(()),
        Type::Boolean => value.as_bool().map(|value| out.push(u8::from(value))),
        Type::Int(_) | Type::Long(_) => value.as_i64().map(|value| write_long(value, out)),
        Type::Float => {
            let value = value.as_f64()? as f32;
            out.extend_from_slice(&value.to_le_bytes());
            Some(())
        }
        Type::Double => {
            out.extend_from_slice(&value.as_f64()?.to_le_bytes());
            Some(())
        }
        Type::Bytes(_) => latin1(value).map(|bytes| write_prefixed(&bytes, out)),
        Type::String => value.as_str().map(|text| write_prefixed(text.as_bytes(), out)),
        Type::Array(item) => {
            let items = value.as_array()?;
            block(items.len(), out, |out| {
                items.iter().try_for_each(|value| write(schema, item, value, out))
            })
        }
        Type::Map(of) => {
            let entries = value.as_object()?;
            block(entries.len(), out, |out| {
                entries.iter().try_for_each(|(key, value)| {
                    write_prefixed(key.as_bytes(), out);
                    write(schema, of, value, out)
                })
            })
        }
        Type::Union(branches) => {
            // Usually of the first branch; later versions of the specification allow any.
            let start = out.len();
            branches.iter().enumerate().find_map(|(n, branch)| {
                out.truncate(start);
                write_long(n as i64, out);
                write(schema, branch, value, out)
            })
        }
        Type::Named(index) => named(schema, *index, value, out),
    }
}

fn named(schema: &Schema, index: usize, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match &schema.named(index).kind {
        Kind::Record(fields) => {
            let object = value.as_object()?;
            fields.iter().try_for_each(|field| {
                write(schema, &field.data_type, object.get(&field.name)?, out)
            })
        }
        Kind::Enum(symbols) => {
            let symbol = value.as_str()?;
            let index = symbols.iter().position(|known| known == symbol)?;
            write_long(index as i64, out);
            Some(())
        }
        Kind::Fixed { size, .. } => {
            let bytes = latin1(value).filter(|bytes| bytes.len() == *size)?;
            out.extend_from_slice(&bytes);
            Some(())
        }
    }
}

fn block(
    items: usize,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    if items > 0 {
        write_long(items as i64, out);
        write(out)?;
    }
    write_long(0, out);
    Some(())
}

/// Bytes in JSON: a letter stands for the byte of its code.
fn latin1(value: &Value) -> Option<Vec<u8>> {
    value.as_str()?.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect()
}
