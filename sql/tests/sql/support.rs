//! A connector that reads and writes nothing, a text form of graphs, and a machine that runs a
//! graph on one thread over rows given by the test.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_core::element::{Batch, Epoch};
use tidemill_core::graph::{
    Buffer, Graph, NodeId, NodeKind, Port, SinkNode, SourceNode, TimeAttribute,
};
use tidemill_core::operator::{Operator, Output, Progress};
use tidemill_core::retry::RetrySettings;
use tidemill_core::sink::{
    Delivered, Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter,
};
use tidemill_core::source::{Offset, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::testing::{self, Collected};
use tidemill_core::time::END_OF_TIME;
use tidemill_core::{Error, Result};
use tidemill_sql::{Diagnostics, PlannedJob, Registry};

/// A connector by this name.
pub struct Fake(pub &'static str);

struct FakeTable(TableSpec);

impl ConnectorFactory for Fake {
    fn name(&self) -> &'static str {
        self.0
    }

    fn options(&self) -> Vec<OptionSpec> {
        vec![
            OptionSpec::new("path", "where"),
            OptionSpec::new("format", "how"),
            OptionSpec::new("rows", "how many"),
            OptionSpec::new("fields.*.min", "from"),
        ]
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        table.options.parsed::<u32>("rows")?;
        table.options.choice("format", &["csv", "json"], 0)?;
        if self.0 == "print" {
            return Err(Error::configuration("connector 'print' only writes"));
        }
        Ok(Arc::new(FakeTable(table.clone())))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        if self.0 == "files" {
            table.options.required("path")?;
        }
        Ok(Arc::new(FakeTable(table.clone())))
    }
}

impl Source for FakeTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(Vec::new())
    }

    fn open(
        &self,
        _: &SplitId,
        _: Option<&Offset>,
        _: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        Err(Error::internal("nothing to read"))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        format!("fake {}", columns(&self.0))
    }
}

impl Sink for FakeTable {
    fn guarantee(&self, _: bool) -> Guarantee {
        Guarantee { delivery: Delivery::AtMostOnce, why: "it writes nothing".to_owned() }
    }

    fn writer(&self, _: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Err(Error::internal("nothing to write"))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        format!("fake {}", columns(&self.0))
    }
}

fn columns(table: &TableSpec) -> String {
    let mut text = String::new();
    for (index, field) in table.schema.fields().iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        write!(text, "{separator}{} {}", field.name(), field.data_type()).unwrap();
        if !field.is_nullable() {
            text.push_str(" NOT NULL");
        }
        for (_, key) in table.metadata.iter().filter(|(column, _)| *column == index) {
            write!(text, " METADATA '{key}'").unwrap();
        }
    }
    if !table.primary_key.is_empty() {
        write!(text, "; key {:?}", table.primary_key).unwrap();
    }
    if !table.partitioned_by.is_empty() {
        write!(text, "; partitioned by {:?}", table.partitioned_by).unwrap();
    }
    text
}

/// The connectors of these tests.
pub fn connectors() -> Vec<Arc<dyn ConnectorFactory>> {
    vec![
        Arc::new(Fake("files")),
        Arc::new(Fake("datagen")),
        Arc::new(Fake("print")),
        Arc::new(Fake("kafka-like")),
    ]
}

/// What these tests may use.
pub fn registry() -> Registry {
    Registry::new(connectors())
}

/// Plans a job with the variables `HOST=broker` and `EMPTY=`.
pub fn plan(text: &str) -> Result<PlannedJob, Diagnostics> {
    let env = |name: &str| match name {
        "HOST" => Some("broker".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    tidemill_sql::plan("job.sql", text, &env, &registry())
}

/// A graph as text: each node, what it does, and what it reads.
pub fn render(job: &PlannedJob) -> String {
    let mut text = String::new();
    for (id, node) in job.graph.nodes().iter().enumerate() {
        let inputs: Vec<_> = node.inputs.iter().map(|edge| edge.from.to_string()).collect();
        let from =
            if inputs.is_empty() { String::new() } else { format!(" <- {}", inputs.join(", ")) };
        writeln!(text, "{id} {}{from}", node.name).unwrap();
        let line = match &node.kind {
            NodeKind::Source(source) => describe_source(source),
            NodeKind::Operator(operator) => operator.describe(),
            NodeKind::Keyed(keyed) => keyed.describe().line,
            NodeKind::Sink(sink) => describe_sink(sink),
        };
        writeln!(text, "    {line}").unwrap();
    }
    for (key, value) in &job.settings {
        writeln!(text, "set {key} = {value}").unwrap();
    }
    for note in &job.portability {
        writeln!(text, "note {note}").unwrap();
    }
    text
}

/// How it is called again stands there where the table says it.
fn describe_sink(sink: &SinkNode) -> String {
    let RetrySettings { backoff, threshold, pause } = sink.retry;
    let mut text = sink.sink.describe();
    if sink.retry != RetrySettings::default() {
        let deadline = backoff.deadline;
        write!(text, "; {threshold} failures open for {pause:?}, given up after {deadline:?}")
            .unwrap();
    }
    text
}

fn describe_source(source: &SourceNode) -> String {
    let time = match source.time {
        TimeAttribute::None => "no time".to_owned(),
        TimeAttribute::Event { column, strategy } => format!(
            "event time {column} bound {}us idle {:?} future {}us",
            strategy.bound, strategy.idle_after, strategy.max_future
        ),
        TimeAttribute::Processing { column } => format!("processing time {column}"),
    };
    let mut text = format!("{}; {time}; {:?}", source.source.describe(), source.on_error);
    if let Some(rate) = source.rate_limit {
        write!(text, "; {rate} rows/s").unwrap();
    }
    if source.buffer != Buffer::Block {
        write!(text, "; {:?}", source.buffer).unwrap();
    }
    if let Some(computed) = &source.computed {
        write!(text, "; computed {}", computed.describe()).unwrap();
    }
    text
}

/// Runs a graph: `rows` are JSON lines for each source table; the result is the rows of each sink
/// as text, in the order emitted.
pub fn run(job: &PlannedJob, rows: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    let mut emitted: Vec<Vec<Batch>> = Vec::new();
    let mut results = HashMap::new();
    for (id, node) in job.graph.nodes().iter().enumerate() {
        let inputs = || {
            node.inputs.iter().enumerate().flat_map(|(input, edge)| {
                emitted[edge.from].iter().map(move |b| (input, b.clone()))
            })
        };
        let batches = match &node.kind {
            NodeKind::Source(source) => read(&node.name, source, rows),
            NodeKind::Operator(operator) => {
                drive(operator.create(&testing::context(0, 1)).unwrap(), inputs())
            }
            NodeKind::Keyed(keyed) => {
                drive(keyed.fused(&testing::context(0, 1)).unwrap(), inputs())
            }
            NodeKind::Sink(_) => {
                let text = inputs().flat_map(|(_, batch)| text_rows(&batch.rows)).collect();
                results.insert(node.name.clone(), text);
                Vec::new()
            }
        };
        check_schema(&job.graph, id, &batches);
        emitted.push(batches);
    }
    results
}

fn check_schema(graph: &Graph, node: NodeId, batches: &[Batch]) {
    if batches.is_empty() {
        return;
    }
    let declared = graph.schema(node, Port::Main);
    for batch in batches {
        assert_eq!(batch.rows.schema().fields().len(), declared.fields().len());
        for (found, declared) in batch.rows.schema().fields().iter().zip(declared.fields()) {
            assert_eq!(found.data_type(), declared.data_type(), "node {node}, {}", found.name());
        }
    }
}

fn read(name: &str, source: &SourceNode, rows: &[(&str, &str)]) -> Vec<Batch> {
    let (_, text) = rows.iter().find(|(table, _)| *table == name).expect("rows for every source");
    let reader = arrow::json::ReaderBuilder::new(source.source.schema());
    let batches = reader.build(text.as_bytes()).unwrap();
    batches
        .map(|batch| {
            let batch = batch.unwrap();
            let batch = source.computed.as_ref().map_or(Ok(batch.clone()), |c| c.apply(&batch));
            Batch::new(batch.unwrap())
        })
        .collect()
}

fn drive(
    mut operator: Box<dyn Operator>,
    batches: impl Iterator<Item = (usize, Batch)>,
) -> Vec<Batch> {
    let mut out = Collected::default();
    for (input, batch) in batches {
        operator.process(input, batch, &mut out as &mut dyn Output).unwrap();
    }
    while operator.watermark(END_OF_TIME, &mut out).unwrap() == Progress::More {}
    assert!(out.late.is_empty() && out.dead_letters.is_empty(), "{:?}", out.dead_letters);
    out.batches
}

fn text_rows(batch: &RecordBatch) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("null");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|c| arrow::util::display::ArrayFormatter::try_new(c, &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | "))
        .collect()
}
