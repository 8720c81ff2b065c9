//! The typed way to a source: what the options of a table say, in Rust.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tidemill_core::table::Options;
use tidemill_core::{Error, Result};
use tidemill_formats::Format;
use tidemill_formats::csv::CsvFormat;
use tidemill_formats::json::JsonFormat;
use tidemill_formats::raw::RawFormat;

use crate::client::ClientProperties;
use crate::source::config::{SourceConfig, Topics};
use crate::source::layout::Layout;
use crate::source::{KafkaSource, OutOfRange, StartAt, StopAt};

/// Topics to read, before it is said what is in them.
///
/// ```
/// use std::sync::Arc;
/// use arrow::datatypes::{DataType, Field, Schema};
/// use tidemill_kafka::{Kafka, StartAt};
///
/// let schema = Arc::new(Schema::new(vec![
///     Field::new("user_id", DataType::Utf8View, true),
///     Field::new("partition", DataType::Int32, false),
/// ]));
/// let events = Kafka::topic("user-events")
///     .brokers("localhost:9092")
///     .group("per-minute")
///     .start_at(StartAt::Earliest)
///     .metadata("partition", "partition")
///     .json(schema);
/// ```
///
/// A mistake (a property that does not exist, no brokers, a column that is not in the schema or whose
/// type does not fit) is said when the job starts.
#[derive(Debug, Clone)]
pub struct Kafka {
    topics: Which,
    /// Without the prefix `properties.`.
    properties: BTreeMap<String, String>,
    start: StartAt,
    stop: Option<StopAt>,
    discovery: Option<Duration>,
    out_of_range: OutOfRange,
    /// Columns and the metadata that they hold.
    metadata: Vec<(String, String)>,
    key: Option<Key>,
    key_prefix: String,
}

/// What stands in keys.
#[derive(Debug, Clone)]
struct Key {
    format: Format,
    columns: Vec<String>,
}

#[derive(Debug, Clone)]
enum Which {
    List(Vec<String>),
    Pattern(String),
}

impl Kafka {
    /// One topic.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::topics([name])
    }

    /// Several topics.
    pub fn topics<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::of(Which::List(names.into_iter().map(Into::into).collect()))
    }

    /// All topics whose whole name matches a regular expression.
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self::of(Which::Pattern(pattern.into()))
    }

    fn of(topics: Which) -> Self {
        Self {
            topics,
            properties: BTreeMap::new(),
            start: StartAt::Group,
            stop: None,
            discovery: Some(Duration::from_secs(10)),
            out_of_range: OutOfRange::Fail,
            metadata: Vec::new(),
            key: None,
            key_prefix: String::new(),
        }
    }

    /// The brokers to ask first: `host:port`, separated by commas. Else `KAFKA_BROKERS` of the
    /// environment.
    #[must_use]
    pub fn brokers(self, brokers: impl Into<String>) -> Self {
        self.property("bootstrap.servers", brokers)
    }

    /// The consumer group; else a name that the job and its topics always give.
    #[must_use]
    pub fn group(self, group: impl Into<String>) -> Self {
        self.property("group.id", group)
    }

    /// A property of the Kafka client, by the name that the Java client gives it or by librdkafka's.
    /// Security comes from the environment where it is not set: see [`ClientProperties`].
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Where a job starts that has no checkpoint; [`StartAt::Group`] if nothing is said.
    #[must_use]
    pub fn start_at(self, start: StartAt) -> Self {
        Self { start, ..self }
    }

    /// Where the source ends; never, if nothing is said.
    #[must_use]
    pub fn stop_at(self, stop: StopAt) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// How long new partitions may go unnoticed, 10 s if nothing is said; `None` not to look.
    #[must_use]
    pub fn discover_every(self, interval: Option<Duration>) -> Self {
        Self { discovery: interval, ..self }
    }

    /// What happens where the next records are gone; [`OutOfRange::Fail`] if nothing is said.
    #[must_use]
    pub fn out_of_range(self, policy: OutOfRange) -> Self {
        Self { out_of_range: policy, ..self }
    }

    /// Column `column` holds metadata: `topic`, `partition`, `offset`, `timestamp`,
    /// `timestamp-type`, `leader-epoch`, `headers`, `key` or `header.<name>`.
    #[must_use]
    pub fn metadata(mut self, column: impl Into<String>, key: impl Into<String>) -> Self {
        self.metadata.push((column.into(), key.into()));
        self
    }

    /// These columns stand in the record's key, in this format, and not in its value.
    #[must_use]
    pub fn key<C: Into<String>>(
        self,
        format: Format,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { key: Some(Key { format, columns }), ..self }
    }

    /// Names of columns that stand in the key begin with this, and the key's own names do not.
    #[must_use]
    pub fn key_prefix(self, prefix: impl Into<String>) -> Self {
        Self { key_prefix: prefix.into(), ..self }
    }

    /// Values are JSON objects.
    pub fn json(self, schema: SchemaRef) -> KafkaSource {
        self.format(Format::Json(JsonFormat::default()), schema)
    }

    /// Values are CSV; columns go by position.
    pub fn csv(self, schema: SchemaRef) -> KafkaSource {
        self.format(Format::Csv(CsvFormat::default()), schema)
    }

    /// Values are text or bytes, for the only column that is no metadata.
    pub fn raw(self, schema: SchemaRef) -> KafkaSource {
        self.format(Format::Raw(RawFormat::default()), schema)
    }

    /// Values are of this format; `schema` has their columns and those of metadata.
    pub fn format(self, format: Format, schema: SchemaRef) -> KafkaSource {
        KafkaSource::or_mistake(self.config(format, schema.clone()), schema)
    }

    fn config(self, format: Format, schema: SchemaRef) -> Result<SourceConfig> {
        let properties = self.properties.iter();
        let options: Options =
            properties.map(|(name, value)| (format!("properties.{name}"), value)).collect();
        let index = |column: &String| {
            let missing = |_| Error::configuration(format!("the schema has no column '{column}'"));
            schema.index_of(column).map_err(missing)
        };
        let metadata = self.metadata.iter().map(|(column, key)| Ok((index(column)?, key.clone())));
        let metadata = metadata.collect::<Result<Vec<_>>>()?;
        let key = match &self.key {
            Some(key) => {
                let columns = key.columns.iter().map(index).collect::<Result<Vec<_>>>()?;
                Some((key.format.clone(), columns, self.key_prefix))
            }
            None if !self.key_prefix.is_empty() => {
                let message = "a prefix of key columns needs a key: say which columns are in it";
                return Err(Error::configuration(message));
            }
            None => None,
        };
        let config = SourceConfig {
            topics: match self.topics {
                Which::List(names) => Topics::list(names)?,
                Which::Pattern(pattern) => Topics::pattern(&pattern)?,
            },
            client: ClientProperties::parse(&options)?,
            start: self.start,
            stop: self.stop,
            discovery: self.discovery.filter(|interval| !interval.is_zero()),
            out_of_range: self.out_of_range,
            layout: Layout::of_values(schema, &metadata, format, key)?,
        };
        config.check()?;
        Ok(config)
    }
}
