//! A sink table's options, for `kafka` and `upsert-kafka` alike.

use tidemill_core::table::{OptionSpec, Options, TableSpec};
use tidemill_core::{Error, Result};

use super::target::DeliveryGuarantee;
use super::{KafkaSink, encode::Metadata};
use crate::formats;
use crate::partitioner::Partitioning;

/// What a sink takes beside what sources take.
pub(crate) const OPTIONS: [OptionSpec; 5] = [
    OptionSpec::new(
        "sink.delivery-guarantee",
        "How often a record arrives: 'at-least-once' (default), 'exactly-once' or 'none'.",
    ),
    OptionSpec::new(
        "sink.transactional-id-prefix",
        "What the transactional id of exactly once begins with (default 'tidemill').",
    ),
    OptionSpec::new(
        "sink.partitioner",
        "How partitions are chosen: 'default' (by the key's hash), 'fixed' or 'round-robin'.",
    ),
    OptionSpec::new(
        "sink.propagate-headers",
        "Whether records get the headers of the record that their row was read from (default true).",
    ),
    OptionSpec::new("sink.parallelism", "Every shard writes: set 'parallelism.default' instead."),
];

/// The sink of a table.
///
/// # Errors
/// A configuration error that names the option.
pub(crate) fn sink(table: &TableSpec, upserts: bool) -> Result<KafkaSink> {
    let options = &table.options;
    refuse(options)?;
    let topic = options.required("topic")?;
    if topic.contains(';') {
        let message = "a sink writes to one topic: use a table for each";
        return Err(Error::option("topic", message));
    }
    let mut sink = KafkaSink::topic(topic);
    sink.target.options =
        options.iter().filter(|(name, _)| name.starts_with("properties.")).collect();
    sink.value_format = formats::value(options, Some(topic))?;
    let choice = options.choice("sink.partitioner", &Partitioning::NAMES, 0)?;
    sink.target.partitioning = Partitioning::ALL[choice];
    let choice = options.choice("sink.delivery-guarantee", &DeliveryGuarantee::NAMES, 1)?;
    sink.target.delivery = DeliveryGuarantee::ALL[choice];
    sink.target.prefix = options.get("sink.transactional-id-prefix").map(str::to_owned);
    sink.propagates_headers = options.parsed("sink.propagate-headers")?.unwrap_or(true);
    for (column, key) in &table.metadata {
        Metadata::parse(key)?;
        sink.metadata.push((table.schema.field(*column).name().clone(), key.clone()));
    }
    let includes = options.choice("value.fields-include", &["ALL", "EXCEPT_KEY"], 0)?;
    sink.value_has_key = includes == 0;
    sink.key_prefix = options.get("key.fields-prefix").unwrap_or_default().to_owned();
    if !sink.key_prefix.is_empty() && sink.value_has_key {
        let message = "'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY'";
        return Err(Error::option("key.fields-prefix", message));
    }
    sink.upserts = upserts;
    sink.key = key(table, upserts)?;
    match options.get("key.format") {
        Some(name) => sink.key_format = formats::key(options, name, Some(topic))?,
        None if sink.key.is_empty() => formats::check_no_key(options)?,
        None => return Err(Error::option("key.format", "'key.format' is missing: keys need one")),
    }
    sink.check(&table.schema)?;
    Ok(sink)
}

fn refuse(options: &Options) -> Result<()> {
    if options.get("sink.parallelism").is_some() {
        let message = "every shard writes: SET 'parallelism.default' for the whole job instead";
        return Err(Error::option("sink.parallelism", message));
    }
    Ok(())
}

/// Columns of the key: those of the primary key, or those that are named.
fn key(table: &TableSpec, upserts: bool) -> Result<Vec<String>> {
    let options = &table.options;
    if upserts {
        if options.get("key.fields").is_some() {
            let message = "the key of 'upsert-kafka' is the PRIMARY KEY: leave 'key.fields' out";
            return Err(Error::option("key.fields", message));
        }
        if table.primary_key.is_empty() {
            let message = "'upsert-kafka' needs to know the key of a row: add PRIMARY KEY (…) NOT \
                           ENFORCED to the table, or use 'kafka'";
            return Err(Error::option("connector", message));
        }
        let name = |column: &usize| table.schema.field(*column).name().clone();
        return Ok(table.primary_key.iter().map(name).collect());
    }
    if !table.primary_key.is_empty() {
        let message = "'kafka' appends, and knows no PRIMARY KEY: use 'upsert-kafka', or name the \
                       record's key with 'key.fields'";
        return Err(Error::option("connector", message));
    }
    let Some(fields) = options.get("key.fields") else {
        return match options.get("key.format") {
            None => Ok(Vec::new()),
            Some(_) => Err(Error::option("key.fields", "'key.format' needs 'key.fields'")),
        };
    };
    let fields: Vec<String> = fields.split(';').map(|field| field.trim().to_owned()).collect();
    let missing = fields.iter().find(|field| table.schema.index_of(field).is_err());
    match missing {
        None => Ok(fields),
        Some(field) => {
            let message = format!("'key.fields' names '{field}', which is no column of the table");
            Err(Error::option("key.fields", message))
        }
    }
}
