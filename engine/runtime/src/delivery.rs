//! A sink at the end of a shard: its writer, the batch that it did not take yet, and the epoch that it stages.
//!
//! Calls that fail for a while are made again, as [`tidemill_core::sink`] says. Invariant: batches reach the
//! writer in order, and one that failed is the next that it is given; while one waits, neither rows nor
//! barriers pass it.

use std::task::Poll;
use std::time::Duration;

use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::sink::{SinkWriter, Staged};
use tidemill_core::{Batch, Epoch, ErrorKind, Result};

use crate::guard::Attempts;

/// A sink's writer on one shard, and how its calls go.
pub(crate) struct Delivery {
    writer: Box<dyn SinkWriter>,
    attempts: Attempts,
    /// Whether the call that has failed last was `write`: only another `write` shows that all is well.
    write_failed: bool,
    /// A batch that could not be written, and what caused it.
    pub again: Option<(Batch, u64)>,
    /// The epoch that is being staged.
    pub staging: Option<Epoch>,
}

/// How far staging has come.
pub(crate) enum Staging {
    /// Nothing is staged.
    None,
    /// Not all is acknowledged.
    Pending,
    /// All is handed over.
    Done(Epoch, Staged),
}

impl Delivery {
    pub fn new(writer: Box<dyn SinkWriter>, attempts: Attempts) -> Self {
        Self { writer, attempts, write_failed: false, again: None, staging: None }
    }

    /// Whether a batch may be written now.
    pub fn is_ready(&mut self, now: Duration) -> Result<bool> {
        if !self.attempts.may_call(now) {
            return Ok(false);
        }
        match self.writer.poll_ready() {
            Ok(ready) => {
                if self.attempts.is_failing() && !self.write_failed {
                    self.attempts.succeeded();
                }
                Ok(ready.is_ready())
            }
            Err(error) => self.attempts.failed(now, error).map(|()| false),
        }
    }

    /// Writes a batch, or keeps it for another time. Returns whether it was written.
    pub fn write(&mut self, batch: Batch, cause: u64, now: Duration) -> Result<bool> {
        match self.writer.write(&batch) {
            Ok(()) => {
                self.write_failed = false;
                self.attempts.succeeded();
                Ok(true)
            }
            Err(error) => {
                self.write_failed = error.kind() == ErrorKind::Transient;
                self.attempts.failed(now, error)?;
                self.again = Some((batch, cause));
                Ok(false)
            }
        }
    }

    /// Asks for what is staged at the barrier, where there is one.
    pub fn poll_staging(&mut self, now: Duration) -> Result<Staging> {
        let Some(epoch) = self.staging else { return Ok(Staging::None) };
        if !self.attempts.may_call(now) {
            return Ok(Staging::Pending);
        }
        match self.writer.poll_stage(epoch) {
            Ok(polled) => {
                self.attempts.succeeded();
                Ok(match polled {
                    Poll::Pending => Staging::Pending,
                    Poll::Ready(staged) => {
                        self.staging = None;
                        Staging::Done(epoch, staged)
                    }
                })
            }
            Err(error) => self.attempts.failed(now, error).map(|()| Staging::Pending),
        }
    }

    pub fn take_refused(&mut self) -> Vec<DeadLetter> {
        self.writer.take_refused()
    }

    pub fn buffered_bytes(&self) -> usize {
        self.writer.buffered_bytes()
    }
}
