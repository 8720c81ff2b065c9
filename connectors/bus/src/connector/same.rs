//! Around the connectors of Kafka and Redis: metadata as on every bus, errors in the words of the bus's table,
//! and the agreement on partitions before a job starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use tidemill_core::sink::{Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter};
use tidemill_core::source::{
    Lag, Offset, Read, ReadBatch, ReaderContext, Source, SplitId, SplitReader,
};
use tidemill_core::table::TableSpec;
use tidemill_core::{Epoch, Error, Result};

use crate::RedisBus;

/// What connectors call things that a table of the bus calls otherwise.
const NAMES: [(&str, &str); 7] = [
    ("properties.bootstrap.servers", "bus"),
    ("properties.group.id", "group"),
    ("key.format", "key.fields"),
    ("value.format", "format"),
    ("url", "bus"),
    ("cluster", "bus"),
    ("stream", "topic"),
];

/// The same error, with the options that the user wrote.
pub(super) fn in_words_of_the_bus(error: Error) -> Error {
    let mut message = error.message().to_owned();
    for (theirs, ours) in NAMES {
        message = message.replace(&format!("'{theirs}'"), &format!("'{ours}'"));
    }
    let option = error.wrong_option().map(|option| {
        NAMES.iter().find(|(theirs, _)| *theirs == option).map_or(option, |(_, ours)| ours)
    });
    match option {
        Some(option) => Error::option(option, message),
        None => Error::new(error.kind(), message).caused_by(error),
    }
}

/// The connector's table: other options, metadata under its names, offsets in its type.
pub(super) fn inner_table(
    table: &TableSpec,
    options: BTreeMap<String, String>,
    renamed: &[(&str, &str)],
) -> TableSpec {
    let mut fields: Vec<_> = table.schema.fields().iter().cloned().collect();
    let mut metadata = table.metadata.clone();
    for (column, key) in &mut metadata {
        if let Some((_, theirs)) = renamed.iter().find(|(ours, _)| ours == key) {
            *key = (*theirs).to_owned();
        }
        if key == "offset" {
            let field = fields[*column].as_ref().clone().with_data_type(DataType::Int64);
            fields[*column] = Arc::new(field);
        }
    }
    let schema = Arc::new(Schema::new(fields));
    TableSpec { schema, metadata, options: options.into_iter().collect(), ..table.clone() }
}

/// That Redis has as many streams for a topic as the table was planned with.
pub(super) struct Agreement {
    bus: RedisBus,
    topics: Vec<String>,
}

impl Agreement {
    pub fn new(bus: RedisBus, topics: Vec<String>) -> Self {
        Self { bus, topics }
    }

    fn check(&self) -> Result<()> {
        for topic in &self.topics {
            let wanted = self.bus.shared().expected_partitions();
            let found = self.bus.shared().ask_partitions(topic).map_err(Error::from)?;
            if found != wanted {
                let message = format!(
                    "topic '{topic}' has {found} partitions, and the table was planned for {wanted}: \
                     write '?partitions={found}' in the option 'bus'"
                );
                return Err(Error::option("bus", message));
            }
        }
        Ok(())
    }
}

fn check(agreement: Option<&Agreement>) -> Result<()> {
    agreement.map_or(Ok(()), Agreement::check)
}

/// What becomes of a column.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// Offsets are text on a bus.
    ToText,
    /// `orders:3` is of the topic `orders`.
    ToTopic,
}

/// A source whose metadata is as on every bus.
pub(super) struct SameSource {
    source: Arc<dyn Source>,
    schema: SchemaRef,
    changes: Arc<[(usize, Change)]>,
    agreement: Option<Agreement>,
}

impl SameSource {
    pub fn new(
        source: Arc<dyn Source>,
        ours: &TableSpec,
        theirs: &TableSpec,
        agreement: Option<Agreement>,
    ) -> Self {
        let changes = theirs.metadata.iter().filter_map(|(column, key)| match key.as_str() {
            "offset" => Some((*column, Change::ToText)),
            "stream" => Some((*column, Change::ToTopic)),
            _ => None,
        });
        Self { source, schema: ours.schema.clone(), changes: changes.collect(), agreement }
    }
}

impl Source for SameSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        check(self.agreement.as_ref())?;
        self.source.splits().map_err(in_words_of_the_bus)
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        let reader = self.source.open(split, from, context).map_err(in_words_of_the_bus)?;
        if self.changes.is_empty() {
            return Ok(reader);
        }
        let (schema, changes) = (self.schema.clone(), self.changes.clone());
        Ok(Box::new(SameReader { reader, schema, changes }))
    }

    fn checkpointed(&self, epoch: Epoch, offsets: &[(SplitId, Offset)]) -> Result<()> {
        self.source.checkpointed(epoch, offsets)
    }

    /// In the connector's words: its offsets are the same with and without the bus.
    fn describe(&self) -> String {
        self.source.describe()
    }
}

struct SameReader {
    reader: Box<dyn SplitReader>,
    schema: SchemaRef,
    changes: Arc<[(usize, Change)]>,
}

impl SameReader {
    fn changed(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = rows.columns().to_vec();
        for (index, change) in self.changes.iter() {
            columns[*index] = match change {
                Change::ToText => cast(&columns[*index], &DataType::Utf8View)?,
                Change::ToTopic => topics(&columns[*index]),
            };
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// Without the numbers of partitions.
fn topics(streams: &ArrayRef) -> ArrayRef {
    let streams = streams.as_string_view().iter();
    let topic = |stream: &'_ str| stream.rsplit_once(':').map_or(stream.len(), |(t, _)| t.len());
    let topics = streams.map(|stream| stream.map(|stream| &stream[..topic(stream)]));
    Arc::new(topics.collect::<StringViewArray>())
}

impl SplitReader for SameReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        match self.reader.read(max_rows)? {
            Read::Batch(batch) => {
                Ok(Read::Batch(ReadBatch { rows: self.changed(&batch.rows)?, ..batch }))
            }
            nothing @ (Read::Pending | Read::End) => Ok(nothing),
        }
    }

    fn offset(&self) -> Offset {
        self.reader.offset()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        self.reader.progress()
    }

    fn lag(&self) -> Option<Lag> {
        self.reader.lag()
    }

    fn waits(&self) -> bool {
        self.reader.waits()
    }

    fn is_at_hand(&self) -> bool {
        self.reader.is_at_hand()
    }
}

/// A sink whose errors are in the words of the bus's table.
pub(super) struct SameSink {
    sink: Arc<dyn Sink>,
    agreement: Option<Agreement>,
}

impl SameSink {
    pub fn new(sink: Arc<dyn Sink>, agreement: Option<Agreement>) -> Self {
        Self { sink, agreement }
    }
}

impl Sink for SameSink {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        self.sink.guarantee(checkpointed)
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        check(self.agreement.as_ref())?;
        self.sink.writer(context).map_err(in_words_of_the_bus)
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        self.sink.committer(context).map_err(in_words_of_the_bus)
    }

    /// In the connector's words: what it stages is the same with and without the bus.
    fn describe(&self) -> String {
        self.sink.describe()
    }
}
