//! The coordinator: one thread that carries out what the checkpoint protocol decides, and ends the
//! job when its input, its user or a failure says so.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_checkpoint::failpoint::{self, Point};
use tidemill_checkpoint::files::StateLedger;
use tidemill_checkpoint::manifest::Manifest;
use tidemill_checkpoint::protocol::{Decision, Fact, Schedule};
use tidemill_checkpoint::{CheckpointFolder, Coordinator};
use tidemill_core::graph::{Graph, Node, NodeKind};
use tidemill_core::operator::Barrier;
use tidemill_core::sink::{SinkCommitter, Staged};
use tidemill_core::source::SplitId;
use tidemill_core::{Epoch, Error, ErrorKind, Result};

use crate::build::{Builder, Built, ShardHandle};
use crate::commit::CommitterThread;
use crate::discover::Discovery;
use crate::epoch::EpochInProgress;
use crate::guard::Guard;
use crate::job::{CrashPoint, JobSettings};
use crate::layout::Layout;
use crate::link::Links;
use crate::memory::{Account, Memory, MemoryKind, Pressure, Relief, Sight};
use crate::metrics;
use crate::patience;
use crate::recover::{self, Recovered};
use crate::shard::{Command, Control, Event, Shard, message_of};
use crate::status::{Changing, CheckpointStatus, JobSummary, Phase, Shared};

/// How often rates and metrics are brought up to date.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How often memory is looked at where there is a budget for it.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);

/// How often a publication of unknown outcome is tried again.
const PUBLISH_ATTEMPTS: usize = 5;

/// A sink as the coordinator knows it.
pub(crate) struct SinkRun {
    pub name: String,
    /// What the sink says of itself.
    pub writes: String,
    /// Until it has a thread of its own.
    pub committer: Option<Box<dyn SinkCommitter>>,
    /// How the committer is called again.
    pub guard: Arc<Guard>,
    pub thread: Option<CommitterThread>,
    /// What is staged and not committed.
    pub held: Option<Account>,
    /// Staged output of abandoned epochs: it goes out with the next.
    pub carried: Vec<(usize, Staged)>,
}

/// A job that is being run.
pub(crate) struct Run {
    settings: JobSettings,
    folder: Option<CheckpointFolder>,
    shared: Arc<Shared>,
    coordinator: Coordinator,
    ledger: StateLedger,
    barrier: Arc<Mutex<Barrier>>,
    sinks: Vec<SinkRun>,
    shards: Vec<Shard>,
    handles: Vec<ShardHandle>,
    /// For each source node the splits of each shard.
    splits: HashMap<String, Vec<Vec<SplitId>>>,
    events: Sender<Event>,
    inbox: Receiver<Event>,
    first_epoch: Epoch,
    epoch: Option<EpochInProgress>,
    /// The epoch that exists and is not committed by all sinks.
    committing: Option<Committing>,
    /// The last epoch that was started, and the last that is committed.
    started: Epoch,
    committed: Epoch,
    pressure: Pressure,
    ended: Vec<bool>,
    /// How long it may take to drain, and when that is over.
    patience: Option<(Duration, Duration)>,
    /// Who wants a checkpoint, and of which epoch, once it is started.
    waiting: Vec<(Option<Epoch>, Sender<Result<Epoch>>)>,
    /// The job was finished before this run: there is nothing to do.
    already_finished: bool,
}

/// An epoch on its way out.
struct Committing {
    epoch: EpochInProgress,
    /// Sinks that have not committed it.
    left: usize,
}

/// How the coordinator's loop came to its end.
enum Outcome {
    Done,
    Failed(Error),
    /// The drain took too long: something does not answer, and is not waited for.
    GaveUp(Error),
}

impl Run {
    /// Restores and builds; nothing runs yet.
    pub fn prepare(
        graph: Graph,
        settings: JobSettings,
        events: Sender<Event>,
        inbox: Receiver<Event>,
    ) -> Result<Self> {
        let Recovered { folder, manifest, first_epoch, sinks_from, mut sinks } =
            recover::recover(&graph, &settings)?;
        let memory = Memory::new(settings.memory_budget);
        for sink in &mut sinks {
            sink.held = Some(memory.account(MemoryKind::Sinks, &sink.name));
        }
        let already_finished = manifest.as_ref().is_some_and(|manifest| manifest.finished);
        if let Some(manifest) = manifest.as_ref().filter(|manifest| !manifest.finished) {
            tracing::info!(job = %settings.name, epoch = manifest.epoch, "resumes from its checkpoint");
        }
        let layout = Layout::new(&graph, settings.shards);
        let barrier = Barrier { epoch: first_epoch, full: true, checkpointed: folder.is_some() };
        let barrier = Arc::new(Mutex::new(barrier));
        let builder = Builder {
            graph: &graph,
            settings: &settings,
            layout: &layout,
            restored: folder.as_ref().zip(manifest.as_ref()),
            sinks_from,
            barrier: barrier.clone(),
            events: events.clone(),
            memory: memory.clone(),
            guards: write_guards(&graph),
            links: Links::default(),
        };
        let built = builder.build()?;
        let Built { shards, handles, stats, delay, splits } = built;
        let guards = builder.guards.into_values();
        let guards = guards.chain(sinks.iter().map(|sink| sink.guard.clone())).collect();
        let links = builder.links;
        let clock = settings.clock.clone();
        let now = clock.elapsed();
        let interval = settings.checkpoints.as_ref().map(|c| c.interval);
        let schedule =
            Schedule::every(interval.unwrap_or(Duration::from_secs(u64::from(u32::MAX))));
        let checkpoints = CheckpointStatus {
            restored: manifest.as_ref().map(|manifest| manifest.epoch),
            last_epoch: manifest.as_ref().map(|manifest| manifest.epoch),
            last_at: manifest.as_ref().map(|manifest| manifest.created_at),
            ..CheckpointStatus::default()
        };
        let shared = Arc::new(Shared {
            job: settings.name.clone(),
            shards: settings.shards,
            started: now,
            stats,
            views: handles.iter().map(|handle| handle.view.clone()).collect(),
            delay,
            memory,
            links,
            guards,
            changing: Mutex::new(Changing {
                phase: Phase::Running,
                checkpoints,
                errors: Vec::new(),
                records_at_start: 0,
                records_per_second: 0.0,
                last_sample: (now, 0),
            }),
            clock,
            graph,
        });
        let records = shared.records_in();
        shared.changing.lock().records_at_start = records;
        shared.changing.lock().last_sample.1 = records;
        Ok(Self {
            coordinator: Coordinator::new(settings.shards, sinks.len(), first_epoch, schedule, now),
            ledger: StateLedger::new(),
            ended: vec![false; settings.shards],
            settings,
            folder,
            shared,
            barrier,
            sinks,
            shards,
            handles,
            splits,
            events,
            inbox,
            first_epoch,
            epoch: None,
            committing: None,
            started: first_epoch.saturating_sub(1),
            committed: first_epoch.saturating_sub(1),
            pressure: Pressure::default(),
            patience: None,
            waiting: Vec::new(),
            already_finished,
        })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Runs the job to its end.
    pub fn run(mut self) -> Result<JobSummary> {
        if self.already_finished {
            tracing::info!(
                job = %self.settings.name,
                "the job has finished before; run it with --fresh to start from the beginning"
            );
            self.shared.changing.lock().phase = Phase::Finished;
            return Ok(self.shared.summary());
        }
        self.start_committers()?;
        let threads = self.start_shards()?;
        let known = |node: &str| self.splits[node].iter().flatten().cloned().collect();
        let interval = self.settings.discovery_interval;
        let discovery = Discovery::start(&self.shared.graph, known, interval, self.events.clone())?;
        let outcome = self.coordinate();
        for handle in &self.handles {
            // A shard that has died has no receiver; the others leave.
            let _ = handle.control.send(Control::Stop);
            handle.waker.wake();
        }
        let sinks = std::mem::take(&mut self.sinks);
        let leave = move || {
            drop(discovery);
            for thread in threads {
                // A panic was caught inside and reported as an event.
                let _ = thread.join();
            }
            drop(sinks);
        };
        match outcome {
            Outcome::GaveUp(_) => _ = std::thread::spawn(leave),
            // Nothing of this run may commit behind its end.
            Outcome::Done | Outcome::Failed(_) => leave(),
        }
        metrics::publish(&self.shared);
        match outcome {
            Outcome::Done => Ok(self.shared.summary()),
            Outcome::Failed(error) | Outcome::GaveUp(error) => {
                self.shared.changing.lock().phase = Phase::Failed;
                self.shared.error(error.to_string());
                Err(error)
            }
        }
    }

    fn start_committers(&mut self) -> Result<()> {
        for (n, sink) in self.sinks.iter_mut().enumerate() {
            let Some(committer) = sink.committer.take() else { continue };
            let (clock, events) = (self.settings.clock.clone(), self.events.clone());
            let guard = sink.guard.clone();
            sink.thread = Some(CommitterThread::start(n, committer, guard, clock, events)?);
        }
        Ok(())
    }

    fn start_shards(&mut self) -> Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        for (id, shard) in std::mem::take(&mut self.shards).into_iter().enumerate() {
            let events = self.events.clone();
            let thread = std::thread::Builder::new()
                .name(format!("tidemill-shard-{id}"))
                .spawn(move || run_shard(id, shard, &events))
                .map_err(|e| Error::external("a shard's thread cannot be started").caused_by(e))?;
            threads.push(thread);
        }
        Ok(threads)
    }

    fn coordinate(&mut self) -> Outcome {
        let mut sampled = self.now();
        loop {
            let now = self.now();
            if now >= sampled + SAMPLE_INTERVAL {
                sampled = now;
                self.shared.sample();
                metrics::publish(&self.shared);
            }
            let due =
                self.coordinator.wake_at().map_or(SAMPLE_INTERVAL, |at| at.saturating_sub(now));
            let longest =
                if self.shared.memory.has_budget() { MEMORY_INTERVAL } else { SAMPLE_INTERVAL };
            let left = self.patience.map_or(longest, |(_, until)| until.saturating_sub(now));
            let event = self.inbox.recv_timeout(due.min(longest).min(left));
            if event.is_err()
                && let Some(error) = self.out_of_patience()
            {
                return Outcome::GaveUp(error);
            }
            let result = match event {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => self.look_around(),
                Err(RecvTimeoutError::Disconnected) => Err(Error::internal("all shards are gone")),
            };
            match result {
                Ok(false) => {}
                Ok(true) => return Outcome::Done,
                Err(error) => return Outcome::Failed(error),
            }
        }
    }

    /// Nothing has happened for a while: time has passed, and memory may be short.
    fn look_around(&mut self) -> Result<bool> {
        match self.relief() {
            Relief::None => self.learn(Fact::Tick),
            Relief::Checkpoint => {
                tracing::info!(job = %self.settings.name, "memory is short: a checkpoint is made");
                self.learn(Fact::Requested)
            }
            Relief::Impossible => Err(self.shared.memory.exhausted()),
        }
    }

    /// Why the job ends here, where it should have been drained by now.
    fn out_of_patience(&self) -> Option<Error> {
        let (patience, _) = self.patience.filter(|(_, until)| self.now() >= *until)?;
        let committing = self.committing.as_ref().map(|committing| {
            let sinks = committing.epoch.committing().map(|n| self.sinks[n].name.as_str());
            (committing.epoch.number, sinks.collect())
        });
        Some(patience::not_drained(patience, committing, &self.shared, self.folder.is_some()))
    }

    /// What to do about memory. Nothing while time alone may relieve it: when the job drains, its sources
    /// have ended, or windows fire by the wall clock.
    fn relief(&mut self) -> Relief {
        let memory = &self.shared.memory;
        let is_running = self.shared.changing.lock().phase == Phase::Running;
        if !memory.has_budget() || !is_running || self.shared.waits_for_the_clock() {
            return Relief::None;
        }
        let under_way = memory.held(MemoryKind::Queues) + memory.held(MemoryKind::Buffers);
        self.pressure.look(Sight {
            over: memory.is_over() && !self.shared.sources_have_ended(),
            quiet: under_way == 0,
            records_in: self.shared.records_in(),
            started: self.started,
            committed: self.committed,
        })
    }

    fn now(&self) -> Duration {
        self.settings.clock.elapsed()
    }

    /// Takes an event; true when the job is done.
    fn take(&mut self, event: Event) -> Result<bool> {
        match event {
            Event::Failed(error) => Err(error),
            Event::Command(Command::Abort) => Err(Error::external("the job was aborted")),
            Event::Command(Command::Stop { patience }) => {
                self.patience = patience.map(|patience| (patience, self.now() + patience));
                self.shared.changing.lock().phase = Phase::Draining;
                self.learn(Fact::Drain)
            }
            Event::Command(Command::Checkpoint(reply)) if self.folder.is_none() => {
                let error =
                    Error::configuration("the job makes no checkpoints: name a folder for them");
                // Whoever asked may have gone.
                let _ = reply.send(Err(error));
                Ok(false)
            }
            Event::Command(Command::Checkpoint(reply)) => {
                self.waiting.push((None, reply));
                self.learn(Fact::Requested)
            }
            Event::Discovered { node, splits } => {
                self.assign(&node, splits)?;
                Ok(false)
            }
            Event::Ended(shard) => {
                self.ended[shard] = true;
                if self.ended.iter().all(|ended| *ended) {
                    self.learn(Fact::Drain)
                } else {
                    Ok(false)
                }
            }
            Event::Cut(cut) => {
                let Some(epoch) = &mut self.epoch else { return Ok(false) };
                let facts =
                    epoch.take(cut, self.settings.shards, self.folder.as_ref(), &self.sinks);
                self.weigh_staged();
                for fact in facts {
                    if self.learn(fact)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Event::Committed { sink, epoch, result } => self.sink_committed(sink, epoch, result),
        }
    }

    /// Says how much staged output waits for its commit.
    fn weigh_staged(&self) {
        for (n, sink) in self.sinks.iter().enumerate() {
            let of = |epoch: &EpochInProgress| epoch.staged_bytes(n);
            let collected = self.epoch.as_ref().map_or(0, of);
            let leaving = self.committing.as_ref().map_or(0, |c| of(&c.epoch));
            let carried: usize = sink.carried.iter().map(|(_, staged)| staged.0.len()).sum();
            if let Some(held) = &sink.held {
                held.set(collected + leaving + carried);
            }
        }
    }

    /// Gives new splits to the shards that have fewest of their source.
    fn assign(&mut self, node: &str, found: Vec<SplitId>) -> Result<()> {
        let Some(assigned) = self.splits.get_mut(node) else { return Ok(()) };
        let mut new = vec![Vec::new(); assigned.len()];
        for split in found {
            let fewest = (0..assigned.len()).min_by_key(|shard| assigned[*shard].len());
            let shard = fewest.unwrap_or_default();
            assigned[shard].push(split.clone());
            new[shard].push(split);
        }
        let total: usize = assigned.iter().map(Vec::len).sum();
        for ((handle, splits), own) in self.handles.iter().zip(new).zip(assigned) {
            let share = own.len() as f64 / total.max(1) as f64;
            let control = Control::Splits { node: node.to_owned(), splits, share };
            handle.control.send(control).map_err(|_| Error::internal("a shard has died"))?;
            handle.waker.wake();
        }
        Ok(())
    }

    /// Tells the protocol a fact and carries out what it decides.
    fn learn(&mut self, fact: Fact) -> Result<bool> {
        let mut facts = vec![fact];
        while !facts.is_empty() {
            let fact = facts.remove(0);
            for decision in self.coordinator.handle(self.now(), fact) {
                if let Decision::Finished(_) = decision {
                    return Ok(true);
                }
                facts.extend(self.carry_out(decision)?);
            }
        }
        Ok(false)
    }

    fn carry_out(&mut self, decision: Decision) -> Result<Vec<Fact>> {
        match decision {
            Decision::StartEpoch { epoch, full, last } => self.start_epoch(epoch, full, last),
            Decision::Publish(epoch) => self.publish(epoch),
            Decision::Commit(epoch) => self.commit(epoch),
            Decision::Abandon(epoch, reason) => self.abandon(epoch, reason),
            Decision::FailJob(reason) => Err(Error::external(reason)),
            Decision::Finished(_) => Ok(Vec::new()),
        }
    }

    fn start_epoch(&mut self, epoch: Epoch, full: bool, last: bool) -> Result<Vec<Fact>> {
        failpoint::hit(Point::BeforeBarrier)?;
        let keyed =
            self.shared.graph.nodes().iter().filter(|n| !matches!(n.kind, NodeKind::Sink(_)));
        let mut operators = keyed.filter(|node| !node.inputs.is_empty());
        let grown = operators
            .any(|node| (0..self.settings.shards).any(|s| self.ledger.wants_full(&node.name, s)));
        let full = full || grown;
        *self.barrier.lock() = Barrier { epoch, full, checkpointed: self.folder.is_some() };
        self.epoch = Some(EpochInProgress::new(epoch, full, last, self.now()));
        self.started = epoch;
        self.waiting.iter_mut().for_each(|(wanted, _)| _ = wanted.get_or_insert(epoch));
        for handle in &self.handles {
            let sent = handle.control.send(Control::Epoch { epoch, last });
            sent.map_err(|_| Error::internal("a shard has died"))?;
            handle.waker.wake();
        }
        Ok(Vec::new())
    }

    fn crashes(&self, epoch: Epoch, at: CrashPoint) -> Result<()> {
        let number = epoch + 1 - self.first_epoch;
        if self.settings.crash.is_some_and(|crash| crash.epoch == number && crash.at == at) {
            return Err(Error::internal(format!("crashed on request in epoch {epoch}, {at:?}")));
        }
        Ok(())
    }

    fn publish(&mut self, number: Epoch) -> Result<Vec<Fact>> {
        self.crashes(number, CrashPoint::BeforePublish)?;
        let Some(epoch) = self.epoch.as_mut().filter(|epoch| epoch.number == number) else {
            return Err(Error::internal(format!("epoch {number} is unknown")));
        };
        let Some(folder) = &self.folder else { return Ok(vec![Fact::Published { epoch: number }]) };
        let _traced = epoch.span.clone().entered();
        let operators = self.ledger.propose(number, epoch.changes())?;
        let finished = epoch.last && self.ended.iter().all(|ended| *ended);
        let made = epoch.manifest(folder, &self.shared, operators, &self.sinks, finished);
        let manifest = match made {
            Ok(manifest) => manifest,
            Err(e) => return Ok(vec![Fact::Failed { epoch: number, reason: e.to_string() }]),
        };
        match publish_with_retries(folder, &manifest) {
            Ok(()) => {
                self.ledger.published(number, epoch.changes())?;
                let mut changing = self.shared.changing.lock();
                let checkpoints = &mut changing.checkpoints;
                checkpoints.last_epoch = Some(number);
                checkpoints.last_at = Some(manifest.created_at);
                checkpoints.last_duration =
                    Some(self.settings.clock.elapsed().saturating_sub(epoch.started));
                checkpoints.last_bytes = manifest.bytes();
                checkpoints.completed += 1;
                Ok(vec![Fact::Published { epoch: number }])
            }
            Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Transient) => {
                Err(error)
            }
            Err(error) => Ok(vec![Fact::Failed { epoch: number, reason: error.to_string() }]),
        }
    }

    /// The epoch exists: sinks commit it, each on its thread.
    fn commit(&mut self, number: Epoch) -> Result<Vec<Fact>> {
        self.crashes(number, CrashPoint::BeforeCommit)?;
        let Some(mut epoch) = self.epoch.take() else {
            return Err(Error::internal(format!("epoch {number} is unknown")));
        };
        for (n, sink) in self.sinks.iter_mut().enumerate() {
            let staged = epoch.staged(n, std::mem::take(&mut sink.carried));
            if let Some(thread) = &sink.thread {
                thread.commit(number, staged)?;
            }
        }
        self.committing = Some(Committing { epoch, left: self.sinks.len() });
        let now = self.now();
        if let Some((_, until)) = &mut self.patience {
            *until = (*until).max(now + patience::COMMIT_CHANCE);
        }
        Ok(Vec::new())
    }

    /// A sink has committed an epoch, or cannot. True when the job is done.
    fn sink_committed(&mut self, sink: usize, number: Epoch, result: Result<()>) -> Result<bool> {
        if let Err(error) = result {
            let what = if error.kind() == ErrorKind::Fenced {
                ""
            } else if self.folder.is_some() {
                ". Nothing is lost: its results are in the checkpoint, and are committed when the job is \
                 started again"
            } else {
                ", which the job has no checkpoints to repeat"
            };
            let kind = error.kind();
            return Err(Error::new(
                kind,
                format!("epoch {number} is not committed: {error}{what}"),
            ));
        }
        let Some(committing) = &mut self.committing else { return Ok(false) };
        committing.epoch.delivered(sink);
        committing.left -= 1;
        if committing.left > 0 {
            self.weigh_staged();
            return Ok(false);
        }
        self.committed_by_all(number)?;
        for sink in 0..self.sinks.len() {
            if self.learn(Fact::Committed { sink, epoch: number })? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sources tell the outside, old checkpoints go, and who asked for it hears of it.
    fn committed_by_all(&mut self, number: Epoch) -> Result<()> {
        let Some(Committing { epoch, .. }) = self.committing.take() else { return Ok(()) };
        let _traced = epoch.span.clone().entered();
        self.crashes(number, CrashPoint::AfterCommit)?;
        for node in self.shared.graph.nodes() {
            if let NodeKind::Source(source) = &node.kind
                && self.folder.is_some()
            {
                source.source.checkpointed(number, &epoch.offsets(&node.name))?;
            }
        }
        self.committed = number;
        self.weigh_staged();
        self.clean_up();
        self.answer(number, || Ok(number));
        if epoch.last {
            let all_ended = self.ended.iter().all(|ended| *ended);
            let phase = if all_ended { Phase::Finished } else { Phase::Stopped };
            self.shared.changing.lock().phase = phase;
        }
        Ok(())
    }

    /// Answers those who wanted a checkpoint that is in this epoch.
    fn answer(&mut self, epoch: Epoch, answer: impl Fn() -> Result<Epoch>) {
        let is_due = |(wanted, _): &mut (Option<Epoch>, _)| wanted.is_some_and(|e| e <= epoch);
        for (_, waiting) in self.waiting.extract_if(.., is_due) {
            // Whoever asked may have gone.
            let _ = waiting.send(answer());
        }
    }

    /// Old checkpoints that cannot be deleted now will be at the next attempt.
    fn clean_up(&self) {
        let (Some(folder), Some(settings)) = (&self.folder, &self.settings.checkpoints) else {
            return;
        };
        if let Err(error) = folder.retain(settings.retained) {
            tracing::warn!(job = %self.settings.name, %error, "old checkpoints are still there");
            self.shared.error(error.to_string());
        }
    }

    fn abandon(&mut self, number: Epoch, reason: String) -> Result<Vec<Fact>> {
        tracing::warn!(job = %self.settings.name, epoch = number, reason, "checkpoint abandoned");
        self.shared.error(format!("checkpoint {number} was abandoned: {reason}"));
        self.shared.changing.lock().checkpoints.abandoned += 1;
        self.ledger.abandoned();
        let Some(mut epoch) = self.epoch.take() else { return Ok(Vec::new()) };
        if !epoch.is_cut(self.settings.shards) {
            // Its barrier is still on the way: a second one must not follow it.
            return Err(Error::external(format!("checkpoint {number}: {reason}")));
        }
        for (n, sink) in self.sinks.iter_mut().enumerate() {
            epoch.carry_over(n, &mut sink.carried);
        }
        if let Some(folder) = &self.folder
            && let Err(error) = folder.abandon(number)
        {
            tracing::warn!(%error, epoch = number, "files of an abandoned checkpoint are still there");
        }
        self.weigh_staged();
        self.answer(number, || Err(Error::external(format!("the checkpoint failed: {reason}"))));
        Ok(Vec::new())
    }
}

/// How the writers of each sink are called again.
fn write_guards(graph: &Graph) -> HashMap<String, Arc<Guard>> {
    let guard = |node: &Node| match &node.kind {
        NodeKind::Sink(sink) => {
            Some((node.name.clone(), Guard::new(&node.name, "write", sink.retry)))
        }
        _ => None,
    };
    graph.nodes().iter().filter_map(guard).collect()
}

/// Publishes; a publication of unknown outcome is repeated, which is harmless.
fn publish_with_retries(folder: &CheckpointFolder, manifest: &Manifest) -> Result<()> {
    let mut attempt = 1;
    loop {
        match folder.publish(manifest) {
            Err(error) if error.kind() == ErrorKind::Transient && attempt < PUBLISH_ATTEMPTS => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// A shard's thread: whatever ends it, the coordinator hears of it.
fn run_shard(id: usize, shard: Shard, events: &Sender<Event>) {
    let error = match catch_unwind(AssertUnwindSafe(|| shard.run())) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(panic) => {
            let text = message_of(&*panic);
            Error::internal(format!("shard {id} panicked: {text}"))
        }
    };
    // A coordinator that is gone has ended the job already.
    let _ = events.send(Event::Failed(error));
}

/// Counters of all shards by node.
pub(crate) fn sum_counts(
    into: &mut BTreeMap<String, crate::stats::Counts>,
    from: BTreeMap<String, crate::stats::Counts>,
) {
    for (node, counts) in from {
        *into.entry(node).or_default() += counts;
    }
}
