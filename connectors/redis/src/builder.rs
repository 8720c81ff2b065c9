//! The typed way to a source: what the options of a table say, in Rust.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tidemill_core::table::Options;
use tidemill_core::{Error, Result};
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;
use tidemill_formats::raw::RawFormat;

use crate::client::Config;
use crate::source::config::SourceConfig;
use crate::source::layout::{Content, Layout};
use crate::source::{OutOfRange, ReadMode, RedisStreamSource, StartAt, StopAt};
use crate::streams;

/// Streams to read, before it is said what is in them.
///
/// ```
/// use std::sync::Arc;
/// use arrow::datatypes::{DataType, Field, Schema};
/// use tidemill_redis::{RedisStream, StartAt};
///
/// let schema = Arc::new(Schema::new(vec![
///     Field::new("user_id", DataType::Utf8View, true),
///     Field::new("id", DataType::Utf8View, false),
/// ]));
/// let orders = RedisStream::streams("orders:{0..7}")
///     .url("redis://localhost:6379")
///     .group("per-minute")
///     .start_at(StartAt::Earliest)
///     .metadata("id", "id")
///     .json(schema);
/// ```
///
/// A mistake (no address, a column that is not in the schema or whose type does not fit) is said when the
/// job starts.
#[derive(Clone)]
pub struct RedisStream {
    streams: String,
    /// Options of the client.
    options: BTreeMap<String, String>,
    mode: ReadMode,
    group: Option<String>,
    start: StartAt,
    stop: Option<StopAt>,
    out_of_range: OutOfRange,
    /// Columns and the metadata that they hold.
    metadata: Vec<(String, String)>,
    value_field: String,
    key_field: String,
}

impl RedisStream {
    /// The streams, as the option `stream` has them: `orders`, `orders:{0..7}`, `eu:orders;us:orders`.
    pub fn streams(names: impl Into<String>) -> Self {
        Self {
            streams: names.into(),
            options: BTreeMap::new(),
            mode: ReadMode::Positions,
            group: None,
            start: StartAt::Group,
            stop: None,
            out_of_range: OutOfRange::Fail,
            metadata: Vec::new(),
            value_field: "payload".to_owned(),
            key_field: "key".to_owned(),
        }
    }

    /// Where Redis is: `redis://[user[:password]@]host[:port][/db]`. Else `REDIS_URL` of the environment.
    #[must_use]
    pub fn url(self, url: impl Into<String>) -> Self {
        self.option("url", url)
    }

    /// It is a cluster, of which [`RedisStream::url`] names one or more nodes.
    #[must_use]
    pub fn cluster(self) -> Self {
        self.option("cluster", "true")
    }

    /// Another option of the client: `username`, `password`, `password.file`, `tls.ca`,
    /// `tls.certificate`, `tls.key`.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// The consumer group; else `tidemill-` and the job's name.
    #[must_use]
    pub fn group(self, group: impl Into<String>) -> Self {
        Self { group: Some(group.into()), ..self }
    }

    /// Reads as consumer `consumer` of the group, beside others; what another has not acknowledged for
    /// `claim_after` is taken over.
    #[must_use]
    pub fn as_consumer(self, consumer: impl Into<String>, claim_after: Duration) -> Self {
        Self { mode: ReadMode::Group { consumer: Some(consumer.into()), claim_after }, ..self }
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

    /// What happens where the next entries are gone; [`OutOfRange::Fail`] if nothing is said.
    #[must_use]
    pub fn out_of_range(self, policy: OutOfRange) -> Self {
        Self { out_of_range: policy, ..self }
    }

    /// Column `column` holds metadata: `id`, `stream`, `partition`, `timestamp`, `key`, `headers` or
    /// `header.<name>`.
    #[must_use]
    pub fn metadata(mut self, column: impl Into<String>, key: impl Into<String>) -> Self {
        self.metadata.push((column.into(), key.into()));
        self
    }

    /// The field that holds the record, where it is in a format; `payload` if nothing is said.
    #[must_use]
    pub fn value_field(self, field: impl Into<String>) -> Self {
        Self { value_field: field.into(), ..self }
    }

    /// The field that holds the record's key; `key` if nothing is said.
    #[must_use]
    pub fn key_field(self, field: impl Into<String>) -> Self {
        Self { key_field: field.into(), ..self }
    }

    /// Records are JSON objects.
    pub fn json(self, schema: SchemaRef) -> RedisStreamSource {
        self.format(Format::Json(JsonFormat::default()), schema)
    }

    /// Records are text or bytes, for the only column that is no metadata.
    pub fn raw(self, schema: SchemaRef) -> RedisStreamSource {
        self.format(Format::Raw(RawFormat::default()), schema)
    }

    /// Records are of this format; `schema` has their columns and those of metadata.
    pub fn format(self, format: Format, schema: SchemaRef) -> RedisStreamSource {
        self.source(Content::Payload(format), schema)
    }

    /// Each column is a field of the entry, as text.
    pub fn fields(self, schema: SchemaRef) -> RedisStreamSource {
        self.source(Content::Fields, schema)
    }

    fn source(self, content: Content, schema: SchemaRef) -> RedisStreamSource {
        RedisStreamSource::or_mistake(self.config(content, schema.clone()), schema)
    }

    fn config(self, content: Content, schema: SchemaRef) -> Result<SourceConfig> {
        let index = |column: &String| {
            let missing = |_| Error::configuration(format!("the schema has no column '{column}'"));
            schema.index_of(column).map_err(missing)
        };
        let metadata = self.metadata.iter().map(|(column, key)| Ok((index(column)?, key.clone())));
        let metadata = metadata.collect::<Result<Vec<_>>>()?;
        let names = (self.value_field, self.key_field);
        let config = SourceConfig {
            streams: streams::parse(&self.streams)?,
            client: Config::parse(&Options::from_iter(self.options))?,
            mode: self.mode,
            group: self.group,
            start: self.start,
            stop: self.stop,
            out_of_range: self.out_of_range,
            layout: Layout::new(schema, &metadata, content, names)?,
        };
        config.check()?;
        Ok(config)
    }
}

impl fmt::Debug for RedisStream {
    /// Without the options of the client, where secrets may stand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisStream({})", self.streams)
    }
}
