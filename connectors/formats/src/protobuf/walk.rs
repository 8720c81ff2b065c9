//! The walk along the wire: each field goes to its column as it is met.
//!
//! ```text
//! tag ─▶ field ─▶ column       then, at the end of the row: what is missing, ends of lists, maps
//! ```
//!
//! Fields come in any order and more than once: of scalars the last counts, messages merge, lists
//! grow, of a `oneof` the last member counts. So a row's columns are complete only at its end.
//!
//! Invariant: between rows all columns of a record are as long as each other.

use std::collections::HashMap;

use super::plan::{FieldPlan, MapPlan, MessagePlan, Missing, Nested, Op, Scalar, Single};
use super::wire::{Reader, WireType, check_depth, unzigzag};
use crate::column::{Bad, Column, Fit, Record, Temporal, Values};
use crate::temporal;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A payload into row `row` of the columns.
pub(super) fn row(payload: &[u8], plan: &mut MessagePlan, record: &mut Record, row: usize) -> Fit {
    let reader = Reader::new(payload);
    message(reader, plan, record, row, 0)?;
    complete(reader, plan, record, row, 0)
}

/// The fields of a message; it may go on in another piece.
fn message(
    mut reader: Reader<'_>,
    plan: &mut MessagePlan,
    record: &mut Record,
    row: usize,
    depth: usize,
) -> Fit {
    check_depth(depth)?;
    let mut next = 0;
    while !reader.is_empty() {
        let tag = reader.varint()?;
        // Writers write fields in the order of their numbers, and mostly all of them.
        let index = match plan.fields.get(next) {
            Some(field) if field.tag == tag => next,
            _ => {
                let (number, wire_type) = reader.split_tag(tag)?;
                match plan.find(number) {
                    Some(index) => index,
                    None => {
                        reader.skip(number, wire_type, depth)?;
                        continue;
                    }
                }
            }
        };
        next = index + 1;
        if plan.fields[index].oneof.is_some() {
            set_member(plan, record, row, index);
        }
        let field = &mut plan.fields[index];
        let Some(column) = field.column else {
            let (number, wire_type) = reader.split_tag(tag)?;
            reader.skip(number, wire_type, depth)?;
            continue;
        };
        let read = value(&mut reader, tag, field, &mut record.columns[column], row, depth);
        if let Err(bad) = read {
            return Err(bad.inside(format_args!(".{}", field.name)));
        }
    }
    Ok(())
}

/// A field's value, or one of its values.
#[inline]
fn value(
    reader: &mut Reader<'_>,
    tag: u64,
    field: &mut FieldPlan,
    column: &mut Column,
    row: usize,
    depth: usize,
) -> Fit {
    let again = std::mem::replace(&mut field.seen, true);
    match &mut field.op {
        Op::Single(Single::Scalar(scalar)) if tag == field.tag && !again => {
            scalar.append(reader, column)
        }
        Op::Single(single) => {
            let (_, wire_type) = reader.split_tag(tag)?;
            one(reader, wire_type, single, column, again.then_some(row), depth)
        }
        Op::List(single) => {
            let (_, wire_type) = reader.split_tag(tag)?;
            some(reader, wire_type, single, column, depth)
        }
        Op::Map(map) => {
            let (_, wire_type) = reader.split_tag(tag)?;
            expect(wire_type, WireType::Length)?;
            map.entries.push(reader.message()?.position());
            Ok(())
        }
    }
}

/// The member of a `oneof` that is met now is the one that is set.
fn set_member(plan: &mut MessagePlan, record: &mut Record, row: usize, index: usize) {
    let Some(oneof) = plan.fields[index].oneof else { return };
    let previous = plan.oneofs[oneof].set.replace(index);
    if let Some(previous) = previous.filter(|previous| *previous != index) {
        let field = &mut plan.fields[previous];
        field.reset();
        if let Some(column) = field.column {
            record.columns[column].truncate(row);
        }
    }
}

#[inline]
fn expect(found: WireType, wanted: WireType) -> Fit {
    if found == wanted {
        return Ok(());
    }
    Err(Bad::new(format!(
        "the payload has wire type {} where the schema wants {}: was it written with another schema?",
        found as u8, wanted as u8
    )))
}

/// A value of its own, in place of the one that row `again` has already.
fn one(
    reader: &mut Reader<'_>,
    wire_type: WireType,
    single: &mut Single,
    column: &mut Column,
    again: Option<usize>,
    depth: usize,
) -> Fit {
    if let Single::Scalar(scalar) = single {
        expect(wire_type, scalar.wire_type())?;
        if let Some(row) = again {
            column.truncate(row);
        }
        return scalar.append(reader, column);
    }
    expect(wire_type, WireType::Length)?;
    let inner = reader.message()?;
    match single {
        Single::Scalar(_) | Single::Skip => Ok(()),
        Single::Wrapper(scalar) => wrapper(inner, scalar, column, again.is_some(), depth),
        Single::Timestamp => timestamp(inner, column, again.is_some(), depth),
        Single::Duration => duration(inner, column, again.is_some(), depth),
        Single::Message(nested) => {
            let row = column.len();
            let Values::Struct(record) = &mut column.values else { return Err(unsuited()) };
            nested.open = true;
            message(inner, &mut nested.plan, record, row, depth + 1)
        }
    }
}

/// Elements of a list: one, or several packed together.
fn some(
    reader: &mut Reader<'_>,
    wire_type: WireType,
    single: &mut Single,
    column: &mut Column,
    depth: usize,
) -> Fit {
    let Values::List { ends, item } = &mut column.values else { return Err(unsuited()) };
    let start = ends.last().map_or(0, |end| *end as usize);
    let inside =
        |bad: Box<Bad>, item: &Column| bad.inside(format_args!("[{}]", item.len() - start));
    if let Single::Scalar(scalar) = single
        && wire_type == WireType::Length
        && scalar.wire_type() != WireType::Length
    {
        let mut packed = reader.message()?;
        while !packed.is_empty() {
            scalar.append(&mut packed, item).map_err(|bad| inside(bad, item))?;
        }
        return Ok(());
    }
    let row = item.len();
    one(reader, wire_type, single, item, None, depth)
        .and_then(|()| end_message(*reader, single, item, row, depth))
        .map_err(|bad| inside(bad, item))
}

/// Completes an element or a map's value that is a message.
fn end_message(
    reader: Reader<'_>,
    single: &mut Single,
    column: &mut Column,
    row: usize,
    depth: usize,
) -> Fit {
    let Single::Message(nested) = single else { return Ok(()) };
    let Values::Struct(record) = &mut column.values else { return Err(unsuited()) };
    close(reader, nested, record, row, depth)?;
    column.appended();
    Ok(())
}

fn close(
    reader: Reader<'_>,
    nested: &mut Nested,
    record: &mut Record,
    row: usize,
    depth: usize,
) -> Fit {
    nested.open = false;
    complete(reader, &mut nested.plan, record, row, depth + 1)
}

/// Ends a row: what was not met is null or has its default, lists and maps end.
fn complete(
    reader: Reader<'_>,
    plan: &mut MessagePlan,
    record: &mut Record,
    row: usize,
    depth: usize,
) -> Fit {
    for field in &mut plan.fields {
        let Some(column) = field.column else { continue };
        let column = &mut record.columns[column];
        let done = match &mut field.op {
            Op::Single(Single::Message(nested)) if nested.open => match &mut column.values {
                Values::Struct(record) => {
                    close(reader, nested, record, row, depth).map(|()| column.appended())
                }
                _ => Err(unsuited()),
            },
            Op::Single(_) if field.seen => Ok(()),
            Op::Single(_) => match &field.missing {
                Missing::Null => column.append_null(),
                Missing::Default(constant) => {
                    constant.append(column);
                    Ok(())
                }
                Missing::Required => Err(Bad::new("a required field is missing")),
            },
            Op::List(_) => end_list(column),
            Op::Map(map) => entries(reader, map, column, depth),
        };
        field.seen = false;
        if let Err(bad) = done {
            return Err(bad.inside(format_args!(".{}", field.name)));
        }
    }
    for oneof in &mut plan.oneofs {
        let set = oneof.set.take();
        let Some(column) = oneof.column else { continue };
        let column = &mut record.columns[column];
        match set {
            Some(field) => column.append_bytes(plan.fields[field].name.as_bytes()),
            None => {
                column.append_null().map_err(|bad| bad.inside(format_args!(".{}", oneof.name)))?
            }
        }
    }
    for column in &plan.absent {
        let name = &record.names[*column];
        record.columns[*column].append_null().map_err(|bad| bad.inside(format_args!(".{name}")))?;
    }
    Ok(())
}

fn end_list(column: &mut Column) -> Fit {
    let Values::List { ends, item } = &mut column.values else { return Err(unsuited()) };
    ends.push(offset(item.len())?);
    column.appended();
    Ok(())
}

/// The entries of a map; of equal keys the last counts.
fn entries(reader: Reader<'_>, map: &mut MapPlan, column: &mut Column, depth: usize) -> Fit {
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

fn offset(len: usize) -> Fit<i32> {
    i32::try_from(len).map_err(|_| Bad::new("more elements than one batch can hold"))
}

/// The scalar in field 1 of a message; zero where it is not there.
fn wrapper(
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

/// `seconds` and `nanos`, on top of those of an earlier piece.
fn seconds_and_nanos(
    mut inner: Reader<'_>,
    (mut seconds, mut nanos): (i64, i64),
    depth: usize,
) -> Fit<(i64, i64)> {
    while !inner.is_empty() {
        let (number, wire_type) = inner.tag()?;
        match number {
            1 | 2 => {
                expect(wire_type, WireType::Varint)?;
                let value = inner.varint()?;
                if number == 1 { seconds = value as i64 } else { nanos = (value as i32).into() }
            }
            _ => inner.skip(number, wire_type, depth + 1)?,
        }
    }
    Ok((seconds, nanos))
}

fn timestamp(inner: Reader<'_>, column: &mut Column, again: bool, depth: usize) -> Fit {
    let Values::Temporal { values, kind: Temporal::Timestamp(unit) } = &mut column.values else {
        return Err(unsuited());
    };
    let per_second = temporal::per_second(*unit);
    let nanos_each = NANOS_PER_SECOND / per_second;
    let before = match values.last().filter(|_| again) {
        Some(value) => (value.div_euclid(per_second), value.rem_euclid(per_second) * nanos_each),
        None => (0, 0),
    };
    let (seconds, nanos) = seconds_and_nanos(inner, before, depth)?;
    if !(0..NANOS_PER_SECOND).contains(&nanos) {
        return Err(Bad::new(format!("{nanos} nanos are no fraction of a second")));
    }
    let value = i128::from(seconds) * i128::from(per_second) + i128::from(nanos / nanos_each);
    let Ok(value) = i64::try_from(value) else {
        return Err(column.mismatch(&format!("{seconds} seconds since 1970")));
    };
    if again {
        values.pop();
    }
    values.push(value);
    if !again {
        column.appended();
    }
    Ok(())
}

fn duration(inner: Reader<'_>, column: &mut Column, again: bool, depth: usize) -> Fit {
    let split = |nanos: i128| {
        let second = i128::from(NANOS_PER_SECOND);
        // What was a duration of `seconds` in 64 bits is one again.
        ((nanos / second) as i64, (nanos % second) as i64)
    };
    let before = match &column.values {
        _ if !again => (0, 0),
        Values::Integer { values, .. } => {
            split(values.last().map_or(0, |micros| i128::from(*micros) * 1_000))
        }
        Values::Decimal { values, scale, .. } => {
            split(values.last().map_or(0, |value| value * power_of_ten(9 - *scale)))
        }
        _ => return Err(unsuited()),
    };
    let (seconds, nanos) = seconds_and_nanos(inner, before, depth)?;
    if nanos.abs() >= NANOS_PER_SECOND || seconds.signum() * nanos.signum() < 0 {
        return Err(Bad::new(format!("{seconds} seconds and {nanos} nanos are no duration")));
    }
    let total = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    if again {
        column.truncate(column.len() - 1);
    }
    let fits = match &mut column.values {
        Values::Integer { values, .. } => {
            i64::try_from(total / 1_000).map(|micros| values.push(micros)).is_ok()
        }
        Values::Decimal { values, precision, scale } => {
            let value = total / power_of_ten(9 - *scale);
            let fits = value.abs() < power_of_ten(*precision as i8);
            if fits {
                values.push(value);
            }
            fits
        }
        _ => return Err(unsuited()),
    };
    if !fits {
        return Err(column.mismatch(&format!("a duration of {seconds} seconds")));
    }
    column.appended();
    Ok(())
}

/// Ten to the power of at most 38.
fn power_of_ten(exponent: i8) -> i128 {
    10i128.pow(exponent.unsigned_abs().into())
}

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
            Self::Int32 | Self::Enum(_) => (reader.varint()? as i32).into(),
            Self::Uint32 => (reader.varint()? as u32).into(),
            Self::Sint32 => unzigzag((reader.varint()? as u32).into()),
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

#[cold]
fn unsuited() -> Box<Bad> {
    Bad::new("the column's builder does not fit its field: a defect")
}
