//! A job: how it is started, watched, asked for a checkpoint, and stopped.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tidemill_core::graph::Graph;
use tidemill_core::key::KEY_GROUPS;
use tidemill_core::time::{Clock, SystemClock};
use tidemill_core::{Epoch, Error, Result};

use crate::coordinate::Run;
use crate::shard::{Command, Event};
use crate::status::{JobStatus, JobSummary, Shared};

/// How a job is run. What it computes is in its graph.
#[derive(Clone)]
pub struct JobSettings {
    /// The job's name: its checkpoints are found by it.
    pub name: String,
    /// How many shards run it.
    pub shards: usize,
    /// Rows that a source reads at a time.
    pub batch_rows: usize,
    /// How long a source lets rows gather that do not fill a batch.
    pub linger: Duration,
    /// How often unbounded sources are asked whether they have new splits.
    pub discovery_interval: Duration,
    /// How many bytes the job may hold in queues, buffers, state and sinks; `None`: no limit.
    pub memory_budget: Option<usize>,
    /// Where and how often checkpoints are made; `None`: never.
    pub checkpoints: Option<CheckpointSettings>,
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
    /// Results on their way out are for a machine rather than for a person.
    pub machine_output: bool,
    /// Where a test lets the job crash.
    pub crash: Option<Crash>,
}

/// Where and how often checkpoints are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// A folder, or the URL of an object store.
    pub url: String,
    /// From one checkpoint's start to the next one's.
    pub interval: Duration,
    /// Where the job starts.
    pub start: StartFrom,
    /// How many checkpoints are kept.
    pub retained: usize,
}

/// Where a job starts that has checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartFrom {
    /// At the newest checkpoint, offsets and state, if there is one.
    #[default]
    Checkpoint,
    /// At the offsets of the newest checkpoint, without its state: for a query that has changed.
    Offsets,
    /// At the beginning, whatever checkpoints there are.
    Beginning,
}

/// Where a test lets a job crash: it ends there with an error, as if the process had died, and
/// nothing is cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// In the course of which epoch, counted from the first of the run (1 is the first).
    pub epoch: Epoch,
    /// At which point of it.
    pub at: CrashPoint,
}

/// A point in the life of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// All is written, but the manifest is not published: the epoch does not exist.
    BeforePublish,
    /// The epoch exists, and no sink has committed it.
    BeforeCommit,
    /// All sinks have committed it.
    AfterCommit,
}

impl JobSettings {
    /// One shard per core, no checkpoints.
    pub fn named(name: impl Into<String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            name: name.into(),
            shards: cores.min(usize::from(KEY_GROUPS)),
            batch_rows: 8192,
            linger: Duration::from_millis(10),
            discovery_interval: Duration::from_secs(10),
            memory_budget: None,
            checkpoints: None,
            clock: Arc::new(SystemClock::default()),
            machine_output: false,
            crash: None,
        }
    }

    fn validate(&self) -> Result<()> {
        let shards_max = usize::from(KEY_GROUPS);
        if self.shards == 0 || self.shards > shards_max {
            let message = format!("parallelism {} must be from 1 to {shards_max}", self.shards);
            return Err(Error::option("parallelism.default", message));
        }
        if self.memory_budget == Some(0) {
            return Err(Error::option("memory.budget", "a job cannot do without any memory"));
        }
        if self.batch_rows == 0 {
            return Err(Error::configuration("a batch must have room for at least one row"));
        }
        Ok(())
    }
}

impl CheckpointSettings {
    /// A checkpoint at `url` every `interval`; resumes from the newest; keeps three.
    pub fn new(url: impl Into<String>, interval: Duration) -> Self {
        Self { url: url.into(), interval, start: StartFrom::Checkpoint, retained: 3 }
    }
}

/// A running job.
pub struct JobHandle {
    events: Sender<Event>,
    shared: Arc<Shared>,
    thread: JoinHandle<Result<JobSummary>>,
}

/// Controls a running job from anywhere; stays valid when the job has ended.
#[derive(Clone)]
pub struct JobControl {
    events: Sender<Event>,
    shared: Arc<Shared>,
}

/// Starts a job: restores its newest checkpoint if there is one, opens its splits, and runs it.
///
/// # Errors
/// A graph or a setting that is wrong, a checkpoint of another query, another instance that runs,
/// or a source or sink that cannot be opened.
pub fn start(graph: Graph, settings: JobSettings) -> Result<JobHandle> {
    graph.validate()?;
    settings.validate()?;
    let (events, inbox) = channel();
    let run = Run::prepare(graph, settings, events.clone(), inbox)?;
    let shared = run.shared().clone();
    let thread = std::thread::Builder::new()
        .name("tidemill-coordinator".into())
        .spawn(move || run.run())
        .map_err(|e| Error::external("the coordinator's thread cannot be started").caused_by(e))?;
    Ok(JobHandle { events, shared, thread })
}

impl JobHandle {
    /// A control that outlives this handle.
    pub fn control(&self) -> JobControl {
        JobControl { events: self.events.clone(), shared: self.shared.clone() }
    }

    /// The job as it is now.
    pub fn status(&self) -> JobStatus {
        self.shared.status()
    }

    /// Waits until the job has ended.
    ///
    /// # Errors
    /// What ended the job, where it did not end well.
    pub fn wait(self) -> Result<JobSummary> {
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(Error::internal("the coordinator panicked")),
        }
    }
}

impl JobControl {
    /// The job as it is now.
    pub fn status(&self) -> JobStatus {
        self.shared.status()
    }

    /// Makes a checkpoint now and waits for it.
    ///
    /// # Errors
    /// A job without checkpoints, a checkpoint that was abandoned, or a job that has ended.
    pub fn checkpoint(&self) -> Result<Epoch> {
        let (reply, answer) = channel();
        self.send(Command::Checkpoint(reply))?;
        answer.recv().map_err(|_| Error::external("the job has ended"))?
    }

    /// Lets the job drain: nothing more is read, what was read is brought to its end, a last
    /// checkpoint is made. Does not wait.
    ///
    /// # Errors
    /// A job that has ended.
    pub fn stop(&self) -> Result<()> {
        self.send(Command::Stop { patience: None })
    }

    /// As [`JobControl::stop`], for so long at most: where something, such as a sink that is away, still holds
    /// the drain up, the job ends with an error that says what, and where it resumes. Calls of sinks that are
    /// under way are not waited for: end the process then. A checkpoint that is being written is.
    ///
    /// # Errors
    /// A job that has ended.
    pub fn stop_within(&self, patience: Duration) -> Result<()> {
        self.send(Command::Stop { patience: Some(patience) })
    }

    /// Ends the job at once, as a crash would. Does not wait.
    ///
    /// # Errors
    /// A job that has ended.
    pub fn abort(&self) -> Result<()> {
        self.send(Command::Abort)
    }

    fn send(&self, command: Command) -> Result<()> {
        let sent = self.events.send(Event::Command(command));
        sent.map_err(|_| Error::external("the job has ended"))
    }
}
