//! Counters of every station on every shard: written by the shard, read by everyone.
//!
//! They are part of each checkpoint, so that the conservation law (in = counted + late +
//! dead-lettered + filtered + dropped) holds across restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tidemill_core::graph::{Edge, Graph, Node, NodeId, NodeKind, Port};
use tidemill_core::operator::Fate;
use tidemill_core::time;

/// The counters of a shard's stations, with the names of their nodes.
pub(crate) type NamedStats = Vec<(String, Arc<StationStats>)>;

/// Counters of one station on one shard.
#[derive(Debug)]
pub(crate) struct StationStats {
    records_in: AtomicU64,
    records_out: AtomicU64,
    counted: AtomicU64,
    late: AtomicU64,
    filtered: AtomicU64,
    dead_letters: AtomicU64,
    dropped: AtomicU64,
    /// The station's merged watermark.
    pub watermark: AtomicI64,
    /// Bytes of state it holds.
    pub state_bytes: AtomicU64,
    /// Elements that wait at its inputs.
    pub queue: AtomicU64,
}

impl Default for StationStats {
    fn default() -> Self {
        Self {
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            late: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            watermark: AtomicI64::new(time::BEGINNING),
            state_bytes: AtomicU64::new(0),
            queue: AtomicU64::new(0),
        }
    }
}

/// What a node has done with its rows so far, over all shards and restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that entered (of a source: records read, bad ones included).
    pub records_in: u64,
    /// Rows that it emitted.
    pub records_out: u64,
    /// Rows in at least one window's aggregates.
    pub counted: u64,
    /// Rows whose windows had all passed.
    pub late: u64,
    /// Rows that a predicate or a function dropped.
    pub filtered: u64,
    /// Records that could not be decoded or processed.
    pub dead_letters: u64,
    /// Records that came faster than they were processed.
    #[serde(default)]
    pub dropped: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.counted += other.counted;
        self.late += other.late;
        self.filtered += other.filtered;
        self.dead_letters += other.dead_letters;
        self.dropped += other.dropped;
    }
}

impl StationStats {
    pub fn add_in(&self, rows: usize) {
        self.records_in.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub fn add_out(&self, rows: usize) {
        self.records_out.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub fn add(&self, fate: Fate, rows: usize) {
        let counter = match fate {
            Fate::Counted => &self.counted,
            Fate::Late => &self.late,
            Fate::Filtered => &self.filtered,
            Fate::DeadLettered => &self.dead_letters,
            Fate::Dropped => &self.dropped,
        };
        counter.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Starts at what an earlier run had counted.
    pub fn restore(&self, counts: Counts) {
        self.records_in.store(counts.records_in, Ordering::Relaxed);
        self.records_out.store(counts.records_out, Ordering::Relaxed);
        self.counted.store(counts.counted, Ordering::Relaxed);
        self.late.store(counts.late, Ordering::Relaxed);
        self.filtered.store(counts.filtered, Ordering::Relaxed);
        self.dead_letters.store(counts.dead_letters, Ordering::Relaxed);
        self.dropped.store(counts.dropped, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            records_in: load(&self.records_in),
            records_out: load(&self.records_out),
            counted: load(&self.counted),
            late: load(&self.late),
            filtered: load(&self.filtered),
            dead_letters: load(&self.dead_letters),
            dropped: load(&self.dropped),
        }
    }
}

/// The conservation law of one place where rows end: a window aggregate or a sink.
///
/// `records_in + expanded = counted + late + dead_letters + filtered + dropped`, exactly, at every
/// checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// The node where the rows end.
    pub node: String,
    /// Records read by the sources above it.
    pub records_in: u64,
    /// Rows that users' functions made on the way, beyond those they were given.
    pub expanded: u64,
    /// Rows that reached it and count.
    pub counted: u64,
    /// Rows that came late.
    pub late: u64,
    /// Records that became dead letters on the way.
    pub dead_letters: u64,
    /// Rows that were filtered on the way.
    pub filtered: u64,
    /// Records that sources dropped, since they came faster than they were processed.
    pub dropped: u64,
}

impl Ledger {
    /// Whether the sums add up.
    pub fn balances(&self) -> bool {
        self.records_in + self.expanded
            == self.counted + self.late + self.dead_letters + self.filtered + self.dropped
    }
}

/// The ledgers of all places where rows that come straight from sources end.
pub fn ledgers(graph: &Graph, counts: &BTreeMap<String, Counts>) -> Vec<Ledger> {
    let ends = |id: &NodeId| {
        let node = &graph.nodes()[*id];
        matches!(node.kind, NodeKind::Keyed(_) | NodeKind::Sink(_))
            && node.inputs.iter().all(|edge| edge.port == Port::Main)
            && node.inputs.iter().all(|edge| comes_from_sources(graph, edge.from))
    };
    let of = |id: NodeId| counts.get(&graph.nodes()[id].name).copied().unwrap_or_default();
    (0..graph.nodes().len())
        .filter(ends)
        .map(|id| {
            let mut ledger = Ledger { node: graph.nodes()[id].name.clone(), ..Ledger::default() };
            for edge in &graph.nodes()[id].inputs {
                follow(graph, edge.from, &of, &mut ledger);
            }
            let own = of(id);
            let is_sink = matches!(graph.nodes()[id].kind, NodeKind::Sink(_));
            // What the outside refused has reached the sink, but does not count.
            let delivered = own.records_in.saturating_sub(own.dead_letters);
            ledger.counted += if is_sink { delivered } else { own.counted };
            ledger.late += own.late;
            ledger.dead_letters += own.dead_letters;
            ledger.filtered += own.filtered;
            ledger.dropped += own.dropped;
            ledger
        })
        .collect()
}

/// How many results of windows became dead letters, by the node where they did; only nodes where any did.
pub fn dead_lettered_results(
    graph: &Graph,
    counts: &BTreeMap<String, Counts>,
) -> BTreeMap<String, u64> {
    let behind_windows = |node: &&Node| {
        let results = |edge: &Edge| {
            edge.port == Port::Main
                && (matches!(graph.nodes()[edge.from].kind, NodeKind::Keyed(_))
                    || !comes_from_sources(graph, edge.from))
        };
        node.inputs.iter().any(results)
    };
    let of = |node: &Node| Some((node.name.clone(), counts.get(&node.name)?.dead_letters));
    let counted = graph.nodes().iter().filter(behind_windows).filter_map(of);
    counted.filter(|(_, letters)| *letters > 0).collect()
}

/// Whether a node's rows are still rows of sources, not results of windows.
fn comes_from_sources(graph: &Graph, id: NodeId) -> bool {
    let node = &graph.nodes()[id];
    match &node.kind {
        NodeKind::Source(_) => true,
        NodeKind::Operator(_) => {
            node.inputs.iter().all(|e| e.port == Port::Main && comes_from_sources(graph, e.from))
        }
        NodeKind::Keyed(_) | NodeKind::Sink(_) => false,
    }
}

/// Adds what happened to rows up to and including node `id`.
fn follow(graph: &Graph, id: NodeId, of: &impl Fn(NodeId) -> Counts, ledger: &mut Ledger) {
    let (node, own) = (&graph.nodes()[id], of(id));
    ledger.late += own.late;
    ledger.dead_letters += own.dead_letters;
    ledger.filtered += own.filtered;
    ledger.dropped += own.dropped;
    if let NodeKind::Source(_) = node.kind {
        ledger.records_in += own.records_in;
    } else {
        let left = own.records_out + own.late + own.dead_letters + own.filtered + own.dropped;
        ledger.expanded += left.saturating_sub(own.records_in);
        ledger.filtered += own.records_in.saturating_sub(left);
    }
    for edge in &node.inputs {
        follow(graph, edge.from, of, ledger);
    }
}
