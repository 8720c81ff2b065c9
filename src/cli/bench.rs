//! `tidemill bench`: measures the engine beside yardsticks, or a job file by itself.

mod beside;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tidemill_core::graph::{Graph, NodeKind, SinkNode};
use tidemill_core::time::micros;
use tidemill_core::{Error, Result};
use tidemill_print::Blackhole;

use self::beside::{Differences, differences};
use self::report::ReportArgs;
use super::job_file::duration;
use super::{Failure, JobFileArgs, OutputFormat};
use crate::Job;
use crate::bench::compare::Work;
use crate::bench::contenders::{JOB_FILE, contenders};
use crate::bench::machine;
use crate::bench::measure::{Contender, Outcome, measure};
use crate::bench::nexmark::{self, Nexmark};
use crate::bench::report::{Figures, Report, SCHEMA, ratios};
use crate::bench::served::Servers;
use crate::bench::workload::{KeyType, Query, RowSource, Skew, Workload};

/// `tidemill bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure: windows over rows that are made for it (tumbling and session: count, sum, min,
    /// max, avg; hopping: count), a query of Nexmark (q0, q1, q2, q5, q7, q8, q11, q12), which --rows
    /// events are generated for, or a job file, whose sinks are replaced by blackholes. Options about
    /// keys, windows and sources are for windows over rows only.
    #[arg(value_name = "tumbling|hopping|session|nexmark:QUERY|JOB.sql", value_parser = what)]
    what: What,
    /// Rows, or events, of each run.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = positive)]
    rows: usize,
    /// Keys.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = positive)]
    keys: usize,
    /// How frequent keys are: equally, or the k-th most frequent in proportion to 1 / k^EXPONENT.
    #[arg(long, value_name = "uniform|zipf:EXPONENT", default_value = "uniform", value_parser = skew)]
    skew: Skew,
    /// What keys are: 64-bit integers, or text of 16 bytes.
    #[arg(long, default_value = "integer")]
    key_type: KeyType,
    /// How far out of order rows come, at most; also the bound of watermarks.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    disorder: Duration,
    /// Length of tumbling and hopping windows.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    size: Duration,
    /// From the start of one hopping window to the next; divides the size.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    slide: Duration,
    /// How long a key has no row when its session ends.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    gap: Duration,
    /// Numbers of threads to measure with, one after the other.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2", value_parser = positive)]
    parallelism: Vec<usize>,
    /// Where the rows come from; files are written to the temporary folder first, topics and streams are
    /// filled, and deleted in the end.
    #[arg(long, default_value = "memory")]
    source: RowSource,
    /// Write text to one file, of which each thread reads a piece, not to one for each thread.
    #[arg(long)]
    one_file: bool,
    /// Brokers for --source kafka [default: KAFKA_BROKERS of the environment].
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    /// The server for --source redis [default: REDIS_URL of the environment].
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Runs that count.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = positive)]
    runs: usize,
    /// Runs before, which do not.
    #[arg(long, value_name = "N", default_value_t = 1)]
    warm_up: usize,
    /// Measure with a checkpoint every second, kept in this folder, as well.
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<String>,
    /// Let Tidemill take turns over another workload, too, which is this one but for its keys, skew, size
    /// or slide. For rows in memory.
    #[arg(long, value_name = "keys=N,…", value_parser = differences)]
    beside: Option<Differences>,
    #[command(flatten)]
    report: ReportArgs,
}

/// What is measured.
#[derive(Debug, Clone)]
enum What {
    Tumbling,
    Hopping,
    Session,
    Nexmark(nexmark::Query),
    JobFile(PathBuf),
}

fn what(text: &str) -> Result<What, String> {
    let path = PathBuf::from(text);
    if let Some(query) = text.strip_prefix("nexmark:") {
        return query.parse().map(What::Nexmark);
    }
    match text {
        "tumbling" => Ok(What::Tumbling),
        "hopping" => Ok(What::Hopping),
        "session" => Ok(What::Session),
        _ if path.extension().is_some_and(|suffix| suffix == "sql") => Ok(What::JobFile(path)),
        _ => Err(
            "write `tumbling`, `hopping`, `session`, a query of Nexmark (`nexmark:q5`), or the \
                  path of a job file (JOB.sql)"
                .to_owned(),
        ),
    }
}

fn skew(text: &str) -> Result<Skew, String> {
    let exponent = text.strip_prefix("zipf:").and_then(|exponent| exponent.parse().ok());
    match exponent {
        _ if text == "uniform" => Ok(Skew::Uniform),
        Some(exponent) if f64::is_finite(exponent) && exponent > 0.0 => Ok(Skew::Zipf { exponent }),
        _ => {
            Err("write `uniform`, or `zipf:` and an exponent above 0, such as zipf:1.1".to_owned())
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("write a whole number of at least 1".to_owned()),
    }
}

impl BenchArgs {
    /// Who the report is for.
    pub fn output(&self) -> OutputFormat {
        self.report.output
    }

    /// The workload; `None` for a job file or a query of Nexmark, which say themselves.
    fn workload(&self) -> Result<Option<Workload>> {
        let size_us = length("--size", self.size)?;
        let query = match self.what {
            What::Tumbling => Query::Tumbling { size_us },
            What::Hopping => Query::Hopping { size_us, slide_us: length("--slide", self.slide)? },
            What::Session => Query::Session { gap_us: length("--gap", self.gap)? },
            What::Nexmark(_) | What::JobFile(_) => return Ok(None),
        };
        Ok(Some(Workload {
            query,
            rows: self.rows,
            keys: self.keys as u64,
            skew: self.skew,
            key_type: self.key_type,
            disorder_us: length("--disorder", self.disorder)?,
            source: self.source,
            one_file: self.one_file,
            parallelism: self.parallelism.clone(),
            checkpoints: self.checkpoints.clone(),
        }))
    }

    fn contenders(&self, workload: Option<&Workload>) -> Result<Vec<Contender>, Failure> {
        if workload.is_none() && self.beside.is_some() {
            let message = "--beside is for windows over rows that are made for them: tumbling, hopping, session";
            return Err(Error::configuration(message).into());
        }
        match &self.what {
            What::JobFile(path) => return self.job_file(path),
            What::Nexmark(query) => return Ok(self.nexmark(*query).contenders()?),
            What::Tumbling | What::Hopping | What::Session => {}
        }
        let Some(workload) = workload else { return Ok(Vec::new()) };
        let beside = self.beside.as_ref().map(|beside| beside.from(workload)).transpose()?;
        eprintln!("making {} rows", workload.rows);
        let servers = Servers { brokers: self.brokers.clone(), redis: self.redis.clone() };
        Ok(contenders(workload, beside.as_ref(), &servers)?)
    }

    fn name(&self, workload: Option<&Workload>) -> String {
        match &self.what {
            What::JobFile(path) => path.display().to_string(),
            What::Nexmark(query) => self.nexmark(*query).name(),
            What::Tumbling | What::Hopping | What::Session => {
                workload.map_or("", |workload| workload.query.name()).to_owned()
            }
        }
    }

    fn nexmark(&self, query: nexmark::Query) -> Nexmark {
        Nexmark {
            query,
            events: self.rows,
            parallelism: self.parallelism.clone(),
            checkpoints: self.checkpoints.clone(),
        }
    }

    /// The job file on each number of threads.
    fn job_file(&self, path: &Path) -> Result<Vec<Contender>, Failure> {
        let on = |threads: &usize| {
            let file = JobFileArgs {
                job: path.to_owned(),
                parallelism: Some(*threads),
                memory: None,
                checkpoint_dir: self.checkpoints.clone(),
                checkpoint_interval: None,
                fresh: true,
                from_offsets: false,
                set: Vec::new(),
            };
            let mut loaded = file.load()?;
            without_sinks(&mut loaded.plan.graph);
            let job = loaded.job();
            Ok(Contender::new(JOB_FILE, *threads, move || run_job(&job)))
        };
        self.parallelism.iter().map(on).collect()
    }
}

/// A length of time in microseconds.
fn length(option: &str, length: Duration) -> Result<i64> {
    micros(length)
        .ok_or_else(|| Error::configuration(format!("{option} is longer than time itself")))
}

pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let machine = machine::this();
    let workload = args.workload()?;
    let name = args.name(workload.as_ref());
    let work = Work {
        name: &name,
        workload: workload.as_ref(),
        rows: (!matches!(args.what, What::JobFile(_))).then_some(args.rows as u64),
        optimized: machine.optimized,
    };
    let others = args.report.prepare(&work)?;
    let contenders = args.contenders(workload.as_ref())?;
    let rounds = args.warm_up + args.runs;
    let measured = measure(&contenders, args.warm_up, args.runs, |round| {
        eprintln!("round {} of {rounds}", round + 1);
    })?;
    let rows = workload.as_ref().map_or(0, |workload| workload.rows as u64);
    let figures: Vec<_> =
        measured.iter().filter_map(|contender| Figures::of(contender, rows)).collect();
    let report = Report {
        schema: SCHEMA,
        name,
        command: report::command(),
        warm_up: args.warm_up,
        runs: args.runs,
        machine,
        ratios: ratios(&figures),
        open_loop: args.report.open_loop(workload.as_ref(), &figures)?,
        workload,
        contenders: figures,
        peers: others.peers.clone(),
    };
    Ok(args.report.tell(&report, &others)?)
}

fn run_job(job: &Job) -> Result<Outcome> {
    let summary = job.run_blocking()?;
    let (emit_delay, rows) = (Some(summary.emit_delay), Some(summary.records_in));
    Ok(Outcome { emit_delay, rows, ..Outcome::default() })
}

/// Replaces all sinks by blackholes, so that a benchmark writes nothing.
fn without_sinks(graph: &mut Graph) {
    for id in 0..graph.nodes().len() {
        let node = graph.node_mut(id);
        if matches!(node.kind, NodeKind::Sink(_)) {
            node.kind = NodeKind::Sink(SinkNode::new(Arc::new(Blackhole)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_uniform_or_zipf_with_an_exponent() {
        assert_eq!(skew("uniform"), Ok(Skew::Uniform));
        assert_eq!(skew("zipf:1.1"), Ok(Skew::Zipf { exponent: 1.1 }));
        for wrong in ["zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:inf", "zipf:x", ""] {
            assert!(skew(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_measured_is_a_query_or_a_job_file() {
        assert!(matches!(what("session"), Ok(What::Session)));
        assert!(matches!(what("a/b.sql"), Ok(What::JobFile(_))));
        assert!(matches!(what("nexmark:q11"), Ok(What::Nexmark(_))));
        assert!(what("nexmark:q3").is_err_and(|error| error.contains("'q3'")));
        assert!(what("b.txt").is_err_and(|error| error.contains("hopping")));
    }
}
