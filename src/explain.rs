//! Draws a job's graph: as text for a terminal, as Mermaid for documents.

use std::fmt::Write;

use tidemill_core::graph::{
    Buffer, BufferCapacity, Edge, Graph, NodeKind, Port, Routing, TimeAttribute,
};
use tidemill_core::key::KEY_GROUPS;
use tidemill_core::watermark::WatermarkStrategy;

/// The graph as text: every node in the order of the data, with what it reads, and for each sink the
/// delivery guarantee that it gets and why.
pub fn text(graph: &Graph, checkpointed: bool) -> String {
    let mut out = String::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        let inputs: Vec<String> = node.inputs.iter().map(|edge| input(graph, edge)).collect();
        let from =
            if inputs.is_empty() { String::new() } else { format!("  ◀ {}", inputs.join(", ")) };
        line(&mut out, &format!("[{id}] {}{from}", node.name));
        for detail in details(&node.kind, checkpointed) {
            line(&mut out, &format!("      {detail}"));
        }
    }
    out
}

/// The graph as a Mermaid flowchart.
pub fn mermaid(graph: &Graph, checkpointed: bool) -> String {
    let mut out = String::from("flowchart LR\n");
    for (id, node) in graph.nodes().iter().enumerate() {
        let details = details(&node.kind, checkpointed).join("<br/>").replace('"', "#quot;");
        let (open, close) = match node.kind {
            NodeKind::Source(_) => ("([", "])"),
            NodeKind::Sink(_) => ("[[", "]]"),
            NodeKind::Keyed(_) => ("{{", "}}"),
            NodeKind::Operator(_) => ("[", "]"),
        };
        line(&mut out, &format!("  n{id}{open}\"<b>{}</b><br/>{details}\"{close}", node.name));
        for edge in &node.inputs {
            let exchanged =
                matches!(node.kind, NodeKind::Keyed(_)) || edge.routing != Routing::Local;
            let label = match (edge.port, exchanged) {
                (Port::Main, true) => "|by key|",
                (Port::Main, false) => "",
                (Port::Late, _) => "|late rows|",
                (Port::Declined, _) => "|declined rows|",
                (Port::DeadLetter, _) => "|dead letters|",
            };
            line(&mut out, &format!("  n{} -->{label} n{id}", edge.from));
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn input(graph: &Graph, edge: &Edge) -> String {
    let port = match edge.port {
        Port::Main => "",
        Port::Late => " (late rows)",
        Port::Declined => " (declined rows)",
        Port::DeadLetter => " (dead letters)",
    };
    let routing = if edge.routing == Routing::Local { "" } else { " by key" };
    format!("[{}] {}{port}{routing}", edge.from, graph.nodes()[edge.from].name)
}

fn details(kind: &NodeKind, checkpointed: bool) -> Vec<String> {
    match kind {
        NodeKind::Operator(operator) => vec![operator.describe()],
        NodeKind::Keyed(keyed) => {
            let exchange = if keyed.key_columns().is_empty() {
                "no key: one shard owns all".to_owned()
            } else {
                format!("combine ─▶ exchange by key ({KEY_GROUPS} key groups) ─▶ merge")
            };
            vec![keyed.describe().line, exchange]
        }
        NodeKind::Sink(sink) => {
            let guarantee = sink.sink.guarantee(checkpointed);
            vec![sink.sink.describe(), format!("{}: {}", guarantee.delivery, guarantee.why)]
        }
        NodeKind::Source(source) => {
            let mut lines = vec![source.source.describe()];
            lines.extend(buffer(&source.buffer));
            lines.extend(source.computed.as_ref().map(|computed| computed.describe()));
            lines.push(match &source.time {
                TimeAttribute::None => "no time attribute".to_owned(),
                TimeAttribute::Processing { column } => {
                    format!("processing time `{}`", source.schema().field(*column).name())
                }
                TimeAttribute::Event { column, strategy } => {
                    let schema = source.schema();
                    format!(
                        "event time `{}`, {}",
                        schema.field(*column).name(),
                        watermark(strategy)
                    )
                }
            });
            lines
        }
    }
}

fn buffer(buffer: &Buffer) -> Option<String> {
    let (which, capacity) = match buffer {
        Buffer::Block => return None,
        Buffer::DropOldest(capacity) => ("oldest", capacity),
        Buffer::DropNewest(capacity) => ("newest", capacity),
    };
    let BufferCapacity { records, bytes } = capacity;
    Some(format!("drops the {which} beyond {records} records or {bytes} bytes that wait"))
}

fn watermark(strategy: &WatermarkStrategy) -> String {
    let bound = std::time::Duration::from_micros(strategy.bound.unsigned_abs());
    match strategy.idle_after {
        Some(after) => format!("watermark {bound:?} behind, idle after {after:?}"),
        None => format!("watermark {bound:?} behind"),
    }
}
