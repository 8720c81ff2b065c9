//! Which state files a manifest lists, and when an operator's state is written whole.
//!
//! Pure. A [`StateLedger`] knows the files that the newest manifest of this run lists for each
//! operator and shard. It starts empty after a restore too: what was restored may have been written
//! by another number of shards, so the first epoch of a run holds all state whole and inherits
//! nothing.
//!
//! Invariant: the files listed for an operator and shard are its last full snapshot and all
//! increments behind it, without those that its watermark has made needless.

use std::collections::BTreeMap;

use tidemill_core::element::Epoch;
use tidemill_core::error::{Error, Result};
use tidemill_core::time::{BEGINNING, EventTime};

use crate::manifest::{FileRef, OperatorState, StateFile};

/// Increments are left alone below so many bytes, however small the snapshot.
const SMALL: u64 = 1 << 20;

/// A file counts as at least so many bytes: many tiny ones are a burden too.
const FILE_COST: u64 = 4096;

/// Increments may outgrow the snapshot that they build on by this factor.
const OUTGROWN: u64 = 2;

/// An operator's state on one shard changed like this in an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The operator's node.
    pub node: String,
    /// The shard.
    pub shard: usize,
    /// The operator's watermark at the barrier.
    pub watermark: EventTime,
    /// The files replace all earlier ones; else they come on top.
    pub replace: bool,
    /// Each file written, and the watermark from which on it is not needed.
    pub files: Vec<(FileRef, EventTime)>,
}

/// The files of the newest manifest of this run.
#[derive(Debug, Clone, Default)]
pub struct StateLedger {
    operators: BTreeMap<(String, usize), Listed>,
    all_full: bool,
}

#[derive(Debug, Clone)]
struct Listed {
    watermark: EventTime,
    /// The epoch of the last snapshot, and what it cost when it was written.
    full: (Epoch, u64),
    files: Vec<StateFile>,
}

impl StateLedger {
    /// The ledger of a run that has not published yet, restored or not.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the next epoch must hold this operator's state whole: nothing is listed for it yet,
    /// an epoch was abandoned, or the increments have outgrown the last snapshot.
    pub fn wants_full(&self, node: &str, shard: usize) -> bool {
        let Some(listed) = self.operators.get(&(node.to_owned(), shard)) else { return true };
        let (epoch, full) = listed.full;
        let increments: u64 =
            listed.files.iter().filter(|file| file.epoch > epoch).map(|f| cost(&f.file)).sum();
        self.all_full || increments > SMALL.max(OUTGROWN * full)
    }

    /// The state that the manifest of `epoch` lists, given what changed in it. An operator without a
    /// change keeps its files. Nothing is remembered until [`StateLedger::published`].
    ///
    /// # Errors
    /// A defect: an increment without a snapshot under it, two changes of one operator and shard,
    /// or a watermark that went back.
    pub fn propose(&self, epoch: Epoch, changes: &[FileChange]) -> Result<Vec<OperatorState>> {
        let mut proposed: BTreeMap<(&str, usize), OperatorState> = BTreeMap::new();
        for change in changes {
            let state = self.apply(epoch, change)?;
            if proposed.insert((&change.node, change.shard), state).is_some() {
                return Err(defect(change, "its state changed twice in one epoch"));
            }
        }
        for ((node, shard), listed) in &self.operators {
            proposed.entry((node, *shard)).or_insert_with(|| OperatorState {
                node: node.clone(),
                shard: *shard,
                watermark: listed.watermark,
                files: listed.files.clone(),
            });
        }
        Ok(proposed.into_values().collect())
    }

    fn apply(&self, epoch: Epoch, change: &FileChange) -> Result<OperatorState> {
        let before = self.operators.get(&(change.node.clone(), change.shard));
        if before.map_or(BEGINNING, |listed| listed.watermark) > change.watermark {
            return Err(defect(change, "its watermark went back"));
        }
        if !change.replace && self.wants_full(&change.node, change.shard) {
            return Err(defect(
                change,
                "it handed over an increment where all state was asked for",
            ));
        }
        let kept = before.filter(|_| !change.replace).map_or(&[][..], |listed| &listed.files);
        let new = change.files.iter().map(|(file, needed_until)| StateFile {
            file: file.clone(),
            needed_until: *needed_until,
            epoch,
        });
        let needed = |file: &StateFile| file.needed_until > change.watermark;
        Ok(OperatorState {
            node: change.node.clone(),
            shard: change.shard,
            watermark: change.watermark,
            files: kept.iter().cloned().chain(new).filter(needed).collect(),
        })
    }

    /// The manifest of `epoch` exists, with the state proposed for these changes.
    ///
    /// # Errors
    /// As for [`StateLedger::propose`].
    pub fn published(&mut self, epoch: Epoch, changes: &[FileChange]) -> Result<()> {
        for change in changes {
            let state = self.apply(epoch, change)?;
            let key = (state.node, state.shard);
            let full = match self.operators.get(&key) {
                Some(before) if !change.replace => before.full,
                _ => (epoch, change.files.iter().map(|(file, _)| cost(file)).sum()),
            };
            let listed = Listed { watermark: state.watermark, full, files: state.files };
            self.operators.insert(key, listed);
        }
        self.all_full = false;
        Ok(())
    }

    /// An epoch was abandoned: what changed in it is in no file, so the next one is whole.
    pub fn abandoned(&mut self) {
        self.all_full = true;
    }
}

fn cost(file: &FileRef) -> u64 {
    file.bytes.max(FILE_COST)
}

fn defect(change: &FileChange, what: &str) -> Error {
    Error::internal(format!("operator `{}` on shard {}: {what}", change.node, change.shard))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(
        shard: usize,
        replace: bool,
        watermark: EventTime,
        files: &[(u64, i64)],
    ) -> FileChange {
        let file = |(bytes, until): &(u64, i64)| {
            let path = format!("data/{shard}-{bytes}-{until}");
            (FileRef { path, bytes: *bytes, checksum: String::new() }, *until)
        };
        let files = files.iter().map(file).collect();
        FileChange { node: "agg".to_owned(), shard, watermark, replace, files }
    }

    fn publish(ledger: &mut StateLedger, epoch: Epoch, changes: &[FileChange]) -> Vec<Vec<u64>> {
        let proposed = ledger.propose(epoch, changes).unwrap();
        ledger.published(epoch, changes).unwrap();
        let sizes = |state: &OperatorState| state.files.iter().map(|f| f.file.bytes).collect();
        proposed.iter().map(sizes).collect()
    }

    #[test]
    fn increments_pile_up_until_the_watermark_or_a_snapshot_drops_them() {
        let mut ledger = StateLedger::new();
        assert!(ledger.wants_full("agg", 0), "nothing is inherited from another run");
        let first = [change(0, true, 0, &[(10, 100)]), change(1, true, 0, &[])];
        assert_eq!(publish(&mut ledger, 1, &first), [vec![10], vec![]]);
        assert!(!ledger.wants_full("agg", 0));
        let second = [change(0, false, 50, &[(20, 100), (21, 200)])];
        assert_eq!(publish(&mut ledger, 2, &second), [vec![10, 20, 21], vec![]]);
        assert_eq!(publish(&mut ledger, 3, &[change(0, false, 99, &[])])[0], [10, 20, 21]);
        assert_eq!(publish(&mut ledger, 4, &[change(0, false, 100, &[])])[0], [21]);
        assert_eq!(publish(&mut ledger, 5, &[change(0, true, 100, &[(7, 300)])])[0], [7]);
        let expired = change(0, false, 100, &[(9, 100)]);
        assert_eq!(publish(&mut ledger, 6, &[expired])[0], [7], "needless from the start");
    }

    #[test]
    fn a_proposal_changes_nothing_and_an_abandoned_epoch_asks_for_all_state() {
        let mut ledger = StateLedger::new();
        publish(&mut ledger, 1, &[change(0, true, 0, &[(10, 100)])]);
        ledger.propose(2, &[change(0, false, 5, &[(20, 100)])]).unwrap();
        ledger.abandoned();
        assert!(ledger.wants_full("agg", 0));
        let increment = [change(0, false, 5, &[(30, 100)])];
        assert!(ledger.propose(3, &increment).is_err(), "it would miss epoch 2's changes");
        assert_eq!(publish(&mut ledger, 3, &[change(0, true, 5, &[(40, 100)])])[0], [40]);
        assert!(!ledger.wants_full("agg", 0));
    }

    #[test]
    fn state_is_written_whole_when_increments_outgrow_it() {
        let mut ledger = StateLedger::new();
        let snapshot = 3 * SMALL;
        publish(&mut ledger, 1, &[change(0, true, 0, &[(snapshot, 100)])]);
        publish(&mut ledger, 2, &[change(0, false, 0, &[(2 * snapshot, 50)])]);
        assert!(!ledger.wants_full("agg", 0), "twice the snapshot is not yet more");
        publish(&mut ledger, 3, &[change(0, false, 0, &[(1, 100)])]);
        assert!(ledger.wants_full("agg", 0));
        publish(&mut ledger, 4, &[change(0, true, 50, &[(snapshot, 100)])]);
        assert!(!ledger.wants_full("agg", 0));
        let mut tiny = StateLedger::new();
        publish(&mut tiny, 1, &[change(0, true, 0, &[(10, 100)])]);
        let mut epoch = 1;
        while !tiny.wants_full("agg", 0) {
            epoch += 1;
            publish(&mut tiny, epoch, &[change(0, false, 0, &[(10, 100)])]);
        }
        assert_eq!(epoch, 258, "many tiny files are a burden too");
    }

    #[test]
    fn what_no_operator_may_do_is_an_internal_error() {
        let mut ledger = StateLedger::new();
        let increment = [change(0, false, 0, &[])];
        assert!(ledger.propose(1, &increment).unwrap_err().to_string().contains("`agg`"));
        publish(&mut ledger, 1, &[change(0, true, 9, &[])]);
        assert!(ledger.propose(2, &[change(0, false, 8, &[])]).is_err(), "a watermark went back");
        let twice = [change(0, false, 9, &[]), change(0, false, 9, &[])];
        assert!(ledger.propose(2, &twice).is_err());
    }
}
