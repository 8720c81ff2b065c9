//! Which part of a record each column of a table comes from: key, value, or what the broker says about
//! the record.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_core::table::TableSpec;
use tidemill_core::{Error, Result};
use tidemill_formats::{Decoder, Format};

use crate::formats;

/// What the broker says about a record, and what stands beside its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// The topic.
    Topic,
    /// The partition.
    Partition,
    /// The offset.
    Offset,
    /// The record's timestamp.
    Timestamp,
    /// Who has set the timestamp: `CreateTime`, `LogAppendTime` or `NoTimestampType`.
    TimestampType,
    /// All headers; of those with the same name the last counts.
    Headers,
    /// The last header of this name.
    Header(String),
    /// The key, byte for byte.
    Key,
    /// The epoch of the partition's leader when the record was written.
    LeaderEpoch,
}

impl Metadata {
    /// The metadata that a table calls `key`.
    ///
    /// # Errors
    /// A configuration error that lists the keys.
    pub fn parse(key: &str) -> Result<Self> {
        Ok(match key {
            "topic" => Self::Topic,
            "partition" => Self::Partition,
            "offset" => Self::Offset,
            "timestamp" => Self::Timestamp,
            "timestamp-type" => Self::TimestampType,
            "headers" => Self::Headers,
            "key" => Self::Key,
            "leader-epoch" => Self::LeaderEpoch,
            _ => match key.strip_prefix("header.").filter(|name| !name.is_empty()) {
                Some(name) => Self::Header(name.to_owned()),
                None => {
                    let message = format!(
                        "a Kafka record has no metadata '{key}': there are topic, partition, \
                         offset, timestamp, timestamp-type, leader-epoch, headers, key and \
                         header.<name>"
                    );
                    return Err(Error::configuration(message));
                }
            },
        })
    }

    /// Whether a column of `data_type` can hold it; else the type to declare, in SQL's words.
    fn check(&self, data_type: &DataType) -> Result<(), &'static str> {
        use DataType::*;
        let is_text = matches!(data_type, Utf8 | LargeUtf8 | Utf8View);
        let is_bytes = matches!(data_type, Binary | LargeBinary | BinaryView);
        let (fits, wanted) = match self {
            Self::Topic | Self::TimestampType => (is_text, "STRING"),
            Self::Partition | Self::LeaderEpoch => (matches!(data_type, Int32 | Int64), "INT"),
            Self::Offset => (matches!(data_type, Int64), "BIGINT"),
            Self::Timestamp => {
                let is_time = matches!(
                    data_type,
                    Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _)
                );
                (is_time, "TIMESTAMP_LTZ(3)")
            }
            Self::Headers => (is_headers(data_type), "MAP<STRING, BYTES>"),
            Self::Header(_) => (is_text || is_bytes, "STRING"),
            Self::Key => (is_text || is_bytes, "BYTES"),
        };
        if fits { Ok(()) } else { Err(wanted) }
    }
}

fn is_headers(data_type: &DataType) -> bool {
    use DataType::*;
    let Map(entries, _) = data_type else { return false };
    let Struct(fields) = entries.data_type() else { return false };
    fields.len() == 2
        && matches!(fields[0].data_type(), Utf8 | LargeUtf8 | Utf8View)
        && matches!(fields[1].data_type(), Binary | LargeBinary | BinaryView)
        && fields[1].is_nullable()
}

/// Where a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Column of the decoded key.
    Key(usize),
    /// Column of the decoded value.
    Value(usize),
    /// What the broker says.
    Metadata(Metadata),
}

/// A format and the columns that it holds.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    pub format: Format,
    pub schema: SchemaRef,
}

impl Coded {
    fn new(format: Format, fields: Vec<Field>) -> Result<Self> {
        let coded = Self { format, schema: Arc::new(Schema::new(fields)) };
        // Whether the format can hold the columns is to be known before anything runs.
        coded.decoder()?;
        Ok(coded)
    }

    pub fn decoder(&self) -> Result<Box<dyn Decoder>> {
        self.format.decoder(self.schema.clone())
    }

    /// Whether a record without this part has a row all the same.
    pub fn takes_null(&self) -> bool {
        matches!(self.format, Format::Raw(_))
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub schema: SchemaRef,
    pub parts: Vec<Part>,
    /// `None` where no column needs the key decoded.
    pub key: Option<Coded>,
    /// `None` where no column stands in the value.
    pub value: Option<Coded>,
}

impl Layout {
    /// The layout that a table declares.
    ///
    /// # Errors
    /// A configuration error that names the option or the column.
    pub fn parse(table: &TableSpec) -> Result<Self> {
        let value = formats::value(&table.options, None)?;
        let key = KeyOptions::parse(table)?;
        Self::new(table.schema.clone(), &table.metadata, value, key)
    }

    /// All columns come from the value but those of `metadata`, and those that `key` says: a format, the
    /// columns that stand in the key, and what their names begin with that the key's do not.
    ///
    /// # Errors
    /// A column whose type the format, or the metadata, does not have.
    pub fn of_values(
        schema: SchemaRef,
        metadata: &[(usize, String)],
        format: Format,
        key: Option<(Format, Vec<usize>, String)>,
    ) -> Result<Self> {
        let key = key.map(|(format, columns, prefix)| KeyOptions {
            format: Some(format),
            columns,
            prefix,
            only_in_key: true,
        });
        Self::new(schema, metadata, format, key.unwrap_or_default())
    }

    fn new(
        schema: SchemaRef,
        metadata: &[(usize, String)],
        format: Format,
        key: KeyOptions,
    ) -> Result<Self> {
        let mut parts = Vec::with_capacity(schema.fields().len());
        let (mut key_fields, mut value_fields) = (Vec::new(), Vec::new());
        for (index, field) in schema.fields().iter().enumerate() {
            let of_broker = metadata.iter().find(|(column, _)| *column == index);
            let in_key = key.columns.iter().position(|column| *column == index);
            parts.push(match (of_broker, in_key) {
                (Some((_, name)), _) => Part::Metadata(checked(name, field)?),
                // As in Flink, what stands in both is read from the value.
                (None, Some(n)) if key.only_in_key => Part::Key(n),
                (None, _) => {
                    value_fields.push(field.as_ref().clone());
                    Part::Value(value_fields.len() - 1)
                }
            });
        }
        for column in key.columns.iter().filter(|_| key.only_in_key) {
            let field = schema.field(*column);
            let name = field.name().strip_prefix(&key.prefix).unwrap_or(field.name());
            key_fields.push(field.clone().with_name(name));
        }
        let key = match key.format {
            Some(format) if !key_fields.is_empty() => Some(Coded::new(format, key_fields)?),
            _ => None,
        };
        let value =
            if value_fields.is_empty() { None } else { Some(Coded::new(format, value_fields)?) };
        Ok(Self { schema, parts, key, value })
    }
}

fn checked(name: &str, field: &Field) -> Result<Metadata> {
    let metadata = Metadata::parse(name)?;
    metadata.check(field.data_type()).map_err(|wanted| {
        let column = field.name();
        Error::configuration(format!("column '{column}': metadata '{name}' is {wanted}"))
    })?;
    Ok(metadata)
}

/// What the options say about keys.
#[derive(Default)]
struct KeyOptions {
    format: Option<Format>,
    /// Indices into the table's columns.
    columns: Vec<usize>,
    prefix: String,
    only_in_key: bool,
}

impl KeyOptions {
    fn parse(table: &TableSpec) -> Result<Self> {
        let options = &table.options;
        let include = ["ALL", "EXCEPT_KEY"];
        let only_in_key = options.choice("value.fields-include", &include, 0)? == 1;
        let prefix = options.get("key.fields-prefix").unwrap_or("").to_owned();
        if !prefix.is_empty() && !only_in_key {
            let message = "'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY': values \
                           do not have the prefixed columns";
            return Err(Error::option("key.fields-prefix", message));
        }
        let (name, fields) = match (options.get("key.format"), options.get("key.fields")) {
            (None, None) => {
                formats::check_no_key(options)?;
                return Ok(Self::default());
            }
            (Some(name), Some(fields)) => (name, fields),
            (Some(_), None) => {
                let message = "'key.format' needs 'key.fields': the columns that make up the key";
                return Err(Error::option("key.format", message));
            }
            (None, Some(_)) => {
                let message = "'key.fields' needs 'key.format': how keys are written down";
                return Err(Error::option("key.fields", message));
            }
        };
        let format = formats::key(options, name, None)?;
        let column = |name: &str| key_column(table, name.trim(), &prefix);
        let names = fields.split(';').filter(|name| !name.trim().is_empty());
        let columns = names.map(column).collect::<Result<_>>()?;
        Ok(Self { format: Some(format), columns, prefix, only_in_key })
    }
}

fn key_column(table: &TableSpec, name: &str, prefix: &str) -> Result<usize> {
    let index = table.schema.fields().iter().position(|field| field.name() == name);
    let physical = index.filter(|index| table.metadata.iter().all(|(column, _)| column != index));
    let Some(index) = physical else {
        let message = format!("'key.fields': the table has no column '{name}' of its own");
        return Err(Error::option("key.fields", message));
    };
    if !name.starts_with(prefix) {
        let message = format!("'key.fields': column '{name}' does not begin with '{prefix}'");
        return Err(Error::option("key.fields", message));
    }
    Ok(index)
}
