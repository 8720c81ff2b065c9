//! What rows become, as it is declared: which structure, under which key, with what in it.
//!
//! Invariant: everything that can be wrong with a declaration shows when it is checked against the columns,
//! before the first row and without a server.

use std::time::Duration;

use arrow::datatypes::{DataType, Schema};
use tidemill_core::sink::Delivery;
use tidemill_core::{Error, Result};
use tidemill_formats::Format;

use super::encode::{Content, StructureEncoder, Value, WriteEncoder};
use super::payload::PayloadEncoder;
use super::stream::{Entry, Key, Metadata, StreamEncoder, StreamLayout};
use super::template::{Template, column};
use super::text;
use super::transaction::Expected;
use super::unit::Places;
use crate::streams;

/// What rows become.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The template of keys, or the streams.
    pub key: String,
    pub shape: Shape,
    pub ttl: Option<Duration>,
    /// Columns that tell rows apart.
    pub primary_key: Vec<String>,
    /// Columns that become headers, and which.
    pub metadata: Vec<(String, String)>,
}

/// A structure, and what is in it.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Hash,
    /// A column, or else the row in a format.
    String {
        value: Option<String>,
        format: Format,
    },
    /// A column and a template.
    SortedSet {
        score: String,
        member: String,
    },
    /// A column; where none is named, the only one that is not in the key.
    Counter {
        increment: Option<String>,
    },
    /// As for strings.
    Channel {
        value: Option<String>,
        format: Format,
    },
    Stream(StreamShape),
}

/// What entries of a stream look like.
#[derive(Debug, Clone)]
pub(crate) struct StreamShape {
    pub max_len: Option<u64>,
    /// Columns of the key.
    pub key: Vec<String>,
    pub key_field: String,
    pub value_field: String,
    /// `None`: a field for every column.
    pub format: Option<Format>,
    pub propagates_headers: bool,
}

impl Shape {
    /// Its name in job files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::String { .. } => "string",
            Self::SortedSet { .. } => "zset",
            Self::Counter { .. } => "counter",
            Self::Channel { .. } => "channel",
            Self::Stream(_) => "stream",
        }
    }

    /// What becomes of rows that are written twice.
    pub fn repeated(&self) -> Delivery {
        match self {
            Self::Hash | Self::String { .. } | Self::SortedSet { .. } => Delivery::EffectivelyOnce,
            Self::Counter { .. } | Self::Stream(_) => Delivery::AtLeastOnce,
            Self::Channel { .. } => Delivery::AtMostOnce,
        }
    }
}

impl Layout {
    /// `redis` and where it is are for the caller to say.
    pub fn describe(&self) -> String {
        format!("{} {}", self.shape.name(), self.key)
    }

    /// The encoder of rows of `schema` on shard `shard`.
    ///
    /// # Errors
    /// A configuration error that names the option or the column.
    pub fn encoder(&self, schema: &Schema, shard: usize) -> Result<Box<dyn WriteEncoder>> {
        let ttl = self.ttl()?;
        if let Shape::Stream(stream) = &self.shape {
            if ttl.is_some() {
                let message = "a stream has no 'ttl': bound it with 'maxlen'";
                return Err(Error::option("ttl", message));
            }
            let layout = self.stream(stream, schema)?;
            return Ok(Box::new(StreamEncoder::new(layout, shard)));
        }
        if let Some((name, _)) = self.metadata.first() {
            let message = format!("'{name}' is a metadata column, and only streams have headers");
            return Err(Error::configuration(message));
        }
        let key = Template::parse_key("key", &self.key, schema)?;
        let content = self.content(&key, schema)?;
        self.check_primary_key(&key, &content, schema)?;
        Ok(Box::new(StructureEncoder::new(key, content, ttl)))
    }

    fn ttl(&self) -> Result<Option<u64>> {
        let Some(ttl) = self.ttl else { return Ok(None) };
        let is_channel = matches!(self.shape, Shape::Channel { .. });
        let millis = u64::try_from(ttl.as_millis())
            .ok()
            .filter(|millis| (1..=i64::MAX as u64 / 4).contains(millis));
        match millis {
            _ if is_channel => Err(Error::option("ttl", "a message of a channel has no 'ttl'")),
            Some(millis) => Ok(Some(millis)),
            None => Err(Error::option("ttl", "'ttl' must be a millisecond at least: write '1 h'")),
        }
    }

    fn content(&self, key: &Template, schema: &Schema) -> Result<Content> {
        let in_key: Vec<usize> = key.columns().collect();
        let others = || (0..schema.fields().len()).filter(|column| !in_key.contains(column));
        Ok(match &self.shape {
            Shape::Hash => {
                let fields: Vec<(String, usize)> =
                    others().map(|index| (schema.field(index).name().clone(), index)).collect();
                if fields.is_empty() {
                    let message = "all columns are in 'key': none is left for the hash's fields";
                    return Err(Error::option("key", message));
                }
                for (_, index) in &fields {
                    text::check(schema.field(*index))?;
                }
                Content::Hash(fields)
            }
            Shape::String { value, format } => Content::String(single(value, format, schema)?),
            Shape::Channel { value, format } => Content::Channel(single(value, format, schema)?),
            Shape::SortedSet { score, member } => {
                let score = column("score", score, schema)?;
                check_number("score", schema, score, true)?;
                Content::SortedSet { score, member: Template::parse("member", member, schema)? }
            }
            Shape::Counter { increment } => {
                let increment = self.increment(increment.as_deref(), others().collect(), schema)?;
                check_number("increment", schema, increment, false)?;
                let float = !schema.field(increment).data_type().is_integer();
                Content::Counter { increment, float }
            }
            Shape::Stream(_) => {
                return Err(Error::internal("streams have an encoder of their own"));
            }
        })
    }

    fn increment(&self, named: Option<&str>, others: Vec<usize>, schema: &Schema) -> Result<usize> {
        match (named, others.as_slice()) {
            (Some(name), _) => column("increment", name, schema),
            (None, [only]) => Ok(*only),
            (None, _) => {
                let message = "which column is added to the counter? Name it: 'increment' = 'n'";
                Err(Error::option("increment", message))
            }
        }
    }

    /// Rows that are different must not meet under one key.
    fn check_primary_key(&self, key: &Template, content: &Content, schema: &Schema) -> Result<()> {
        if self.primary_key.is_empty() {
            return Ok(());
        }
        let mut told: Vec<usize> = key.columns().collect();
        match content {
            Content::SortedSet { member, .. } => told.extend(member.columns()),
            Content::Counter { .. } | Content::Channel(_) => {
                let name = self.shape.name();
                let message = format!(
                    "a {name} has no rows that could be told apart: leave the PRIMARY KEY out"
                );
                return Err(Error::configuration(message));
            }
            Content::Hash(_) | Content::String(_) => {}
        }
        let missing = self
            .primary_key
            .iter()
            .find(|name| schema.index_of(name).is_ok_and(|index| !told.contains(&index)));
        let Some(missing) = missing else { return Ok(()) };
        let message = format!(
            "'{missing}' is in the PRIMARY KEY but not in 'key' = '{}': rows that differ in it would \
             overwrite one another. Add {{{missing}}}",
            self.key
        );
        Err(Error::option("key", message))
    }

    fn stream(&self, shape: &StreamShape, schema: &Schema) -> Result<StreamLayout> {
        let mut metadata = Vec::new();
        for (name, key) in &self.metadata {
            let index = column_of(name, schema)?;
            metadata.push((index, Metadata::parse(key, schema.field(index))?));
        }
        let is_metadata = |index: &usize| metadata.iter().any(|(other, _)| other == index);
        let mut key = Vec::new();
        for name in &shape.key {
            let index = column("key.fields", name, schema)?;
            if is_metadata(&index) {
                let message = format!("'{name}' is metadata, and cannot be part of the key");
                return Err(Error::option("key.fields", message));
            }
            key.push(index);
        }
        let mut own_key = metadata.iter().filter(|(_, metadata)| *metadata == Metadata::Key);
        if let Some((index, _)) = own_key.next() {
            if !key.is_empty() || own_key.next().is_some() {
                let message = "the key of an entry is said twice: by 'key.fields' or the PRIMARY KEY, and by \
                               a metadata column 'key'";
                return Err(Error::option("key.fields", message));
            }
            key.push(*index);
        }
        let has_key_field = shape.format.is_some() || key.iter().any(is_metadata);
        let columns: Vec<usize> = (0..schema.fields().len()).filter(|c| !is_metadata(c)).collect();
        if columns.is_empty() {
            return Err(Error::configuration("no column is left for the entries of the stream"));
        }
        let entry = match &shape.format {
            Some(format) => Entry::Payload {
                field: shape.value_field.clone(),
                encoder: PayloadEncoder::new(schema, columns, format)?,
            },
            None => {
                for column in &columns {
                    text::check(schema.field(*column))?;
                }
                let name = |column: usize| (schema.field(column).name().clone(), column);
                Entry::Fields(columns.into_iter().map(name).collect())
            }
        };
        let streams = streams::parse(&self.key)?.into_iter().map(|stream| stream.key);
        Ok(StreamLayout {
            streams: streams.collect(),
            max_len: shape.max_len,
            key: Key::of(&key, schema)?,
            key_field: has_key_field.then(|| shape.key_field.clone()),
            entry,
            metadata,
            propagates_headers: shape.propagates_headers,
        })
    }

    /// Where its keys can be in a cluster.
    ///
    /// # Errors
    /// As for [`Layout::encoder`].
    pub fn places(&self, schema: &Schema) -> Result<Places> {
        if let Shape::Stream(_) = &self.shape {
            let keys = streams::parse(&self.key)?.into_iter().map(|stream| stream.key.into_bytes());
            return Ok(Places::Of(keys.collect()));
        }
        let template = Template::parse_key("key", &self.key, schema)?;
        let key = template.slot_key();
        Ok(key.map_or(Places::Scattered, |key| Places::Of(vec![key])))
    }

    /// What its keys must hold before a transaction writes to them.
    ///
    /// # Errors
    /// As for [`Layout::encoder`].
    pub fn expected(&self, schema: &Schema) -> Result<Expected> {
        Ok(match &self.shape {
            Shape::Counter { .. } => {
                let key = Template::parse_key("key", &self.key, schema)?;
                match self.content(&key, schema)? {
                    Content::Counter { float: true, .. } => Expected::Number,
                    _ => Expected::Integer,
                }
            }
            // SET takes the place of whatever there is.
            Shape::String { .. } | Shape::Channel { .. } => Expected::Anything,
            shape => Expected::Type(shape.name()),
        })
    }
}

/// A value: the text of a column, or the row in a format.
fn single(value: &Option<String>, format: &Format, schema: &Schema) -> Result<Value> {
    Ok(match value {
        Some(name) => Value::Column(column("value", name, schema)?),
        None => {
            let all = (0..schema.fields().len()).collect();
            Value::Payload(PayloadEncoder::new(schema, all, format)?)
        }
    })
}

fn column_of(name: &str, schema: &Schema) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        Error::configuration(format!("the metadata column '{name}' is no column of the table"))
    })
}

/// Refuses a column that is no number, or, where `times` are welcome, no time either.
fn check_number(option: &str, schema: &Schema, column: usize, times: bool) -> Result<()> {
    let field = schema.field(column);
    let data_type = field.data_type();
    let is_time = matches!(data_type, DataType::Timestamp(..));
    if data_type.is_numeric() || (times && is_time) {
        return Ok(());
    }
    let wanted = if times { "a number or a timestamp" } else { "a number" };
    let message = format!("'{option}' = '{}': the column must be {wanted}", field.name());
    Err(Error::option(option, message))
}
