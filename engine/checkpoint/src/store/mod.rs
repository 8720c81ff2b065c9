//! Where checkpoints are kept: the only code of the crate that touches a disk or a network.
//!
//! Invariants that every store upholds:
//! - what [`Store::put`] wrote is durable once a later [`Store::create`] has returned;
//! - [`Store::create`] makes a file visible whole or not at all, and never replaces another one.

#[cfg(test)]
pub(crate) mod faulty;
mod fs;
mod object;

use std::sync::Arc;

use tidemill_core::error::Result;

/// Files by path; a path is `folder/name`, relative to the store's root.
pub(crate) trait Store: Send + Sync {
    /// Writes a file, replacing what was there. Visible and whole only when this has returned.
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()>;

    /// Writes a file atomically and durably, unless there is one, and makes durable everything that
    /// was put or created before.
    ///
    /// # Errors
    /// Of kind `Transient` where it is not known whether the file exists now. Any other error: it
    /// does not exist.
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created>;

    /// The bytes of a file; `None` where there is none.
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>>;

    /// The files directly in a folder, in no order. No folder, no files.
    fn list(&self, folder: &str) -> Result<Vec<Listed>>;

    /// Deletes a file. One that is gone already is fine.
    fn delete(&self, path: &str) -> Result<()>;
}

/// How [`Store::create`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// By this call.
    Yes,
    /// There was a file already, perhaps by an earlier call whose answer was lost.
    Taken,
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name in the folder.
    pub(crate) name: String,
    /// Its length.
    pub(crate) bytes: u64,
}

/// How a store keeps a second instance of a job away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// By a lock that the operating system holds for this process: no other is at work.
    Exclusive,
    /// Not at all: whoever came last wins, and the others notice when they publish.
    LastWins,
}

/// The folder `folder` below `url`. With `lock`, the fence is taken.
pub(crate) fn open(url: &str, folder: &str, lock: bool) -> Result<(Arc<dyn Store>, Fence)> {
    match local_path(url)? {
        Some(path) => {
            let root = path.join(folder);
            let store = if lock { fs::FsStore::locked(root) } else { fs::FsStore::unlocked(root) };
            Ok((Arc::new(store?), Fence::Exclusive))
        }
        None => Ok((Arc::new(object::ObjectStoreAdapter::open(url, folder)?), Fence::LastWins)),
    }
}

/// Names of the folders directly below `url`.
pub(crate) fn folders(url: &str) -> Result<Vec<String>> {
    match local_path(url)? {
        Some(path) => fs::folders(&path),
        None => object::ObjectStoreAdapter::open(url, "")?.folders(),
    }
}

/// The path that a URL means on this machine, if it means one.
fn local_path(url: &str) -> Result<Option<std::path::PathBuf>> {
    use tidemill_core::error::Error;
    let Some((scheme, _)) = url.split_once("://") else {
        if url.is_empty() {
            return Err(Error::configuration("the checkpoint folder is empty: give a path or URL"));
        }
        return Ok(Some(url.into()));
    };
    if scheme != "file" {
        return Ok(None);
    }
    let path = url::Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
    path.map(Some).ok_or_else(|| {
        Error::configuration(format!(
            "{url} is no path on this machine: write file:///absolute/path, or a plain path"
        ))
    })
}
