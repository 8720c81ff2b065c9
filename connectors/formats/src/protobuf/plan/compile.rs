//! Plans out of descriptions and tables, and what is said where the two do not fit.

use std::collections::HashMap;

use arrow::datatypes::{DataType, FieldRef, Fields};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor, Value};
use tidemill_core::{Error, Result};

use super::super::types::{self, EnumNames, Shape};
use super::super::wire::WireType;
use super::{
    Absent, Constant, DENSE_NUMBERS, FieldPlan, MapPlan, MessagePlan, Missing, NOWHERE, Nested,
    OneofPlan, Op, Scalar, Single,
};

impl MessagePlan {
    /// # Errors
    /// A configuration error that names the column, the field, and what the column could be.
    pub(in super::super) fn new(
        message: &MessageDescriptor,
        columns: &Fields,
        absent: Absent,
    ) -> Result<Self> {
        Self::within(message, columns, absent, "")
    }

    fn within(
        message: &MessageDescriptor,
        columns: &Fields,
        absent: Absent,
        path: &str,
    ) -> Result<Self> {
        let oneofs: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        let column_of = |name: &str| columns.iter().position(|column| column.name() == name);
        let mut plan = Self {
            fields: Vec::new(),
            oneofs: Vec::new(),
            absent: check_columns(message, columns, absent, path)?,
            dense: Vec::new(),
            sparse: HashMap::new(),
        };
        for oneof in &oneofs {
            let column = column_of(oneof.name());
            if let Some(column) = column
                && !is_text(columns[column].data_type())
            {
                let path = format!("{path}{}", oneof.name());
                return Err(Error::configuration(format!(
                    "column '{path}' says which member of a oneof is set: declare it STRING"
                )));
            }
            plan.oneofs.push(OneofPlan { name: oneof.name().into(), column, set: None });
        }
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        for field in &fields {
            let oneof =
                field.containing_oneof().and_then(|of| oneofs.iter().position(|o| *o == of));
            let column = column_of(field.name());
            if column.is_some() || oneof.is_some() {
                let data_type = column.map(|column| columns[column].data_type());
                let planned = FieldPlan::new(field, data_type, absent, path)?;
                plan.fields.push(FieldPlan { column, oneof, ..planned });
            }
        }
        plan.number_fields();
        Ok(plan)
    }

    fn number_fields(&mut self) {
        for (index, field) in self.fields.iter().enumerate() {
            // Field numbers have 29 bits, so there are no more fields.
            let index = index as u32;
            if field.number < DENSE_NUMBERS {
                let number = field.number as usize;
                self.dense.resize(self.dense.len().max(number + 1), NOWHERE);
                self.dense[number] = index;
            } else {
                self.sparse.insert(field.number, index);
            }
        }
    }
}

impl FieldPlan {
    /// Of no column yet; without a type there is none.
    fn new(
        field: &FieldDescriptor,
        data_type: Option<&DataType>,
        absent: Absent,
        path: &str,
    ) -> Result<Self> {
        let (op, missing) = match data_type {
            Some(data_type) => {
                field_op(field, data_type, absent, &format!("{path}{}", field.name()))?
            }
            None => (Op::Single(Single::Skip), Missing::Null),
        };
        let wire_type =
            Scalar::new(&field.kind()).map_or(WireType::Length, |scalar| scalar.wire_type());
        let usual = if field.is_packed() { WireType::Length } else { wire_type };
        Ok(Self {
            name: field.name().into(),
            number: field.number(),
            column: None,
            oneof: None,
            op,
            missing,
            presence: field.supports_presence(),
            packed: field.is_packed(),
            wire_type,
            tag: u64::from(field.number()) << 3 | usual as u64,
            seen: false,
        })
    }
}

impl Scalar {
    fn new(kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::Bool => Self::Bool,
            Kind::Int32 => Self::Int32,
            Kind::Int64 => Self::Int64,
            Kind::Uint32 => Self::Uint32,
            Kind::Uint64 => Self::Uint64,
            Kind::Sint32 => Self::Sint32,
            Kind::Sint64 => Self::Sint64,
            Kind::Fixed32 => Self::Fixed32,
            Kind::Fixed64 => Self::Fixed64,
            Kind::Sfixed32 => Self::Sfixed32,
            Kind::Sfixed64 => Self::Sfixed64,
            Kind::Float => Self::Float,
            Kind::Double => Self::Double,
            Kind::String => Self::String,
            Kind::Bytes => Self::Bytes,
            Kind::Enum(values) => Self::Enum(Box::new(EnumNames::new(values))),
            Kind::Message(_) => return None,
        })
    }
}

/// The columns that the message has neither a field nor a `oneof` for.
fn check_columns(
    message: &MessageDescriptor,
    columns: &Fields,
    absent: Absent,
    path: &str,
) -> Result<Vec<usize>> {
    let names: Vec<String> = message
        .fields()
        .map(|field| field.name().to_owned())
        .chain(message.oneofs().filter(|o| !o.is_synthetic()).map(|o| o.name().to_owned()))
        .collect();
    let missing = (0..columns.len()).filter(|c| !names.contains(columns[*c].name()));
    let missing: Vec<usize> = missing.collect();
    let Some(first) = missing.first().filter(|_| absent == Absent::Refused) else {
        return Ok(missing);
    };
    let column = columns[*first].name();
    let similar = names
        .iter()
        .map(|name| (strsim::jaro_winkler(name, column), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match similar {
        Some((_, name)) => format!("did you mean '{name}'?"),
        None => format!("it has {}", names.join(", ")),
    };
    Err(Error::configuration(format!(
        "column '{path}{column}': message {} has no such field: {hint}",
        message.full_name()
    )))
}

fn field_op(
    field: &FieldDescriptor,
    data_type: &DataType,
    absent: Absent,
    path: &str,
) -> Result<(Op, Missing)> {
    let wrong = |possible: &str| {
        let (is, of) = (types::sql_type(data_type), types::proto_type(field));
        let message = field.parent_message().full_name();
        Error::configuration(format!(
            "column '{path}' is {is}, and field '{}' of message {message} is {of}: declare it {possible}",
            field.name(),
        ))
    };
    if field.is_map() {
        let DataType::Map(entries, _) = data_type else { return Err(wrong("MAP<…>")) };
        return Ok((Op::Map(Box::new(map_plan(field, entries, absent, path)?)), Missing::Null));
    }
    if field.is_list() {
        let DataType::List(item) = data_type else { return Err(wrong("ARRAY<…>")) };
        let single = single_op(field, item.data_type(), absent, path)
            .map_err(|unfit| unfit.error(|possible| wrong(&format!("ARRAY of {possible}"))))?;
        return Ok((Op::List(single), Missing::Null));
    }
    let single =
        single_op(field, data_type, absent, path).map_err(|unfit| unfit.error(|p| wrong(p)))?;
    let missing = missing(field, &single, data_type);
    Ok((Op::Single(single), missing))
}

/// Why there is no op.
enum Unfit {
    /// The column's type; these are possible.
    Type(&'static str),
    /// Something within.
    Inside(Error),
}

impl Unfit {
    fn error(self, wrong: impl FnOnce(&str) -> Error) -> Error {
        match self {
            Self::Type(possible) => wrong(possible),
            Self::Inside(error) => error,
        }
    }
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Self::Inside(error)
    }
}

fn single_op(
    field: &FieldDescriptor,
    data_type: &DataType,
    absent: Absent,
    path: &str,
) -> Result<Single, Unfit> {
    let message = |message: &MessageDescriptor, possible| {
        let DataType::Struct(fields) = data_type else { return Err(Unfit::Type(possible)) };
        let plan = MessagePlan::within(message, fields, absent, &format!("{path}."))?;
        Ok(Single::Message(Box::new(Nested { plan, open: false })))
    };
    let scalar = |kind: &Kind| {
        types::check_scalar(kind, data_type).map_err(Unfit::Type)?;
        Scalar::new(kind).ok_or(Unfit::Type("ROW"))
    };
    match types::shape(field) {
        Shape::Scalar(kind) => scalar(&kind).map(Single::Scalar),
        Shape::Wrapper(kind) => scalar(&kind).map(Single::Wrapper),
        Shape::Timestamp(descriptor) => match data_type {
            DataType::Timestamp(_, _) => Ok(Single::Timestamp),
            _ => message(&descriptor, "TIMESTAMP, TIMESTAMP_LTZ or ROW<seconds BIGINT, nanos INT>"),
        },
        Shape::Duration(descriptor) => match data_type {
            DataType::Decimal128(_, 0..=9) | DataType::Int64 => Ok(Single::Duration),
            _ => message(
                &descriptor,
                "DECIMAL(21, 9) (seconds), BIGINT (microseconds) or ROW<seconds BIGINT, nanos INT>",
            ),
        },
        Shape::Message(descriptor) => message(&descriptor, "ROW<…>"),
        Shape::Group => {
            let message = format!("column '{path}': groups are not read; leave the column out");
            Err(Error::configuration(message).into())
        }
    }
}

fn map_plan(
    field: &FieldDescriptor,
    entries: &FieldRef,
    absent: Absent,
    path: &str,
) -> Result<MapPlan> {
    let (Kind::Message(entry), DataType::Struct(sides)) = (field.kind(), entries.data_type())
    else {
        return Err(Error::internal(format!("column '{path}': a map without entries")));
    };
    let sides = (sides[0].data_type(), sides[1].data_type());
    let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
    let single = |field: &FieldDescriptor, data_type: &DataType, side: &str| {
        single_op(field, data_type, absent, path).map_err(|unfit| {
            unfit.error(|possible| {
                let (is, of) = (types::sql_type(data_type), types::proto_type(field));
                Error::configuration(format!(
                    "column '{path}': the {side} of the MAP are {is}, and those of the field are \
                     {of}: declare them {possible}"
                ))
            })
        })
    };
    let Single::Scalar(key_scalar) = single(&key, sides.0, "keys")? else {
        return Err(Error::internal(format!("column '{path}': keys are scalars")));
    };
    let value_op = single(&value, sides.1, "values")?;
    let value_default = match &value_op {
        Single::Scalar(_) => Some(Constant::new(&value.default_value(), &value.kind(), sides.1)),
        _ => None,
    };
    Ok(MapPlan {
        key: key_scalar,
        key_default: Constant::new(&key.default_value(), &key.kind(), sides.0),
        value: value_op,
        value_default,
        entries: Vec::new(),
    })
}

fn missing(field: &FieldDescriptor, single: &Single, data_type: &DataType) -> Missing {
    if field.cardinality() == Cardinality::Required {
        return Missing::Required;
    }
    let has_default =
        !field.supports_presence() || field.field_descriptor_proto().default_value.is_some();
    if matches!(single, Single::Scalar(_)) && has_default {
        return Missing::Default(Constant::new(&field.default_value(), &field.kind(), data_type));
    }
    Missing::Null
}

impl Constant {
    /// A default, as a column of type `data_type` holds it.
    fn new(value: &Value, kind: &Kind, data_type: &DataType) -> Self {
        match (value, kind) {
            (Value::Bool(value), _) => Self::Boolean(*value),
            (Value::I32(value), _) => Self::Integer((*value).into()),
            (Value::I64(value), _) => Self::Integer(*value),
            (Value::U32(value), _) => Self::Integer((*value).into()),
            (Value::U64(value), _) => Self::Unsigned(*value),
            (Value::F32(value), _) => Self::Float((*value).into()),
            (Value::F64(value), _) => Self::Float(*value),
            (Value::String(text), _) => Self::Bytes(text.as_bytes().into()),
            (Value::Bytes(bytes), _) => Self::Bytes(bytes.as_ref().into()),
            (Value::EnumNumber(number), Kind::Enum(values)) if is_text(data_type) => {
                EnumNames::new(values).name(*number, |name| Self::Bytes(name.into()))
            }
            (Value::EnumNumber(number), _) => Self::Integer((*number).into()),
            // Scalars have scalar defaults; see `missing` and `map_plan`.
            (Value::Message(_) | Value::List(_) | Value::Map(_), _) => Self::Integer(0),
        }
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
