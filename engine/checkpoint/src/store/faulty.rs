//! A store on a disk that fills up, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_core::error::{Error, Result};

use super::{Created, Listed, Store};

/// A store that has room for so many bytes more; a write beyond that is torn, and fails.
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    room: AtomicU64,
}

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn Store>, room: u64) -> Self {
        Self { inner, room: AtomicU64::new(room) }
    }

    pub(crate) fn make_room(&self, bytes: u64) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    /// Takes room for these bytes, or leaves what fits of them at `path`.
    fn take(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let room = self.room.load(Ordering::Relaxed);
        let fits = room.min(bytes.len() as u64);
        self.room.store(room - fits, Ordering::Relaxed);
        if fits == bytes.len() as u64 {
            return Ok(());
        }
        self.inner.put(path, &bytes[..fits as usize])?;
        Err(Error::external(format!("{path}: no space left on device")))
    }
}

impl Store for FaultyStore {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.take(path, bytes)?;
        self.inner.put(path, bytes)
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        self.take(&format!("{path}.tmp"), bytes)?;
        self.inner.create(path, bytes)
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.inner.get(path)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        self.inner.list(folder)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(path)
    }
}
