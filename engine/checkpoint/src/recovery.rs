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
    pub fn candidate(&mut self) -> Option<Epoch> {
        if self.found.is_some() { None } else { self.left.pop() }
    }

    /// What the epoch's manifest and files turned out to be: intact, or what is wrong with them.
    pub fn examined(&mut self, epoch: Epoch, found: Result<Manifest, String>) {
        match found {
            Ok(manifest) => self.found = Some(manifest),
            Err(reason) => self.rejected.push(Rejected { epoch, reason }),
        }
    }

    /// The result, when [`Search::candidate`] has said that the search is over.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::manifest;

    fn search(epochs: &[Epoch], superseded: Option<Epoch>, intact: &[Epoch]) -> Result<Recovery> {
        let mut search = Search::new(epochs.to_vec(), superseded);
        while let Some(epoch) = search.candidate() {
            let found = intact.contains(&epoch).then(|| manifest(epoch));
            search.examined(epoch, found.ok_or_else(|| "torn".to_owned()));
        }
        search.finish()
    }

    #[test]
    fn the_newest_intact_manifest_is_chosen_whatever_is_damaged() {
        // Every subset of damage, every mark left by --fresh.
        for mask in 0..32u32 {
            let intact: Vec<Epoch> = (1..=5).filter(|epoch| mask >> (epoch - 1) & 1 == 1).collect();
            for superseded in 0..=5 {
                let found = search(&[3, 1, 5, 2, 4], Some(superseded), &intact);
                let newest = intact.iter().copied().filter(|epoch| *epoch > superseded).max();
                match (newest, superseded) {
                    (Some(newest), _) => {
                        let found = found.unwrap();
                        assert_eq!(found.manifest.unwrap().epoch, newest);
                        assert_eq!(found.rejected.len() as u64, 5 - newest);
                        assert_eq!(found.next_epoch, 6);
                    }
                    (None, 5) => {
                        let found = found.unwrap();
                        assert_eq!((found.manifest, found.next_epoch), (None, 6));
                    }
                    (None, _) => assert!(found.unwrap_err().to_string().contains("--fresh")),
                }
            }
        }
        assert_eq!(search(&[], None, &[]).unwrap().next_epoch, 1);
    }

    #[test]
    fn each_sink_catches_up_and_numbers_rise_above_all_that_is_committed() {
        let recovery = search(&[6, 7], None, &[6]).unwrap();
        let fact = |node: &str, committed| SinkFact { node: node.to_owned(), committed };
        let sinks = [fact("a", None), fact("b", Some(5)), fact("c", Some(6)), fact("d", Some(7))];
        let resolution = resolve(&recovery, &sinks);
        let steps: Vec<_> = resolution.sinks.iter().map(|(_, step)| *step).collect();
        let ahead = SinkStep::Ahead { committed: 7 };
        assert_eq!(steps, [SinkStep::Recommit, SinkStep::Recommit, SinkStep::Nothing, ahead]);
        assert_eq!(resolution.next_epoch, 8);

        // The folder was deleted, but the outside remembers: its epochs must not come again.
        let nothing = search(&[], None, &[]).unwrap();
        let resolution = resolve(&nothing, &[fact("d", Some(41))]);
        assert_eq!(resolution.sinks[0].1, SinkStep::Nothing);
        assert_eq!(resolution.next_epoch, 42);
    }
}
