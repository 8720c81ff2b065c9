//! A graph in words, for the manifest: of each node what state depends on, and what else there is to say.
//!
//! On the checkpoint path. Goes from the sinks up and carries along which columns state needs, so that a
//! column that no state is made of may come and go. Invariant: what a state's contents are computed
//! from, at any distance, is a part of some node.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, Schema, TimeUnit};
use tidemill_checkpoint::query::{Query, QueryNode, VERSION};
use tidemill_core::dead_letter::OnError;
use tidemill_core::graph::{Edge, Graph, NodeId, NodeKind, Port, SourceNode, TimeAttribute};
use tidemill_core::operator::OperatorFactory;
use tidemill_core::part::Part;

/// The graph in words.
pub(crate) fn query(graph: &Graph) -> Query {
    let mut writer = Writer { graph, needed: vec![None; graph.nodes().len()] };
    let count = graph.nodes().len();
    let mut written: Vec<Option<QueryNode>> = (0..count).rev().map(|id| writer.node(id)).collect();
    written.reverse();
    let is_written: Vec<bool> = written.iter().map(Option::is_some).collect();
    let mut nodes = BTreeMap::new();
    for (node, written) in graph.nodes().iter().zip(written) {
        let Some(mut query) = written else { continue };
        if query.matters && !node.inputs.is_empty() {
            let origins = node.inputs.iter().map(|edge| origin(graph, &is_written, edge));
            query.parts.insert("input".to_owned(), origins.collect());
        }
        nodes.insert(node.name.clone(), query);
    }
    Query { version: VERSION, nodes }
}

/// Which columns of a node state depends on.
#[derive(Debug, Clone)]
enum Columns {
    All,
    Some(BTreeSet<String>),
}

impl Columns {
    fn contains(&self, column: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(columns) => columns.contains(column),
        }
    }

    fn add(&mut self, more: &Self) {
        match (self, more) {
            (Self::Some(columns), Self::Some(more)) => columns.extend(more.iter().cloned()),
            (all, Self::All) => *all = Self::All,
            (Self::All, _) => {}
        }
    }

    /// What these parts are computed from.
    fn used_by<'a>(parts: impl Iterator<Item = &'a Part>) -> Self {
        let mut used = Self::Some(BTreeSet::new());
        for part in parts {
            used.add(&match &part.uses {
                None => Self::All,
                Some(uses) => Self::Some(uses.iter().cloned().collect()),
            });
        }
        used
    }
}

struct Writer<'a> {
    graph: &'a Graph,
    /// By node: the columns of its output that state depends on; `None` where no state does.
    needed: Vec<Option<Columns>>,
}

impl Writer<'_> {
    /// A node in words; `None` where it only hands on what it gets. Its readers have been written.
    fn node(&mut self, id: NodeId) -> Option<QueryNode> {
        match &self.graph.nodes()[id].kind {
            NodeKind::Source(source) => Some(self.source(id, source)),
            NodeKind::Operator(operator) => self.operator(id, operator.as_ref()),
            NodeKind::Keyed(keyed) => {
                let parts = keyed.describe().parts;
                self.need(id, &Columns::used_by(parts.iter()));
                Some(Self::deciding("aggregation", &parts))
            }
            NodeKind::Sink(sink) => {
                let schema = self.graph.schema(id, Port::Main);
                let mut notes = BTreeMap::from([one("writes", sink.sink.describe())]);
                notes.extend(schema.fields().iter().map(|field| {
                    one(format!("column {}", field.name()), sql_type(field.data_type()))
                }));
                Some(QueryNode { kind: "sink".to_owned(), notes, ..QueryNode::default() })
            }
        }
    }

    fn operator(&mut self, id: NodeId, operator: &dyn OperatorFactory) -> Option<QueryNode> {
        let Some(parts) = operator.parts() else { return Some(self.opaque(id, operator)) };
        let Some(needed) = self.needed[id].clone() else {
            let notes = listed(parts.into_iter().map(|part| (part.name, part.is)));
            return Some(QueryNode { kind: "operator".to_owned(), notes, ..QueryNode::default() });
        };
        let mattering = |part: &&Part| part.makes.as_ref().is_none_or(|made| needed.contains(made));
        let parts: Vec<Part> = parts.iter().filter(mattering).cloned().collect();
        let made: BTreeSet<&String> = parts.iter().filter_map(|part| part.makes.as_ref()).collect();
        self.need(id, &Columns::used_by(parts.iter()));
        self.need_handed_on(id, operator, &needed, &made);
        let hands_on = |part: &Part| part.makes.as_ref().is_some_and(|made| *made == part.is);
        let is_transparent = !parts.is_empty() && parts.iter().all(hands_on);
        (!is_transparent).then(|| Self::deciding("operator", &parts))
    }

    /// An operator that says nothing of itself but a fingerprint; without one it keeps no state.
    fn opaque(&mut self, id: NodeId, operator: &dyn OperatorFactory) -> QueryNode {
        let fingerprint = operator.fingerprint();
        if self.needed[id].is_none() && fingerprint.is_empty() {
            let notes = BTreeMap::from([one("does", operator.describe())]);
            return QueryNode { kind: "operator".to_owned(), notes, ..QueryNode::default() };
        }
        self.need(id, &Columns::All);
        Self::deciding("operator", &[Part::of_all("fingerprint", fingerprint)])
    }

    fn source(&mut self, id: NodeId, source: &SourceNode) -> QueryNode {
        let schema = source.schema();
        let time = time(source);
        let mut notes = BTreeMap::from([
            one("reads", source.source.describe()),
            one("on-error", on_error(source.on_error)),
        ]);
        notes.extend(source.rate_limit.map(|limit| one("rate limit", format!("{limit} rows/s"))));
        let Some(mut needed) = self.needed[id].clone() else {
            notes.extend(types(&schema, |_| true));
            notes.extend(time.map(|(column, _)| one("time", column)));
            return QueryNode { kind: "source".to_owned(), notes, ..QueryNode::default() };
        };
        let mut parts = BTreeMap::new();
        if let Some((column, what)) = time {
            needed.add(&Columns::Some(BTreeSet::from([column.clone()])));
            parts.extend([one("time", column)]);
            notes.extend([one("watermark", what)]);
        }
        let computed = source.computed.as_ref().map(|computed| {
            let all = || vec![Part::of_all("computed columns", computed.describe())];
            computed.parts().unwrap_or_else(all)
        });
        let computed: Vec<Part> = computed.into_iter().flatten().collect();
        let mattering = |part: &&Part| part.makes.as_ref().is_none_or(|made| needed.contains(made));
        let mattering: Vec<&Part> = computed.iter().filter(mattering).collect();
        let of_table = if computed.is_empty() {
            needed.clone()
        } else {
            Columns::used_by(mattering.iter().copied())
        };
        let is_computed = |part: &&&Part| part.makes.as_ref() != Some(&part.is);
        let table = source.source.schema();
        parts.extend(types(&table, |column| of_table.contains(column)));
        parts.extend(mattering.iter().filter(is_computed).map(|part| one(&part.name, &part.is)));
        notes.extend(types(&schema, |column| !needed.contains(column)));
        QueryNode { kind: "source".to_owned(), matters: true, parts, notes }
    }

    /// State depends on these columns of all that the node reads.
    fn need(&mut self, id: NodeId, columns: &Columns) {
        for edge in &self.graph.nodes()[id].inputs {
            // What leaves on another port has columns of its own.
            let columns = if edge.port == Port::Main { columns } else { &Columns::All };
            match &mut self.needed[edge.from] {
                Some(needed) => needed.add(columns),
                none => *none = Some(columns.clone()),
            }
        }
    }

    /// Columns that an operator does not make itself it hands on, each in its place.
    fn need_handed_on(
        &mut self,
        id: NodeId,
        operator: &dyn OperatorFactory,
        needed: &Columns,
        made: &BTreeSet<&String>,
    ) {
        let schema = operator.schema();
        let handed_on = |column: &String| needed.contains(column) && !made.contains(column);
        let places: Vec<usize> = (0..schema.fields().len())
            .filter(|place| handed_on(schema.field(*place).name()))
            .collect();
        for edge in &self.graph.nodes()[id].inputs {
            let input = self.graph.schema(edge.from, edge.port);
            let name = |place: &usize| input.fields().get(*place).map(|f| f.name().clone());
            let columns = Columns::Some(places.iter().filter_map(name).collect());
            if let Some(needed) = &mut self.needed[edge.from] {
                needed.add(&columns);
            }
        }
    }

    /// A node that state depends on.
    fn deciding(kind: &str, parts: &[Part]) -> QueryNode {
        let parts = listed(parts.iter().map(|part| (part.name.clone(), part.is.clone())));
        QueryNode { kind: kind.to_owned(), matters: true, parts, notes: BTreeMap::new() }
    }
}

/// The node that an edge comes from, past those that are not written.
fn origin(graph: &Graph, is_written: &[bool], edge: &Edge) -> String {
    let node = &graph.nodes()[edge.from];
    match node.inputs.as_slice() {
        [input] if !is_written[edge.from] => origin(graph, is_written, input),
        _ if edge.port == Port::Main => node.name.clone(),
        _ => format!("{} ({:?})", node.name, edge.port),
    }
}

/// A policy as job files call it.
fn on_error(policy: OnError) -> &'static str {
    match policy {
        OnError::Fail => "fail",
        OnError::Skip => "skip",
        OnError::DeadLetter => "dead-letter",
    }
}

/// The column that a source's time comes from, and how its watermark follows.
fn time(source: &SourceNode) -> Option<(String, String)> {
    let name = |column: usize| source.schema().field(column).name().clone();
    match &source.time {
        TimeAttribute::None => None,
        TimeAttribute::Processing { column } => Some((name(*column), "the clock".to_owned())),
        TimeAttribute::Event { column, strategy } => {
            let bound = std::time::Duration::from_micros(strategy.bound.unsigned_abs());
            Some((name(*column), format!("{bound:?} behind")))
        }
    }
}

fn types<'a>(
    schema: &'a Schema,
    which: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (String, Vec<String>)> + 'a {
    let fields = schema.fields().iter().filter(move |field| which(field.name()));
    fields.map(|field| one(format!("column {}", field.name()), sql_type(field.data_type())))
}

fn one(name: impl Into<String>, is: impl Into<String>) -> (String, Vec<String>) {
    (name.into(), vec![is.into()])
}

/// By name, in the order in which they come.
fn listed(parts: impl Iterator<Item = (String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    parts.for_each(|(name, is)| listed.entry(name).or_default().push(is));
    listed
}

/// A type as a job file writes it.
fn sql_type(data_type: &DataType) -> String {
    let of = |fields: &arrow::datatypes::Fields| -> Vec<String> {
        fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect()
    };
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "STRING".to_owned(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTES".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "TIMESTAMP_LTZ".to_owned(),
        DataType::List(item) => format!("ARRAY<{}>", sql_type(item.data_type())),
        DataType::Struct(fields) => format!("ROW<{}>", of(fields).join(", ")),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => {
                let [key, value] = [0, 1].map(|n: usize| sql_type(entry[n].data_type()));
                format!("MAP<{key}, {value}>")
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}
