//! One epoch on its way from barrier to manifest: what the shards have handed over, and where it
//! was written.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_checkpoint::CheckpointFolder;
use tidemill_checkpoint::files::FileChange;
use tidemill_checkpoint::manifest::{
    Manifest, OperatorState, SinkState, SourceState, SplitState, StagedRef, VERSION,
};
use tidemill_checkpoint::protocol::Fact;
use tidemill_core::operator::StateChange;
use tidemill_core::sink::Staged;
use tidemill_core::source::{Offset, SplitId};
use tidemill_core::{Epoch, EventTime, Result};
use tracing::{Span, info_span};

use crate::coordinate::{SinkRun, sum_counts};
use crate::fragments::joined;
use crate::query::query;
use crate::recover::fingerprint;
use crate::shard::ShardCut;
use crate::station::Cut;
use crate::stats::Counts;
use crate::status::Shared;

/// An epoch between its barrier and its commit.
pub(crate) struct EpochInProgress {
    pub number: Epoch,
    pub last: bool,
    pub started: Duration,
    /// Everything that is done for the epoch is traced under it.
    pub span: Span,
    full: bool,
    changes: Vec<FileChange>,
    splits: BTreeMap<String, Vec<SplitState>>,
    counts: BTreeMap<String, Counts>,
    /// For each sink: what its writers handed over, and where that is kept.
    staged: BTreeMap<usize, Vec<(usize, Staged)>>,
    staged_refs: BTreeMap<usize, Vec<StagedRef>>,
    /// Bytes that sinks are committing.
    leaving: BTreeMap<usize, usize>,
    cut_shards: usize,
    /// Why it cannot be published. Said when all shards have passed its barrier: only then may
    /// another follow.
    failed: Option<String>,
}

impl EpochInProgress {
    pub fn new(number: Epoch, full: bool, last: bool, started: Duration) -> Self {
        Self {
            number,
            last,
            started,
            span: info_span!("checkpoint", epoch = number),
            full,
            changes: Vec::new(),
            splits: BTreeMap::new(),
            counts: BTreeMap::new(),
            staged: BTreeMap::new(),
            staged_refs: BTreeMap::new(),
            leaving: BTreeMap::new(),
            cut_shards: 0,
            failed: None,
        }
    }

    /// Takes the part of one of `shards` shards and writes it; says what has come of it.
    pub fn take(
        &mut self,
        cut: ShardCut,
        shards: usize,
        folder: Option<&CheckpointFolder>,
        sinks: &[SinkRun],
    ) -> Vec<Fact> {
        let _traced = self.span.clone().entered();
        let (shard, epoch) = (cut.shard, cut.epoch);
        let mut facts = vec![Fact::ShardAcked { shard, epoch }];
        self.cut_shards += 1;
        for (node, splits) in cut.splits {
            self.splits.entry(node).or_default().extend(splits);
        }
        sum_counts(&mut self.counts, cut.counts);
        let mut failed = None;
        for (node, cut) in cut.cuts {
            let result = match cut {
                Cut::State { watermark, change } => {
                    self.write_state(folder, node, shard, watermark, change)
                }
                Cut::Staged(staged) => {
                    let sink = sinks
                        .iter()
                        .position(|sink| sink.name == node)
                        .expect("every sink's writers and its committer have the node's name");
                    facts.push(Fact::Staged { sink, shard, epoch });
                    self.write_staged(folder, sink, &node, shard, staged)
                }
            };
            failed = failed.or(result.err());
        }
        match failed {
            None => facts.push(Fact::StateWritten { shard, epoch }),
            Some(error) => self.failed = self.failed.take().or_else(|| Some(error.to_string())),
        }
        if self.is_cut(shards)
            && let Some(reason) = self.failed.take()
        {
            facts.push(Fact::Failed { epoch, reason });
        }
        facts
    }

    fn write_state(
        &mut self,
        folder: Option<&CheckpointFolder>,
        node: String,
        shard: usize,
        watermark: EventTime,
        change: StateChange,
    ) -> Result<()> {
        let Some(folder) = folder else { return Ok(()) };
        let (replace, fragments) = match change {
            StateChange::Replace(fragments) => (true, fragments),
            // An operator without state has none whole, too.
            StateChange::Append(fragments) => (self.full && fragments.is_empty(), fragments),
        };
        let mut files = Vec::new();
        for (seq, fragment) in joined(fragments, watermark)?.into_iter().enumerate() {
            let file = folder.write_state(self.number, &node, shard, seq, &[fragment.rows])?;
            files.push((file, fragment.needed_until));
        }
        self.changes.push(FileChange { node, shard, watermark, replace, files });
        Ok(())
    }

    fn write_staged(
        &mut self,
        folder: Option<&CheckpointFolder>,
        sink: usize,
        node: &str,
        shard: usize,
        staged: Staged,
    ) -> Result<()> {
        if staged.0.is_empty() {
            return Ok(());
        }
        let refs = self.staged_refs.entry(sink).or_default();
        let reference =
            folder.map(|f| f.write_staged(self.number, node, shard, refs.len(), &staged));
        self.staged.entry(sink).or_default().push((shard, staged));
        if let Some(reference) = reference {
            refs.push(reference?);
        }
        Ok(())
    }

    /// Whether all shards have passed its barrier.
    pub fn is_cut(&self, shards: usize) -> bool {
        self.cut_shards == shards
    }

    pub fn changes(&self) -> &[FileChange] {
        &self.changes
    }

    /// The manifest. Output that abandoned epochs left behind is written again, as this epoch's.
    pub fn manifest(
        &self,
        folder: &CheckpointFolder,
        shared: &Shared,
        operators: Vec<OperatorState>,
        sinks: &[SinkRun],
        finished: bool,
    ) -> Result<Manifest> {
        let source = |(node, splits): (&String, &Vec<SplitState>)| {
            let mut splits = splits.clone();
            splits.sort_by(|a, b| a.split.cmp(&b.split));
            SourceState { node: node.clone(), splits }
        };
        let mut sink_states = Vec::new();
        for (n, sink) in sinks.iter().enumerate() {
            let mut staged = Vec::new();
            let own = self.staged_refs.get(&n).cloned().unwrap_or_default();
            for (seq, (shard, output)) in sink.carried.iter().enumerate() {
                let seq = own.len() + seq;
                staged.push(folder.write_staged(self.number, &sink.name, *shard, seq, output)?);
            }
            staged.extend(own);
            sink_states.push(SinkState { node: sink.name.clone(), staged });
        }
        let counts =
            serde_json::to_value(&self.counts).expect("a map from names to numbers is always JSON");
        Ok(Manifest {
            version: VERSION,
            job: shared.job.clone(),
            epoch: self.number,
            created_at: shared.clock.now(),
            shards: shared.shards,
            fingerprint: fingerprint(&shared.graph),
            query: Some(query(&shared.graph)),
            sources: self.splits.iter().map(source).collect(),
            operators,
            sinks: sink_states,
            counts,
            finished,
        })
    }

    /// What a sink has to commit: what abandoned epochs left behind, then this one's.
    pub fn staged(&mut self, sink: usize, carried: Vec<(usize, Staged)>) -> Vec<Staged> {
        let own = self.staged.remove(&sink).unwrap_or_default();
        let staged: Vec<Staged> =
            carried.into_iter().chain(own).map(|(_, staged)| staged).collect();
        self.leaving.insert(sink, staged.iter().map(|staged| staged.0.len()).sum());
        staged
    }

    /// A sink has committed its part.
    pub fn delivered(&mut self, sink: usize) {
        self.leaving.remove(&sink);
    }

    /// Sinks that are committing.
    pub fn committing(&self) -> impl Iterator<Item = usize> {
        self.leaving.keys().copied()
    }

    /// Bytes that a sink has staged and not committed.
    pub fn staged_bytes(&self, sink: usize) -> usize {
        let staged = self.staged.get(&sink).into_iter().flatten();
        let here: usize = staged.map(|(_, staged)| staged.0.len()).sum();
        here + self.leaving.get(&sink).copied().unwrap_or_default()
    }

    /// The epoch is abandoned: its staged output goes out with the next.
    pub fn carry_over(&mut self, sink: usize, carried: &mut Vec<(usize, Staged)>) {
        carried.extend(self.staged.remove(&sink).unwrap_or_default());
    }

    /// The next offsets of a source's splits.
    pub fn offsets(&self, node: &str) -> Vec<(SplitId, Offset)> {
        let splits = self.splits.get(node).into_iter().flatten();
        splits.map(|split| (split.split.clone(), split.offset.clone())).collect()
    }
}
