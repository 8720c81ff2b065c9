//! One job's checkpoints under a URL, with the right to write them.
//!
//! ```text
//! <url>/<job>/lock                                        taken while a job runs (file systems)
//! <url>/<job>/runs/<run>                                  one per start: who may publish
//! <url>/<job>/manifests/<epoch>                           the epochs that exist
//! <url>/<job>/data/<epoch>-<run>-<node>-<shard>-<n>.<x>   state (arrow) and staged output (staged)
//! <url>/<job>/fresh/<epoch>                               epochs up to this one are left behind
//! ```
//!
//! Invariants: data files carry the number of the run that wrote them, so that two runs never write
//! the same one; a manifest is created after everything it refers to, and deleted before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemill_core::element::Epoch;
use tidemill_core::error::{Error, ErrorKind, Result};
use tidemill_core::sink::Staged;

use crate::codec;
use crate::failpoint::{self, Point};
use crate::manifest::{FileRef, Manifest, StagedOutput, StagedRef};
use crate::names::{
    DATA, FRESH, MANIFESTS, RUNS, data_epoch_and_run, manifest_path, numbered, to_name,
};
use crate::reader::{CheckpointReader, Summary, Verification};
use crate::recovery::{Recovery, Search};
use crate::store::{self, Created, Fence, Store};

/// Staged output up to so many bytes stands in the manifest itself.
const INLINE_MAX: usize = 4096;

/// A job's checkpoints, with the right to write them: one instance of a job has it at a time.
///
/// On a file system a second instance is refused here. On an object store the newest instance has
/// the right, and the others get [`ErrorKind::Fenced`] from [`CheckpointFolder::publish`].
pub struct CheckpointFolder {
    reader: CheckpointReader,
    fence: Fence,
    run: u64,
}

/// What [`CheckpointFolder::retain`] deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Manifests.
    pub manifests: usize,
    /// State files and staged output.
    pub files: usize,
    /// Bytes of those files.
    pub bytes: u64,
}

impl CheckpointFolder {
    /// The folder of `job` under `url` (a path, `file://`, `memory://name` or an object store), made
    /// if need be, with the right to write it.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] where another instance of the job holds it; a wrong URL.
    pub fn open(url: &str, job: &str) -> Result<Self> {
        let (store, fence) = store::open(url, &to_name(job), true)?;
        Self::on(store, fence, url, job)
    }

    pub(crate) fn on(store: Arc<dyn Store>, fence: Fence, url: &str, job: &str) -> Result<Self> {
        let reader = CheckpointReader::on(store, url, job);
        let mut run = reader.numbers(RUNS)?.last().map_or(1, |run| run + 1);
        while reader.store.create(&format!("{RUNS}/{}", numbered(run)), b"")? == Created::Taken {
            run += 1;
        }
        Ok(Self { reader, fence, run })
    }

    /// The same checkpoints, to be looked at.
    pub fn reader(&self) -> &CheckpointReader {
        &self.reader
    }

    /// Checkpoints by epoch, newest first. See [`CheckpointReader::list`].
    pub fn list(&self) -> Result<Vec<Summary>> {
        self.reader.list()
    }

    /// Reads every byte of a checkpoint. See [`CheckpointReader::verify`].
    pub fn verify(&self, epoch: Epoch) -> Result<Verification> {
        self.reader.verify(epoch)
    }

    /// Finds the checkpoint to resume from: the newest that is intact, files and all. Those that are
    /// not are warned of and listed. What a crash left behind half-written is removed: to be called
    /// before this run writes anything.
    ///
    /// # Errors
    /// `Corrupt` where there are checkpoints but none is intact; `Configuration` where one was
    /// written by another version; `External` where the folder cannot be read, which is no reason
    /// to fall back.
    pub fn recover(&self) -> Result<Recovery> {
        let at = |e: Error| e.at(&self.reader.place);
        let epochs = self.reader.epochs().map_err(at)?;
        let newest = epochs.last().copied().unwrap_or(0);
        let mut search = Search::new(epochs, self.reader.superseded().map_err(at)?);
        while let Some(epoch) = search.candidate() {
            search.examined(epoch, self.reader.examine(epoch).map_err(at)?);
        }
        let recovery = search.finish().map_err(at)?;
        for rejected in &recovery.rejected {
            tracing::warn!(
                job = %self.reader.job, epoch = rejected.epoch, reason = %rejected.reason,
                "a checkpoint is damaged: falling back to the one before"
            );
        }
        if self.fence == Fence::Exclusive {
            self.remove_data(|epoch, _| epoch > newest)?;
            self.remove_temporary()?;
        }
        Ok(recovery)
    }

    /// Writes one state file of an epoch: batches of one schema. `seq` tells files of one operator
    /// and shard apart. It is durable once the epoch is published.
    ///
    /// # Errors
    /// `External` where it cannot be written.
    pub fn write_state(
        &self,
        epoch: Epoch,
        node: &str,
        shard: usize,
        seq: usize,
        rows: &[RecordBatch],
    ) -> Result<FileRef> {
        failpoint::hit(Point::WriteState)?;
        let bytes = codec::encode_rows(rows)?;
        self.write(self.data_path(epoch, node, shard, seq, "arrow"), &bytes)
    }

    /// Reads a state file.
    ///
    /// # Errors
    /// `Corrupt` where it is not what was written.
    pub fn read_state(&self, file: &FileRef) -> Result<Vec<RecordBatch>> {
        failpoint::hit(Point::ReadState)?;
        codec::decode_rows(self.reader.read(file)?).map_err(|e| e.at(&file.path))
    }

    /// Keeps what a sink's writer handed over at the barrier of `epoch`: little of it for the
    /// manifest, more in a file. `seq` tells the outputs of one sink and shard apart.
    ///
    /// # Errors
    /// `External` where it cannot be written.
    pub fn write_staged(
        &self,
        epoch: Epoch,
        node: &str,
        shard: usize,
        seq: usize,
        staged: &Staged,
    ) -> Result<StagedRef> {
        failpoint::hit(Point::WriteStaged)?;
        let output = if staged.0.len() <= INLINE_MAX {
            StagedOutput::Inline(codec::to_hex(&staged.0))
        } else {
            let path = self.data_path(epoch, node, shard, seq, "staged");
            StagedOutput::File(self.write(path, &staged.0)?)
        };
        Ok(StagedRef { shard, output })
    }

    /// Reads staged output back.
    ///
    /// # Errors
    /// `Corrupt` where it is not what was written.
    pub fn read_staged(&self, staged: &StagedRef) -> Result<Staged> {
        Ok(Staged(match &staged.output {
            StagedOutput::Inline(hex) => codec::from_hex(hex)?,
            StagedOutput::File(file) => self.reader.read(file)?,
        }))
    }

    /// Makes an epoch exist. Publishing the same manifest twice is as good as once.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`]: another instance has taken over, the run must end.
    /// [`ErrorKind::Transient`]: nobody knows whether the epoch exists; publish the same manifest
    /// again, or end the run. Any other: the epoch does not exist.
    pub fn publish(&self, manifest: &Manifest) -> Result<()> {
        failpoint::hit(Point::BeforePublish)?;
        let epoch = manifest.epoch;
        if manifest.job != self.reader.job || epoch == 0 {
            return Err(Error::internal("this manifest belongs to no epoch of this job"));
        }
        let newer_run = self.reader.numbers(RUNS)?.last().is_some_and(|run| *run > self.run);
        let newer_epoch = self.reader.epochs()?.last().is_some_and(|newest| *newest > epoch);
        let published = !newer_run && !newer_epoch && self.create_manifest(manifest)?;
        if !published {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "epoch {epoch} is not published: another instance of the job has taken over \
                     {}. This one stops; let only one run",
                    self.reader.place
                ),
            ));
        }
        failpoint::hit(Point::AfterPublish).map_err(|e| {
            // The epoch exists: whoever hears an error now must not take it for abandoned.
            Error::new(ErrorKind::Transient, e.to_string())
        })
    }

    /// Whether the epoch's manifest is this one now.
    fn create_manifest(&self, manifest: &Manifest) -> Result<bool> {
        let (path, bytes) = (manifest_path(manifest.epoch), manifest.encode()?);
        if self.reader.store.create(&path, &bytes)? == Created::Yes {
            return Ok(true);
        }
        // Perhaps by an earlier call, whose answer was lost.
        let unsure = |e: Error| Error::new(ErrorKind::Transient, e.to_string());
        Ok(self.reader.store.get(&path).map_err(unsure)? == Some(bytes))
    }

    /// Removes what this run wrote for an epoch that will not be published.
    ///
    /// # Errors
    /// `External` where a file cannot be deleted; [`CheckpointFolder::retain`] will, later.
    pub fn abandon(&self, epoch: Epoch) -> Result<Removed> {
        self.remove_data(|of, run| of == epoch && run == self.run)
    }

    /// Deletes all checkpoints but the newest `keep` (at least one) intact manifests, and every data
    /// file that none of those refers to. Files of an epoch in progress stay.
    ///
    /// # Errors
    /// `External` where something cannot be read or deleted; calling again goes on.
    pub fn retain(&self, keep: usize) -> Result<Removed> {
        failpoint::hit(Point::Retain)?;
        let epochs = self.reader.epochs()?;
        let mut kept: Vec<Manifest> = Vec::new();
        for epoch in epochs.iter().rev() {
            if kept.len() < keep.max(1) {
                kept.extend(self.reader.look(*epoch)?);
            }
        }
        let (Some(newest), Some(oldest)) = (kept.first(), kept.last()) else {
            return Ok(Removed::default());
        };
        let old: Vec<_> = epochs.iter().filter(|epoch| **epoch < oldest.epoch).collect();
        for epoch in &old {
            self.reader.store.delete(&manifest_path(**epoch))?;
        }
        let referred: BTreeSet<&str> =
            kept.iter().flat_map(|manifest| manifest.files()).map(|f| f.path.as_str()).collect();
        let newest = newest.epoch;
        let removed = self.remove_files(|path| {
            data_epoch_and_run(path).is_some_and(|(epoch, _)| epoch <= newest)
                && !referred.contains(path)
        })?;
        for run in self.reader.numbers(RUNS)?.iter().filter(|run| **run < self.run) {
            self.reader.store.delete(&format!("{RUNS}/{}", numbered(*run)))?;
        }
        Ok(Removed { manifests: old.len(), ..removed })
    }

    /// Starts a new lineage (`--fresh`): from now on all checkpoints there are count as left behind.
    /// They stay, until newer ones push them out, and epochs are numbered on behind them, because
    /// what sinks have committed must only rise.
    ///
    /// # Errors
    /// `External` where the mark cannot be written.
    pub fn clear(&self) -> Result<()> {
        let Some(newest) = self.reader.epochs()?.last().copied() else { return Ok(()) };
        self.reader.store.create(&format!("{FRESH}/{}", numbered(newest)), b"")?;
        tracing::info!(
            job = %self.reader.job, epoch = newest,
            "starting from the beginning: checkpoints up to this epoch are left behind"
        );
        Ok(())
    }

    fn write(&self, path: String, bytes: &[u8]) -> Result<FileRef> {
        self.reader.store.put(&path, bytes)?;
        Ok(codec::file_ref(path, bytes))
    }

    fn data_path(&self, epoch: Epoch, node: &str, shard: usize, seq: usize, kind: &str) -> String {
        let (epoch, run, node) = (numbered(epoch), self.run, to_name(node));
        format!("{DATA}/{epoch}-{run}-{node}-{shard}-{seq}.{kind}")
    }

    /// Deletes the data files of which this holds for epoch and run.
    fn remove_data(&self, which: impl Fn(Epoch, u64) -> bool) -> Result<Removed> {
        self.remove_files(|path| {
            data_epoch_and_run(path).is_some_and(|(epoch, run)| which(epoch, run))
        })
    }

    fn remove_files(&self, which: impl Fn(&str) -> bool) -> Result<Removed> {
        let mut removed = Removed::default();
        for file in self.reader.store.list(DATA)? {
            let path = format!("{DATA}/{}", file.name);
            if which(&path) {
                self.reader.store.delete(&path)?;
                removed.files += 1;
                removed.bytes += file.bytes;
            }
        }
        Ok(removed)
    }

    /// Manifests that were never given their name.
    fn remove_temporary(&self) -> Result<()> {
        for file in self.reader.store.list(MANIFESTS)? {
            if file.name.ends_with(".tmp") {
                self.reader.store.delete(&format!("{MANIFESTS}/{}", file.name))?;
            }
        }
        Ok(())
    }
}
