//! Protobuf: one message per record, alone or in a schema registry's frame.
//!
//! | format | payload | the description |
//! |---|---|---|
//! | `protobuf` | a message, nothing around it | `.proto` files compiled here, or a descriptor set |
//! | `protobuf-confluent` | magic byte, id, message indexes, message | the registry's, under the id |
//!
//! Columns are matched with fields by name, in nested messages too, and [`schema`] says what columns a
//! message has. No code is generated, and no message is built on the way: a plan, compiled once per
//! message and table, sends each field of the wire to its column.
//!
//! Read: what the table does not declare is stepped over. Without presence (proto3) an absent scalar is
//! its default; with presence (`optional`, messages, members of a `oneof`) it is null, or the default
//! that the `.proto` file gives it. A number without a name in its enum is that number as text. The
//! column called like a `oneof` holds the name of the member that is set. Lists and maps are never
//! null. Of a scalar that comes twice the last counts, of a message the pieces merge.
//!
//! Write: null is absent. A column called like a `oneof` says which member is written; without it the
//! one that is not null is.
//!
//! With a registry every writer's schema has a plan of its own, in which columns are found by the
//! field's name in **that** schema. Numbers are the wire's business: a field that was renumbered is still
//! found, one that was renamed is not, and its column is null.

mod decode;
mod descriptors;
mod encode;
mod plan;
#[cfg(test)]
mod tests;
mod types;
mod walk;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use prost_reflect::{FileDescriptor, MessageDescriptor};
use tidemill_core::table::{OptionSpec, Options};
use tidemill_core::{Error, Result};

pub use self::decode::ProtobufDecoder;
pub use self::encode::ProtobufEncoder;
use self::plan::{Absent, MessagePlan};
pub use self::types::{schema, sql_type};
use crate::refuse_ignoring_errors;
use crate::registry::{Definition, Registry, RegistryConfig, Schema, SchemaKind, framing};

/// What [`ProtobufFormat`] understands, besides the options of a registry.
pub(crate) const OPTIONS: [OptionSpec; 7] = [
    OptionSpec::new("protobuf.file", "The .proto file that describes the message."),
    OptionSpec::new(
        "protobuf.import-path",
        "Folders, with commas between them, in which imports are looked for (default: the file's).",
    ),
    OptionSpec::new(
        "protobuf.descriptor-set",
        "Instead of 'protobuf.file': what protoc --include_imports --descriptor_set_out has written.",
    ),
    OptionSpec::new("protobuf.message", "The message's full name: 'shop.v1.OrderEvent'."),
    OptionSpec::new(
        "protobuf-confluent.message",
        "The full name of the message that is read (others are bad records) or written (default: the \
         first of the schema).",
    ),
    OptionSpec::new(
        "protobuf-confluent.file",
        "The .proto file that a sink registers (default: it uses the subject's latest schema).",
    ),
    OptionSpec::new("protobuf.ignore-parse-errors", "Write 'on-error' = 'skip' instead."),
];

/// Protobuf and how exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtobufFormat {
    from: From,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Message(MessageDescriptor),
    Registry(RegistryFormat),
}

/// Messages in a registry's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RegistryFormat {
    writers: Arc<Writers>,
    subject: Option<String>,
    message: Option<String>,
    /// The text of the schema to register.
    text: Option<String>,
}

impl ProtobufFormat {
    /// Messages of one type, nothing around them.
    pub fn new(message: MessageDescriptor) -> Self {
        Self { from: From::Message(message) }
    }

    /// `protobuf`, as `options` say: compiles the `.proto` file, or reads the descriptor set.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(options: &Options) -> Result<Self> {
        const FILE: &str = "protobuf.file";
        const SET: &str = "protobuf.descriptor-set";
        refuse_ignoring_errors(options, "protobuf.ignore-parse-errors")?;
        let pool = match (options.get(FILE), options.get(SET)) {
            (Some(file), None) => {
                let paths = options.get("protobuf.import-path").unwrap_or_default();
                let paths = paths.split(',').map(str::trim).filter(|path| !path.is_empty());
                let paths: Vec<PathBuf> = paths.map(PathBuf::from).collect();
                descriptors::compile(Path::new(file), &paths)?
            }
            (None, Some(set)) => descriptors::descriptor_set(Path::new(set))?,
            (Some(_), Some(_)) => {
                return Err(Error::option(SET, format!("'{SET}' and '{FILE}' exclude each other")));
            }
            (None, None) => {
                let message = format!("format 'protobuf' needs '{FILE}' or '{SET}'");
                return Err(Error::option(FILE, message));
            }
        };
        let name = options.required("protobuf.message")?;
        Ok(Self::new(descriptors::message(&pool, "protobuf.message", name)?))
    }

    /// `protobuf-confluent`, as `options` and the environment say. Asks the registry nothing yet.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse_confluent(options: &Options) -> Result<Self> {
        const FILE: &str = "protobuf-confluent.file";
        let registry = Registry::new(RegistryConfig::parse("protobuf-confluent", options)?)?;
        let text = match options.get(FILE) {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                Error::option(FILE, format!("option '{FILE}': cannot read {path}")).caused_by(error)
            })?),
            None => None,
        };
        let named = |name: &str| options.get(name).map(str::to_owned);
        Ok(Self {
            from: From::Registry(RegistryFormat {
                writers: Arc::new(Writers { registry, files: Mutex::default() }),
                subject: named("protobuf-confluent.subject"),
                message: named("protobuf-confluent.message"),
                text,
            }),
        })
    }

    /// Whether payloads have a registry's frame around them.
    pub fn is_framed(&self) -> bool {
        matches!(self.from, From::Registry(_))
    }

    /// The columns that the message has: what a table can declare.
    ///
    /// # Errors
    /// With a registry: a configuration error without `protobuf-confluent.subject`, and those of
    /// [`registry`](crate::registry).
    pub fn schema(&self) -> Result<SchemaRef> {
        match &self.from {
            From::Message(message) => Ok(schema(message)),
            From::Registry(format) => Ok(schema(&format.latest()?.1)),
        }
    }

    /// A decoder into `schema`. With a registry nothing is asked yet: the columns are checked with the
    /// first payload, against the latest schema of the subject where one is given.
    ///
    /// # Errors
    /// A configuration error that names the column, the field, and what the column could be.
    pub fn decoder(&self, schema: SchemaRef) -> Result<ProtobufDecoder> {
        match &self.from {
            From::Message(message) => ProtobufDecoder::of_message(message, schema),
            From::Registry(format) => ProtobufDecoder::of_registry(format.clone(), schema),
        }
    }

    /// An encoder of rows of `schema`. With a registry nothing is asked yet: the schema is registered,
    /// or the latest of the subject taken, with the first rows.
    ///
    /// # Errors
    /// As for [`ProtobufFormat::decoder`]; also where a registry's subject is missing.
    pub fn encoder(&self, schema: SchemaRef) -> Result<ProtobufEncoder> {
        match &self.from {
            From::Message(message) => ProtobufEncoder::of_message(message, schema),
            From::Registry(format) => {
                format.subject()?;
                if let Some(text) = &format.text {
                    MessagePlan::new(
                        &format.message_of_text(text)?,
                        schema.fields(),
                        Absent::Refused,
                    )?;
                }
                Ok(ProtobufEncoder::of_registry(format.clone(), schema))
            }
        }
    }
}

impl RegistryFormat {
    fn subject(&self) -> Result<&str> {
        const OPTION: &str = "protobuf-confluent.subject";
        self.subject.as_deref().ok_or_else(|| {
            Error::option(OPTION, format!("option '{OPTION}' is required here: '<topic>-value'"))
        })
    }

    /// The subject's latest schema, and the message in it.
    fn latest(&self) -> Result<(Arc<Schema>, MessageDescriptor)> {
        let subject = self.subject()?;
        let schema = self.writers.registry.latest(subject)?.ok_or_else(|| {
            Error::option(
                "protobuf-confluent.subject",
                format!(
                    "subject '{subject}' of {} has no schema: register one, or give a sink \
                     'protobuf-confluent.file'",
                    self.writers.registry.describe()
                ),
            )
        })?;
        let message = self.message_of(&schema)?;
        Ok((schema, message))
    }

    fn message_of(&self, schema: &Schema) -> Result<MessageDescriptor> {
        let file = self.writers.compiled(schema).map_err(Error::configuration)?;
        self.message_in(&file)
    }

    fn message_in(&self, file: &FileDescriptor) -> Result<MessageDescriptor> {
        match &self.message {
            Some(name) => {
                descriptors::message(file.parent_pool(), "protobuf-confluent.message", name)
            }
            None => descriptors::at_indexes(file, &[0]).map_err(Error::configuration),
        }
    }

    fn message_of_text(&self, text: &str) -> Result<MessageDescriptor> {
        let option = "protobuf-confluent.file";
        let file = descriptors::of_text(text).map_err(|reason| {
            Error::option(
                option,
                format!(
                    "option '{option}': {reason}; a file that imports others is registered with the \
                     registry's own tools: then leave the option out, and the latest schema is used"
                ),
            )
        })?;
        self.message_in(&file)
    }

    /// What stands in front of every message that is written, and the message behind it.
    fn registered(&self) -> Result<(Vec<u8>, MessageDescriptor)> {
        let (id, message) = match &self.text {
            Some(text) => {
                let message = self.message_of_text(text)?;
                let definition = Definition::new(SchemaKind::Protobuf, text.as_str());
                (self.writers.registry.register(self.subject()?, &definition)?, message)
            }
            None => {
                let (schema, message) = self.latest()?;
                (schema.id, message)
            }
        };
        let mut frame = Vec::new();
        framing::write_header(id, &mut frame);
        framing::write_indexes(&descriptors::indexes_of(&message), &mut frame);
        Ok((frame, message))
    }

    /// Checks columns against the subject's latest schema, where both are there.
    fn check(&self, schema: &SchemaRef) -> Result<()> {
        if let Some(subject) = &self.subject
            && let Some(latest) = self.writers.registry.for_decoder().latest(subject)?
        {
            MessagePlan::new(&self.message_of(&latest)?, schema.fields(), Absent::Refused)?;
        }
        Ok(())
    }
}

/// The schemas of a registry, compiled once for all decoders.
struct Writers {
    registry: Registry,
    files: Mutex<HashMap<u32, Compiled>>,
}

/// A file, or why it does not compile.
type Compiled = Result<FileDescriptor, String>;

impl Writers {
    /// The file of a schema. The outer error is the registry's.
    fn file(&self, id: u32) -> Result<Compiled> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&id) {
            return Ok(file.clone());
        }
        drop(files);
        let schema = self.registry.for_decoder().schema_by_id(id)?;
        Ok(self.compiled(&schema))
    }

    fn compiled(&self, schema: &Schema) -> Compiled {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let compile = || match schema.definition.kind {
            SchemaKind::Protobuf => descriptors::of_schema(schema),
            other => Err(format!("schema {} is {}, and no Protobuf", schema.id, other.name())),
        };
        files.entry(schema.id).or_insert_with(compile).clone()
    }
}

impl PartialEq for Writers {
    fn eq(&self, other: &Self) -> bool {
        self.registry == other.registry
    }
}

impl Eq for Writers {}

impl fmt::Debug for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
    }
}
