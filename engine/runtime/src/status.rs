//! What can be told of a job while it runs and when it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tidemill_core::graph::{Graph, NodeKind, TimeAttribute};
use tidemill_core::retry::BreakerState;
use tidemill_core::time::{BEGINNING, Clock};
use tidemill_core::{Epoch, EventTime};

use crate::delay::{DelayRecorder, EmitDelay};
use crate::guard::Guard;
use crate::link::{LinkStatus, Links};
use crate::memory::{Memory, MemoryStatus};
use crate::shard::ShardView;
use crate::source::SplitStatus;
use crate::stats::{Counts, Ledger, NamedStats, dead_lettered_results, ledgers};

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Rows flow.
    Running,
    /// It was asked to stop: what was read is brought to its end.
    Draining,
    /// Every source has ended, and every result is out.
    Finished,
    /// It stopped before its sources ended; with checkpoints it can be resumed.
    Stopped,
    /// It ended with an error.
    Failed,
}

/// A job as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct JobStatus {
    /// The job's name.
    pub job: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// How many shards run it.
    pub shards: usize,
    /// Seconds since it was started (or restarted).
    pub uptime_seconds: f64,
    /// Records per second that sources read, over the last second or so.
    pub records_per_second: f64,
    /// The nodes of its graph.
    pub nodes: Vec<NodeStatus>,
    /// The splits of its sources.
    pub splits: Vec<SplitStatus>,
    /// The split whose watermark is lowest: it holds everything behind it back.
    pub held_back_by: Option<String>,
    /// For how long links between nodes were full.
    pub links: Vec<LinkStatus>,
    /// What is held in memory.
    pub memory: MemoryStatus,
    /// The circuit breakers of sinks.
    pub breakers: Vec<BreakerStatus>,
    /// Checkpoints.
    pub checkpoints: CheckpointStatus,
    /// Emit delay so far.
    pub emit_delay: EmitDelay,
    /// What went wrong lately, newest last.
    pub errors: Vec<String>,
}

/// A node of the graph.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// `source`, `operator`, `window` or `sink`.
    pub kind: &'static str,
    /// The nodes that it reads from.
    pub inputs: Vec<String>,
    /// Its counters.
    pub counts: Counts,
    /// Its lowest watermark over the shards, in microseconds; `None` before the first.
    pub watermark: Option<EventTime>,
    /// Bytes of state.
    pub state_bytes: u64,
    /// Elements waiting at its inputs.
    pub queue: u64,
}

/// The circuit breaker of a sink's calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerStatus {
    /// The sink's node.
    pub sink: String,
    /// What is called: `write` or `commit`.
    pub calls: &'static str,
    /// Whether calls go through.
    pub state: BreakerState,
}

/// Checkpoints of a running job.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckpointStatus {
    /// The newest epoch that exists.
    pub last_epoch: Option<Epoch>,
    /// When it came to exist, in microseconds.
    pub last_at: Option<EventTime>,
    /// How long it took, from its start to its manifest.
    pub last_duration: Option<Duration>,
    /// Bytes in the files of its manifest.
    pub last_bytes: u64,
    /// Epochs completed in this run.
    pub completed: u64,
    /// Epochs abandoned in this run.
    pub abandoned: u64,
    /// The epoch that this run was restored from.
    pub restored: Option<Epoch>,
}

/// How a job ended.
#[derive(Debug, Clone, Serialize)]
pub struct JobSummary {
    /// The job's name.
    pub job: String,
    /// `Finished` or `Stopped`.
    pub phase: Phase,
    /// Counters by node, over all restarts.
    pub counts: BTreeMap<String, Counts>,
    /// The conservation law for every place where rows end.
    pub ledgers: Vec<Ledger>,
    /// How many results of windows became dead letters, by the node (mostly a sink that refused them).
    pub dead_lettered_results: BTreeMap<String, u64>,
    /// Results of windows: one for each key and window that fired.
    pub windows_fired: u64,
    /// How long this run took.
    pub elapsed: Duration,
    /// Records that this run read from its sources.
    pub records_in: u64,
    /// Emit delay.
    pub emit_delay: EmitDelay,
    /// Checkpoints.
    pub checkpoints: CheckpointStatus,
}

/// What the coordinator, the handle and servers share of a job.
pub(crate) struct Shared {
    pub job: String,
    pub graph: Graph,
    pub shards: usize,
    pub clock: Arc<dyn Clock>,
    pub started: Duration,
    pub stats: Vec<NamedStats>,
    pub views: Vec<Arc<ShardView>>,
    pub delay: DelayRecorder,
    pub memory: Arc<Memory>,
    pub links: Links,
    pub guards: Vec<Arc<Guard>>,
    pub changing: Mutex<Changing>,
}

/// The part that changes under a lock.
pub(crate) struct Changing {
    pub phase: Phase,
    pub checkpoints: CheckpointStatus,
    pub errors: Vec<String>,
    pub records_at_start: u64,
    pub records_per_second: f64,
    pub last_sample: (Duration, u64),
}

/// How many of the last errors are told.
const ERRORS_KEPT: usize = 20;

impl Shared {
    pub fn error(&self, text: String) {
        let errors = &mut self.changing.lock().errors;
        errors.push(text);
        let surplus = errors.len().saturating_sub(ERRORS_KEPT);
        errors.drain(..surplus);
    }

    /// Counters by node, summed over the shards.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
        for (name, stats) in self.stats.iter().flatten() {
            *counts.entry(name.clone()).or_default() += stats.counts();
        }
        counts
    }

    pub fn records_in(&self) -> u64 {
        let counts = self.counts();
        let sources = self.graph.nodes().iter().filter(|n| matches!(n.kind, NodeKind::Source(_)));
        sources.filter_map(|node| counts.get(&node.name)).map(|c| c.records_in).sum()
    }

    /// Whether nothing more can be read.
    pub fn sources_have_ended(&self) -> bool {
        self.views.iter().all(|view| view.splits.lock().iter().all(|split| split.ended))
    }

    /// Whether windows fire by the wall clock, whatever is read.
    pub fn waits_for_the_clock(&self) -> bool {
        self.graph.nodes().iter().any(|node| match &node.kind {
            NodeKind::Source(source) => matches!(source.time, TimeAttribute::Processing { .. }),
            _ => false,
        })
    }

    /// Takes a sample for the rate; called about once a second.
    pub fn sample(&self) {
        let (now, records) = (self.clock.elapsed(), self.records_in());
        let mut changing = self.changing.lock();
        let (then, before) = changing.last_sample;
        let seconds = now.saturating_sub(then).as_secs_f64();
        if seconds > 0.0 {
            changing.records_per_second = records.saturating_sub(before) as f64 / seconds;
            changing.last_sample = (now, records);
        }
    }

    pub fn status(&self) -> JobStatus {
        let splits: Vec<SplitStatus> =
            self.views.iter().flat_map(|view| view.splits.lock().clone()).collect();
        let holds = |split: &&SplitStatus| !split.ended && !split.idle;
        let held_back_by = splits
            .iter()
            .filter(holds)
            .min_by_key(|split| split.watermark)
            .map(|split| format!("{}, {}", split.source, split.split));
        let changing = self.changing.lock();
        JobStatus {
            job: self.job.clone(),
            phase: changing.phase,
            shards: self.shards,
            uptime_seconds: self.clock.elapsed().saturating_sub(self.started).as_secs_f64(),
            records_per_second: changing.records_per_second,
            nodes: self.node_status(),
            splits,
            held_back_by,
            links: self.links.status(),
            memory: self.memory.status(),
            breakers: self.guards.iter().map(|guard| guard.status()).collect(),
            checkpoints: changing.checkpoints.clone(),
            emit_delay: self.delay.quantiles(),
            errors: changing.errors.clone(),
        }
    }

    fn node_status(&self) -> Vec<NodeStatus> {
        let counts = self.counts();
        let nodes = self.graph.nodes();
        let status = nodes.iter().map(|node| {
            let of_node = || self.stats.iter().flatten().filter(|(name, _)| *name == node.name);
            let watermark =
                of_node().map(|(_, stats)| stats.watermark.load(Ordering::Relaxed)).min();
            NodeStatus {
                node: node.name.clone(),
                kind: match node.kind {
                    NodeKind::Source(_) => "source",
                    NodeKind::Operator(_) => "operator",
                    NodeKind::Keyed(_) => "window",
                    NodeKind::Sink(_) => "sink",
                },
                inputs: node.inputs.iter().map(|edge| nodes[edge.from].name.clone()).collect(),
                counts: counts.get(&node.name).copied().unwrap_or_default(),
                watermark: watermark.filter(|watermark| *watermark > BEGINNING),
                state_bytes: of_node().map(|(_, s)| s.state_bytes.load(Ordering::Relaxed)).sum(),
                queue: of_node().map(|(_, s)| s.queue.load(Ordering::Relaxed)).sum(),
            }
        });
        status.collect()
    }

    pub fn summary(&self) -> JobSummary {
        let counts = self.counts();
        let keyed = self.graph.nodes().iter().filter(|n| matches!(n.kind, NodeKind::Keyed(_)));
        let fired = keyed.filter_map(|n| counts.get(&n.name)).map(|c| c.records_out).sum();
        let changing = self.changing.lock();
        JobSummary {
            job: self.job.clone(),
            phase: changing.phase,
            ledgers: ledgers(&self.graph, &counts),
            dead_lettered_results: dead_lettered_results(&self.graph, &counts),
            windows_fired: fired,
            elapsed: self.clock.elapsed().saturating_sub(self.started),
            records_in: self.records_in().saturating_sub(changing.records_at_start),
            emit_delay: self.delay.quantiles(),
            checkpoints: changing.checkpoints.clone(),
            counts,
        }
    }
}
