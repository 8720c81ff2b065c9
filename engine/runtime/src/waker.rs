//! Waking a parked shard from another thread.

use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};
use std::thread::Thread;

/// Wakes one shard's thread. A wake-up that comes before the shard parks is not lost.
#[derive(Clone, Default)]
pub(crate) struct ShardWaker(Arc<Inner>);

#[derive(Default)]
struct Inner {
    thread: OnceLock<Thread>,
}

impl ShardWaker {
    /// Makes the calling thread the one that is woken.
    pub fn bind(&self) {
        // A second call would come from the same thread; the first binding stands.
        let _ = self.0.thread.set(std::thread::current());
    }

    pub fn wake(&self) {
        if let Some(thread) = self.0.thread.get() {
            thread.unpark();
        }
    }

    /// The same as a standard waker, for connectors.
    pub fn waker(&self) -> Waker {
        Waker::from(self.0.clone())
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
