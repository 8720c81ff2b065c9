//! Committers: a thread for each sink, so that an outage of one holds up neither the coordinator nor the
//! other sinks.
//!
//! ```text
//!   coordinator ── epoch e, staged output ──▶ committer's thread ── commit, again until it is done ──▶ outside
//!        ▲                                          │
//!        └────────── Committed, or why not ─────────┘
//! ```
//!
//! Invariant: a committer has at most one epoch to commit, and nothing of it runs any more when the job has
//! ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tidemill_checkpoint::failpoint::{self, Point};
use tidemill_core::sink::{SinkCommitter, Staged};
use tidemill_core::time::Clock;
use tidemill_core::{Epoch, Error, Result};

use crate::guard::{Attempts, Guard};
use crate::shard::{Event, message_of};

/// How often a committer that waits looks whether its time has come.
const LOOK: Duration = Duration::from_millis(10);

/// A sink's committer on a thread of its own. Dropping it ends the thread, and waits for a call that is
/// under way.
pub(crate) struct CommitterThread {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// Commit this.
struct Order {
    epoch: Epoch,
    staged: Vec<Staged>,
}

impl CommitterThread {
    /// Starts the committer of sink number `sink`.
    pub fn start(
        sink: usize,
        committer: Box<dyn SinkCommitter>,
        guard: Arc<Guard>,
        clock: Arc<dyn Clock>,
        events: Sender<Event>,
    ) -> Result<Self> {
        let (orders, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("tidemill-commit-{sink}"))
            .spawn(move || {
                let mut worker = Worker { committer, guard, clock, inbox };
                while let Some((epoch, result)) = worker.next() {
                    // A coordinator that is gone has ended the job already.
                    let _ = events.send(Event::Committed { sink, epoch, result });
                }
            })
            .map_err(|e| Error::external("a committer's thread cannot be started").caused_by(e))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Lets an epoch be committed; an event says when it is.
    pub fn commit(&self, epoch: Epoch, staged: Vec<Staged>) -> Result<()> {
        let orders = self.orders.as_ref();
        let sent = orders.and_then(|orders| orders.send(Order { epoch, staged }).ok());
        sent.ok_or_else(|| Error::internal("a committer's thread has died"))
    }
}

impl Drop for CommitterThread {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // What it had to say it has said as an event.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Worker {
    committer: Box<dyn SinkCommitter>,
    guard: Arc<Guard>,
    clock: Arc<dyn Clock>,
    inbox: Receiver<Order>,
}

impl Worker {
    /// Carries out the next order; `None` where the job has ended.
    fn next(&mut self) -> Option<(Epoch, Result<()>)> {
        let Order { epoch, staged } = self.inbox.recv().ok()?;
        let mut attempts = Attempts::new(self.guard.clone());
        loop {
            let now = self.clock.elapsed();
            if attempts.may_call(now) {
                match self.call(epoch, &staged) {
                    Ok(()) => {
                        attempts.succeeded();
                        return Some((epoch, Ok(())));
                    }
                    Err(error) => {
                        if let Err(error) = attempts.failed(self.clock.elapsed(), error) {
                            return Some((epoch, Err(error)));
                        }
                    }
                }
            }
            match self.inbox.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
                Ok(order) => {
                    let message = format!("epoch {} comes before {epoch} is done", order.epoch);
                    return Some((epoch, Err(Error::internal(message))));
                }
            }
        }
    }

    fn call(&mut self, epoch: Epoch, staged: &[Staged]) -> Result<()> {
        failpoint::hit(Point::BeforeCommit)?;
        let result = catch_unwind(AssertUnwindSafe(|| self.committer.commit(epoch, staged)));
        result.unwrap_or_else(|panic| {
            Err(Error::internal(format!("the committer panicked: {}", message_of(&*panic))))
        })?;
        failpoint::hit(Point::AfterCommit)
    }
}

/// Makes a call until it succeeds, on the calling thread: while a job starts, when nothing else runs.
pub(crate) fn until_done<T>(
    guard: &Arc<Guard>,
    clock: &dyn Clock,
    mut call: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut attempts = Attempts::new(guard.clone());
    loop {
        if attempts.may_call(clock.elapsed()) {
            match call() {
                Ok(done) => {
                    attempts.succeeded();
                    return Ok(done);
                }
                Err(error) => attempts.failed(clock.elapsed(), error)?,
            }
        }
        std::thread::park_timeout(LOOK);
    }
}
