//! Which columns can hold which fields.
//!
//! | field | column, the first being what [`schema`] says |
//! |---|---|
//! | `bool` | `BOOLEAN` |
//! | `int32`, `sint32`, `sfixed32` | `INT`, `BIGINT` |
//! | `uint32`, `fixed32`, `int64`, `sint64`, `sfixed64` | `BIGINT` |
//! | `uint64`, `fixed64` | `DECIMAL(20, 0)`, `BIGINT` |
//! | `float` | `FLOAT`, `DOUBLE` |
//! | `double` | `DOUBLE` |
//! | `string`, `bytes` | `STRING`, `BYTES` |
//! | an enum | `STRING`: the value's name; `INT`: its number |
//! | `google.protobuf.Timestamp` | `TIMESTAMP`, `TIMESTAMP_LTZ`, `ROW` |
//! | `google.protobuf.Duration` | `DECIMAL(21, 9)`: seconds; `BIGINT`: microseconds; `ROW` |
//! | `google.protobuf.Int64Value` and the like | what their `value` can be |
//! | a message | `ROW` |
//! | `repeated`, `map` | `ARRAY`, `MAP` |

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// What a single value of a field is.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A scalar or an enum.
    Scalar(Kind),
    /// A message with one scalar in field 1, which may thus be absent.
    Wrapper(Kind),
    Timestamp(MessageDescriptor),
    Duration(MessageDescriptor),
    Message(MessageDescriptor),
    /// A message without a length before it: its fields lie between two tags.
    Group,
}

/// What a single value of a field is, repeated or not.
pub(super) fn shape(field: &FieldDescriptor) -> Shape {
    match field.kind() {
        Kind::Message(_) if field.is_group() => Shape::Group,
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => Shape::Timestamp(message),
            "google.protobuf.Duration" => Shape::Duration(message),
            "google.protobuf.BoolValue"
            | "google.protobuf.Int32Value"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.FloatValue"
            | "google.protobuf.DoubleValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue" => match message.get_field(1) {
                Some(value) => Shape::Wrapper(value.kind()),
                None => Shape::Message(message),
            },
            _ => Shape::Message(message),
        },
        scalar => Shape::Scalar(scalar),
    }
}

/// Whether a column of type `column` can hold a scalar, and if not, which can.
pub(super) fn check_scalar(kind: &Kind, column: &DataType) -> Result<(), &'static str> {
    use DataType::{Boolean, Float32, Float64, Int32, Int64};
    let is_text = matches!(column, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_bytes =
        matches!(column, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let (fits, possible) = match kind {
        Kind::Bool => (*column == Boolean, "BOOLEAN"),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            (matches!(column, Int32 | Int64), "INT or BIGINT")
        }
        Kind::Uint32 | Kind::Fixed32 | Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            (*column == Int64, "BIGINT")
        }
        Kind::Uint64 | Kind::Fixed64 => {
            let wide = matches!(column, DataType::Decimal128(20.., 0));
            (wide || *column == Int64, "DECIMAL(20, 0) or BIGINT")
        }
        Kind::Float => (matches!(column, Float32 | Float64), "FLOAT or DOUBLE"),
        Kind::Double => (*column == Float64, "DOUBLE"),
        Kind::String => (is_text, "STRING"),
        Kind::Bytes => (is_bytes, "BYTES"),
        Kind::Enum(_) => (is_text || *column == Int32, "STRING (the name) or INT (the number)"),
        Kind::Message(_) => (false, "ROW"),
    };
    if fits { Ok(()) } else { Err(possible) }
}

/// The columns of a message: what a table has to declare to hold it whole.
///
/// A `oneof` has a column of its own name besides, which says which member is set. What no column
/// can hold is left out: groups, messages without fields, and messages within themselves.
pub fn schema(message: &MessageDescriptor) -> SchemaRef {
    Arc::new(Schema::new(fields_of(message, &mut Vec::new())))
}

fn fields_of(message: &MessageDescriptor, within: &mut Vec<String>) -> Fields {
    within.push(message.full_name().to_owned());
    let mut fields: Vec<FieldRef> = Vec::new();
    let mut named: Vec<String> = Vec::new();
    for field in message.fields() {
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        if let Some(oneof) = oneof
            && !named.iter().any(|name| name == oneof.name())
        {
            named.push(oneof.name().to_owned());
            fields.push(Arc::new(Field::new(oneof.name(), DataType::Utf8View, true)));
        }
        if let Some(data_type) = type_of(&field, within) {
            fields.push(Arc::new(Field::new(field.name(), data_type, true)));
        }
    }
    within.pop();
    fields.into()
}

fn type_of(field: &FieldDescriptor, within: &mut Vec<String>) -> Option<DataType> {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let key = single_type(&entry.map_entry_key_field(), within)?;
        let value = single_type(&entry.map_entry_value_field(), within)?;
        return Some(map_type(key, value));
    }
    let single = single_type(field, within)?;
    Some(if field.is_list() {
        DataType::List(Arc::new(Field::new("item", single, true)))
    } else {
        single
    })
}

fn map_type(key: DataType, value: DataType) -> DataType {
    let entries = vec![Field::new("key", key, false), Field::new("value", value, true)];
    let entries = Field::new("entries", DataType::Struct(entries.into()), false);
    DataType::Map(Arc::new(entries), false)
}

fn single_type(field: &FieldDescriptor, within: &mut Vec<String>) -> Option<DataType> {
    match shape(field) {
        Shape::Scalar(kind) | Shape::Wrapper(kind) => Some(scalar_type(&kind)),
        Shape::Timestamp(_) => Some(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        Shape::Duration(_) => Some(DataType::Decimal128(21, 9)),
        Shape::Group => None,
        Shape::Message(message) if within.iter().any(|name| name == message.full_name()) => None,
        Shape::Message(message) => {
            let fields = fields_of(&message, within);
            (!fields.is_empty()).then_some(DataType::Struct(fields))
        }
    }
}

fn scalar_type(kind: &Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => DataType::Int32,
        Kind::Uint64 | Kind::Fixed64 => DataType::Decimal128(20, 0),
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::Bytes => DataType::BinaryView,
        Kind::String | Kind::Enum(_) => DataType::Utf8View,
        // Messages are no scalars; what is left has 64 bits or fewer.
        _ => DataType::Int64,
    }
}

/// A field's type as a `.proto` file says it.
pub(super) fn proto_type(field: &FieldDescriptor) -> String {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        return format!("map<{:?}, {:?}>", key.kind(), value.kind());
    }
    let repeated = if field.is_list() { "repeated " } else { "" };
    let group = if field.is_group() { "group " } else { "" };
    format!("{repeated}{group}{:?}", field.kind())
}

/// Names of an enum's values by number. Of aliases the first counts.
#[derive(Debug, Clone)]
pub(super) struct EnumNames {
    /// The names of the first numbers from 0 on.
    dense: Vec<Option<Box<str>>>,
    sparse: HashMap<i32, Box<str>>,
    /// Numbers by name, in the order of the names.
    numbers: Vec<(Box<str>, i32)>,
}

/// Numbers below this are looked up without a search.
const DENSE_MAX: i32 = 256;

impl EnumNames {
    pub(super) fn new(descriptor: &EnumDescriptor) -> Self {
        let (mut dense, mut sparse, mut numbers) = (Vec::new(), HashMap::new(), Vec::new());
        // In the order of the file: a descriptor's own values are in another.
        for value in &descriptor.enum_descriptor_proto().value {
            let (number, name) = (value.number(), || value.name().into());
            numbers.push((name(), number));
            if (0..DENSE_MAX).contains(&number) {
                let index = number as usize;
                dense.resize(dense.len().max(index + 1), None);
                dense[index].get_or_insert_with(name);
            } else {
                sparse.entry(number).or_insert_with(name);
            }
        }
        numbers.sort_unstable();
        Self { dense, sparse, numbers }
    }

    /// Calls `with` with the name of a value, or with its number as text where it has none.
    #[inline]
    pub(super) fn name<T>(&self, number: i32, with: impl FnOnce(&[u8]) -> T) -> T {
        match self.dense.get(number as usize) {
            Some(Some(name)) => with(name.as_bytes()),
            _ => match self.sparse.get(&number) {
                Some(name) => with(name.as_bytes()),
                None => with(number.to_string().as_bytes()),
            },
        }
    }

    /// The number of a name, or of a number as text.
    pub(super) fn number(&self, name: &str) -> Option<i32> {
        match self.numbers.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(found) => Some(self.numbers[found].1),
            Err(_) => name.parse().ok(),
        }
    }
}

/// A type as a `CREATE TABLE` says it.
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".into(),
        DataType::Timestamp(_, zone) => {
            let name = if zone.is_some() { "TIMESTAMP_LTZ" } else { "TIMESTAMP" };
            format!("{name}({})", if is_nanos(data_type) { 9 } else { 6 })
        }
        DataType::Struct(fields) => {
            let field =
                |field: &FieldRef| format!("`{}` {}", field.name(), sql_type(field.data_type()));
            format!("ROW<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        DataType::List(item) => format!("ARRAY<{}>", sql_type(item.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let side = |n: usize| sql_type(fields[n].data_type());
                format!("MAP<{}, {}>", side(0), side(1))
            }
            other => other.to_string(),
        },
        scalar => crate::column::type_name(scalar),
    }
}

fn is_nanos(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Nanosecond, _))
}
