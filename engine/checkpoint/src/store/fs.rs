//! Checkpoints in a folder of a file system.
//!
//! A file becomes visible by `rename` behind an `fsync`; then the folder is synced, so that the name
//! survives a power cut. The lock is an advisory lock on the file `lock`, which the operating system
//! releases when the process ends, however it ends.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tidemill_core::error::{Error, ErrorKind, Result};

use super::{Created, Listed, Store};
use crate::failpoint::{self, Point};

mod direct;

/// Ending of files that are not yet visible.
const TEMPORARY: &str = "tmp";

/// A folder, and the lock on it if it was taken.
pub(super) struct FsStore {
    root: PathBuf,
    /// Folders with files whose names the disk may not know yet.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    /// Held for as long as the store lives.
    _lock: Option<Lock>,
}

/// The lock. A process that is being started elsewhere has the file open for a moment, too: closing it would
/// not be enough.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Where it fails, closing the file or the end of the process does it.
        let _ = self.0.unlock();
    }
}

impl FsStore {
    /// The folder, made if need be, with its lock taken.
    pub(super) fn locked(root: PathBuf) -> Result<Self> {
        let failed = |what: &str, e| failure(what, &root, e);
        create_durably(&root).map_err(|e| failed("cannot make the checkpoint folder", e))?;
        let path = root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|e| failed("cannot open the lock in", e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: Some(Lock(lock)), ..Self::unlocked(root)? }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "another instance of this job is running: it holds {}. Stop it first, or give \
                     this one another pipeline.name or checkpoint folder",
                    path.display()
                ),
            )),
            Err(TryLockError::Error(e)) => Err(failed("cannot lock the checkpoint folder", e)),
        }
    }

    /// The folder as it is, to be looked at.
    pub(super) fn unlocked(root: PathBuf) -> Result<Self> {
        Ok(Self { root, unsynced: Mutex::default(), _lock: None })
    }

    /// The file of a path, which must not lead out of the folder.
    fn file(&self, path: &str) -> Result<PathBuf> {
        let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !inside || path.contains('\\') {
            return Err(Error::corrupt(format!("`{path}` is no path inside a checkpoint folder")));
        }
        Ok(self.root.join(path))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        let written = create_durably(folder).and_then(|()| direct::create(path, bytes)?.sync_all());
        written.map_err(|e| {
            // Half a file only takes up the space that is missing; a failure to remove it is moot.
            let _ = fs::remove_file(path);
            failure("cannot write", path, e)
        })
    }

    /// Makes the names of all files written so far durable.
    fn sync_folders(&self) -> Result<()> {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(folder) = unsynced.first().cloned() {
            sync_folder(&folder).map_err(|e| failure("cannot sync", &folder, e))?;
            unsynced.remove(&folder);
        }
        Ok(())
    }

    fn to_be_synced(&self, path: &Path) {
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).insert(folder);
    }

    /// What comes after the rename: when it fails, nobody knows what the disk will say.
    fn settle(&self, path: &Path) -> Result<Created> {
        self.to_be_synced(path);
        let settled = failpoint::hit(Point::AfterRename).and_then(|()| self.sync_folders());
        settled.map(|()| Created::Yes).map_err(|e| {
            let path = path.display();
            Error::new(ErrorKind::Transient, format!("{path} may or may not survive: {e}"))
        })
    }
}

impl Store for FsStore {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.file(path)?;
        self.write(&path, bytes)?;
        self.to_be_synced(&path);
        Ok(())
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        let file = self.file(path)?;
        self.sync_folders()?;
        if file.try_exists().map_err(|e| failure("cannot look for", &file, e))? {
            return Ok(Created::Taken);
        }
        let mut temporary = file.clone().into_os_string();
        temporary.push(format!(".{TEMPORARY}"));
        let temporary = PathBuf::from(temporary);
        self.write(&temporary, bytes)?;
        failpoint::hit(Point::AfterTemp)?;
        // Nobody else writes here: the lock is ours, so that nothing can appear in between.
        fs::rename(&temporary, &file).map_err(|e| failure("cannot rename to", &file, e))?;
        self.settle(&file)
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let path = self.file(path)?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == Io::NotFound => Ok(None),
            Err(e) => Err(failure("cannot read", &path, e)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let path = self.file(folder)?;
        let failed = |e| failure("cannot list", &path, e);
        let mut files = Vec::new();
        for entry in entries(&path).map_err(failed)? {
            let metadata = match entry.metadata() {
                Err(e) if e.kind() == Io::NotFound => continue,
                metadata => metadata.map_err(failed)?,
            };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push(Listed { name, bytes: metadata.len() });
            }
        }
        Ok(files)
    }

    fn delete(&self, path: &str) -> Result<()> {
        let path = self.file(path)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != Io::NotFound => Err(failure("cannot delete", &path, e)),
            _ => Ok(()),
        }
    }
}

/// Names of the folders in `path`.
pub(super) fn folders(path: &Path) -> Result<Vec<String>> {
    let entries = entries(path).map_err(|e| failure("cannot list", path, e))?;
    let folders = entries.into_iter().filter(|entry| entry.path().is_dir());
    Ok(folders.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// What is in a folder; nothing where there is none.
fn entries(path: &Path) -> std::io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(path) {
        Err(e) if e.kind() == Io::NotFound => Ok(Vec::new()),
        entries => entries?.collect(),
    }
}

/// Makes a folder and those above it, each durable in the one above.
fn create_durably(folder: &Path) -> std::io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new(""));
    create_durably(above)?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() != Io::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_folder(if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

/// Where folders cannot be opened (Windows), the file system orders its own metadata.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn failure(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::external(format!("{what} {}", path.display())).caused_by(error)
}
