//! What one writer has on its way to Redis: a bounded queue between a shard and the thread that sends.
//!
//! Invariant: a write counts as outstanding from the moment it is queued until Redis has acknowledged it or
//! it is handed back as refused; a lane that has failed says so on every call.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tidemill_core::{Error, ErrorKind, Result};

use super::refusals::Refused;
use super::writes::Writes;

/// Bytes that may be on their way before their writer waits.
const MAX_BYTES: usize = 8 << 20;

/// Writes that may be.
const MAX_WRITES: usize = 32_768;

pub(crate) struct Lane {
    state: Mutex<State>,
    /// There is work, or none will come.
    work: Condvar,
    waker: Waker,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Writes>,
    writes: usize,
    bytes: usize,
    refused: Vec<Refused>,
    failed: Option<(ErrorKind, Option<String>, String)>,
    closed: bool,
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES || self.writes >= MAX_WRITES
    }
}

impl Lane {
    /// `waker` is called when there is room again, when nothing is outstanding any more, and when the
    /// lane has failed.
    pub fn new(waker: Waker) -> Self {
        Self { state: Mutex::default(), work: Condvar::new(), waker }
    }

    /// # Errors
    /// Why the lane has failed.
    pub fn check(&self) -> Result<()> {
        match &self.state.lock().failed {
            None => Ok(()),
            Some((_, Some(option), message)) => Err(Error::option(option, message)),
            Some((kind, None, message)) => Err(Error::new(*kind, message)),
        }
    }

    /// Queues writes.
    pub fn push(&self, writes: Writes) {
        if writes.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.writes += writes.len();
        state.bytes += writes.size();
        state.queue.push_back(writes);
        self.work.notify_one();
    }

    /// Whether the writer has to wait.
    pub fn is_full(&self) -> bool {
        self.state.lock().is_full()
    }

    /// Whether Redis has acknowledged or refused all that was queued.
    pub fn is_empty(&self) -> bool {
        self.state.lock().writes == 0
    }

    /// Bytes that are on their way.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    pub fn take_refused(&self) -> Vec<Refused> {
        std::mem::take(&mut self.state.lock().refused)
    }

    /// No more will be queued, and nobody waits for what is.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
    }

    /// The next writes to send; waits for them. `None` when the lane is closed.
    pub fn next(&self) -> Option<Writes> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(writes) = state.queue.pop_front() {
                return Some(writes);
            }
            self.work.wait(&mut state);
        }
    }

    /// Pauses the thread that sends; whether the lane was closed meanwhile.
    pub fn pause(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut state = self.state.lock();
        while !state.closed {
            if self.work.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.closed
    }

    /// Whether the lane is closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// So many writes of so many bytes are settled, some of them refused.
    pub fn settled(&self, writes: usize, bytes: usize, refused: Vec<Refused>) {
        let mut state = self.state.lock();
        let was_full = state.is_full();
        state.writes -= writes;
        state.bytes -= bytes;
        state.refused.extend(refused);
        let wakes = state.writes == 0 || (was_full && !state.is_full());
        drop(state);
        if wakes {
            self.waker.wake_by_ref();
        }
    }

    /// The lane has failed; the first reason stays.
    pub fn fail(&self, error: &Error) {
        let mut state = self.state.lock();
        let option = error.wrong_option().map(str::to_owned);
        state.failed.get_or_insert((error.kind(), option, error.to_string()));
        drop(state);
        self.waker.wake_by_ref();
    }
}
