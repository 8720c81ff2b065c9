//! What a row should be, read off prost-reflect's message by the rules of the module's doc; and what it
//! is, read off the arrays. Both as JSON, floats as text.

use std::collections::BTreeMap;

use arrow::array::Array;
use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use prost_reflect::{
    Cardinality, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value,
};
use serde_json::{Map, Value as Json, json};

/// The row that a message should be; `None` where it should be refused.
pub(super) fn expected(message: &DynamicMessage, columns: &Fields) -> Option<Json> {
    let mut row = Map::new();
    for column in columns {
        let descriptor = message.descriptor();
        let cell = match descriptor.get_field_by_name(column.name()) {
            Some(field) => expected_cell(message, &field, column)?,
            None => {
                let oneof = descriptor.oneofs().find(|of| of.name() == column.name()).unwrap();
                let member = oneof.fields().find(|field| message.has_field(field));
                member.map_or(Json::Null, |field| json!(field.name()))
            }
        };
        row.insert(column.name().clone(), cell);
    }
    Some(Json::Object(row))
}

fn expected_cell(
    message: &DynamicMessage,
    field: &FieldDescriptor,
    column: &Field,
) -> Option<Json> {
    let has = message.has_field(field);
    if field.cardinality() == Cardinality::Required && !has {
        return None;
    }
    let has_default = field.field_descriptor_proto().default_value.is_some();
    if field.supports_presence() && !has && !has_default {
        return Some(Json::Null);
    }
    let value = message.get_field(field);
    match (value.as_ref(), column.data_type()) {
        (Value::List(values), DataType::List(item)) => {
            values.iter().map(|value| single(value, &field.kind(), item.data_type())).collect()
        }
        (Value::Map(entries), DataType::Map(column, _)) => {
            let Kind::Message(entry) = field.kind() else { panic!("maps have entries") };
            let DataType::Struct(sides) = column.data_type() else { panic!("maps have entries") };
            let kind = entry.map_entry_value_field().kind();
            let of_value = |value| single(value, &kind, sides[1].data_type());
            let entries: Option<BTreeMap<String, Json>> = entries
                .iter()
                .map(|(key, value)| Some((key_text(key), of_value(value)?)))
                .collect();
            Some(json!(entries?))
        }
        (value, data_type) => single(value, &field.kind(), data_type),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn single(value: &Value, kind: &Kind, data_type: &DataType) -> Option<Json> {
    Some(match (value, kind) {
        (Value::Bool(value), _) => json!(value),
        (Value::I32(value), _) => json!(value.to_string()),
        (Value::I64(value), _) => json!(value.to_string()),
        (Value::U32(value), _) => json!(value.to_string()),
        (Value::U64(value), _) if *data_type == DataType::Int64 => {
            json!(i64::try_from(*value).ok()?.to_string())
        }
        (Value::U64(value), _) => json!(value.to_string()),
        (Value::F32(value), _) => json!(format!("{value:?}")),
        (Value::F64(value), _) => json!(format!("{value:?}")),
        (Value::String(value), _) => json!(value),
        (Value::Bytes(value), _) => json!(value.to_vec()),
        (Value::EnumNumber(number), Kind::Enum(values)) if *data_type == DataType::Utf8View => {
            let name = values.get_value(*number).map(|value| value.name().to_owned());
            json!(name.unwrap_or_else(|| number.to_string()))
        }
        (Value::EnumNumber(number), _) => json!(number.to_string()),
        (Value::Message(message), _) => of_message(message, data_type)?,
        (Value::List(_) | Value::Map(_), _) => panic!("a single value"),
    })
}

fn of_message(message: &DynamicMessage, data_type: &DataType) -> Option<Json> {
    let part = |number| message.get_field_by_number(number).unwrap().into_owned();
    let time = || (i128::from(part(1).as_i64().unwrap()), i128::from(part(2).as_i32().unwrap()));
    Some(match (message.descriptor().full_name(), data_type) {
        (_, DataType::Struct(fields)) => expected(message, fields)?,
        ("google.protobuf.Timestamp", DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            let (seconds, nanos) = time();
            if !(0..1_000_000_000).contains(&nanos) {
                return None;
            }
            json!(i64::try_from(seconds * 1_000_000 + nanos / 1_000).ok()?.to_string())
        }
        ("google.protobuf.Duration", DataType::Decimal128(21, 9)) => {
            let (seconds, nanos) = time();
            let total = seconds * 1_000_000_000 + nanos;
            let mixed = seconds.signum() * nanos.signum() < 0;
            if nanos.abs() > 999_999_999 || mixed || total.abs() >= 10i128.pow(21) {
                return None;
            }
            json!(total.to_string())
        }
        _ => {
            let value = message.descriptor().get_field(1).unwrap();
            single(&part(1), &value.kind(), data_type)?
        }
    })
}

/// The row that there is.
pub(super) fn actual(columns: &[arrow::array::ArrayRef], fields: &Fields, row: usize) -> Json {
    let cells = fields.iter().zip(columns);
    Json::Object(cells.map(|(field, column)| (field.name().clone(), cell(column, row))).collect())
}

fn cell(array: &dyn Array, row: usize) -> Json {
    if array.is_null(row) {
        return Json::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row).to_string()),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::Float32 => json!(format!("{:?}", array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => json!(format!("{:?}", array.as_primitive::<Float64Type>().value(row))),
        DataType::Decimal128(_, _) => {
            json!(array.as_primitive::<Decimal128Type>().value(row).to_string())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            json!(array.as_primitive::<TimestampMicrosecondType>().value(row).to_string())
        }
        DataType::Utf8View => json!(array.as_string_view().value(row)),
        DataType::BinaryView => json!(array.as_binary_view().value(row)),
        DataType::Struct(fields) => actual(array.as_struct().columns(), fields, row),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            json!((0..items.len()).map(|n| cell(&items, n)).collect::<Vec<_>>())
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let text = |key: Json| key.as_str().map_or(key.to_string(), str::to_owned);
            let entry = |n| (text(cell(entries.column(0), n)), cell(entries.column(1), n));
            let pairs: Vec<(String, Json)> = (0..entries.len()).map(entry).collect();
            let entries: BTreeMap<_, _> = pairs.iter().cloned().collect();
            assert_eq!(entries.len(), pairs.len(), "a key of a map comes once");
            json!(entries)
        }
        other => panic!("{other} has no place here"),
    }
}
