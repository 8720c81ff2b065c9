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

mod map;
mod scalar;
mod times;

use self::scalar::wrapper;
use self::times::{duration, timestamp};
use super::plan::{FieldPlan, MessagePlan, Missing, Nested, Op, Single};
use super::wire::{Reader, WireType, check_depth};
use crate::column::{Bad, Column, Fit, Record, Values};

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
            Op::Map(map) => map::entries(reader, map, column, depth),
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

fn offset(len: usize) -> Fit<i32> {
    i32::try_from(len).map_err(|_| Bad::new("more elements than one batch can hold"))
}

#[cold]
fn unsuited() -> Box<Bad> {
    Bad::new("the column's builder does not fit its field: a defect")
}
