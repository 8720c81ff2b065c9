//! Things of which the process has one for each name, for as long as somebody uses it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};
use tidemill_core::Result;

/// See the module. Who is held here says so when it is gone ([`Shared::released`]).
pub(crate) struct Shared<K, V> {
    held: Mutex<BTreeMap<K, Weak<V>>>,
    gone: Condvar,
}

impl<K: Ord, V> Shared<K, V> {
    pub const fn new() -> Self {
        Self { held: Mutex::new(BTreeMap::new()), gone: Condvar::new() }
    }

    /// The one called `key`, or a new one. Waits while the last is on its way out.
    ///
    /// # Errors
    /// What `make` says.
    pub fn get(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<Arc<V>> {
        let mut held = self.held.lock();
        loop {
            match held.get(&key).map(Weak::upgrade) {
                Some(Some(there)) => return Ok(there),
                Some(None) => self.gone.wait(&mut held),
                None => break,
            }
        }
        let made = Arc::new(make()?);
        held.insert(key, Arc::downgrade(&made));
        Ok(made)
    }

    /// The one called `key` is gone, with all that it held.
    pub fn released(&self, key: &K) {
        self.held.lock().remove(key);
        self.gone.notify_all();
    }
}
