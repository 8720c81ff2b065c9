//! The coordinator of a job's checkpoints: facts in, decisions out.
//!
//! Pure: no I/O, and time is an argument. One thread feeds it facts and carries out its decisions.
//!
//! ```text
//!            ┌───────────── StartEpoch(e) ◀── due, requested or draining ──┐
//!            ▼                                                             │
//!  acks, state, staged of every shard ──▶ Publish(e) ──▶ Published(e) ─────┤
//!            │                                                ▼            │
//!            └─▶ Failed(e), timeout ──▶ Abandon(e) ──┐   Commit(e) ──▶ Committed by every sink
//!                                                    └──▶ 3 in a row: FailJob
//! ```
//!
//! Invariants: one epoch is collected at a time; an epoch is published only when every shard has
//! passed its barrier, every shard's state and every sink's staged output is durable, and the epoch
//! before is committed; only what is published is committed, and every published epoch is.
//!
//! What an abandoned epoch leaves to its successor: the increments of state are lost with it, so the
//! next epoch is `full`. The staged output is **not** lost: what writers have handed over for it, or
//! still do, the runtime keeps in memory and commits with the next epoch, before that epoch's own.

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill_core::element::Epoch;
use tidemill_core::error::{Error, ErrorKind};

/// When checkpoints are made, and when they count as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// From the start of one epoch to the start of the next.
    pub interval: Duration,
    /// At least so long between the end of one epoch (published or abandoned) and the next start.
    pub min_pause: Duration,
    /// An epoch that is not published so long after its start is abandoned.
    pub timeout: Duration,
    /// After so many abandoned epochs in a row the job fails.
    pub max_failures: u32,
}

impl Schedule {
    /// One checkpoint every `interval`, with a pause of a tenth of it; ten minutes for each, and
    /// three failures.
    pub fn every(interval: Duration) -> Self {
        let timeout = Duration::from_secs(600).max(interval);
        Self { interval, min_pause: interval / 10, timeout, max_failures: 3 }
    }
}

/// What has happened. Facts about epochs that are over are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Time has passed.
    Tick,
    /// Somebody wants a checkpoint now.
    Requested,
    /// Every source and operator of a shard has passed the barrier of an epoch.
    ShardAcked {
        /// The shard.
        shard: usize,
        /// The epoch.
        epoch: Epoch,
    },
    /// All state that a shard handed over at the barrier is written. Comes once for every shard, with
    /// or without state.
    StateWritten {
        /// The shard.
        shard: usize,
        /// The epoch.
        epoch: Epoch,
    },
    /// A sink's writer has handed over its output, and it is written.
    Staged {
        /// Number of the sink, from 0.
        sink: usize,
        /// The writer's shard.
        shard: usize,
        /// The epoch.
        epoch: Epoch,
    },
    /// The manifest exists.
    Published {
        /// The epoch.
        epoch: Epoch,
    },
    /// Part of an epoch could not be written, and its manifest does not exist.
    Failed {
        /// The epoch.
        epoch: Epoch,
        /// What went wrong.
        reason: String,
    },
    /// A sink has committed an epoch.
    Committed {
        /// Number of the sink, from 0.
        sink: usize,
        /// The epoch.
        epoch: Epoch,
    },
    /// Something failed that no checkpoint survives: a commit, a fence, a publication of which nobody
    /// knows the outcome, a shard.
    Fatal {
        /// What went wrong.
        reason: String,
    },
    /// The input is over, or the job is to stop: make a last checkpoint.
    Drain,
}

impl Fact {
    /// The fact that publishing an epoch failed with this error. Where the manifest may exist, or
    /// another instance has taken over, the job must end: the next start finds out.
    pub fn not_published(epoch: Epoch, error: &Error) -> Self {
        let reason = error.to_string();
        match error.kind() {
            ErrorKind::Fenced | ErrorKind::Transient => Self::Fatal { reason },
            _ => Self::Failed { epoch, reason },
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Send the barrier of this epoch.
    StartEpoch {
        /// The epoch.
        epoch: Epoch,
        /// All state is to be handed over whole.
        full: bool,
        /// No epoch follows it, unless it is abandoned: then another last one does.
        last: bool,
    },
    /// Publish the manifest.
    Publish(Epoch),
    /// Let every sink commit, and tell the sources.
    Commit(Epoch),
    /// Forget this epoch and remove its files; keep its staged output for the next.
    Abandon(Epoch, String),
    /// The last epoch is committed: the job is done.
    Finished(Epoch),
    /// End the job with this error.
    FailJob(String),
}

/// Decides about a job's checkpoints. See the [module](self).
#[derive(Debug, Clone)]
pub struct Coordinator {
    // Fixed.
    shards: usize,
    sinks: usize,
    schedule: Schedule,
    // State.
    next_epoch: Epoch,
    /// The earliest moment for the next start.
    due: Duration,
    collecting: Option<Collecting>,
    committing: Option<Committing>,
    requested: bool,
    draining: bool,
    full: bool,
    failures: u32,
    over: bool,
}

/// The epoch between its barrier and its manifest.
#[derive(Debug, Clone)]
struct Collecting {
    epoch: Epoch,
    last: bool,
    started: Duration,
    acked: BTreeSet<usize>,
    written: BTreeSet<usize>,
    staged: BTreeSet<(usize, usize)>,
    publishing: bool,
}

/// The epoch between its manifest and the last commit.
#[derive(Debug, Clone)]
struct Committing {
    epoch: Epoch,
    last: bool,
    left: BTreeSet<usize>,
}

impl Coordinator {
    /// For a job on `shards` shards with `sinks` sinks, whose first epoch is `first_epoch`, started
    /// at `now`.
    pub fn new(
        shards: usize,
        sinks: usize,
        first_epoch: Epoch,
        schedule: Schedule,
        now: Duration,
    ) -> Self {
        Self {
            shards,
            sinks,
            schedule,
            next_epoch: first_epoch,
            due: now + schedule.interval,
            collecting: None,
            committing: None,
            requested: false,
            draining: false,
            full: true,
            failures: 0,
            over: false,
        }
    }

    /// Takes a fact; says what is to be done, in order. After [`Decision::Finished`] or
    /// [`Decision::FailJob`] nothing more is decided.
    pub fn handle(&mut self, now: Duration, fact: Fact) -> Vec<Decision> {
        let mut decisions = Vec::new();
        if !self.over {
            self.learn(now, fact, &mut decisions);
            self.give_up_when_late(now, &mut decisions);
            self.publish_when_complete(&mut decisions);
            self.start_when_due(now, &mut decisions);
        }
        decisions
    }

    /// When to send the next [`Fact::Tick`] at the latest; `None`: other facts are awaited.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.collecting {
            _ if self.over => None,
            Some(epoch) if epoch.publishing => None,
            Some(epoch) => Some(epoch.started + self.schedule.timeout),
            None if self.finishing() => None,
            None => Some(self.due),
        }
    }

    /// The epoch between barrier and manifest, with when it started.
    pub fn in_flight(&self) -> Option<(Epoch, Duration)> {
        self.collecting.as_ref().map(|epoch| (epoch.epoch, epoch.started))
    }

    fn learn(&mut self, now: Duration, fact: Fact, decisions: &mut Vec<Decision>) {
        if !self.concerns_this_job(&fact) {
            return self.fail(format!("no such shard, sink or epoch: {fact:?}"), decisions);
        }
        match fact {
            Fact::Tick => {}
            Fact::Requested => self.requested = true,
            Fact::Drain => self.draining = true,
            Fact::ShardAcked { shard, epoch } => {
                self.collect(epoch, |collecting| collecting.acked.insert(shard));
            }
            Fact::StateWritten { shard, epoch } => {
                self.collect(epoch, |collecting| collecting.written.insert(shard));
            }
            Fact::Staged { sink, shard, epoch } => {
                self.collect(epoch, |collecting| collecting.staged.insert((sink, shard)));
            }
            Fact::Failed { epoch, reason } => {
                if self.collecting.as_ref().is_some_and(|c| c.epoch == epoch) {
                    self.abandon(now, reason, decisions);
                }
            }
            Fact::Published { epoch } => self.published(now, epoch, decisions),
            Fact::Committed { sink, epoch } => self.committed(sink, epoch, decisions),
            Fact::Fatal { reason } => self.fail(reason, decisions),
        }
    }

    /// Whether shard and sink exist and the epoch has been started; else some bookkeeping is wrong,
    /// and no checkpoint can be trusted.
    fn concerns_this_job(&self, fact: &Fact) -> bool {
        let (shard, sink, epoch) = match fact {
            Fact::Tick | Fact::Requested | Fact::Drain | Fact::Fatal { .. } => return true,
            Fact::ShardAcked { shard, epoch } | Fact::StateWritten { shard, epoch } => {
                (Some(*shard), None, *epoch)
            }
            Fact::Staged { sink, shard, epoch } => (Some(*shard), Some(*sink), *epoch),
            Fact::Committed { sink, epoch } => (None, Some(*sink), *epoch),
            Fact::Published { epoch } | Fact::Failed { epoch, .. } => (None, None, *epoch),
        };
        shard.is_none_or(|shard| shard < self.shards)
            && sink.is_none_or(|sink| sink < self.sinks)
            && epoch < self.next_epoch
    }

    fn collect(&mut self, epoch: Epoch, note: impl FnOnce(&mut Collecting) -> bool) {
        if let Some(collecting) = self.collecting.as_mut().filter(|c| c.epoch == epoch) {
            note(collecting);
        }
    }

    fn published(&mut self, now: Duration, epoch: Epoch, decisions: &mut Vec<Decision>) {
        let Some(published) = self.collecting.take_if(|c| c.epoch == epoch && c.publishing) else {
            let reason = format!("epoch {epoch} was published, but nobody had asked for it");
            return self.fail(reason, decisions);
        };
        self.failures = 0;
        self.full = false;
        self.pause(now, published.started);
        let left = (0..self.sinks).collect();
        self.committing = Some(Committing { epoch, last: published.last, left });
        decisions.push(Decision::Commit(epoch));
        self.finish_commit(decisions);
    }

    fn committed(&mut self, sink: usize, epoch: Epoch, decisions: &mut Vec<Decision>) {
        if let Some(committing) = self.committing.as_mut().filter(|c| c.epoch == epoch) {
            committing.left.remove(&sink);
            self.finish_commit(decisions);
        }
    }

    fn finish_commit(&mut self, decisions: &mut Vec<Decision>) {
        if let Some(done) = self.committing.take_if(|c| c.left.is_empty())
            && done.last
        {
            self.over = true;
            decisions.push(Decision::Finished(done.epoch));
        }
    }

    /// A publication that is under way ends by itself: until then nobody knows what it did.
    fn give_up_when_late(&mut self, now: Duration, decisions: &mut Vec<Decision>) {
        let late = |c: &Collecting| !c.publishing && now >= c.started + self.schedule.timeout;
        if !self.over
            && let Some(collecting) = self.collecting.as_ref().filter(|c| late(c))
        {
            let reason = self.what_is_missing(collecting);
            self.abandon(now, reason, decisions);
        }
    }

    fn what_is_missing(&self, collecting: &Collecting) -> String {
        let shards = |seen: &BTreeSet<usize>| -> Vec<usize> {
            (0..self.shards).filter(|shard| !seen.contains(shard)).collect()
        };
        let staged = self.shards * self.sinks - collecting.staged.len();
        format!(
            "not complete after {:?}: barrier not passed by shards {:?}, state not written by \
             shards {:?}, {staged} staged outputs missing, epoch before {}",
            self.schedule.timeout,
            shards(&collecting.acked),
            shards(&collecting.written),
            if self.committing.is_some() { "not committed" } else { "committed" },
        )
    }

    fn publish_when_complete(&mut self, decisions: &mut Vec<Decision>) {
        let (shards, staged) = (self.shards, self.shards * self.sinks);
        let complete = |c: &Collecting| {
            c.acked.len() == shards && c.written.len() == shards && c.staged.len() == staged
        };
        if self.over || self.committing.is_some() {
            return;
        }
        if let Some(c) = self.collecting.as_mut().filter(|c| !c.publishing && complete(c)) {
            c.publishing = true;
            decisions.push(Decision::Publish(c.epoch));
        }
    }

    fn start_when_due(&mut self, now: Duration, decisions: &mut Vec<Decision>) {
        let wanted = now >= self.due || self.requested || self.draining;
        if self.over || self.collecting.is_some() || self.finishing() || !wanted {
            return;
        }
        let (epoch, last) = (self.next_epoch, self.draining);
        self.next_epoch += 1;
        self.requested = false;
        self.collecting = Some(Collecting {
            epoch,
            last,
            started: now,
            acked: BTreeSet::new(),
            written: BTreeSet::new(),
            staged: BTreeSet::new(),
            publishing: false,
        });
        decisions.push(Decision::StartEpoch { epoch, full: self.full, last });
    }

    fn abandon(&mut self, now: Duration, reason: String, decisions: &mut Vec<Decision>) {
        let Some(abandoned) = self.collecting.take() else { return };
        self.full = true;
        self.failures += 1;
        self.pause(now, abandoned.started);
        decisions.push(Decision::Abandon(abandoned.epoch, reason.clone()));
        if self.failures >= self.schedule.max_failures {
            let failures = self.failures;
            self.fail(
                format!("{failures} checkpoints in a row have failed; the last: {reason}"),
                decisions,
            );
        }
    }

    fn fail(&mut self, reason: String, decisions: &mut Vec<Decision>) {
        self.over = true;
        decisions.push(Decision::FailJob(reason));
    }

    fn pause(&mut self, now: Duration, started: Duration) {
        self.due = (started + self.schedule.interval).max(now + self.schedule.min_pause);
    }

    /// The last epoch exists and waits for its commit.
    fn finishing(&self) -> bool {
        self.committing.as_ref().is_some_and(|c| c.last)
    }
}
