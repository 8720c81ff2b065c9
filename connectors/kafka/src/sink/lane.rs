//! What one user of a shared producer has on its way: how much, what came back for good, whom to wake.
//!
//! Invariant: a record counts as outstanding from the moment it is sent until it is acknowledged or handed
//! back as refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tidemill_core::record::SourceRecord;

/// Records that may be on their way before their writer waits.
const MAX_RECORDS: usize = 20_000;

/// Bytes that may be.
const MAX_BYTES: usize = 32 << 20;

/// A record that the broker will never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The record, byte for byte; its position names the topic.
    pub record: SourceRecord,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

#[derive(Debug)]
pub(crate) struct Lane {
    records: AtomicUsize,
    bytes: AtomicUsize,
    refused: Mutex<Vec<Refused>>,
    waker: Waker,
    /// How often something has changed that somebody may wait for.
    changes: Mutex<u64>,
    changed: Condvar,
}

impl Lane {
    pub fn new(waker: Waker) -> Self {
        Self {
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            refused: Mutex::default(),
            waker,
            changes: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// A record of `bytes` bytes is on its way.
    pub fn sent(&self, bytes: usize) {
        self.records.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// It has arrived.
    pub fn arrived(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        let left = self.records.fetch_sub(1, Ordering::AcqRel) - 1;
        let has_come_below = |limit, before, now| before >= limit && now < limit;
        if left == 0
            || has_come_below(MAX_RECORDS / 2, left + 1, left)
            || has_come_below(MAX_BYTES / 2, before, before.saturating_sub(bytes))
        {
            self.wake();
        }
    }

    /// It will never arrive.
    pub fn refuse(&self, refused: Refused, bytes: usize) {
        self.refused.lock().push(refused);
        self.arrived(bytes);
        self.wake();
    }

    pub fn take_refused(&self) -> Vec<Refused> {
        std::mem::take(&mut *self.refused.lock())
    }

    pub fn outstanding(&self) -> usize {
        self.records.load(Ordering::Acquire)
    }

    /// What is on its way weighs so much.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    pub fn is_full(&self) -> bool {
        self.outstanding() >= MAX_RECORDS || self.bytes() >= MAX_BYTES
    }

    pub fn wake(&self) {
        self.waker.wake_by_ref();
        *self.changes.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits until `done`, or for `patience`; whether it is done.
    pub fn wait(&self, patience: Duration, done: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            // No lock is held while `done` looks: it takes others.
            let seen = *self.changes.lock();
            if done() {
                return true;
            }
            let mut changes = self.changes.lock();
            if *changes == seen && self.changed.wait_until(&mut changes, deadline).timed_out() {
                drop(changes);
                return done();
            }
        }
    }
}
