//! The dataflow graph that front-ends build and the runtime executes.
//!
//! A graph says what is computed, never on how many shards. Nodes are numbered in an order in
//! which every node comes after its inputs.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::dead_letter::{self, OnError};
use crate::error::{Error, Result};
use crate::operator::{KeyedFactory, OperatorFactory};
use crate::part::Part;
use crate::retry::RetrySettings;
use crate::sink::Sink;
use crate::source::Source;
use crate::watermark::WatermarkStrategy;

/// Number of a node in its graph.
pub type NodeId = usize;

/// A job's dataflow graph.
#[derive(Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

/// One node of a graph.
#[derive(Clone)]
pub struct Node {
    /// Name for people, metrics and checkpoints; unique in the graph.
    pub name: String,
    /// Where its rows come from, in the order of the operator's input numbers.
    pub inputs: Vec<Edge>,
    /// What it does.
    pub kind: NodeKind,
}

/// A node's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The node that emits.
    pub from: NodeId,
    /// Which of its outputs.
    pub port: Port,
    /// How rows find their shard.
    pub routing: Routing,
}

/// An output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// Its results.
    Main,
    /// Rows that came late.
    Late,
    /// Rows that a function declined, with the columns of [`declined_schema`].
    Declined,
    /// Records that could not be decoded or processed, as rows of [`crate::dead_letter::schema`].
    DeadLetter,
}

/// How rows find their shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// They stay on the shard they are on.
    Local,
    /// Through the exchange, to the owner of the key group of these columns.
    ByKey(Vec<usize>),
}

/// What a node does.
#[derive(Clone)]
pub enum NodeKind {
    /// Reads splits.
    Source(SourceNode),
    /// Transforms rows where they are.
    Operator(Arc<dyn OperatorFactory>),
    /// Aggregates by key: combine, exchange, merge.
    Keyed(Arc<dyn KeyedFactory>),
    /// Writes rows.
    Sink(SinkNode),
}

/// A source with all that happens to its rows before the first operator.
#[derive(Clone)]
pub struct SourceNode {
    /// The source.
    pub source: Arc<dyn Source>,
    /// Computed columns, row for row.
    pub computed: Option<Arc<dyn RowFunction>>,
    /// Where time comes from.
    pub time: TimeAttribute,
    /// At most so many rows per second, over all shards.
    pub rate_limit: Option<u64>,
    /// What becomes of records that come faster than they are processed.
    pub buffer: Buffer,
    /// What becomes of records that cannot be decoded or processed.
    pub on_error: OnError,
    /// Whom it must not run away from in event time.
    pub alignment: Option<Alignment>,
}

/// What becomes of records that come faster than they are processed.
///
/// A source that drops is read whether there is room behind it or not; what waits is in a buffer between its
/// reader and the place where rows are judged by time. So a dropped record never moves a watermark. It counts
/// as [`Fate::Dropped`](crate::operator::Fate::Dropped), and its split's offset passes it. Before a barrier the
/// buffer is emptied: what a checkpoint counts as read is counted, dropped, or in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Buffer {
    /// They are not read before there is room for them.
    #[default]
    Block,
    /// Those that have waited longest give way.
    DropOldest(BufferCapacity),
    /// Those that come now are not taken.
    DropNewest(BufferCapacity),
}

/// How much may wait in a source's buffer, over all shards. Whichever bound is reached first holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferCapacity {
    /// Records.
    pub records: usize,
    /// Bytes of decoded rows.
    pub bytes: usize,
}

impl Default for BufferCapacity {
    /// 100 000 records, 64 MiB.
    fn default() -> Self {
        Self { records: 100_000, bytes: 64 << 20 }
    }
}

/// A sink, and how it is called again when a call fails for a while.
#[derive(Clone)]
pub struct SinkNode {
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// When calls that fail as [`Transient`](crate::ErrorKind::Transient) are made again, and for how long.
    pub retry: RetrySettings,
}

impl SinkNode {
    /// A sink that is called again as by default.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink, retry: RetrySettings::default() }
    }
}

/// Watermark alignment: a split that is too far ahead of the slowest of its group is not read until it
/// is ahead by seven eighths of what is allowed at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// Sources with the same group wait for one another.
    pub group: String,
    /// How far ahead of the slowest split of the group a split may run, in microseconds.
    pub max_drift: i64,
}

/// Columns of rows that a function declined: those that it was given, and `reason` (Utf8View).
pub fn declined_schema(input: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("reason", DataType::Utf8View, false)));
    Arc::new(Schema::new(fields))
}

/// Where a source's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeAttribute {
    /// Rows have no time; nothing is ever late, and windows are refused.
    None,
    /// A timestamp column (microseconds), and how far out of order it may be.
    Event {
        /// Index of the column, computed columns included.
        column: usize,
        /// The strategy.
        strategy: WatermarkStrategy,
    },
    /// The wall clock when a row is read, put into this timestamp column.
    Processing {
        /// Index of the column, computed columns included.
        column: usize,
    },
}

/// A function over rows that keeps their number and order.
pub trait RowFunction: Send + Sync {
    /// Columns of the result.
    fn schema(&self) -> SchemaRef;

    /// The result for each row. An error concerns some row among them: the caller narrows it down
    /// by calling again with fewer.
    fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch>;

    /// One line for `explain`.
    fn describe(&self) -> String;

    /// What its columns depend on, where it can say. `None`: what it describes itself as, and every
    /// column.
    fn parts(&self) -> Option<Vec<Part>> {
        None
    }
}

/// Applies a function that has failed for some row of `rows` to the others: their results, which
/// rows those are, and for each bad row why.
pub fn isolate(
    function: &dyn RowFunction,
    rows: &RecordBatch,
) -> (RecordBatch, BooleanArray, Vec<(usize, String)>) {
    let mut good = Vec::new();
    let mut bad = Vec::new();
    let mut parts = vec![(0, rows.num_rows())];
    while let Some((start, length)) = parts.pop() {
        match function.apply(&rows.slice(start, length)) {
            Ok(result) => good.push(result),
            Err(error) if length == 1 => bad.push((start, error.to_string())),
            Err(_) => {
                let half = length / 2;
                parts.push((start + half, length - half));
                parts.push((start, half));
            }
        }
    }
    let mut kept = vec![true; rows.num_rows()];
    bad.iter().for_each(|(row, _)| kept[*row] = false);
    let results = arrow::compute::concat_batches(&function.schema(), &good)
        .expect("all results of a row function have its schema");
    (results, kept.into(), bad)
}

impl Edge {
    /// The main output of `from`, staying on its shard.
    pub fn local(from: NodeId) -> Self {
        Self { from, port: Port::Main, routing: Routing::Local }
    }
}

impl SourceNode {
    /// Columns of the rows that it emits.
    pub fn schema(&self) -> SchemaRef {
        self.computed.as_ref().map_or_else(|| self.source.schema(), |f| f.schema())
    }
}

impl Graph {
    /// Adds a node. A name that is taken gets a number behind it.
    ///
    /// # Panics
    /// When an input does not exist yet: nodes are added in the order of the data.
    pub fn add(&mut self, name: impl Into<String>, inputs: Vec<Edge>, kind: NodeKind) -> NodeId {
        let id = self.nodes.len();
        assert!(inputs.iter().all(|edge| edge.from < id), "inputs are added before their reader");
        let name = self.unique(name.into());
        self.nodes.push(Node { name, inputs, kind });
        id
    }

    fn unique(&self, name: String) -> String {
        let taken: HashSet<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        if !taken.contains(name.as_str()) {
            return name;
        }
        (2..)
            .map(|n| format!("{name}-{n}"))
            .find(|candidate| !taken.contains(candidate.as_str()))
            .expect("there are more numbers than nodes")
    }

    /// The nodes, in an order in which every node comes after its inputs.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Node `id`, to be changed.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id]
    }

    /// Columns of what a node emits on a port. The late output has the columns of its input.
    pub fn schema(&self, id: NodeId, port: Port) -> SchemaRef {
        let node = &self.nodes[id];
        let input = || {
            let edge = &node.inputs[0];
            self.schema(edge.from, edge.port)
        };
        match (port, &node.kind) {
            (Port::DeadLetter, _) => dead_letter::schema(),
            (Port::Late, _) => input(),
            (Port::Declined, _) => declined_schema(&input()),
            (Port::Main, NodeKind::Source(source)) => source.schema(),
            (Port::Main, NodeKind::Operator(operator)) => operator.schema(),
            (Port::Main, NodeKind::Keyed(keyed)) => keyed.schema(),
            (Port::Main, NodeKind::Sink(_)) => input(),
        }
    }

    /// The nodes that read an output of `id`, with their input numbers.
    pub fn readers(&self, id: NodeId, port: Port) -> Vec<(NodeId, usize)> {
        let mut readers = Vec::new();
        for (reader, node) in self.nodes.iter().enumerate() {
            for (input, edge) in node.inputs.iter().enumerate() {
                if edge.from == id && edge.port == port {
                    readers.push((reader, input));
                }
            }
        }
        readers
    }

    /// Whether every source ends.
    pub fn is_bounded(&self) -> bool {
        self.nodes.iter().all(|node| match &node.kind {
            NodeKind::Source(source) => source.source.is_bounded(),
            _ => true,
        })
    }

    /// Checks what no type can: there is a source and a sink, sources have no input, all others do,
    /// and no result is computed for nobody.
    pub fn validate(&self) -> Result<()> {
        let is_source = |node: &Node| matches!(node.kind, NodeKind::Source(_));
        if !self.nodes.iter().any(is_source) {
            return Err(Error::configuration("the job has no source"));
        }
        for (id, node) in self.nodes.iter().enumerate() {
            if is_source(node) != node.inputs.is_empty() {
                return Err(Error::internal(format!("{}: wrong number of inputs", node.name)));
            }
            let is_sink = matches!(node.kind, NodeKind::Sink(_));
            if !is_sink && self.readers(id, Port::Main).is_empty() {
                return Err(Error::configuration(format!(
                    "nothing reads the result of {}: connect it to a sink",
                    node.name
                )));
            }
        }
        Ok(())
    }
}
