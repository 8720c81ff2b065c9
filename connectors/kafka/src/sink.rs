//! Kafka topics as a sink: records that arrive at least once as they come, or exactly once per checkpoint.
//!
//! ```text
//! at least once   rows ─▶ records ─▶ producer ─▶ topic            a barrier waits for all acknowledgements
//! exactly once    rows ─▶ records ─▶ checkpoint ─▶ transaction ─▶ topic       with the epoch's marker in it
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `encode`, [`record`] | rows into records, and what a record is |
//! | `target`, `topic` | which topic, how often a record arrives; what must be known of it |
//! | `writer`, [`produce`], `outbox`, [`lane`] | at least once: producing, and what to do when that fails |
//! | `stage`, `staged` | exactly once: records in the checkpoint |
//! | `commit`, `transaction`, `witness` | exactly once: transactions, and which epoch was the last |
//! | `refusals` | rows that the topic will never take |
//!
//! Invariant: rows in = records delivered + rows refused, at every checkpoint; records of the same key
//! arrive in the order of their rows.

pub(crate) mod commit;
pub(crate) mod encode;
pub mod lane;
pub(crate) mod options;
mod outbox;
pub mod produce;
pub mod record;
mod refusals;
mod stage;
mod staged;
pub(crate) mod target;
#[cfg(test)]
mod tests;
pub(crate) mod topic;
mod transaction;
pub(crate) mod witness;
mod writer;

use arrow::datatypes::SchemaRef;
use tidemill_core::sink::{Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter};
use tidemill_core::table::Options;
use tidemill_core::{Error, Result};
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;

use self::encode::{Metadata, RowLayout};
pub use self::produce::{ProducerSettings, RecordProducer};
pub use self::record::{Encoded, Outgoing, RecordEncoder};
pub use self::target::DeliveryGuarantee;
use self::target::Target;
use crate::partitioner::Partitioning;

/// A topic that results are written to.
///
/// ```
/// # use tidemill_kafka::KafkaSink;
/// let sink = KafkaSink::topic("per-minute").brokers("localhost:9092").key(["user_id"]).exactly_once();
/// ```
#[derive(Debug)]
pub struct KafkaSink {
    target: Target,
    key: Vec<String>,
    key_format: Format,
    key_prefix: String,
    value_format: Format,
    value_has_key: bool,
    metadata: Vec<(String, String)>,
    propagates_headers: bool,
    upserts: bool,
}

impl KafkaSink {
    /// Values in JSON, no key, at least once.
    pub fn topic(name: impl AsRef<str>) -> Self {
        let json = || Format::Json(JsonFormat::default());
        Self {
            target: Target::new(name.as_ref()),
            key: Vec::new(),
            key_format: json(),
            key_prefix: String::new(),
            value_format: json(),
            value_has_key: true,
            metadata: Vec::new(),
            propagates_headers: true,
            upserts: false,
        }
    }

    /// The brokers to ask first; where this is not called, `KAFKA_BROKERS` of the environment.
    #[must_use]
    pub fn brokers(self, brokers: impl Into<String>) -> Self {
        self.property("bootstrap.servers", brokers)
    }

    /// A property of the client, under the Java client's name or librdkafka's.
    #[must_use]
    pub fn property(mut self, name: impl AsRef<str>, value: impl Into<String>) -> Self {
        let name = format!("properties.{}", name.as_ref());
        let options = self.target.options.iter().map(|(name, value)| (name.into(), value.into()));
        let options = options.chain([(name, value.into())]);
        self.target.options = options.collect::<Options>();
        self
    }

    /// Values in JSON.
    #[must_use]
    pub fn json(self) -> Self {
        self.format(Format::Json(JsonFormat::default()))
    }

    /// Values in this format.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.value_format = format;
        self
    }

    /// These columns make up the key, in JSON: records with the same key go to the same partition.
    #[must_use]
    pub fn key<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Keys in this format.
    #[must_use]
    pub fn key_format(mut self, format: Format) -> Self {
        self.key_format = format;
        self
    }

    /// Key columns have this at the beginning of their names, which keys leave out.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Values do not hold the key's columns.
    #[must_use]
    pub fn values_without_key(mut self) -> Self {
        self.value_has_key = false;
        self
    }

    /// A column that becomes metadata of the record (`headers`, `header.<name>` or `timestamp`) and
    /// stands neither in the key nor in the value.
    #[must_use]
    pub fn metadata(mut self, column: impl Into<String>, key: impl Into<String>) -> Self {
        self.metadata.push((column.into(), key.into()));
        self
    }

    /// Records do not get the headers of the record that a row was read from.
    #[must_use]
    pub fn without_header_propagation(mut self) -> Self {
        self.propagates_headers = false;
        self
    }

    /// How partitions are chosen.
    #[must_use]
    pub fn partitioning(mut self, partitioning: Partitioning) -> Self {
        self.target.partitioning = partitioning;
        self
    }

    /// How often a record arrives.
    #[must_use]
    pub fn delivery(mut self, delivery: DeliveryGuarantee) -> Self {
        self.target.delivery = delivery;
        self
    }

    /// In one transaction per checkpoint. Readers need `isolation.level=read_committed`.
    #[must_use]
    pub fn exactly_once(self) -> Self {
        self.delivery(DeliveryGuarantee::ExactlyOnce)
    }

    /// What the transactional id begins with, where `tidemill` is not wanted. Job and sink follow.
    #[must_use]
    pub fn transactional_id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.target.prefix = Some(prefix.into());
        self
    }

    /// These columns are the key of a table: the last record of a key is its row.
    #[must_use]
    pub fn upsert<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.upserts = true;
        self.key(columns)
    }

    /// Whether the options can be meant, as far as that shows without a broker.
    ///
    /// # Errors
    /// A configuration error that names the option or the column.
    pub fn check(&self, schema: &SchemaRef) -> Result<()> {
        self.target.properties()?;
        self.layout(schema)?.encoder(schema)?;
        Ok(())
    }

    /// What turns rows of `schema` into this sink's records, for whoever brings them to their place in
    /// another way.
    ///
    /// # Errors
    /// A configuration error that names the option or the column.
    pub fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn RecordEncoder>> {
        Ok(Box::new(self.layout(schema)?.encoder(schema)?))
    }

    /// Which columns of `schema` go where.
    fn layout(&self, schema: &SchemaRef) -> Result<RowLayout> {
        let index = |what: &str, name: &String| {
            schema.index_of(name).map_err(|_| {
                let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let names = names.join(", ");
                Error::configuration(format!("there is no {what} '{name}', only {names}"))
            })
        };
        let key: Vec<usize> =
            self.key.iter().map(|name| index("key column", name)).collect::<Result<_>>()?;
        if let Some(name) = self.key.iter().find(|name| !name.starts_with(&self.key_prefix)) {
            let prefix = &self.key_prefix;
            let message = format!("key column '{name}' does not begin with '{prefix}'");
            return Err(Error::option("key.fields-prefix", message));
        }
        let mut metadata = Vec::new();
        for (column, kind) in &self.metadata {
            metadata.push((index("metadata column", column)?, Metadata::parse(kind)?));
        }
        let is_metadata = |column: &usize| metadata.iter().any(|(other, _)| other == column);
        if let Some(column) = key.iter().find(|column| is_metadata(column)) {
            let name = schema.field(*column).name();
            let message = format!("'{name}' is metadata, and cannot be part of the key");
            return Err(Error::option("key.fields", message));
        }
        let is_value =
            |column: &usize| !is_metadata(column) && (self.value_has_key || !key.contains(column));
        let value: Vec<usize> = (0..schema.fields().len()).filter(is_value).collect();
        if value.is_empty() {
            let message = "no column is left for the value: set 'value.fields-include' = 'ALL'";
            return Err(Error::option("value.fields-include", message));
        }
        Ok(RowLayout {
            key,
            key_format: self.key_format.clone(),
            key_prefix: self.key_prefix.clone(),
            value,
            value_format: self.value_format.clone(),
            metadata,
            propagates_headers: self.propagates_headers,
            refuses_null: self.upserts,
        })
    }
}

impl Sink for KafkaSink {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        self.target.guarantee(checkpointed, self.upserts)
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let encoder = self.layout(&context.schema)?.encoder(&context.schema)?;
        self.target.writer(context, Box::new(encoder))
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        self.target.committer(context)
    }

    fn describe(&self) -> String {
        let key = if self.key.is_empty() {
            String::new()
        } else {
            format!(", key {} ({})", self.key.join(", "), self.key_format.name())
        };
        let upserts = if self.upserts { ", upserts" } else { "" };
        let target = self.target.describe();
        format!("{target} ({}{key}{upserts})", self.value_format.name())
    }
}
