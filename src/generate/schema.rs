//! The schema of customer events, and how messages are framed that follow it.

use tidemill_core::Result;
use tidemill_core::table::Options;
use tidemill_formats::registry::framing::{write_header, write_indexes};
use tidemill_formats::registry::{Definition, Registry, RegistryConfig, SchemaKind};

/// The format whose options the registry's are.
const FORMAT: &str = "protobuf-confluent";

/// What a registry is called in the environment.
const REGISTRY_URL: &str = "SCHEMA_REGISTRY_URL";

const CUSTOMER_EVENT: &str = include_str!("../../examples/proto/customer_event.proto");

/// What stands before each customer event: with a registry its framing, whose schema is registered
/// for the values of the topic; without one nothing.
///
/// # Errors
/// A registry that does not answer, or refuses the schema.
pub fn customer_event_prefix(registry: Option<&str>, topic: &str) -> Result<Vec<u8>> {
    let options = match registry {
        Some(url) => Options::from_iter([(format!("{FORMAT}.url"), url)]),
        None if std::env::var_os(REGISTRY_URL).is_some() => Options::default(),
        None => return Ok(Vec::new()),
    };
    let registry = Registry::new(RegistryConfig::parse(FORMAT, &options)?)?;
    let definition = Definition::new(SchemaKind::Protobuf, CUSTOMER_EVENT);
    let id = registry.register(&format!("{}-value", topic), &definition)?;
    let mut prefix = Vec::new();
    write_header(id, &mut prefix);
    // `CustomerEvent` is the first message of its file.
    write_indexes(&[0], &mut prefix);
    Ok(prefix)
}
