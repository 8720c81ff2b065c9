//! What a table of a bus may say: the same, whichever bus it is.

use arrow::datatypes::DataType;
use tidemill_core::table::{OptionSpec, Options, TableSpec};
use tidemill_core::{Error, Result};

use crate::address::BusAddress;
use crate::error::check_topic;

/// Every option but those of formats.
pub(super) const OPTIONS: [OptionSpec; 16] = [
    OptionSpec::new(
        "bus",
        "Where the bus is: memory://NAME, kafka://HOST:PORT or redis://HOST:PORT.",
    ),
    OptionSpec::new("topic", "The topic; several to read from, separated by semicolons."),
    OptionSpec::new("group", "The group that is told how far the job has come."),
    OptionSpec::new(
        "key.fields",
        "The column of the key, a STRING; or several, separated by semicolons, for a JSON object.",
    ),
    OptionSpec::new(
        "scan.startup.mode",
        "Where a job without a checkpoint starts: group-offsets (default), earliest-offset, \
         latest-offset or timestamp.",
    ),
    OptionSpec::new(
        "scan.startup.timestamp-millis",
        "Startup mode timestamp: start with the first event that is not older.",
    ),
    OptionSpec::new(
        "scan.bounded.mode",
        "Where the source ends: unbounded (default), latest-offset or timestamp.",
    ),
    OptionSpec::new(
        "scan.bounded.timestamp-millis",
        "Bounded mode timestamp: end before the first event that is not older.",
    ),
    OptionSpec::new(
        "scan.out-of-range",
        "Where events that were not read yet are gone: fail (default), or go on at the earliest or \
         the latest event.",
    ),
    OptionSpec::new(
        "sink.delivery-guarantee",
        "How often an event arrives: 'at-least-once' (default) or 'exactly-once'. In memory always \
         once, where there are checkpoints.",
    ),
    OptionSpec::new(
        "sink.propagate-headers",
        "Whether events get the headers of the record that their row was read from (default true).",
    ),
    OptionSpec::new("properties.*", "On Kafka: a property of the client. No other bus reads it."),
    OptionSpec::new("username", "On Redis: the user. No other bus reads it."),
    OptionSpec::new("password", "On Redis: the password. No other bus reads it."),
    OptionSpec::new("password.file", "On Redis: the file of the password. No other bus reads it."),
    OptionSpec::new("tls.*", "On Redis: files of certificates and keys. No other bus reads it."),
];

/// Options that mean the same to every connector, and are passed on as they are.
pub(super) const COMMON: [&str; 7] = [
    "scan.startup.mode",
    "scan.startup.timestamp-millis",
    "scan.bounded.mode",
    "scan.bounded.timestamp-millis",
    "scan.out-of-range",
    "sink.delivery-guarantee",
    "sink.propagate-headers",
];

const START: [&str; 4] = ["group-offsets", "earliest-offset", "latest-offset", "timestamp"];
const STOP: [&str; 3] = ["unbounded", "latest-offset", "timestamp"];

/// A table, its options read.
pub(super) struct BusTable<'a> {
    pub table: &'a TableSpec,
    pub address: BusAddress,
    /// At least one.
    pub topics: Vec<String>,
    pub key: Vec<String>,
    pub start: Start,
    pub stop: Option<Stop>,
}

/// Where a source starts that no checkpoint says it of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Group,
    Earliest,
    Latest,
    /// Milliseconds since the epoch.
    Timestamp(i64),
}

/// Where a source ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Latest,
    /// Milliseconds since the epoch.
    Timestamp(i64),
}

impl<'a> BusTable<'a> {
    /// # Errors
    /// A configuration error that names the option.
    pub fn parse(table: &'a TableSpec) -> Result<Self> {
        let options = &table.options;
        let address = BusAddress::parse(options.required("bus")?);
        let address = address.map_err(|error| Error::option("bus", error.to_string()))?;
        let start = START[options.choice("scan.startup.mode", &START, 0)?];
        let stop = STOP[options.choice("scan.bounded.mode", &STOP, 0)?];
        let at = |prefix: &str, mode: &str| timestamp(options, prefix, mode == "timestamp");
        let (started, stopped) = (at("scan.startup", start)?, at("scan.bounded", stop)?);
        options.choice("sink.delivery-guarantee", &["at-least-once", "exactly-once"], 0)?;
        options.required("format")?;
        Ok(Self {
            address,
            topics: topics(options.required("topic")?)?,
            key: key(table)?,
            start: match (start, started) {
                (_, Some(millis)) => Start::Timestamp(millis),
                ("earliest-offset", _) => Start::Earliest,
                ("latest-offset", _) => Start::Latest,
                _ => Start::Group,
            },
            stop: match (stop, stopped) {
                (_, Some(millis)) => Some(Stop::Timestamp(millis)),
                ("latest-offset", _) => Some(Stop::Latest),
                _ => None,
            },
            table,
        })
    }

    pub fn options(&self) -> &Options {
        &self.table.options
    }

    /// Whether the key is one column, whose text it is; else it is a JSON object.
    pub fn key_is_text(&self) -> bool {
        self.key.len() == 1
    }
}

fn topics(text: &str) -> Result<Vec<String>> {
    let mut topics: Vec<String> = Vec::new();
    for topic in text.split(';').map(str::trim).filter(|topic| !topic.is_empty()) {
        check_topic(topic).map_err(|error| Error::option("topic", error.to_string()))?;
        if topics.iter().any(|other| other == topic) {
            return Err(Error::option("topic", format!("option 'topic' names '{topic}' twice")));
        }
        topics.push(topic.to_owned());
    }
    if topics.is_empty() {
        return Err(Error::option("topic", "option 'topic' names no topic"));
    }
    Ok(topics)
}

/// The columns of the key.
fn key(table: &TableSpec) -> Result<Vec<String>> {
    let Some(text) = table.options.get("key.fields") else { return Ok(Vec::new()) };
    let names = text.split(';').map(|name| name.trim().to_owned());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    for name in &names {
        let column = table.schema.index_of(name).map_err(|_| {
            let message = format!("'key.fields': the table has no column '{name}'");
            Error::option("key.fields", message)
        })?;
        if table.metadata.iter().any(|(metadata, _)| *metadata == column) {
            let message = format!("'{name}' is metadata, and cannot be part of the key");
            return Err(Error::option("key.fields", message));
        }
        let is_text = *table.schema.field(column).data_type() == DataType::Utf8View;
        if names.len() == 1 && !is_text {
            let message = format!("'key.fields': the key is a text: declare '{name}' as STRING");
            return Err(Error::option("key.fields", message));
        }
    }
    Ok(names)
}

fn timestamp(options: &Options, prefix: &str, is_wanted: bool) -> Result<Option<i64>> {
    let name = format!("{prefix}.timestamp-millis");
    if !is_wanted {
        return match options.get(&name) {
            None => Ok(None),
            Some(_) => {
                let message = format!("option '{name}' needs '{prefix}.mode' = 'timestamp'");
                Err(Error::option(name, message))
            }
        };
    }
    options.required(&name)?;
    let millis = options.parsed::<i64>(&name)?.filter(|millis| *millis >= 0);
    let wrong = || Error::option(&name, format!("option '{name}' is before 1970"));
    millis.map(Some).ok_or_else(wrong)
}
