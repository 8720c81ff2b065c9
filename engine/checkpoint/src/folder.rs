//! One job's checkpoints under a URL.
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
use tidemill_core::time::EventTime;

use crate::codec;
use crate::failpoint::{self, Point};
use crate::manifest::{FileRef, Manifest, StagedOutput, StagedRef};
use crate::recovery::{Recovery, Search};
use crate::store::{self, Created, Fence, Store};

const MANIFESTS: &str = "manifests";
const DATA: &str = "data";
const RUNS: &str = "runs";
const FRESH: &str = "fresh";

/// Staged output up to so many bytes stands in the manifest itself.
const INLINE_MAX: usize = 4096;

/// Names longer than this are cut, and told apart by their hash.
const NAME_MAX: usize = 80;

/// A look at a job's checkpoints, without the right to change them. A running job is not disturbed.
#[derive(Clone)]
pub struct CheckpointReader {
    store: Arc<dyn Store>,
    job: String,
    /// What to call the place in messages: no credentials.
    place: String,
}

/// A job's checkpoints, with the right to write them: one instance of a job has it at a time.
///
/// On a file system a second instance is refused here. On an object store the newest instance has
/// the right, and the others get [`ErrorKind::Fenced`] from [`CheckpointFolder::publish`].
pub struct CheckpointFolder {
    reader: CheckpointReader,
    fence: Fence,
    run: u64,
}

/// A checkpoint, for a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its epoch.
    pub epoch: Epoch,
    /// Wall-clock time of its making, in microseconds; 0 where its manifest cannot be read.
    pub created_at: EventTime,
    /// Bytes of its files; 0 where its manifest cannot be read.
    pub bytes: u64,
    /// The job ended with it.
    pub finished: bool,
    /// It was left behind by `--fresh`.
    pub superseded: bool,
    /// What is wrong with its manifest. Its files are not looked at.
    pub problem: Option<String>,
}

/// What [`CheckpointReader::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// How many files the manifest refers to.
    pub files: usize,
    /// Their bytes, as written.
    pub bytes: u64,
    /// What is wrong, one line for each file; empty: the checkpoint can be restored.
    pub problems: Vec<String>,
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

/// Names of the jobs that have a folder under a URL, sorted.
///
/// # Errors
/// A wrong URL, or a folder that cannot be listed.
pub fn jobs(url: &str) -> Result<Vec<String>> {
    let mut jobs: Vec<_> = store::folders(url)?.iter().map(|folder| from_name(folder)).collect();
    jobs.sort();
    Ok(jobs)
}

impl CheckpointReader {
    /// The checkpoints of `job` under `url`: a path, `file://`, `memory://name` or an object store.
    ///
    /// # Errors
    /// A wrong URL.
    pub fn open(url: &str, job: &str) -> Result<Self> {
        let (store, _) = store::open(url, &to_name(job), false)?;
        Ok(Self::on(store, url, job))
    }

    fn on(store: Arc<dyn Store>, url: &str, job: &str) -> Self {
        Self { store, job: job.to_owned(), place: place(url, job) }
    }

    /// Checkpoints by epoch, newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let superseded = self.superseded()?;
        let mut summaries = Vec::new();
        for epoch in self.epochs()?.into_iter().rev() {
            let found = self.look(epoch)?;
            let manifest = found.as_ref().ok();
            summaries.push(Summary {
                epoch,
                created_at: manifest.map_or(0, |manifest| manifest.created_at),
                bytes: manifest.map_or(0, Manifest::bytes),
                finished: manifest.is_some_and(|manifest| manifest.finished),
                superseded: superseded.is_some_and(|superseded| epoch <= superseded),
                problem: found.err(),
            });
        }
        Ok(summaries)
    }

    /// Reads every byte of a checkpoint and says what is wrong with it.
    ///
    /// # Errors
    /// The folder cannot be read. Damage is no error.
    pub fn verify(&self, epoch: Epoch) -> Result<Verification> {
        let manifest = match self.look(epoch)? {
            Ok(manifest) => manifest,
            Err(problem) => {
                return Ok(Verification { files: 0, bytes: 0, problems: vec![problem] });
            }
        };
        let mut problems = Vec::new();
        for file in manifest.files() {
            problems.extend(self.damage(file)?);
        }
        Ok(Verification { files: manifest.files().count(), bytes: manifest.bytes(), problems })
    }

    /// The manifest of an epoch.
    ///
    /// # Errors
    /// `Corrupt` where it is missing or damaged.
    pub fn manifest(&self, epoch: Epoch) -> Result<Manifest> {
        self.look(epoch)?.map_err(|problem| Error::corrupt(problem).at(&self.place))
    }

    /// The epochs that have a manifest, ascending.
    fn epochs(&self) -> Result<Vec<Epoch>> {
        self.numbers(MANIFESTS)
    }

    /// The epoch up to which checkpoints were left behind by `--fresh`.
    fn superseded(&self) -> Result<Option<Epoch>> {
        Ok(self.numbers(FRESH)?.last().copied())
    }

    /// The files of a folder that are named by a number, ascending.
    fn numbers(&self, folder: &str) -> Result<Vec<u64>> {
        let files = self.store.list(folder)?;
        let number = |name: &str| name.parse().ok().filter(|n| numbered(*n) == name);
        let mut numbers: Vec<u64> = files.iter().filter_map(|file| number(&file.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The manifest of an epoch, or what is wrong with it.
    fn look(&self, epoch: Epoch) -> Result<Result<Manifest, String>> {
        let path = manifest_path(epoch);
        let Some(bytes) = self.store.get(&path)? else {
            return Ok(Err(format!("{path} is missing")));
        };
        let manifest = match Manifest::decode(&bytes) {
            Ok(manifest) => manifest,
            Err(e) if e.kind() == ErrorKind::Configuration => return Err(e.at(&path)),
            Err(e) => return Ok(Err(format!("{path}: {e}"))),
        };
        if manifest.epoch != epoch || manifest.job != self.job {
            let (epoch, job) = (manifest.epoch, &manifest.job);
            return Ok(Err(format!("{path} is the manifest of epoch {epoch} of the job `{job}`")));
        }
        Ok(Ok(manifest))
    }

    /// The manifest of an epoch if all its files are intact, or what is wrong.
    fn examine(&self, epoch: Epoch) -> Result<Result<Manifest, String>> {
        let manifest = match self.look(epoch)? {
            Ok(manifest) => manifest,
            Err(problem) => return Ok(Err(problem)),
        };
        for file in manifest.files() {
            if let Some(problem) = self.damage(file)? {
                return Ok(Err(problem));
            }
        }
        Ok(Ok(manifest))
    }

    fn damage(&self, file: &FileRef) -> Result<Option<String>> {
        Ok(codec::damage(file, self.store.get(&file.path)?.as_deref()))
    }

    /// The bytes of a file, which are those that were written.
    fn read(&self, file: &FileRef) -> Result<Vec<u8>> {
        let bytes = self.store.get(&file.path)?;
        match (codec::damage(file, bytes.as_deref()), bytes) {
            (None, Some(bytes)) => Ok(bytes),
            (problem, _) => {
                let problem = problem.unwrap_or_else(|| format!("{} is missing", file.path));
                Err(Error::corrupt(problem).at(&self.place))
            }
        }
    }
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
    /// not are warned of and listed. What a crash left behind half-written is removed.
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
        while let Some(epoch) = search.next() {
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

/// A number as a file name that sorts like it.
fn numbered(number: u64) -> String {
    format!("{number:012}")
}

fn manifest_path(epoch: Epoch) -> String {
    format!("{MANIFESTS}/{}", numbered(epoch))
}

/// The epoch and the run that a data file's path names.
fn data_epoch_and_run(path: &str) -> Option<(Epoch, u64)> {
    let mut parts = path.strip_prefix(DATA)?.strip_prefix('/')?.splitn(3, '-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A name that every file system and object store takes, different for different names.
fn to_name(name: &str) -> String {
    let mut safe = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => safe.push(char::from(byte)),
            b'.' if !safe.is_empty() => safe.push('.'),
            _ => safe.push_str(&format!("={byte:02X}")),
        }
    }
    if safe.is_empty() || safe.len() > NAME_MAX {
        safe.truncate(NAME_MAX - 33);
        safe = format!("{safe}=={}", &codec::checksum(name.as_bytes())[..31]);
    }
    safe
}

/// The name that [`to_name`] was given; what was cut stays cut.
fn from_name(safe: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = safe;
    while let Some((before, after)) = rest.split_once('=') {
        bytes.extend_from_slice(before.as_bytes());
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(b'='));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What to call a job's folder in messages. A URL's user, password and query are left out.
fn place(url: &str, job: &str) -> String {
    let url = match url::Url::parse(url) {
        Ok(parsed) if url.contains("://") => {
            format!("{}://{}{}", parsed.scheme(), parsed.host_str().unwrap_or(""), parsed.path())
        }
        _ => url.to_owned(),
    };
    format!("{}/{}", url.trim_end_matches('/'), to_name(job))
}
