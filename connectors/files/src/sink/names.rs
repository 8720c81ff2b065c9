//! Names of a job's files in a folder, and what is left of its earlier runs.
//!
//! `part-<job>-<shard>-<epoch>.<extension>`, where a job that starts afresh in a folder that holds
//! files of its own already puts `~2`, `~3` … behind its name. Job names are escaped, so that no
//! job's files are taken for another's.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use tidemill_core::{Epoch, Error, Result};

use crate::location::escape;

/// Digits of an epoch in a name, so that names sort by epoch.
const EPOCH_DIGITS: usize = 10;

const UNFINISHED: &str = "inprogress";

/// One job's files in a folder.
#[derive(Debug, Clone)]
pub(super) struct JobFiles {
    folder: PathBuf,
    job: String,
}

/// What a name says.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    run: u64,
    epoch: Epoch,
}

impl JobFiles {
    pub(super) fn new(folder: &Path, job: &str) -> Self {
        Self { folder: folder.to_owned(), job: escape(job) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name of an unfinished file, hidden from readers.
    pub(super) fn unfinished(&self, shard: usize, epoch: Epoch, number: usize) -> String {
        format!(".part-{}-{shard}-{epoch:0EPOCH_DIGITS$}-{number}.{UNFINISHED}", self.job)
    }

    /// The name of a finished file.
    pub(super) fn finished(
        &self,
        run: u64,
        shard: usize,
        epoch: Epoch,
        number: usize,
        extension: &str,
    ) -> String {
        let job = &self.job;
        let run = if run > 1 { format!("~{run}") } else { String::new() };
        let number = if number > 0 { format!("-{number}") } else { String::new() };
        format!("part-{job}{run}-{shard}-{epoch:0EPOCH_DIGITS$}{number}.{extension}")
    }

    /// Removes what earlier runs of the job left behind and this one is going to write again, and
    /// returns which run of the job this is.
    ///
    /// Unfinished files that another writer holds at this moment stay, and so do staged ones of
    /// epochs before `first_epoch`: their commit may still be to come.
    pub(super) fn tidy(&self, first_epoch: Epoch) -> Result<u64> {
        let fresh = first_epoch <= 1;
        let mut names = Vec::new();
        self.list(&self.folder, &mut names)?;
        let last_run = self.last_run()?;
        let has_output = names.iter().any(|(_, name)| name.run == last_run);
        let run = if fresh && has_output { last_run + 1 } else { last_run };
        if !fresh {
            for (path, name) in &names {
                if name.run == run && name.epoch >= first_epoch {
                    remove(path)?;
                }
            }
        }
        self.remove_unfinished(first_epoch)?;
        if run != last_run {
            self.record_run(run)?;
        }
        super::sync_folder(&self.folder)?;
        Ok(run)
    }

    /// Finished files of the job, in the folder and its partition folders.
    fn list(&self, folder: &Path, names: &mut Vec<(PathBuf, Name)>) -> Result<()> {
        for path in entries(folder)? {
            let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.is_dir() {
                if file.contains('=') {
                    self.list(&path, names)?;
                }
            } else if let Some(name) = self.parse(file) {
                names.push((path, name));
            }
        }
        Ok(())
    }

    fn parse(&self, file: &str) -> Option<Name> {
        let rest = file.strip_prefix("part-")?.strip_prefix(&self.job)?;
        let (run, rest) = match rest.strip_prefix('~') {
            Some(rest) => {
                let (run, rest) = rest.split_once('-')?;
                (run.parse().ok()?, rest)
            }
            None => (1, rest.strip_prefix('-')?),
        };
        let (stem, _extension) = rest.split_once('.')?;
        Some(Name { run, epoch: parse_epoch(stem)? })
    }

    fn remove_unfinished(&self, first_epoch: Epoch) -> Result<()> {
        let prefix = format!(".part-{}-", self.job);
        for path in entries(&self.folder)? {
            let epoch = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_prefix(&prefix)?.strip_suffix(UNFINISHED))
                .and_then(|stem| parse_epoch(stem.strip_suffix('.')?));
            if epoch.is_some_and(|epoch| epoch >= first_epoch) && !is_held(&path)? {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn run_file(&self) -> PathBuf {
        self.folder.join(format!(".part-{}.run", self.job))
    }

    /// Which run of the job wrote here last; 1 where nobody says.
    fn last_run(&self) -> Result<u64> {
        let path = self.run_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(1),
            Err(error) => return Err(failed("read", &path, error)),
        };
        text.trim().parse().map_err(|_| {
            let message = format!("{} should hold a number, not '{text}'", path.display());
            Error::corrupt(message)
        })
    }

    fn record_run(&self, run: u64) -> Result<()> {
        let path = self.run_file();
        let new = path.with_extension("run.inprogress");
        let write = || {
            fs::write(&new, run.to_string())?;
            File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| failed("write", &path, error))
    }
}

/// The epoch of `<shard>-<epoch>` or `<shard>-<epoch>-<number>`.
fn parse_epoch(stem: &str) -> Option<Epoch> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (shard, rest) = stem.split_once('-')?;
    let (epoch, number) = rest.split_once('-').unwrap_or((rest, "0"));
    if !is_number(shard) || !is_number(number) || epoch.len() < EPOCH_DIGITS || !is_number(epoch) {
        return None;
    }
    epoch.parse().ok()
}

/// Whether a writer is at work on this file: writers hold a lock for as long as they live.
fn is_held(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("open", path, error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            Ok(false)
        }
        Err(TryLockError::Error(error)) => Err(failed("lock", path, error)),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    list().map_err(|error| failed("list", folder, error))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn failed(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::external(format!("cannot {verb} {}", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_job_run_and_epoch() {
        let folder = Path::new("");
        let job = JobFiles::new(folder, "a job");
        for (run, epoch, number) in [(1, 7, 0), (3, 12_345_678_901, 4)] {
            let name = job.finished(run, 2, epoch, number, "csv");
            assert_eq!(job.parse(&name), Some(Name { run, epoch }), "{name}");
            assert_eq!(JobFiles::new(folder, "a job-2").parse(&name), None);
            assert_eq!(JobFiles::new(folder, "a").parse(&name), None);
        }
        let other = JobFiles::new(folder, "a job-2").finished(1, 0, 1, 0, "csv");
        assert_eq!(job.parse(&other), None, "{other}");
        assert_eq!(job.finished(1, 0, 1, 0, "csv"), "part-a job-0-0000000001.csv");
    }
}
