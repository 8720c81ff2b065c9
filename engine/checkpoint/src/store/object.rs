//! Checkpoints in an object store, for callers that block.
//!
//! Objects are whole or absent and durable once put; `create` is a conditional put. The store's
//! futures run on a thread of their own, so that any thread may call, one that runs async code too.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tidemill_core::error::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::{Created, Listed, Store};

/// A folder of an object store.
pub(super) struct ObjectStoreAdapter {
    store: Arc<dyn ObjectStore>,
    root: Path,
    driver: Driver,
}

impl ObjectStoreAdapter {
    /// The folder `folder` below `url`.
    pub(super) fn open(url: &str, folder: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::configuration(format!(
                "the checkpoint folder cannot be opened: {why}. Give a path, file:///path, \
                 memory://name, or the URL of an object store that this build supports"
            ))
        };
        // A URL may carry credentials, and errors quote it: only its scheme goes into a message.
        let parsed = url::Url::parse(url).map_err(|e| wrong(e.to_string()))?;
        let (store, path): (Arc<dyn ObjectStore>, Path) = if parsed.scheme() == "memory" {
            (in_memory(url), Path::ROOT)
        } else {
            let unknown = |_| wrong(format!("a URL `{}://…` cannot be used", parsed.scheme()));
            let (store, path) =
                object_store::parse_url_opts(&parsed, environment()).map_err(unknown)?;
            (store.into(), path)
        };
        let root = if folder.is_empty() { path } else { path.join(folder) };
        Ok(Self { store, root, driver: Driver::start()? })
    }

    /// Names of the folders in this one.
    pub(super) fn folders(&self) -> Result<Vec<String>> {
        let (store, root) = (self.store.clone(), self.root.clone());
        let listed =
            self.driver.run(async move { store.list_with_delimiter(Some(&root)).await })?;
        let listed = listed.map_err(|e| failure("list", &self.root, e))?;
        Ok(listed.common_prefixes.iter().filter_map(|p| Some(p.filename()?.to_owned())).collect())
    }

    fn path(&self, path: &str) -> Result<Path> {
        let path = Path::parse(path)
            .map_err(|e| Error::corrupt("no path inside a checkpoint folder").caused_by(e))?;
        Ok(Path::from_iter(self.root.parts().chain(path.parts())))
    }

    fn put_mode(&self, at: &Path, bytes: &[u8], mode: PutMode) -> Result<object_store::Result<()>> {
        let (store, to, bytes) = (self.store.clone(), at.clone(), bytes.to_vec());
        let options = PutOptions { mode, ..PutOptions::default() };
        self.driver.run(async move { store.put_opts(&to, bytes.into(), options).await.map(drop) })
    }
}

impl Store for ObjectStoreAdapter {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let at = self.path(path)?;
        self.put_mode(&at, bytes, PutMode::Overwrite)?.map_err(|e| failure("write", &at, e))
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        let at = self.path(path)?;
        let error = match self.put_mode(&at, bytes, PutMode::Create)? {
            Ok(()) => return Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. }) => return Ok(Created::Taken),
            Err(error) => failure("create", &at, error),
        };
        let unsure = |e: Error| Error::new(ErrorKind::Transient, e.to_string());
        match self.get(path).map_err(unsure)? {
            Some(_) => Ok(Created::Taken),
            None => Err(error),
        }
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let at = self.path(path)?;
        let (store, from) = (self.store.clone(), at.clone());
        let got = self.driver.run(async move { store.get(&from).await?.bytes().await })?;
        match got {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failure("read", &at, e)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let at = self.path(folder)?;
        let (store, of) = (self.store.clone(), at.clone());
        let listed = self.driver.run(async move { store.list_with_delimiter(Some(&of)).await })?;
        let listed = listed.map_err(|e| failure("list", &at, e))?;
        let file = |object: &object_store::ObjectMeta| {
            Some(Listed { name: object.location.filename()?.to_owned(), bytes: object.size })
        };
        Ok(listed.objects.iter().filter_map(file).collect())
    }

    fn delete(&self, path: &str) -> Result<()> {
        let at = self.path(path)?;
        let (store, from) = (self.store.clone(), at.clone());
        match self.driver.run(async move { store.delete(&from).await })? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failure("delete", &at, e)),
        }
    }
}

/// The variables that are text: keys and regions of object stores are set by them.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The store behind a `memory:` URL: one for each URL, for as long as the process lives, so that a
/// job which is started again finds its checkpoints.
fn in_memory(url: &str) -> Arc<InMemory> {
    static STORES: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    stores.entry(url.trim_end_matches('/').to_owned()).or_default().clone()
}

/// A thread that runs futures, and waits for each on behalf of a blocking caller.
struct Driver {
    runtime: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    fn start() -> Result<Self> {
        let failed = |e| Error::external("cannot start the object store's thread").caused_by(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        // Stopped by a message or by the sender's end: both mean the same.
        let serve = move || drop(runtime.block_on(stopped));
        let thread = std::thread::Builder::new().name("tidemill-checkpoint".into()).spawn(serve);
        Ok(Self { runtime: handle, stop: Some(stop), thread: Some(thread.map_err(failed)?) })
    }

    fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let (reply, result) = mpsc::sync_channel(1);
        self.runtime.spawn(async move { drop(reply.send(future.await)) });
        result.recv().map_err(|_| Error::internal("the object store's client panicked"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has already failed the call that caused it.
            drop(thread.join());
        }
    }
}

fn failure(what: &str, path: &Path, error: object_store::Error) -> Error {
    Error::external(format!("cannot {what} the object {path}")).caused_by(error)
}
