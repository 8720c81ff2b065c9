//! Streams as a source: every stream is a split.
//!
//! | module | what it does |
//! |---|---|
//! | `config` | what the options say |
//! | `layout` | which part of an entry each column comes from |
//! | `session` | what the readers share |
//! | `start` | where a reader begins and ends |
//! | `info`, `gap` | what Redis tells of a stream; whether entries are gone |
//! | `fetch`, `feed`, `lane` | the thread that fetches, what it knows of a stream, the queue to its reader |
//! | `member`, `pending` | as a consumer of a group: what is read when, what is not acknowledged |
//! | `entries`, `records`, `decode`, `metadata` | from Redis's answers to rows |
//! | `reader` | reads one stream |
//! | `id`, `offset` | ids of entries; the text of an offset |

pub(crate) mod config;
mod decode;
mod entries;
mod feed;
mod fetch;
mod gap;
mod id;
mod info;
mod lane;
pub(crate) mod layout;
mod member;
mod metadata;
mod offset;
mod pending;
mod reader;
mod records;
pub(crate) mod session;
mod start;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tidemill_core::source::{Offset, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::table::TableSpec;
use tidemill_core::{Epoch, Error, ErrorKind, Result};

use self::config::SourceConfig;
pub use self::config::{OutOfRange, ReadMode, StartAt, StopAt};
pub use self::layout::Metadata;
use self::reader::Reader;
use self::session::Session;

/// Streams as a source. See the [module](self).
#[derive(Clone)]
pub struct RedisStreamSource {
    schema: SchemaRef,
    /// Or what is wrong with it, which the job says when it starts.
    session: Result<Arc<Session>, Mistake>,
}

/// A mistake in a builder that cannot return one.
#[derive(Clone)]
struct Mistake {
    kind: ErrorKind,
    message: String,
}

impl RedisStreamSource {
    /// The source that a table describes. No server is asked before the job starts.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn of_table(table: &TableSpec) -> Result<Self> {
        Ok(Self::new(SourceConfig::parse(table)?))
    }

    fn new(config: SourceConfig) -> Self {
        let schema = config.layout.schema.clone();
        Self { schema, session: Ok(Arc::new(Session::new(config))) }
    }

    /// A source, or one that says what is wrong when the job starts.
    pub(crate) fn or_mistake(config: Result<SourceConfig>, schema: SchemaRef) -> Self {
        match config {
            Ok(config) => Self::new(config),
            Err(error) => {
                let mistake = Mistake { kind: error.kind(), message: error.to_string() };
                Self { schema, session: Err(mistake) }
            }
        }
    }

    pub(crate) fn session(&self) -> Result<&Arc<Session>> {
        let session = self.session.as_ref();
        session.map_err(|mistake| Error::new(mistake.kind, mistake.message.clone()))
    }
}

impl Source for RedisStreamSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        self.session.as_ref().is_ok_and(|session| session.config.stop.is_some())
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(self.session()?.splits())
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(Reader::open(self.session()?, split, from, context)?))
    }

    fn checkpointed(&self, _epoch: Epoch, offsets: &[(SplitId, Offset)]) -> Result<()> {
        self.session()?.checkpointed(offsets)
    }

    fn describe(&self) -> String {
        let Ok(session) = &self.session else { return "redis-stream".to_owned() };
        let config = &session.config;
        let mode = match &config.mode {
            ReadMode::Positions => "",
            ReadMode::Group { .. } => ", as a consumer of the group",
        };
        let format = config.layout.format();
        format!("redis-stream {} at {} ({format}){mode}", config.names(), config.client.place())
    }
}
