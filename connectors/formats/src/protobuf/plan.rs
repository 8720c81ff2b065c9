//! How a message's fields become columns: compiled once per message type and table.
//!
//! A plan is a tree beside the tree of columns. It also keeps what a walk must remember of the row it
//! is in: which member of a `oneof` is set, which messages have begun, where the entries of a map
//! lie.
//!
//! Invariant: a plan's op fits the values of its column, so that the walk never has to ask.

mod compile;

use std::collections::HashMap;

use arrow::datatypes::{DataType, FieldRef, Fields};
use tidemill_core::Result;

use super::types::EnumNames;
use super::wire::WireType;
use crate::column::{Column, Record, Values};

/// What becomes of a column that the message has no field for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// The table is wrong.
    Refused,
    /// It is null: the message may be of an older or newer schema.
    Null,
}

/// A message's fields, by number.
pub(super) struct MessagePlan {
    /// In ascending order of their numbers.
    pub(super) fields: Vec<FieldPlan>,
    pub(super) oneofs: Vec<OneofPlan>,
    /// Columns that the message has nothing for.
    pub(super) absent: Vec<usize>,
    /// Index of the first numbers' fields; `NOWHERE` without one.
    dense: Vec<u32>,
    sparse: HashMap<u32, u32>,
}

pub(super) struct FieldPlan {
    pub(super) name: Box<str>,
    pub(super) number: u32,
    /// `None` for a member of a `oneof` that the table does not have.
    pub(super) column: Option<usize>,
    pub(super) oneof: Option<usize>,
    pub(super) op: Op,
    pub(super) missing: Missing,
    /// Whether absence and the default differ on the wire.
    pub(super) presence: bool,
    pub(super) packed: bool,
    /// Of a value of its own.
    pub(super) wire_type: WireType,
    /// What the field usually begins with: its number and how its value is laid out.
    pub(super) tag: u64,
    /// Whether the row being read has a value of it already.
    pub(super) seen: bool,
}

pub(super) struct OneofPlan {
    pub(super) name: Box<str>,
    /// The column that names the member which is set.
    pub(super) column: Option<usize>,
    /// Index of the field that is set in the row being read.
    pub(super) set: Option<usize>,
}

pub(super) enum Op {
    Single(Single),
    List(Single),
    Map(Box<MapPlan>),
}

/// How one value is read.
pub(super) enum Single {
    Scalar(Scalar),
    Wrapper(Scalar),
    Timestamp,
    Duration,
    Message(Box<Nested>),
    /// Not at all: there is no column.
    Skip,
}

pub(super) struct Nested {
    pub(super) plan: MessagePlan,
    /// Whether the row being read has such a message.
    pub(super) open: bool,
}

pub(super) struct MapPlan {
    pub(super) key: Scalar,
    pub(super) value: Single,
    pub(super) key_default: Constant,
    /// `None` for a message.
    pub(super) value_default: Option<Constant>,
    /// Where in the payload the entries of the row being read lie.
    pub(super) entries: Vec<(usize, usize)>,
}

/// A scalar as the wire has it.
pub(super) enum Scalar {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    String,
    Bytes,
    Enum(Box<EnumNames>),
}

/// What a row without the field gets.
pub(super) enum Missing {
    Null,
    Default(Constant),
    /// proto2: a message without it is none.
    Required,
}

/// A value to append.
pub(super) enum Constant {
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Bytes(Box<[u8]>),
}

const NOWHERE: u32 = u32::MAX;
const DENSE_NUMBERS: u32 = 256;

impl MessagePlan {
    /// The field with a number, if the table wants it.
    #[inline]
    pub(super) fn find(&self, number: u32) -> Option<usize> {
        match self.dense.get(number as usize) {
            Some(&NOWHERE) => None,
            Some(index) => Some(*index as usize),
            None if self.sparse.is_empty() => None,
            None => self.sparse.get(&number).map(|index| *index as usize),
        }
    }

    /// Forgets the row being read.
    pub(super) fn reset(&mut self) {
        self.oneofs.iter_mut().for_each(|oneof| oneof.set = None);
        self.fields.iter_mut().for_each(FieldPlan::reset);
    }
}

impl FieldPlan {
    /// Forgets the value of the row being read.
    pub(super) fn reset(&mut self) {
        self.seen = false;
        match &mut self.op {
            Op::Single(single) | Op::List(single) => single.reset(),
            Op::Map(map) => {
                map.entries.clear();
                map.value.reset();
            }
        }
    }
}

impl Single {
    fn reset(&mut self) {
        if let Self::Message(nested) = self {
            nested.open = false;
            nested.plan.reset();
        }
    }
}

impl Scalar {
    #[inline]
    pub(super) fn wire_type(&self) -> WireType {
        match self {
            Self::Fixed32 | Self::Sfixed32 | Self::Float => WireType::Fixed32,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => WireType::Fixed64,
            Self::String | Self::Bytes => WireType::Length,
            _ => WireType::Varint,
        }
    }
}

impl Constant {
    /// Appends it to the column it was made for.
    pub(super) fn append(&self, column: &mut Column) {
        match (&mut column.values, self) {
            (Values::Boolean(values), Self::Boolean(value)) => values.push(*value),
            (Values::Integer { values, .. }, Self::Integer(value)) => values.push(*value),
            (Values::Integer { values, .. }, Self::Unsigned(value)) => values.push(*value as i64),
            (Values::Decimal { values, .. }, Self::Unsigned(value)) => {
                values.push(i128::from(*value));
            }
            (Values::Float { values, .. }, Self::Float(value)) => values.push(*value),
            (_, Self::Bytes(bytes)) => return column.append_bytes(bytes),
            _ => return,
        }
        column.appended();
    }
}

/// Empty columns; keys of a `MAP` may be of any type, which text formats do not allow.
pub(super) fn columns(fields: &Fields) -> Result<Record> {
    let columns = fields.iter().map(column).collect::<Result<Vec<_>>>()?;
    let mut record = Record::new(&Fields::empty())?;
    record.names = fields.iter().map(|field| field.name().clone()).collect();
    record.columns = columns;
    Ok(record)
}

fn column(field: &FieldRef) -> Result<Column> {
    let values = match field.data_type() {
        DataType::Struct(fields) if !fields.is_empty() => {
            Values::Struct(Box::new(columns(fields)?))
        }
        DataType::List(item) => Values::List { ends: Vec::new(), item: Box::new(column(item)?) },
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(sides) if sides.len() == 2 => {
                let (key, value) = (Box::new(column(&sides[0])?), Box::new(column(&sides[1])?));
                Values::Map { ends: Vec::new(), key, value }
            }
            _ => return Column::new(field),
        },
        _ => return Column::new(field),
    };
    Ok(Column::of(field, values))
}
