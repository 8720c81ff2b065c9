//! Where dead letters go: a folder of NDJSON files beside the checkpoints.

use std::path::PathBuf;
use std::sync::Arc;

use tidemill_core::dead_letter::OnError;
use tidemill_core::graph::{Edge, Graph, NodeId, NodeKind, Port, Routing};
use tidemill_files::FileSink;
use tidemill_runtime::CheckpointSettings;

/// The folder that holds a job's dead letters.
pub(crate) fn folder(job: &str, checkpoints: Option<&CheckpointSettings>) -> PathBuf {
    let local = checkpoints.and_then(|c| match c.url.split_once("://") {
        None => Some(PathBuf::from(&c.url)),
        Some(("file", path)) => Some(PathBuf::from(path)),
        Some(_) => None,
    });
    let name: String =
        job.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
    local.unwrap_or_default().join("dead-letters").join(name)
}

/// Connects the dead-letter outputs of all sources that keep their dead letters, and of what is
/// below them, to a sink. Returns whether there are any.
pub(crate) fn connect(graph: &mut Graph, folder: &std::path::Path) -> bool {
    let mut nodes: Vec<NodeId> = Vec::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        let keeps = match &node.kind {
            NodeKind::Source(source) => source.on_error == OnError::DeadLetter,
            NodeKind::Operator(_) | NodeKind::Keyed(_) | NodeKind::Sink(_) => {
                node.inputs.iter().any(|edge| nodes.contains(&edge.from))
            }
        };
        if keeps {
            nodes.push(id);
        }
    }
    let edge = |from| Edge { from, port: Port::DeadLetter, routing: Routing::Local };
    let edges: Vec<Edge> = nodes.into_iter().map(edge).collect();
    if edges.is_empty() {
        return false;
    }
    let sink = FileSink::new(folder);
    graph.add("dead-letters", edges, NodeKind::Sink(Arc::new(sink)));
    true
}
