//! The typed way to a sink: what the options of a table say, in Rust.

use std::time::Duration;

use tidemill_core::table::Options;
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;

use super::layout::{Layout, Shape, StreamShape};
use super::{DeliveryGuarantee, RedisSink};
use crate::RedisStream;

/// Structures that results are put into. In keys `{column}` stands for a column's text; a brace is written
/// twice.
///
/// Where Redis is comes from [`RedisSink::url`], else from `REDIS_URL` of the environment. A mistake (a column
/// that does not exist, say) is said when the job starts.
#[derive(Debug, Clone, Copy)]
pub struct Redis;

impl Redis {
    /// A hash for every key, a field for every column that is not in the key.
    pub fn hash(key: impl Into<String>) -> RedisSink {
        RedisSink::of(key, Shape::Hash)
    }

    /// A string for every key: the row as JSON, unless [`RedisSink::format`] or [`RedisSink::value`] says
    /// otherwise.
    pub fn string(key: impl Into<String>) -> RedisSink {
        RedisSink::of(key, Shape::String { value: None, format: json() })
    }

    /// A sorted set for every key. `score` is a column, a number or a timestamp (in milliseconds since
    /// 1970 then); `member` a template.
    pub fn sorted_set(
        key: impl Into<String>,
        score: impl Into<String>,
        member: impl Into<String>,
    ) -> RedisSink {
        RedisSink::of(key, Shape::SortedSet { score: score.into(), member: member.into() })
    }

    /// A counter for every key, to which the column `increment` is added.
    pub fn counter(key: impl Into<String>, increment: impl Into<String>) -> RedisSink {
        RedisSink::of(key, Shape::Counter { increment: Some(increment.into()) })
    }

    /// Messages on a channel: rows as JSON, unless [`RedisSink::format`] or [`RedisSink::value`] says
    /// otherwise. Who does not listen just then never gets them.
    pub fn channel(name: impl Into<String>) -> RedisSink {
        RedisSink::of(name, Shape::Channel { value: None, format: json() })
    }
}

impl RedisStream {
    /// Entries of a stream as a sink, with a field for every column unless [`RedisSink::format`] says
    /// otherwise; of several streams, as in `orders:{0..7}`, by the hash of [`RedisSink::key_fields`].
    pub fn to(streams: impl Into<String>) -> RedisSink {
        let shape = StreamShape {
            max_len: None,
            key: Vec::new(),
            key_field: "key".to_owned(),
            value_field: "payload".to_owned(),
            format: None,
            propagates_headers: true,
        };
        RedisSink::of(streams, Shape::Stream(shape))
    }
}

fn json() -> Format {
    Format::Json(JsonFormat::default())
}

impl RedisSink {
    fn of(key: impl Into<String>, shape: Shape) -> Self {
        let layout = Layout {
            key: key.into(),
            shape,
            ttl: None,
            primary_key: Vec::new(),
            metadata: Vec::new(),
        };
        Self { layout, connection: Options::default(), delivery: DeliveryGuarantee::default() }
    }

    pub(super) fn table(layout: Layout, connection: Options, delivery: DeliveryGuarantee) -> Self {
        Self { layout, connection, delivery }
    }

    /// Where Redis is: `redis://[user[:password]@]host[:port][/db]`, `rediss://` for TLS; several nodes of a
    /// cluster with commas between them.
    #[must_use]
    pub fn url(self, url: impl Into<String>) -> Self {
        self.option("url", url)
    }

    /// It is a cluster.
    #[must_use]
    pub fn cluster(self) -> Self {
        self.option("cluster", "true")
    }

    /// An option of the connection, under its name in job files: `password.file`, `tls.ca` and so on.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let options = self.connection.iter().map(|(name, value)| (name.into(), value.into()));
        let options: Vec<(String, String)> = options.chain([(name.into(), value.into())]).collect();
        self.connection = options.into_iter().collect();
        self
    }

    /// Keys are gone so long after they were last written. Not for streams and channels.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.layout.ttl = Some(ttl);
        self
    }

    /// The text of this column is the value of a string, or the message of a channel. Other structures
    /// have none.
    #[must_use]
    pub fn value(mut self, column: impl Into<String>) -> Self {
        if let Shape::String { value, .. } | Shape::Channel { value, .. } = &mut self.layout.shape {
            *value = Some(column.into());
        }
        self
    }

    /// Rows in this format are the value of a string, the message of a channel, or the field `payload` of
    /// a stream's entries. Other structures have none.
    #[must_use]
    pub fn format(mut self, wanted: Format) -> Self {
        match &mut self.layout.shape {
            Shape::String { format, .. } | Shape::Channel { format, .. } => *format = wanted,
            Shape::Stream(stream) => stream.format = Some(wanted),
            Shape::Hash | Shape::SortedSet { .. } | Shape::Counter { .. } => {}
        }
        self
    }

    /// Rows as JSON: see [`RedisSink::format`].
    #[must_use]
    pub fn json(self) -> Self {
        self.format(json())
    }

    fn stream(mut self, change: impl FnOnce(&mut StreamShape)) -> Self {
        if let Shape::Stream(stream) = &mut self.layout.shape {
            change(stream);
        }
        self
    }

    /// The streams keep about so many entries each.
    #[must_use]
    pub fn max_len(self, entries: u64) -> Self {
        self.stream(|stream| stream.max_len = Some(entries))
    }

    /// These columns are the key of a stream's entry: entries with the same key go to the same stream.
    #[must_use]
    pub fn key_fields<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        self.stream(|stream| stream.key = columns)
    }

    /// A column that becomes headers of a stream's entry: `headers` or `header.<name>`.
    #[must_use]
    pub fn metadata(mut self, column: impl Into<String>, key: impl Into<String>) -> Self {
        self.layout.metadata.push((column.into(), key.into()));
        self
    }

    /// Entries of a stream do not get the headers of the record that a row was read from.
    #[must_use]
    pub fn without_header_propagation(self) -> Self {
        self.stream(|stream| stream.propagates_headers = false)
    }

    /// How often a row's write is carried out.
    #[must_use]
    pub fn delivery(mut self, delivery: DeliveryGuarantee) -> Self {
        self.delivery = delivery;
        self
    }

    /// In one transaction per checkpoint.
    #[must_use]
    pub fn exactly_once(self) -> Self {
        self.delivery(DeliveryGuarantee::ExactlyOnce)
    }
}
