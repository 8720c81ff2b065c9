//! Topics as a source: every partition is a split.
//!
//! | module | what it does |
//! |---|---|
//! | `config` | what the options say |
//! | `layout` | which part of a record each column comes from |
//! | `session` | connections and topics that the readers share |
//! | `start`, `range` | where a reader begins and ends; what if records are gone |
//! | `queue`, `decode`, `metadata`, `records` | from librdkafka's messages to rows |
//! | `reader` | reads one partition |
//! | `offset` | the text of an offset |
//!
//! Tidemill assigns partitions to its shards by itself and never joins the consumer group; to the
//! group it says how far it has come, after each checkpoint.

pub(crate) mod config;
mod decode;
pub(crate) mod layout;
mod metadata;
mod offset;
pub(crate) mod queue;
mod range;
mod reader;
mod records;
pub(crate) mod session;
mod start;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tidemill_core::source::{Offset, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::table::TableSpec;
use tidemill_core::{Epoch, Error, ErrorKind, Result};

use self::config::SourceConfig;
pub use self::config::{OutOfRange, StartAt, StopAt};
pub use self::layout::Metadata;
use self::reader::Reader;
use self::session::Session;

/// Topics as a source. See the [module](self).
#[derive(Clone)]
pub struct KafkaSource {
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

impl KafkaSource {
    /// The source that a table describes. No broker is asked before the job starts.
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

impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        self.session.as_ref().is_ok_and(|session| session.config.stop.is_some())
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        self.session()?.splits()
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
        self.session()?.commit(offsets)
    }

    fn describe(&self) -> String {
        let Ok(session) = &self.session else { return "kafka".to_owned() };
        let config = &session.config;
        let format = config.layout.value.as_ref().map_or("no value", |value| value.format.name());
        format!("kafka {} at {} ({format})", config.topics, config.client.brokers())
    }
}
