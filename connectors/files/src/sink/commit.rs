//! What is staged, and how it becomes visible.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_core::sink::{SinkCommitter, Staged};
use tidemill_core::{Epoch, Error, Result};

use super::sync_folder;

/// A finished file and its final name, both relative to the sink's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rename {
    pub(super) from: String,
    pub(super) to: String,
}

/// What a writer hands over at a barrier; nothing where it wrote nothing.
pub(super) fn stage(renames: &[Rename]) -> Result<Staged> {
    if renames.is_empty() {
        return Ok(Staged::default());
    }
    let bytes = serde_json::to_vec(renames)
        .map_err(|error| Error::internal("renames do not serialize").caused_by(error))?;
    Ok(Staged(bytes))
}

/// Renames staged files.
pub(super) struct Renamer {
    folder: PathBuf,
}

impl Renamer {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Renames one file, or finds that it has been.
    fn rename(&self, epoch: Epoch, rename: &Rename, touched: &mut BTreeSet<PathBuf>) -> Result<()> {
        let (from, to) = (self.folder.join(&rename.from), self.folder.join(&rename.to));
        let folder = to.parent().unwrap_or(&self.folder);
        if !from.exists() {
            if to.exists() {
                return Ok(());
            }
            return Err(Error::corrupt(format!(
                "epoch {epoch} is not complete: neither {} nor {} exists; someone removed it",
                from.display(),
                to.display()
            )));
        }
        fs::create_dir_all(folder).and_then(|()| fs::rename(&from, &to)).map_err(|error| {
            let message = format!("cannot rename {} to {}", from.display(), to.display());
            Error::external(message).caused_by(error)
        })?;
        // A new folder is durable with the folder that holds it.
        let on_the_way = folder.ancestors().take_while(|parent| parent.starts_with(&self.folder));
        touched.extend(on_the_way.map(Path::to_owned));
        Ok(())
    }
}

impl SinkCommitter for Renamer {
    /// Names do not say which epoch was the last that had output: repeating a commit is harmless.
    fn committed(&mut self) -> Result<Option<Epoch>> {
        Ok(None)
    }

    fn commit(&mut self, epoch: Epoch, staged: &[Staged]) -> Result<()> {
        let mut touched = BTreeSet::new();
        for Staged(bytes) in staged.iter().filter(|staged| !staged.0.is_empty()) {
            let renames: Vec<Rename> = serde_json::from_slice(bytes).map_err(|error| {
                let message = format!("what epoch {epoch} staged for the file sink is damaged");
                Error::corrupt(message).caused_by(error)
            })?;
            for rename in &renames {
                self.rename(epoch, rename, &mut touched)?;
            }
        }
        touched.iter().try_for_each(|folder| sync_folder(folder))
    }
}
