//! Maps: their entries wait until the end of the row, for of equal keys the last counts.

use std::collections::HashMap;

use super::super::plan::{MapPlan, Scalar, Single};
use super::super::wire::{Reader, WireType, check_depth};
use super::{end_message, expect, offset, one, unsuited};
use crate::column::{Column, Fit, Values};

/// The entries of a map; of equal keys the last counts.
pub(super) fn entries(
    reader: Reader<'_>,
    map: &mut MapPlan,
    column: &mut Column,
    depth: usize,
) -> Fit {
    let Values::Map { ends, key, value } = &mut column.values else { return Err(unsuited()) };
    let mut last: HashMap<KeyBits<'_>, usize> = HashMap::new();
    let positions = std::mem::take(&mut map.entries);
    for (n, position) in positions.iter().enumerate() {
        last.insert(key_bits(reader.part(*position), &map.key, depth)?, n);
    }
    for (n, position) in positions.iter().enumerate() {
        let part = reader.part(*position);
        if last.get(&key_bits(part, &map.key, depth)?) == Some(&n) {
            entry(part, map, key, value, depth)
                .map_err(|bad| bad.inside(format_args!("{{entry {n}}}")))?;
        }
    }
    ends.push(offset(key.len())?);
    column.appended();
    // Its room is used again.
    map.entries = positions;
    map.entries.clear();
    Ok(())
}

/// A key, to be compared with others of the same map.
#[derive(PartialEq, Eq, Hash)]
enum KeyBits<'a> {
    Number(u64),
    Text(&'a [u8]),
}

/// The key of an entry, as it counts: the last one, or the default.
fn key_bits<'a>(mut entry: Reader<'a>, key: &Scalar, depth: usize) -> Fit<KeyBits<'a>> {
    let mut bits =
        if matches!(key, Scalar::String) { KeyBits::Text(b"") } else { KeyBits::Number(0) };
    while !entry.is_empty() {
        let (number, wire_type) = entry.tag()?;
        if number != 1 {
            entry.skip(number, wire_type, depth + 1)?;
            continue;
        }
        expect(wire_type, key.wire_type())?;
        bits = match key {
            Scalar::String => KeyBits::Text(entry.length_delimited()?),
            Scalar::Bool => KeyBits::Number(u64::from(entry.varint()? != 0)),
            Scalar::Fixed32 | Scalar::Sfixed32 => {
                KeyBits::Number(u32::from_le_bytes(entry.fixed32()?).into())
            }
            Scalar::Fixed64 | Scalar::Sfixed64 => {
                KeyBits::Number(u64::from_le_bytes(entry.fixed64()?))
            }
            Scalar::Int32 | Scalar::Uint32 | Scalar::Sint32 => {
                KeyBits::Number((entry.varint()? as u32).into())
            }
            _ => KeyBits::Number(entry.varint()?),
        };
    }
    Ok(bits)
}

fn entry(
    mut entry: Reader<'_>,
    map: &mut MapPlan,
    key: &mut Column,
    value: &mut Column,
    depth: usize,
) -> Fit {
    check_depth(depth + 1)?;
    let (row, mut seen) = (key.len(), false);
    if let Single::Message(nested) = &mut map.value {
        nested.open = true;
    }
    while !entry.is_empty() {
        let (number, wire_type) = entry.tag()?;
        match number {
            1 => {
                expect(wire_type, map.key.wire_type())?;
                key.truncate(row);
                map.key.append(&mut entry, key)?;
            }
            2 => {
                let again = std::mem::replace(&mut seen, true).then_some(row);
                one(&mut entry, wire_type, &mut map.value, value, again, depth + 1)?;
            }
            _ => entry.skip(number, wire_type, depth + 1)?,
        }
    }
    if key.len() == row {
        map.key_default.append(key);
    }
    if let Single::Message(_) = map.value {
        return end_message(entry, &mut map.value, value, row, depth + 1);
    }
    match &map.value_default {
        _ if seen => {}
        Some(default) => default.append(value),
        // An empty message of a kind that has a column of its own: zero.
        None => one(&mut Reader::new(&[0]), WireType::Length, &mut map.value, value, None, depth)?,
    }
    Ok(())
}
