//! The Avro schema that a table has by itself: Flink's, so that jobs there and here agree.
//!
//! A nullable column is a union with null, whose default is null. Records are called `record`, and
//! within it `record_<field>`. Timestamps are `timestamp-millis`: with more digits a schema must
//! be given.

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Value, json};
use tidemill_core::{Error, Result};

use crate::column::type_name;

const NAMESPACE: &str = "org.apache.flink.avro.generated";

/// The schema of rows of these columns, as JSON.
///
/// # Errors
/// A configuration error that names the column whose type Avro does not have.
pub(super) fn derive(columns: &Fields) -> Result<Value> {
    record(columns, "record", Some(NAMESPACE))
}

fn record(columns: &Fields, name: &str, namespace: Option<&str>) -> Result<Value> {
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        check_name(column.name())?;
        let data_type = value(column, &format!("{name}_{}", column.name()))
            .map_err(|error| error.at(format_args!("column '{}'", column.name())))?;
        let mut field = json!({"name": column.name(), "type": data_type});
        if column.is_nullable() {
            field["default"] = Value::Null;
        }
        fields.push(field);
    }
    let mut record = json!({"type": "record", "name": name, "fields": fields});
    if let Some(namespace) = namespace {
        record["namespace"] = json!(namespace);
    }
    Ok(record)
}

fn check_name(name: &str) -> Result<()> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "column '{name}': Avro allows letters, digits and '_' in a name"
    )))
}

fn value(column: &Field, name: &str) -> Result<Value> {
    let data_type = not_null(column.data_type(), name)?;
    Ok(if column.is_nullable() { json!(["null", data_type]) } else { data_type })
}

fn not_null(data_type: &DataType, name: &str) -> Result<Value> {
    Ok(match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("bytes"),
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Time64(TimeUnit::Nanosecond) => {
            return Err(Error::configuration(
                "a schema made from a table has milliseconds: declare at most 6 digits of a \
                 second, or give a schema",
            ));
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            json!({"type": "int", "logicalType": "time-millis"})
        }
        DataType::Timestamp(_, _) => json!({"type": "long", "logicalType": "timestamp-millis"}),
        DataType::Decimal128(precision, scale) if *scale >= 0 => json!({
            "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale
        }),
        DataType::Struct(fields) => record(fields, name, None)?,
        DataType::List(item) => json!({"type": "array", "items": value(item, name)?}),
        DataType::Map(entries, _) => json!({"type": "map", "values": map_value(entries, name)?}),
        other => return Err(unsupported(other)),
    })
}

fn map_value(entries: &Field, name: &str) -> Result<Value> {
    match entries.data_type() {
        DataType::Struct(entry) if entry.len() == 2 => match entry[0].data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => value(&entry[1], name),
            other => Err(Error::configuration(format!(
                "the keys of a MAP must be STRING in Avro, not {}",
                type_name(other)
            ))),
        },
        other => Err(unsupported(other)),
    }
}

fn unsupported(data_type: &DataType) -> Error {
    Error::configuration(format!("Avro cannot hold {}", type_name(data_type)))
}
