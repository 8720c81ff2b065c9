//! A look at a job's checkpoints: what is there, and whether it is intact.
//!
//! What recovery, `tidemill checkpoint ls` and `verify` rest on. Invariant: nothing is written or
//! locked here, so that a running job is not disturbed.

use std::sync::Arc;

use tidemill_core::element::Epoch;
use tidemill_core::error::{Error, ErrorKind, Result};
use tidemill_core::time::EventTime;

use crate::codec;
use crate::manifest::{FileRef, Manifest};
use crate::names::{FRESH, MANIFESTS, from_name, manifest_path, numbered, place, to_name};
use crate::store::{self, Store};

/// A look at a job's checkpoints, without the right to change them. A running job is not disturbed.
#[derive(Clone)]
pub struct CheckpointReader {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) job: String,
    /// What to call the place in messages: no credentials.
    pub(crate) place: String,
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

    pub(crate) fn on(store: Arc<dyn Store>, url: &str, job: &str) -> Self {
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
    pub(crate) fn epochs(&self) -> Result<Vec<Epoch>> {
        self.numbers(MANIFESTS)
    }

    /// The epoch up to which checkpoints were left behind by `--fresh`.
    pub(crate) fn superseded(&self) -> Result<Option<Epoch>> {
        Ok(self.numbers(FRESH)?.last().copied())
    }

    /// The files of a folder that are named by a number, ascending.
    pub(crate) fn numbers(&self, folder: &str) -> Result<Vec<u64>> {
        let files = self.store.list(folder)?;
        let number = |name: &str| name.parse().ok().filter(|n| numbered(*n) == name);
        let mut numbers: Vec<u64> = files.iter().filter_map(|file| number(&file.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The manifest of an epoch, or what is wrong with it.
    pub(crate) fn look(&self, epoch: Epoch) -> Result<Result<Manifest, String>> {
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
    pub(crate) fn examine(&self, epoch: Epoch) -> Result<Result<Manifest, String>> {
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
    pub(crate) fn read(&self, file: &FileRef) -> Result<Vec<u8>> {
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
