//! Job files on the command line: reading, planning, settings; `check` and `explain`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tidemill_core::dead_letter::OnError;
use tidemill_core::table::{ConnectorFactory, parse_bytes, parse_duration};
use tidemill_core::{Error, Result};
use tidemill_print::Console;
use tidemill_runtime::{CheckpointSettings, JobSettings, StartFrom};
use tidemill_sql::{PlannedJob, Registry};

use super::output::out;
use super::{Failure, OutputFormat};
use crate::{DeadLetters, Job, explain, interceptors, settings};

/// A job file and what overrides its settings.
#[derive(Debug, Clone, Args)]
pub struct JobFileArgs {
    /// The job file.
    #[arg(value_name = "JOB.sql")]
    pub job: PathBuf,
    /// Shards (threads) [default: cores].
    #[arg(long, value_name = "N")]
    pub parallelism: Option<usize>,
    /// Hold at most so much in queues, state and sinks: 512mb, 4gb [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub memory: Option<usize>,
    /// Make checkpoints under this folder or URL, and resume from the newest one there.
    #[arg(long, value_name = "URL")]
    pub checkpoint_dir: Option<String>,
    /// From the start of one checkpoint to the next [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub checkpoint_interval: Option<Duration>,
    /// Ignore the checkpoints that there are, and start from the beginning.
    #[arg(long)]
    pub fresh: bool,
    /// Go on from the offsets of the newest checkpoint, without its state: for a query that has changed.
    #[arg(long, conflicts_with = "fresh")]
    pub from_offsets: bool,
    /// Set an option, as SET in the job file does.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// `tidemill check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    file: JobFileArgs,
    /// Who errors are for.
    #[arg(short, long, default_value = "text")]
    pub output: OutputFormat,
}

/// `tidemill explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    file: JobFileArgs,
    /// How to draw it.
    #[arg(long, default_value = "text")]
    format: Drawing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Drawing {
    Text,
    Mermaid,
}

/// A job file, planned and with its settings settled.
pub struct LoadedJob {
    /// The plan.
    pub plan: PlannedJob,
    /// The settings.
    pub settings: JobSettings,
    /// Where dead letters go, where the file says so.
    pub dead_letters: Option<DeadLetters>,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("'{text}' is not a duration: write 10s or 500ms"))
}

fn bytes(text: &str) -> Result<usize, String> {
    let parsed = parse_bytes(text).filter(|bytes| *bytes > 0);
    parsed.ok_or_else(|| format!("'{text}' is not a size: write 512mb or 4gb"))
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Every connector that the binary has.
pub fn connectors() -> Vec<Arc<dyn ConnectorFactory>> {
    let (stdout, stderr) = (Console::stdout(), Console::stderr());
    vec![
        Arc::new(tidemill_bus::BusFactory),
        Arc::new(tidemill_files::FilesFactory),
        Arc::new(tidemill_generator::DatagenFactory),
        Arc::new(tidemill_generator::NexmarkFactory),
        Arc::new(tidemill_kafka::KafkaFactory),
        Arc::new(tidemill_kafka::UpsertKafkaFactory),
        Arc::new(tidemill_print::PrintFactory::new(stdout, stderr)),
        Arc::new(tidemill_print::BlackholeFactory),
        Arc::new(tidemill_redis::RedisFactory),
        Arc::new(tidemill_redis::RedisStreamFactory),
        Arc::new(tidemill_websocket::WebSocketFactory),
    ]
}

impl JobFileArgs {
    /// Reads and plans the job file, and settles its settings: flags win over `--set`, `--set` over
    /// the file.
    ///
    /// # Errors
    /// A file that cannot be read, or everything that is wrong in it.
    pub fn load(&self) -> Result<LoadedJob, Failure> {
        self.load_with(connectors())
    }

    /// As [`JobFileArgs::load`], with other connectors.
    ///
    /// # Errors
    /// As for [`JobFileArgs::load`].
    pub fn load_with(
        &self,
        connectors: Vec<Arc<dyn ConnectorFactory>>,
    ) -> Result<LoadedJob, Failure> {
        let name = self.job.display().to_string();
        let text = std::fs::read_to_string(&self.job).map_err(|error| {
            Error::configuration(format!("the job file {name} cannot be read")).caused_by(error)
        })?;
        let mut registry = interceptors::registered(Registry::new(connectors));
        for (key, value) in &self.set {
            registry = registry.with_setting(key, value)?;
        }
        let variable = |name: &str| std::env::var(name).ok();
        let mut plan = tidemill_sql::plan(&name, &text, &variable, &registry)?;
        let settings = self.settings(&plan.settings)?;
        self.warn_of_no_checkpoints(&plan.settings, &settings);
        let dead_letters = settings::dead_letters(&plan.settings)?;
        if settings.checkpoints.is_some() || dead_letters.is_some() {
            // Only the file itself says whether there are checkpoints or a place for dead letters, and
            // with them bad records are kept unless a table says otherwise: plan it again, knowing that.
            let registry = registry.with_default_on_error(OnError::DeadLetter);
            plan = tidemill_sql::plan(&name, &text, &variable, &registry)?;
        }
        Ok(LoadedJob { plan, settings, dead_letters })
    }

    /// An interval alone makes checkpoints in Flink, which has a place for them without being told.
    fn warn_of_no_checkpoints(&self, set: &BTreeMap<String, String>, settings: &JobSettings) {
        let has_interval = self.checkpoint_interval.is_some()
            || set.contains_key("execution.checkpointing.interval");
        if has_interval && settings.checkpoints.is_none() {
            eprintln!(
                "warning: no checkpoints are made, although there is an interval: SET \
                 'execution.checkpointing.dir', or pass --checkpoint-dir"
            );
        }
    }

    fn start(&self) -> StartFrom {
        match (self.fresh, self.from_offsets) {
            (true, _) => StartFrom::Beginning,
            (_, true) => StartFrom::Offsets,
            _ => StartFrom::Checkpoint,
        }
    }

    fn settings(&self, set: &BTreeMap<String, String>) -> Result<JobSettings> {
        let mut settings = settings::from_set(set, &self.job)?;
        settings.shards = self.parallelism.unwrap_or(settings.shards);
        settings.memory_budget = self.memory.or(settings.memory_budget);
        let interval =
            self.checkpoint_interval.map_or_else(|| settings::checkpoint_interval(set), Ok)?;
        let url = settings.checkpoints.map(|checkpoints| checkpoints.url);
        settings.checkpoints = self.checkpoint_dir.clone().or(url).map(|url| CheckpointSettings {
            start: self.start(),
            ..CheckpointSettings::new(url, interval)
        });
        Ok(settings)
    }
}

impl LoadedJob {
    /// The job, ready to start.
    pub fn job(self) -> Job {
        let mut job = Job::from_graph(self.plan.graph, self.settings);
        if let Some(place) = self.dead_letters {
            job.dead_letters(place);
        }
        job
    }
}

pub fn check(args: &CheckArgs) -> Result<(), Failure> {
    let loaded = args.file.load()?;
    if args.output == OutputFormat::Text {
        let nodes = loaded.plan.graph.nodes().len();
        eprintln!("{}: no errors ({nodes} nodes)", args.file.job.display());
    }
    Ok(())
}

pub fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let loaded = args.file.load()?;
    let checkpointed = loaded.settings.checkpoints.is_some();
    let graph = loaded.job().complete_graph()?;
    match args.format {
        Drawing::Text => out!("{}", explain::text(&graph, checkpointed)),
        Drawing::Mermaid => out!("{}", explain::mermaid(&graph, checkpointed)),
    }
    Ok(())
}
