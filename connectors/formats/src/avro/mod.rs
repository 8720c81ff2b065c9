//! Avro: one datum in binary encoding per record, alone or in a schema registry's frame.
//!
//! | format | payload | the writer's schema |
//! |---|---|---|
//! | `avro` | a datum, nothing around it | the table's own, as Flink makes it, or the one given |
//! | `avro-confluent` | magic byte, id, datum | the registry's under that id |
//!
//! Fields are matched with columns by name and read by the specification's rules of resolution.
//! The walk is our own and not a library's, because a bad record must cost only itself: it
//! appends to columns that can take back their last row, and knows the path of what is wrong.

mod decode;
mod default;
mod derive;
mod encode;
mod plan;
mod schema;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use arrow::datatypes::{Fields, SchemaRef};
use tidemill_core::table::{OptionSpec, Options};
use tidemill_core::{Error, Result};

pub use self::decode::AvroDecoder;
pub use self::encode::AvroEncoder;
use self::encode::Frame;
use self::schema::Schema;
use crate::registry::{Definition, Registry, RegistryConfig, SchemaKind};

/// What [`AvroFormat`] understands, besides the options of a registry.
pub(crate) const OPTIONS: [OptionSpec; 2] = [
    OptionSpec::new(
        "avro.schema",
        "The schema of the records, as JSON (default: made from the table, as Flink makes it).",
    ),
    OptionSpec::new(
        "avro-confluent.schema",
        "The schema that a sink registers, and whose aliases and defaults a source uses, as JSON \
         (default: made from the table, as Flink makes it).",
    ),
];

/// Avro and how exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvroFormat {
    /// The schema, as JSON; without one it is made from the table.
    pub schema: Option<String>,
    /// The registry whose frames are around the data.
    pub registry: Option<AvroRegistry>,
}

/// A registry, and what is registered there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvroRegistry {
    /// The registry.
    pub registry: Registry,
    /// The subject under which a sink registers its schema.
    pub subject: Option<String>,
}

impl AvroFormat {
    /// Format `avro` as `options` say.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(options: &Options) -> Result<Self> {
        Ok(Self { schema: given(options, "avro.schema")?, registry: None })
    }

    /// Format `avro-confluent` as `options` say.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse_confluent(options: &Options) -> Result<Self> {
        let registry = Registry::new(RegistryConfig::parse("avro-confluent", options)?)?;
        let subject = options.get("avro-confluent.subject").map(str::to_owned);
        Ok(Self {
            schema: given(options, "avro-confluent.schema")?,
            registry: Some(AvroRegistry { registry, subject }),
        })
    }

    /// A decoder into `columns`. Nothing is asked of a registry before the first record.
    ///
    /// # Errors
    /// A configuration error that names a column which Avro, or the schema given, cannot fill.
    pub fn decoder(&self, columns: SchemaRef) -> Result<AvroDecoder> {
        match &self.registry {
            None => AvroDecoder::agreed(columns.clone(), self.schema_of(columns.fields())?.1),
            Some(AvroRegistry { registry, .. }) => {
                let reader = match &self.schema {
                    Some(_) => Some(self.schema_of(columns.fields())?.1),
                    None => None,
                };
                AvroDecoder::registered(columns, registry.clone(), reader)
            }
        }
    }

    /// An encoder of rows of `columns`. Its schema is registered with the first rows.
    ///
    /// # Errors
    /// A configuration error that names a column which Avro, or the schema given, cannot hold, or
    /// the subject where it is missing.
    pub fn encoder(&self, columns: SchemaRef) -> Result<AvroEncoder> {
        let (text, schema) = self.schema_of(columns.fields())?;
        let frame = match &self.registry {
            None => None,
            Some(AvroRegistry { registry, subject }) => {
                let name = "avro-confluent.subject";
                let subject = subject.clone().ok_or_else(|| {
                    Error::option(name, format!("option '{name}' is required for a sink"))
                })?;
                let definition = Definition::new(SchemaKind::Avro, text);
                Some(Frame { registry: registry.clone(), subject, definition })
            }
        };
        AvroEncoder::new(&columns, schema, frame)
    }

    /// The schema that was given, or the one of the table; as JSON and read.
    fn schema_of(&self, columns: &Fields) -> Result<(String, Arc<Schema>)> {
        let text = match &self.schema {
            Some(text) => text.clone(),
            None => derive::derive(columns)?.to_string(),
        };
        let schema = Schema::parse(&text, &[]).map_err(Error::configuration)?;
        Ok((text, Arc::new(schema)))
    }
}

/// A schema among the options, which must be one.
fn given(options: &Options, name: &str) -> Result<Option<String>> {
    let Some(text) = options.get(name) else { return Ok(None) };
    match Schema::parse(text, &[]) {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(why) => Err(Error::option(name, format!("option '{name}': {why}"))),
    }
}
