//! The Nexmark queries of `benches/nexmark`, as jobs, beside their generator by itself.
//!
//! Stands outside the data path. Invariant: both read the same source, planned from the same text for
//! the same query, so that their quotient says what the engine costs; and however often a query runs,
//! on however many shards, it gives as many results.

use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use tidemill_core::graph::NodeKind;
use tidemill_core::source::{Read, ReaderContext, Source, SplitId};
use tidemill_core::time::SystemClock;
use tidemill_core::{Error, Result};
use tidemill_generator::NexmarkFactory;
use tidemill_print::BlackholeFactory;
use tidemill_runtime::JobSettings;
use tidemill_sql::Registry;

use super::contenders::{CHECKPOINTED, TIDEMILL};
use super::engine::CHECKPOINT_INTERVAL;
use super::measure::{Contender, Outcome};
use crate::Job;

/// The source of a query's job, read by a loop that throws its rows away.
pub const GENERATOR: &str = "generator alone";

/// How many events the job files ask for.
const EVENTS: &str = "'events.num' = '10000000'";

/// A Nexmark query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// What it is called: `q5`.
    name: &'static str,
    text: &'static str,
}

macro_rules! queries {
    ($($name:literal),*) => {
        [$(Query {
            name: $name,
            text: include_str!(concat!("../../benches/nexmark/", $name, ".sql")),
        }),*]
    };
}

/// Those whose joins there are none of.
const QUERIES: [Query; 8] = queries!("q0", "q1", "q2", "q5", "q7", "q8", "q11", "q12");

impl FromStr for Query {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        QUERIES.into_iter().find(|query| query.name == name).ok_or_else(|| {
            let names: Vec<_> = QUERIES.iter().map(|query| query.name).collect();
            format!("there is no Nexmark query '{name}' here: write one of {}", names.join(", "))
        })
    }
}

/// A query over so many events.
#[derive(Debug, Clone)]
pub struct Nexmark {
    /// Which.
    pub query: Query,
    /// Events of all kinds.
    pub events: usize,
    /// Numbers of threads; the generator is in as many splits.
    pub parallelism: Vec<usize>,
    /// Where checkpoints are kept, in runs of their own.
    pub checkpoints: Option<String>,
}

impl Nexmark {
    /// What it is called on the command line.
    pub fn name(&self) -> String {
        format!("nexmark:{}", self.query.name)
    }

    /// The generator alone and the job, on each number of threads.
    ///
    /// # Errors
    /// A job file that does not fit the engine.
    pub fn contenders(&self) -> Result<Vec<Contender>> {
        let mut all = Vec::new();
        for &threads in &self.parallelism {
            let sources = self.sources(threads)?;
            all.push(Contender::new(GENERATOR, threads, move || read_all(&sources, threads)));
            all.push(self.engine(TIDEMILL, threads, None)?);
            if let Some(folder) = &self.checkpoints {
                all.push(self.engine(CHECKPOINTED, threads, Some(folder))?);
            }
        }
        Ok(all)
    }

    fn engine(&self, name: &str, threads: usize, checkpoints: Option<&str>) -> Result<Contender> {
        let mut job = self.job(threads)?;
        if let Some(folder) = checkpoints {
            job.checkpoints(folder, CHECKPOINT_INTERVAL).fresh();
        }
        let sinks: Vec<String> = job
            .graph()?
            .nodes()
            .iter()
            .filter(|node| matches!(node.kind, NodeKind::Sink(_)))
            .map(|node| node.name.clone())
            .collect();
        // Windows of the wall clock are others in every run.
        let repeats = self.query.name != "q12";
        Ok(Contender::new(name, threads, move || {
            let summary = job.run_blocking()?;
            let of_sink = |sink| summary.counts.get(sink).map(|counts| counts.records_in);
            Ok(Outcome {
                emit_delay: (summary.windows_fired > 0).then_some(summary.emit_delay),
                rows: Some(summary.records_in),
                results: repeats.then(|| sinks.iter().filter_map(of_sink).sum()),
                ..Outcome::default()
            })
        }))
    }

    /// The query as a job; its sinks are blackholes.
    fn job(&self, threads: usize) -> Result<Job> {
        let events = format!("'events.num' = '{}', 'splits' = '{threads}'", self.events);
        let text = self.query.text.replace(EVENTS, &events);
        if text == self.query.text {
            return Err(Error::internal(format!("{} does not say {EVENTS}", self.name())));
        }
        let registry = Registry::new(vec![Arc::new(NexmarkFactory), Arc::new(BlackholeFactory)]);
        let mut job = Job::from_sql(&format!("{}.sql", self.query.name), &text, &registry)?;
        job.parallelism(threads);
        Ok(job)
    }

    /// What the job reads: sources that make what the query looks at, and nothing else.
    fn sources(&self, threads: usize) -> Result<Vec<Arc<dyn Source>>> {
        let graph = self.job(threads)?.graph()?;
        let source = |kind: &NodeKind| match kind {
            NodeKind::Source(node) => Some(node.source.clone()),
            _ => None,
        };
        Ok(graph.nodes().iter().filter_map(|node| source(&node.kind)).collect())
    }
}

/// Reads the splits of all sources to their ends, dealt out to threads.
fn read_all(sources: &[Arc<dyn Source>], threads: usize) -> Result<Outcome> {
    let mut work: Vec<Vec<(&dyn Source, SplitId)>> = vec![Vec::new(); threads];
    for source in sources {
        for (number, split) in source.splits()?.into_iter().enumerate() {
            work[number % threads].push((source.as_ref(), split));
        }
    }
    let read = thread::scope(|scope| -> Result<u64> {
        let threads: Vec<_> = work.iter().map(|work| scope.spawn(|| read_splits(work))).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.sum()
    })?;
    Ok(Outcome { rows: Some(read), ..Outcome::default() })
}

/// Reads splits one after the other, in batches as the engine would: how many rows they have.
fn read_splits(splits: &[(&dyn Source, SplitId)]) -> Result<u64> {
    let JobSettings { batch_rows, .. } = JobSettings::named(GENERATOR);
    let context = ReaderContext {
        waker: Waker::noop().clone(),
        clock: Arc::new(SystemClock::default()),
        job: GENERATOR.into(),
        discovered: false,
        checkpointed: false,
    };
    let mut rows = 0;
    for (source, split) in splits {
        let mut reader = source.open(split, None, &context)?;
        loop {
            match reader.read(batch_rows)? {
                Read::Batch(batch) => rows += black_box(batch.rows).num_rows() as u64,
                // Nothing here waits for anybody but the clock.
                Read::Pending => thread::sleep(Duration::from_millis(1)),
                Read::End => break,
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::measure::{Measured, measure};
    use super::*;

    fn run(query: &str, checkpoints: Option<String>) -> Vec<Measured> {
        let query = query.parse().unwrap();
        let nexmark = Nexmark { query, events: 20_000, parallelism: vec![1, 2], checkpoints };
        measure(&nexmark.contenders().unwrap(), 0, 1, |_| {}).unwrap()
    }

    fn results(measured: &Measured) -> Option<u64> {
        measured.samples[0].outcome.results
    }

    #[test]
    fn every_query_reads_as_many_events_as_its_generator_makes() {
        for query in QUERIES {
            let measured = run(query.name, None);
            let names: Vec<_> = measured.iter().map(|m| (m.name.as_str(), m.threads)).collect();
            assert_eq!(names, [(GENERATOR, 1), (TIDEMILL, 1), (GENERATOR, 2), (TIDEMILL, 2)]);
            let rows = measured.iter().map(|m| m.samples[0].outcome.rows);
            assert!(rows.into_iter().all(|rows| rows == Some(20_000)), "{}", query.name);
            let some = query.name != "q12";
            assert_eq!(results(&measured[1]).is_some_and(|results| results > 0), some);
        }
    }

    #[test]
    fn q0_lets_every_bid_pass_with_checkpoints_too() {
        let folder = tempfile::tempdir().unwrap();
        let measured = run("q0", Some(folder.path().display().to_string()));
        assert_eq!(measured[2].name, CHECKPOINTED);
        assert!([1, 2, 4, 5].iter().all(|n| results(&measured[*n]) == Some(20_000 / 50 * 46)));
    }

    #[test]
    fn what_is_no_query_is_told_which_there_are() {
        let error = "q4".parse::<Query>().err().unwrap();
        assert!(error.contains("'q4'") && error.contains("q0, q1, q2, q5"), "{error}");
    }
}
