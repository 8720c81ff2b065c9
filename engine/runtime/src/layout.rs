//! From a graph to stations: how its nodes are laid out on a given number of shards.
//!
//! Every shard runs the same stations. A keyed node becomes one fused station on a single shard,
//! and a combiner, an exchange and a merger on several.

use std::sync::Arc;

use tidemill_core::dead_letter::OnError;
use tidemill_core::graph::{Graph, Node, NodeId, NodeKind, Port, Routing, SinkNode, SourceNode};
use tidemill_core::operator::{KeyedFactory, OperatorFactory};

/// Number of a station on its shard; in the order of the data.
pub(crate) type StationId = usize;

/// The stations of each shard and the number of exchanges between shards.
pub(crate) struct Layout {
    pub stations: Vec<StationPlan>,
    pub exchanges: usize,
}

/// One station.
pub(crate) struct StationPlan {
    /// The graph's node.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    pub role: Role,
    pub inputs: Vec<InputPlan>,
    pub outputs: Vec<OutputPlan>,
    /// What becomes of its dead letters, and the source that they are said to come from.
    pub on_error: OnError,
    pub source_name: String,
}

/// What a station does.
#[derive(Clone)]
pub(crate) enum Role {
    Source(SourceNode),
    Operator(Arc<dyn OperatorFactory>),
    Combiner(Arc<dyn KeyedFactory>),
    Merger(Arc<dyn KeyedFactory>),
    Fused(Arc<dyn KeyedFactory>),
    Sink(SinkNode),
}

/// Where an input comes from.
pub(crate) struct InputPlan {
    /// The exchange it comes through, if not from a station on the same shard.
    pub exchange: Option<usize>,
    /// The nodes at both ends, for people.
    pub link: String,
}

/// Where an output goes.
pub(crate) struct OutputPlan {
    pub port: Port,
    pub to: StationId,
    /// Input number at the receiving station.
    pub input: usize,
    /// The exchange on the way, with the key columns.
    pub exchange: Option<(usize, Vec<usize>)>,
}

impl Layout {
    pub fn new(graph: &Graph, shards: usize) -> Self {
        let mut layout = Self { stations: Vec::new(), exchanges: 0 };
        // For each node the stations that emit its rows and its rejects.
        let mut emitters: Vec<(StationId, StationId)> = Vec::new();
        for (id, node) in graph.nodes().iter().enumerate() {
            let first = layout.add(graph, id, node, shards);
            for edge in &node.inputs {
                let (main, rejects) = emitters[edge.from];
                let from = if edge.port == Port::Main { main } else { rejects };
                let keys = match &edge.routing {
                    Routing::ByKey(keys) if shards > 1 => Some(keys.clone()),
                    _ => None,
                };
                layout.connect(from, edge.port, first, keys);
            }
            let last = match &node.kind {
                NodeKind::Keyed(keyed) if shards > 1 => {
                    let merger = layout.push(graph, id, node, Role::Merger(keyed.clone()));
                    layout.connect(first, Port::Main, merger, Some(keyed.key_columns()));
                    merger
                }
                _ => first,
            };
            emitters.push((last, first));
        }
        layout
    }

    /// The nodes at both ends of an exchange, for people.
    pub fn link_of(&self, exchange: usize) -> &str {
        let mut inputs = self.stations.iter().flat_map(|station| &station.inputs);
        inputs.find(|input| input.exchange == Some(exchange)).map_or("", |input| &input.link)
    }

    fn add(&mut self, graph: &Graph, id: NodeId, node: &Node, shards: usize) -> StationId {
        let role = match &node.kind {
            NodeKind::Source(source) => Role::Source(source.clone()),
            NodeKind::Operator(operator) => Role::Operator(operator.clone()),
            NodeKind::Keyed(keyed) if shards > 1 => Role::Combiner(keyed.clone()),
            NodeKind::Keyed(keyed) => Role::Fused(keyed.clone()),
            NodeKind::Sink(sink) => Role::Sink(sink.clone()),
        };
        self.push(graph, id, node, role)
    }

    fn push(&mut self, graph: &Graph, id: NodeId, node: &Node, role: Role) -> StationId {
        let (on_error, source_name) = rejects_policy(graph, id);
        self.stations.push(StationPlan {
            node: id,
            name: node.name.clone(),
            role,
            inputs: Vec::new(),
            outputs: Vec::new(),
            on_error,
            source_name,
        });
        self.stations.len() - 1
    }

    fn connect(&mut self, from: StationId, port: Port, to: StationId, keys: Option<Vec<usize>>) {
        let exchange = keys.map(|keys| {
            self.exchanges += 1;
            (self.exchanges - 1, keys)
        });
        let input = self.stations[to].inputs.len();
        let link = format!("{} to {}", self.stations[from].name, self.stations[to].name);
        let plan = InputPlan { exchange: exchange.as_ref().map(|(n, _)| *n), link };
        self.stations[to].inputs.push(plan);
        self.stations[from].outputs.push(OutputPlan { port, to, input, exchange });
    }
}

/// What becomes of dead letters of a node: the strictest policy among the sources above it, with
/// their names.
fn rejects_policy(graph: &Graph, id: NodeId) -> (OnError, String) {
    let strictness = |policy: &OnError| match policy {
        OnError::Skip => 0,
        OnError::DeadLetter => 1,
        OnError::Fail => 2,
    };
    let mut sources: Vec<(OnError, &str)> = Vec::new();
    let mut above = vec![id];
    while let Some(id) = above.pop() {
        let node = &graph.nodes()[id];
        if let NodeKind::Source(source) = &node.kind {
            sources.push((source.on_error, &node.name));
        }
        above.extend(node.inputs.iter().map(|edge| edge.from));
    }
    sources.sort_by_key(|(policy, name)| (strictness(policy), *name));
    sources.dedup();
    let names: Vec<&str> = sources.iter().map(|(_, name)| *name).collect();
    (sources.last().map_or(OnError::Fail, |(policy, _)| *policy), names.join(","))
}
