//! Rows into payloads: the plan of decoding, the other way.
//!
//! Arrays are brought into a plain form once per batch; then every row is written field by field, in
//! the order of their numbers.

mod plain;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use prost_reflect::MessageDescriptor;
use tidemill_core::{Error, Result};

use self::plain::{
    Plain, length_prefixed, number_of, put_scalar, put_seconds, text, unpacked, unsuited,
};
use super::RegistryFormat;
use super::plan::{Absent, FieldPlan, MessagePlan, Missing, Op, Scalar, Single};
use super::wire::{WireType, put_tag};
use crate::Encoder;
use crate::column::{Bad, Fit};
use crate::temporal;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Encodes messages. See the [module](super).
pub struct ProtobufEncoder {
    schema: SchemaRef,
    /// Asked with the first rows, where there is one.
    registry: Option<RegistryFormat>,
    /// What every payload begins with, and how the rest is made of a row.
    planned: Option<(Vec<u8>, MessagePlan)>,
}

impl ProtobufEncoder {
    pub(super) fn of_message(message: &MessageDescriptor, schema: SchemaRef) -> Result<Self> {
        let plan = MessagePlan::new(message, schema.fields(), Absent::Refused)?;
        Ok(Self { schema, registry: None, planned: Some((Vec::new(), plan)) })
    }

    pub(super) fn of_registry(format: RegistryFormat, schema: SchemaRef) -> Self {
        Self { schema, registry: Some(format), planned: None }
    }
}

impl Encoder for ProtobufEncoder {
    /// # Errors
    /// Those of [`registry`](crate::registry) with the first rows, and a configuration error where the
    /// subject's latest schema does not fit the table. Permanent, for a row that is no such message: a required field that is null, a name that is not
    /// in its enum, two members of a `oneof`.
    fn encode(&mut self, rows: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let (frame, plan) = match &mut self.planned {
            Some(planned) => planned,
            unplanned => {
                let format = self.registry.as_ref();
                let format = format.ok_or_else(|| Error::internal("an encoder without a plan"))?;
                let (frame, message) = format.registered()?;
                let plan = MessagePlan::new(&message, self.schema.fields(), Absent::Refused)?;
                unplanned.insert((frame, plan))
            }
        };
        let cells = RecordCells::new(plan, rows.columns())?;
        let mut payload = Vec::new();
        for row in 0..rows.num_rows() {
            payload.clear();
            payload.extend_from_slice(frame);
            cells.write(row, &mut payload).map_err(|bad| {
                Error::permanent(format!("row {row} is no such message: {}", bad.reason("")))
            })?;
            each(&payload);
        }
        Ok(())
    }

    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}

/// The cells of the rows of a message.
struct RecordCells<'a> {
    plan: &'a MessagePlan,
    /// For each field of the plan; `None` where the table has no column.
    fields: Vec<Option<FieldCells<'a>>>,
    /// For each `oneof` the column that names the member which is set.
    oneofs: Vec<Option<StringViewArray>>,
}

/// The cells of one field.
struct FieldCells<'a> {
    array: ArrayRef,
    kind: CellKind<'a>,
}

enum CellKind<'a> {
    Single(SingleCells<'a>),
    List { offsets: Vec<i32>, item: Box<Item<'a>> },
    Map { offsets: Vec<i32>, key: Box<Item<'a>>, value: Box<Item<'a>> },
}

/// Values between the offsets of a list or a map.
struct Item<'a> {
    array: ArrayRef,
    cells: SingleCells<'a>,
}

enum SingleCells<'a> {
    Scalar(&'a Scalar, Plain),
    Wrapper(&'a Scalar, Plain),
    /// Values, and how many make a second.
    Time(Int64Array, i64),
    Duration(Plain, i8),
    Message(RecordCells<'a>),
}

impl<'a> RecordCells<'a> {
    fn new(plan: &'a MessagePlan, columns: &[ArrayRef]) -> Result<Self> {
        let field = |field: &'a FieldPlan| match field.column {
            Some(column) => FieldCells::new(&field.op, &columns[column]).map(Some),
            None => Ok(None),
        };
        let oneof = |column: Option<usize>| match column {
            Some(column) => text(&columns[column]).map(Some),
            None => Ok(None),
        };
        Ok(Self {
            plan,
            fields: plan.fields.iter().map(field).collect::<Result<_>>()?,
            oneofs: plan.oneofs.iter().map(|of| oneof(of.column)).collect::<Result<_>>()?,
        })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Fit {
        let mut set = [None; 8];
        let mut more;
        let set: &mut [Option<usize>] = if self.oneofs.len() <= set.len() {
            &mut set[..self.oneofs.len()]
        } else {
            more = vec![None; self.oneofs.len()];
            &mut more
        };
        for (oneof, set) in set.iter_mut().enumerate() {
            *set = self.member(oneof, row)?;
        }
        for (index, (field, cells)) in self.plan.fields.iter().zip(&self.fields).enumerate() {
            if field.oneof.is_some_and(|oneof| set[oneof] != Some(index)) {
                continue;
            }
            let written = match cells {
                Some(cells) if cells.array.is_valid(row) => cells.write(field, row, out),
                _ if field.oneof.is_some() => {
                    put_zero(field, out);
                    Ok(())
                }
                _ if matches!(field.missing, Missing::Required) => {
                    Err(Bad::new("a required field is null"))
                }
                _ => Ok(()),
            };
            written.map_err(|bad| bad.inside(format_args!(".{}", field.name)))?;
        }
        Ok(())
    }

    /// Which field of a `oneof` is set: the one that is named, or the one that is not null.
    fn member(&self, oneof: usize, row: usize) -> Fit<Option<usize>> {
        let plan = &self.plan.oneofs[oneof];
        let mut members =
            (0..self.fields.len()).filter(|field| self.plan.fields[*field].oneof == Some(oneof));
        if let Some(names) = self.oneofs[oneof].as_ref().filter(|names| names.is_valid(row)) {
            let name = names.value(row);
            let member = members.find(|field| *self.plan.fields[*field].name == *name);
            return member.map(Some).ok_or_else(|| {
                Bad::new(format!("'{name}' is no member of the oneof"))
                    .inside(format_args!(".{}", plan.name))
            });
        }
        let mut set = members.filter(|field| {
            self.fields[*field].as_ref().is_some_and(|cells| cells.array.is_valid(row))
        });
        let first = set.next();
        if let (Some(first), Some(second)) = (first, set.next()) {
            let name = |field: usize| &self.plan.fields[field].name;
            return Err(Bad::new(format!("'{}' and '{}' are both set", name(first), name(second)))
                .inside(format_args!(".{}", plan.name)));
        }
        Ok(first)
    }
}

/// A member that is set, and has no value: zero.
fn put_zero(field: &FieldPlan, out: &mut Vec<u8>) {
    put_tag(field.number, field.wire_type, out);
    let zeros: &[u8] = match field.wire_type {
        WireType::Fixed32 => &[0; 4],
        WireType::Fixed64 => &[0; 8],
        _ => &[0],
    };
    out.extend_from_slice(zeros);
}

impl<'a> FieldCells<'a> {
    fn new(op: &'a Op, array: &ArrayRef) -> Result<Self> {
        let array = unpacked(array)?;
        let kind = match op {
            Op::Single(single) => CellKind::Single(SingleCells::new(single, &array)?),
            Op::List(single) => {
                let list = array.as_list::<i32>();
                let item = Box::new(Item::new(single, list.values())?);
                CellKind::List { offsets: list.value_offsets().to_vec(), item }
            }
            Op::Map(plan) => {
                let map = array.as_map();
                let (key, value) = (unpacked(map.keys())?, unpacked(map.values())?);
                let key_cells = SingleCells::Scalar(&plan.key, Plain::new(&key)?);
                CellKind::Map {
                    offsets: map.value_offsets().to_vec(),
                    key: Box::new(Item { array: key, cells: key_cells }),
                    value: Box::new(Item::new(&plan.value, &value)?),
                }
            }
        };
        Ok(Self { array, kind })
    }

    fn write(&self, field: &FieldPlan, row: usize, out: &mut Vec<u8>) -> Fit {
        match &self.kind {
            CellKind::Single(cells) => {
                if !field.presence && cells.is_zero(row)? {
                    return Ok(());
                }
                cells.write(field.number, row, out)
            }
            CellKind::List { offsets, item } => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                if start == end {
                    return Ok(());
                }
                if let (SingleCells::Scalar(scalar, values), true) = (&item.cells, field.packed) {
                    put_tag(field.number, WireType::Length, out);
                    return length_prefixed(out, |out| {
                        (start..end).try_for_each(|n| {
                            item.check(n)
                                .and_then(|()| put_scalar(scalar, values, n, out))
                                .map_err(|bad| bad.inside(format_args!("[{}]", n - start)))
                        })
                    });
                }
                (start..end).try_for_each(|n| {
                    item.write(field.number, n, out)
                        .map_err(|bad| bad.inside(format_args!("[{}]", n - start)))
                })
            }
            CellKind::Map { offsets, key, value } => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                (start..end).try_for_each(|n| {
                    put_tag(field.number, WireType::Length, out);
                    length_prefixed(out, |out| {
                        key.write(1, n, out)?;
                        value.write(2, n, out)
                    })
                    .map_err(|bad| bad.inside(format_args!("{{entry {}}}", n - start)))
                })
            }
        }
    }
}

impl<'a> Item<'a> {
    fn new(single: &'a Single, array: &ArrayRef) -> Result<Self> {
        let array = unpacked(array)?;
        Ok(Self { cells: SingleCells::new(single, &array)?, array })
    }

    fn check(&self, row: usize) -> Fit {
        if self.array.is_null(row) {
            return Err(Bad::new("lists and maps of messages hold no null"));
        }
        Ok(())
    }

    fn write(&self, number: u32, row: usize, out: &mut Vec<u8>) -> Fit {
        self.check(row)?;
        self.cells.write(number, row, out)
    }
}

impl<'a> SingleCells<'a> {
    fn new(single: &'a Single, array: &ArrayRef) -> Result<Self> {
        Ok(match single {
            Single::Scalar(scalar) => Self::Scalar(scalar, Plain::new(array)?),
            Single::Wrapper(scalar) => Self::Wrapper(scalar, Plain::new(array)?),
            Single::Timestamp => {
                let DataType::Timestamp(unit, _) = array.data_type() else {
                    return Err(unsuited(array.data_type()));
                };
                let values = cast(array, &DataType::Int64)?;
                Self::Time(values.as_primitive::<Int64Type>().clone(), temporal::per_second(*unit))
            }
            Single::Duration => {
                let scale = match array.data_type() {
                    DataType::Decimal128(_, scale) => *scale,
                    _ => 6,
                };
                Self::Duration(Plain::new(array)?, scale)
            }
            Single::Message(nested) => {
                Self::Message(RecordCells::new(&nested.plan, array.as_struct().columns())?)
            }
            Single::Skip => return Err(Error::internal("a field without a column has no cells")),
        })
    }

    /// Whether a scalar without presence need not be written.
    fn is_zero(&self, row: usize) -> Fit<bool> {
        let Self::Scalar(scalar, values) = self else { return Ok(false) };
        Ok(match values {
            Plain::Boolean(values) => !values.value(row),
            Plain::Integer(values) => values.value(row) == 0,
            Plain::Float(values) => values.value(row).to_bits() == 0,
            Plain::Decimal(values) => values.value(row) == 0,
            Plain::Binary(values) => values.value(row).is_empty(),
            Plain::Text(values) => match scalar {
                Scalar::Enum(_) => number_of(scalar, values.value(row))? == 0,
                _ => values.value(row).is_empty(),
            },
        })
    }

    fn write(&self, number: u32, row: usize, out: &mut Vec<u8>) -> Fit {
        match self {
            Self::Scalar(scalar, values) => {
                put_tag(number, scalar.wire_type(), out);
                put_scalar(scalar, values, row, out)
            }
            Self::Wrapper(scalar, values) => {
                put_tag(number, WireType::Length, out);
                length_prefixed(out, |out| {
                    put_tag(1, scalar.wire_type(), out);
                    put_scalar(scalar, values, row, out)
                })
            }
            Self::Time(values, per_second) => {
                let value = values.value(row);
                let nanos_each = NANOS_PER_SECOND as i64 / per_second;
                put_tag(number, WireType::Length, out);
                put_seconds(
                    value.div_euclid(*per_second),
                    value.rem_euclid(*per_second) * nanos_each,
                    out,
                )
            }
            Self::Duration(values, scale) => {
                let value = match values {
                    Plain::Integer(values) => i128::from(values.value(row)),
                    Plain::Decimal(values) => values.value(row),
                    _ => return Err(Bad::new("the column is no duration: a defect")),
                };
                let per_second = 10i128.pow(scale.unsigned_abs().into());
                let seconds = i64::try_from(value / per_second)
                    .map_err(|_| Bad::new("the duration exceeds 64 bits of seconds"))?;
                let nanos = value % per_second * (NANOS_PER_SECOND / per_second);
                put_tag(number, WireType::Length, out);
                put_seconds(seconds, nanos as i64, out)
            }
            Self::Message(cells) => {
                put_tag(number, WireType::Length, out);
                length_prefixed(out, |out| cells.write(row, out))
            }
        }
    }
}
