//! On Kafka and Redis a table of the bus is a table of their own connectors: with their exactly once, their
//! lag and their dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, GroupLag, TableSpec};
use tidemill_core::{Error, Result};
use tidemill_kafka::KafkaFactory;
use tidemill_redis::RedisStreamFactory;
use tidemill_redis::client::Config;

use super::layout::Metadata;
use super::options::{BusTable, COMMON};
use super::same::{self, Agreement, SameSink, SameSource};
use crate::RedisBus;
use crate::address::Kind;

/// The connector that is meant, and its table.
struct Delegate {
    factory: Box<dyn ConnectorFactory>,
    table: TableSpec,
    agreement: Option<Agreement>,
}

/// # Errors
/// A configuration error that names the option of the bus's table.
pub(super) fn source(table: &BusTable<'_>) -> Result<Arc<dyn Source>> {
    let delegate = Delegate::new(table, true)?;
    let source = delegate.factory.source(&delegate.table).map_err(same::in_words_of_the_bus)?;
    let wrapped = SameSource::new(source, table.table, &delegate.table, delegate.agreement);
    Ok(Arc::new(wrapped))
}

/// Errors as for [`source`].
pub(super) fn sink(table: &BusTable<'_>) -> Result<Arc<dyn Sink>> {
    let delegate = Delegate::new(table, false)?;
    let sink = delegate.factory.sink(&delegate.table).map_err(same::in_words_of_the_bus)?;
    Ok(Arc::new(SameSink::new(sink, delegate.agreement)))
}

/// How far a job is behind. Errors as for [`source`].
pub(super) fn lag(table: &BusTable<'_>, job: &str) -> Result<Option<GroupLag>> {
    let Delegate { factory, table, .. } = Delegate::new(table, true)?;
    factory.lag(&table, job).map_err(same::in_words_of_the_bus)
}

impl Delegate {
    fn new(table: &BusTable<'_>, is_source: bool) -> Result<Self> {
        if is_source {
            for (column, key) in &table.table.metadata {
                Metadata::parse(key, table.table.schema.field(*column))?;
            }
        }
        match &table.address.kind {
            Kind::Kafka { brokers, properties } => Self::kafka(table, brokers, properties),
            Kind::Redis { url, partitions, is_cluster } => {
                Self::redis(table, url, *partitions, *is_cluster)
            }
            Kind::Memory { .. } => Err(Error::internal("a bus in memory has its own connector")),
        }
    }

    fn kafka(table: &BusTable<'_>, brokers: &str, of_url: &[(String, String)]) -> Result<Self> {
        let mut options = common(table);
        let mut put = |name: &str, value: &str| options.insert(name.to_owned(), value.to_owned());
        put("connector", "kafka");
        put("topic", &table.topics.join(";"));
        for (name, value) in of_url {
            put(&format!("properties.{name}"), value);
        }
        for (name, value) in table.options().iter() {
            if name.starts_with("properties.") {
                put(name, value);
            }
        }
        put("properties.bootstrap.servers", brokers);
        if let Some(group) = table.options().get("group") {
            put("properties.group.id", group);
        }
        if !table.key.is_empty() {
            put("key.fields", &table.key.join(";"));
            put("key.format", if table.key_is_text() { "raw" } else { "json" });
        }
        let table = same::inner_table(table.table, options, &[("offset", "offset")]);
        Ok(Self { factory: Box::new(KafkaFactory), table, agreement: None })
    }

    fn redis(
        table: &BusTable<'_>,
        url: &str,
        partitions: Option<u32>,
        is_cluster: bool,
    ) -> Result<Self> {
        let mut options = common(table);
        let mut put = |name: &str, value: &str| options.insert(name.to_owned(), value.to_owned());
        for (name, value) in table.options().iter() {
            let is_redis = ["username", "password", "password.file", "group"].contains(&name);
            if is_redis || name.starts_with("tls.") {
                put(name, value);
            }
        }
        put("url", url);
        put("cluster", if is_cluster { "true" } else { "false" });
        if !table.key.is_empty() {
            put("key.fields", &table.key.join(";"));
        }
        let reached: BTreeMap<String, String> = options.clone();
        let config = Config::parse(&reached.into_iter().collect());
        let bus = RedisBus::connect(config.map_err(same::in_words_of_the_bus)?, partitions);
        let last = bus.shared().expected_partitions() - 1;
        let streams = table.topics.iter().map(|topic| format!("{topic}:{{0..{last}}}"));
        let streams = streams.collect::<Vec<_>>().join(";");
        options.insert("stream".to_owned(), streams);
        options.insert("connector".to_owned(), "redis-stream".to_owned());
        let renamed = [("topic", "stream"), ("offset", "id")];
        let agreement = Agreement::new(bus, table.topics.clone());
        let table = same::inner_table(table.table, options, &renamed);
        let agreement = Some(agreement);
        Ok(Self { factory: Box::new(RedisStreamFactory), table, agreement })
    }
}

/// Options that mean the same everywhere, and those of formats.
fn common(table: &BusTable<'_>) -> BTreeMap<String, String> {
    let formats = tidemill_formats::options();
    let is_common =
        |name: &str| COMMON.contains(&name) || formats.iter().any(|option| option.matches(name));
    let options = table.options().iter().filter(|(name, _)| is_common(name));
    options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
