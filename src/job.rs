//! A job: a graph with a name and settings, built in Rust or from a job file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_core::dead_letter::OnError;
use tidemill_core::graph::{Buffer, Graph, NodeKind, Port, SourceNode, TimeAttribute};
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::{Error, Result};
use tidemill_runtime::{CheckpointSettings, JobHandle, JobSettings, JobSummary, StartFrom};
use tidemill_sql::Registry;

use crate::stream::{Draft, Stream};
use crate::{DeadLetters, dead_letters, interceptors, settings};

/// A job that is being built.
pub struct Job {
    draft: Arc<Mutex<Draft>>,
    settings: JobSettings,
    dead_letters: Option<DeadLetters>,
}

impl Job {
    /// A job without anything in it. Its checkpoints are found by the name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { draft: Arc::default(), settings: JobSettings::named(name), dead_letters: None }
    }

    /// A job from a graph that another front-end has made.
    pub fn from_graph(graph: Graph, settings: JobSettings) -> Self {
        let sources = 0..graph.nodes().len();
        let draft = Draft { graph, say_on_error: sources.collect(), ..Draft::default() };
        Self { draft: Arc::new(Mutex::new(draft)), settings, dead_letters: None }
    }

    /// A job from the text of a job file. What it `SET`s holds; `${NAME}` in its literals is taken
    /// from the environment. `file` stands in errors, and its stem is the name of a job that sets
    /// none.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use tidemill::generator::DatagenFactory;
    /// use tidemill::memory::MemoryTables;
    /// use tidemill::prelude::*;
    /// use tidemill::sql::Registry;
    ///
    /// # fn main() -> tidemill::Result<()> {
    /// let tables = MemoryTables::new();
    /// let even = tables.sink("even");
    /// let registry = Registry::new(vec![Arc::new(DatagenFactory), Arc::new(tables)]);
    /// let text = "
    ///     CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen',
    ///         'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '10');
    ///     CREATE TABLE even (n BIGINT) WITH ('connector' = 'memory');
    ///     INSERT INTO even SELECT n FROM numbers WHERE n % 2 = 0;
    /// ";
    /// Job::from_sql("even.sql", text, &registry)?.run_blocking()?;
    /// assert_eq!(even.rows(), 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong in the text, each with its line and column, as one error.
    pub fn from_sql(file: &str, text: &str, registry: &Registry) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let registry = interceptors::registered(registry.clone());
        let plan = |registry: &Registry| {
            tidemill_sql::plan(file, text, &variable, registry)
                .map_err(|errors| Error::configuration(errors.to_string()))
        };
        let mut planned = plan(&registry)?;
        let settings = settings::from_set(&planned.settings, Path::new(file))?;
        let dead_letters = settings::dead_letters(&planned.settings)?;
        if settings.checkpoints.is_some() || dead_letters.is_some() {
            // Only the text itself says whether there are checkpoints or a place for dead letters, and
            // with them bad records are kept unless a table says otherwise: plan it again, knowing that.
            planned = plan(&registry.with_default_on_error(OnError::DeadLetter))?;
        }
        Ok(Self { dead_letters, ..Self::from_graph(planned.graph, settings) })
    }

    /// Reads a source.
    pub fn source(&mut self, source: impl Source + 'static) -> Stream {
        self.source_named("source", source)
    }

    /// Reads a source that metrics, checkpoints and `explain` call `name`.
    pub fn source_named(&mut self, name: &str, source: impl Source + 'static) -> Stream {
        let kind = NodeKind::Source(SourceNode {
            source: Arc::new(source),
            computed: None,
            time: TimeAttribute::None,
            rate_limit: None,
            buffer: Buffer::Block,
            on_error: OnError::Fail,
            alignment: None,
        });
        let node = self.draft.lock().graph.add(name, Vec::new(), kind);
        Stream { draft: self.draft.clone(), node, port: Port::Main, time: None }
    }

    /// Runs on so many shards (threads), if not on one per core.
    pub fn parallelism(&mut self, shards: usize) -> &mut Self {
        self.settings.shards = shards;
        self
    }

    /// Holds at most so many bytes in queues, buffers, state and sinks: above that sources wait, and where
    /// waiting cannot help the job ends with an error that says who holds most.
    pub fn memory_budget(&mut self, bytes: usize) -> &mut Self {
        self.settings.memory_budget = Some(bytes);
        self
    }

    /// Makes a checkpoint every `interval` under `url` (a folder, or the URL of an object store), and
    /// resumes from the newest one there. Dead letters are then kept beside the checkpoints, unless
    /// a source says otherwise.
    pub fn checkpoints(&mut self, url: impl Into<String>, interval: Duration) -> &mut Self {
        self.settings.checkpoints = Some(CheckpointSettings::new(url, interval));
        self
    }

    /// Goes on from the offsets of the newest checkpoint, without its state: for a query that has changed
    /// since. Windows that were open then lack the rows before.
    ///
    /// To be said behind [`checkpoints`](Self::checkpoints).
    pub fn from_offsets(&mut self) -> &mut Self {
        self.start_from(StartFrom::Offsets)
    }

    /// Starts from the beginning, whatever checkpoints there are.
    ///
    /// To be said behind [`checkpoints`](Self::checkpoints).
    pub fn fresh(&mut self) -> &mut Self {
        self.start_from(StartFrom::Beginning)
    }

    fn start_from(&mut self, start: StartFrom) -> &mut Self {
        match &mut self.settings.checkpoints {
            Some(checkpoints) => checkpoints.start = start,
            None => {
                let message = "where a job starts is said behind checkpoints(): it has none yet";
                let mistake = Error::configuration(message);
                self.draft.lock().mistake.get_or_insert(mistake);
            }
        }
        self
    }

    /// Dead letters go there (`kafka://HOST:PORT/TOPIC`, or a folder) instead of a folder beside the
    /// checkpoints. Bad records are then kept, with checkpoints or without, unless a source says otherwise.
    pub fn dead_letters(&mut self, place: impl Into<DeadLetters>) -> &mut Self {
        self.dead_letters = Some(place.into());
        self
    }

    /// All settings.
    pub fn settings(&mut self) -> &mut JobSettings {
        &mut self.settings
    }

    /// The graph as it is now.
    ///
    /// # Errors
    /// The first mistake made while it was built.
    pub fn graph(&self) -> Result<Graph> {
        let mut draft = self.draft.lock();
        match draft.mistake.take() {
            Some(mistake) => Err(mistake),
            None => Ok(draft.graph.clone()),
        }
    }

    /// Starts the job and returns at once.
    ///
    /// # Errors
    /// A mistake in the graph or the settings, a checkpoint of another query, another instance that
    /// runs, or a source or sink that cannot be opened.
    pub fn start(&self) -> Result<JobHandle> {
        tidemill_runtime::start(self.complete_graph()?, self.settings.clone())
    }

    fn dead_letter_sink(&self) -> Result<Arc<dyn Sink>> {
        let JobSettings { name, checkpoints, .. } = &self.settings;
        dead_letters::sink(self.dead_letters.as_ref(), name, checkpoints.as_ref())
    }

    /// The graph with an edge for every dead letter, as it is run.
    pub(crate) fn complete_graph(&self) -> Result<Graph> {
        let mut graph = self.graph()?;
        self.decide_on_errors(&mut graph);
        dead_letters::connect(&mut graph, self.dead_letter_sink()?);
        Ok(graph)
    }

    /// Where there are checkpoints, dead letters can be kept exactly, and where a place is named, they are
    /// wanted; so they are kept.
    fn decide_on_errors(&self, graph: &mut Graph) {
        if self.settings.checkpoints.is_none() && self.dead_letters.is_none() {
            return;
        }
        let said = &self.draft.lock().say_on_error;
        for id in (0..graph.nodes().len()).filter(|id| !said.contains(id)) {
            if let NodeKind::Source(source) = &mut graph.node_mut(id).kind {
                source.on_error = OnError::DeadLetter;
            }
        }
    }

    /// Runs the job to its end on threads of its own; the calling thread waits.
    ///
    /// # Errors
    /// As for [`Job::start`], and whatever ends the job.
    pub fn run_blocking(&self) -> Result<JobSummary> {
        self.start()?.wait()
    }

    /// Runs the job to its end on threads of its own.
    ///
    /// # Errors
    /// As for [`Job::run_blocking`].
    pub async fn run(&self) -> Result<JobSummary> {
        let handle = self.start()?;
        let (done, summary) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            // Nobody waits any more when the future was dropped.
            let _ = done.send(handle.wait());
        });
        summary.await.map_err(|_| Error::internal("the thread that waits for the job has died"))?
    }
}
