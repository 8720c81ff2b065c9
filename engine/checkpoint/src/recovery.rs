//! How a job comes back: which manifest it is restored from, and what each sink does then.
//!
//! Pure. [`Search`] is asked which epoch to look at next and told what was found there;
//! [`resolve`] is told what the sinks say of themselves.
//!
//! Invariants: a manifest is chosen only if it was found intact, and no newer one of its lineage
//! was; epoch numbers only rise, through restarts, damage and `--fresh`.

use tidemill_core::element::Epoch;
use tidemill_core::error::{Error, Result};

use crate::manifest::Manifest;

/// A checkpoint that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its epoch.
    pub epoch: Epoch,
    /// What is wrong with it, naming the file.
    pub reason: String,
}

/// What was found in a job's checkpoint folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// The checkpoint to resume from; `None`: start from the beginning.
    pub manifest: Option<Manifest>,
    /// Newer checkpoints that are damaged.
    pub rejected: Vec<Rejected>,
    /// The number of the next epoch: beyond every checkpoint there is, damaged or not.
    pub next_epoch: Epoch,
}

/// The search for the newest intact manifest.
#[derive(Debug)]
pub struct Search {
    /// Epochs not looked at yet, ascending.
    left: Vec<Epoch>,
    rejected: Vec<Rejected>,
    found: Option<Manifest>,
    next_epoch: Epoch,
}

impl Search {
    /// Among the manifests of these epochs; those up to `superseded` were left behind by `--fresh`.
    pub fn new(mut epochs: Vec<Epoch>, superseded: Option<Epoch>) -> Self {
        epochs.sort_unstable();
        epochs.dedup();
        let newest = epochs.last().copied().max(superseded).unwrap_or(0);
        epochs.retain(|epoch| superseded.is_none_or(|superseded| *epoch > superseded));
        let (rejected, found) = (Vec::new(), None);
        Self { left: epochs, rejected, found, next_epoch: newest + 1 }
    }

    /// The epoch to look at next; `None` when the search is over.
    pub fn next(&mut self) -> Option<Epoch> {
        if self.found.is_some() { None } else { self.left.pop() }
    }

    /// What the epoch's manifest and files turned out to be: intact, or what is wrong with them.
    pub fn examined(&mut self, epoch: Epoch, found: Result<Manifest, String>) {
        match found {
            Ok(manifest) => self.found = Some(manifest),
            Err(reason) => self.rejected.push(Rejected { epoch, reason }),
        }
    }

    /// The result, when [`Search::next`] has said that the search is over.
    ///
    /// # Errors
    /// `Corrupt` where there are checkpoints but none is intact: to start from the beginning is the
    /// user's decision.
    pub fn finish(self) -> Result<Recovery> {
        if self.found.is_none() && !self.rejected.is_empty() {
            let list = |r: &Rejected| format!("\n  epoch {}: {}", r.epoch, r.reason);
            let reasons: String = self.rejected.iter().map(list).collect();
            return Err(Error::corrupt(format!(
                "none of the checkpoints can be restored:{reasons}\nBring the files back from a \
                 backup, or start from the beginning with --fresh"
            )));
        }
        let Self { rejected, found: manifest, next_epoch, .. } = self;
        Ok(Recovery { manifest, rejected, next_epoch })
    }
}

/// What a sink says, when the job comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkFact {
    /// The sink's node.
    pub node: String,
    /// What its committer says is visible outside.
    pub committed: Option<Epoch>,
}

/// What a sink does before the first new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkStep {
    /// Nothing: the restored epoch is visible outside, or there is none.
    Nothing,
    /// Commit the restored manifest's staged output: it is not visible outside, or the outside
    /// does not say.
    Recommit,
    /// Nothing, and results are written twice: the outside has epochs behind the restored one,
    /// whose checkpoints are lost. The user must be told.
    Ahead {
        /// The epoch that is visible outside.
        committed: Epoch,
    },
}

/// What the job does before its first new epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The step of each sink, by node.
    pub sinks: Vec<(String, SinkStep)>,
    /// The number of the first new epoch: beyond every checkpoint and everything committed.
    pub next_epoch: Epoch,
}

/// Decides what each sink does, given what it says of itself.
pub fn resolve(recovery: &Recovery, sinks: &[SinkFact]) -> Resolution {
    let restored = recovery.manifest.as_ref().map(|manifest| manifest.epoch);
    let step = |sink: &SinkFact| match (restored, sink.committed) {
        (None, _) => SinkStep::Nothing,
        (Some(restored), Some(committed)) if committed > restored => SinkStep::Ahead { committed },
        (Some(restored), Some(committed)) if committed == restored => SinkStep::Nothing,
        (Some(_), _) => SinkStep::Recommit,
    };
    let committed = sinks.iter().filter_map(|sink| sink.committed).max().unwrap_or(0);
    Resolution {
        sinks: sinks.iter().map(|sink| (sink.node.clone(), step(sink))).collect(),
        next_epoch: recovery.next_epoch.max(committed.saturating_add(1)),
    }
}
