//! The options of sink tables: `redis` and `redis-stream`.

use tidemill_core::table::{OptionSpec, Options, TableSpec};
use tidemill_core::{Error, Result};
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;

use super::layout::{Layout, Shape, StreamShape};
use super::template;
use super::{DeliveryGuarantee, RedisSink};
use crate::client;

const DELIVERY: OptionSpec = OptionSpec::new(
    "sink.delivery-guarantee",
    "How often a row's write is carried out: 'at-least-once' (default) or 'exactly-once'.",
);

/// What a table with `'connector' = 'redis'` takes beside the connection and formats.
pub(crate) const STRUCTURE_OPTIONS: [OptionSpec; 8] = [
    OptionSpec::new("structure", "What rows become: hash, string, zset, counter or channel."),
    OptionSpec::new(
        "key",
        "The template of keys, beginning with text: 'revenue:{user_id}:{window_start}'; a brace is \
         written twice.",
    ),
    OptionSpec::new("value", "string, channel: the column that is the value (default: the row)."),
    OptionSpec::new("score", "zset: the column that members are sorted by."),
    OptionSpec::new("member", "zset: the template of members: '{user_id}'."),
    OptionSpec::new("increment", "counter: the column that is added."),
    OptionSpec::new("ttl", "How long keys live after they were last written: '1 d'."),
    DELIVERY,
];

/// What a sink with `'connector' = 'redis-stream'` takes beside what sources take.
pub(crate) const STREAM_OPTIONS: [OptionSpec; 4] = [
    OptionSpec::new("maxlen", "About how many entries a stream keeps (default: all)."),
    OptionSpec::new(
        "key.fields",
        "Columns of the key, separated by semicolons: entries with the same key go to the same stream.",
    ),
    DELIVERY,
    OptionSpec::new(
        "sink.propagate-headers",
        "Whether entries get the headers of the record that their row was read from (default true).",
    ),
];

/// The structures by name, and which options each has for itself.
const STRUCTURES: [(&str, &[&str]); 5] = [
    ("hash", &[]),
    ("string", &["value", "format"]),
    ("zset", &["score", "member"]),
    ("counter", &["increment"]),
    ("channel", &["value", "format"]),
];

/// The sink of a table with `'connector' = 'redis'`.
///
/// # Errors
/// A configuration error that names the option.
pub(crate) fn structure(table: &TableSpec) -> Result<RedisSink> {
    let options = &table.options;
    options.required("structure")?;
    let names = STRUCTURES.map(|(name, _)| name);
    let (name, own) = STRUCTURES[options.choice("structure", &names, 0)?];
    refuse_others(options, name, own)?;
    let column = |option: &str| options.get(option).map(str::to_owned);
    let shape = match name {
        "hash" => Shape::Hash,
        "zset" => Shape::SortedSet {
            score: options.required("score")?.to_owned(),
            member: options.required("member")?.to_owned(),
        },
        "counter" => Shape::Counter { increment: column("increment") },
        _ => {
            if options.get("value").is_some() && options.get("format").is_some() {
                let message = "'value' is a column as it is, and needs no 'format': remove one";
                return Err(Error::option("value", message));
            }
            let value = column("value");
            let format = format(options)?.unwrap_or(Format::Json(JsonFormat::default()));
            if name == "string" {
                Shape::String { value, format }
            } else {
                Shape::Channel { value, format }
            }
        }
    };
    let layout = Layout {
        key: options.required("key")?.to_owned(),
        shape,
        ttl: options.duration("ttl")?,
        primary_key: primary_key(table),
        metadata: metadata(table),
    };
    finish(table, layout)
}

/// The sink of a table with `'connector' = 'redis-stream'`.
///
/// # Errors
/// A configuration error that names the option.
pub(crate) fn stream(table: &TableSpec) -> Result<RedisSink> {
    let options = &table.options;
    let max_len = options.parsed::<u64>("maxlen")?;
    if max_len == Some(0) {
        return Err(Error::option("maxlen", "'maxlen' = '0' would keep nothing: leave it out"));
    }
    let field = |option: &str, default: &str| options.get(option).unwrap_or(default).to_owned();
    let stream = StreamShape {
        max_len,
        key: key_fields(table)?,
        key_field: field("key.field", "key"),
        value_field: field("value.field", "payload"),
        format: format(options)?,
        propagates_headers: options.parsed("sink.propagate-headers")?.unwrap_or(true),
    };
    if stream.key_field == stream.value_field {
        let message = "'key.field' and 'value.field' are the same field: name two";
        return Err(Error::option("key.field", message));
    }
    let layout = Layout {
        key: options.required("stream")?.to_owned(),
        shape: Shape::Stream(stream),
        ttl: None,
        primary_key: Vec::new(),
        metadata: metadata(table),
    };
    finish(table, layout)
}

fn finish(table: &TableSpec, layout: Layout) -> Result<RedisSink> {
    let options = &table.options;
    let choice = options.choice("sink.delivery-guarantee", &DeliveryGuarantee::NAMES, 0)?;
    let known = client::config::OPTIONS;
    let connection =
        options.iter().filter(|(name, _)| known.iter().any(|option| option.matches(name)));
    let delivery = DeliveryGuarantee::ALL[choice];
    let sink = RedisSink::table(layout, connection.collect(), delivery);
    sink.check(&table.schema)?;
    Ok(sink)
}

/// The format of payloads, if one is named.
fn format(options: &Options) -> Result<Option<Format>> {
    let name = options.get("format").filter(|name| *name != "fields");
    name.map(|name| Format::parse(name, options)).transpose()
}

/// Refuses options that belong to another structure.
fn refuse_others(options: &Options, name: &str, own: &[&str]) -> Result<()> {
    let foreign = |option: &&&str| options.get(option).is_some() && !own.contains(*option);
    let Some(option) = STRUCTURES.iter().flat_map(|(_, own)| *own).find(foreign) else {
        return Ok(());
    };
    let those = STRUCTURES.iter().filter(|(_, own)| own.contains(option)).map(|(name, _)| *name);
    let those = those.collect::<Vec<_>>().join("' or '");
    let message = format!("'{option}' is for 'structure' = '{those}', and this is a '{name}'");
    Err(Error::option(*option, message))
}

fn primary_key(table: &TableSpec) -> Vec<String> {
    table.primary_key.iter().map(|column| table.schema.field(*column).name().clone()).collect()
}

fn metadata(table: &TableSpec) -> Vec<(String, String)> {
    let name = |column: &usize| table.schema.field(*column).name().clone();
    table.metadata.iter().map(|(column, key)| (name(column), key.clone())).collect()
}

/// Columns of a stream's key: those that are named, or those of the primary key.
fn key_fields(table: &TableSpec) -> Result<Vec<String>> {
    let Some(fields) = table.options.get("key.fields") else { return Ok(primary_key(table)) };
    if !table.primary_key.is_empty() {
        let message = "the key of the stream is the PRIMARY KEY already: leave 'key.fields' out";
        return Err(Error::option("key.fields", message));
    }
    let fields: Vec<String> = fields.split(';').map(|field| field.trim().to_owned()).collect();
    for field in &fields {
        template::column("key.fields", field, &table.schema)?;
    }
    Ok(fields)
}
