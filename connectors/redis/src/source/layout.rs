//! Which part of an entry each column of a table comes from: a field that holds a record in a format, fields
//! with the columns' names, or what Redis says about the entry.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_core::table::TableSpec;
use tidemill_core::{Error, Result};
use tidemill_formats::Format;
use tidemill_formats::fields::FieldsDecoder;

/// What stands in front of the name of a header, in the name of its field.
pub(crate) const HEADER: &[u8] = b"h.";

/// What Redis says about an entry, and what stands beside its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// The id: `1712-3`.
    Id,
    /// The stream's key.
    Stream,
    /// The stream's number.
    Partition,
    /// The time in the id.
    Timestamp,
    /// The key, byte for byte.
    Key,
    /// All headers; of those with the same name the last counts.
    Headers,
    /// The last header of this name.
    Header(String),
}

impl Metadata {
    /// The metadata that a table calls `key`.
    ///
    /// # Errors
    /// A configuration error that lists the keys.
    pub fn parse(key: &str) -> Result<Self> {
        Ok(match key {
            "id" => Self::Id,
            "stream" => Self::Stream,
            "partition" => Self::Partition,
            "timestamp" => Self::Timestamp,
            "key" => Self::Key,
            "headers" => Self::Headers,
            _ => match key.strip_prefix("header.").filter(|name| !name.is_empty()) {
                Some(name) => Self::Header(name.to_owned()),
                None => {
                    let message = format!(
                        "an entry of a Redis stream has no metadata '{key}': there are id, stream, \
                         partition, timestamp, key, headers and header.<name>"
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
            Self::Id | Self::Stream => (is_text, "STRING"),
            Self::Partition => (matches!(data_type, Int32 | Int64), "INT"),
            Self::Timestamp => {
                let unit = TimeUnit::Millisecond;
                let is_time = matches!(data_type, Timestamp(TimeUnit::Microsecond, _))
                    || matches!(data_type, Timestamp(other, _) if *other == unit);
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
    /// Column of the decoded record.
    Value(usize),
    /// What Redis says.
    Metadata(Metadata),
}

/// How the fields of an entry hold a record.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// One field, in a format.
    Payload(Format),
    /// A field for each column.
    Fields,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub schema: SchemaRef,
    pub parts: Vec<Part>,
    pub content: Content,
    /// The columns of the record.
    pub columns: SchemaRef,
    /// The field that holds the payload.
    pub value_field: String,
    /// The field that holds the key.
    pub key_field: String,
}

impl Layout {
    /// The layout that a table declares.
    ///
    /// # Errors
    /// A configuration error that names the option or the column.
    pub fn parse(table: &TableSpec) -> Result<Self> {
        let options = &table.options;
        let content = match options.get("format") {
            None | Some("fields") => Content::Fields,
            Some(name) => Content::Payload(Format::parse(name, options)?),
        };
        let field = |option: &str, default: &str| {
            let name = options.get(option).unwrap_or(default).to_owned();
            match name.is_empty() {
                true => Err(Error::option(option, format!("option '{option}' names no field"))),
                false => Ok(name),
            }
        };
        if matches!(content, Content::Fields) && options.get("value.field").is_some() {
            let message =
                "'value.field' needs a 'format': without one, each column has its own field";
            return Err(Error::option("value.field", message));
        }
        let names = (field("value.field", "payload")?, field("key.field", "key")?);
        Self::new(table.schema.clone(), &table.metadata, content, names)
    }

    /// All columns come from the record but those of `metadata`. `names` are the fields of payload and key.
    ///
    /// # Errors
    /// A column whose type the format, or the metadata, does not have.
    pub fn new(
        schema: SchemaRef,
        metadata: &[(usize, String)],
        content: Content,
        (value_field, key_field): (String, String),
    ) -> Result<Self> {
        let mut parts = Vec::with_capacity(schema.fields().len());
        let mut fields: Vec<Field> = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            parts.push(match metadata.iter().find(|(column, _)| *column == index) {
                Some((_, name)) => Part::Metadata(checked(name, field)?),
                None => {
                    fields.push(field.as_ref().clone());
                    Part::Value(fields.len() - 1)
                }
            });
        }
        let columns = Arc::new(Schema::new(fields));
        // Whether the format can hold the columns is to be known before anything runs.
        match &content {
            Content::Payload(format) if !columns.fields().is_empty() => {
                format.decoder(columns.clone())?;
            }
            Content::Payload(_) => {}
            Content::Fields => {
                FieldsDecoder::new(columns.clone())?;
            }
        }
        Ok(Self { schema, parts, content, columns, value_field, key_field })
    }

    /// The name of the format, for people.
    pub fn format(&self) -> &'static str {
        match &self.content {
            Content::Payload(format) => format.name(),
            Content::Fields => "fields",
        }
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
