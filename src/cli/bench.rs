//! `tidemill bench`: measures the engine beside yardsticks, or a job file by itself.

mod beside;
mod made;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tidemill_core::Result;
use tidemill_core::graph::{Graph, NodeKind, SinkNode};
use tidemill_print::Blackhole;

use self::made::{MadeArgs, refuse};
use self::report::ReportArgs;
use super::{Failure, JobFileArgs, OutputFormat};
use crate::Job;
use crate::bench::compare::Work;
use crate::bench::contenders::{JOB_FILE, contenders};
use crate::bench::machine;
use crate::bench::measure::{Contender, Outcome, measure};
use crate::bench::nexmark::{self, Nexmark};
use crate::bench::report::{Figures, Report, SCHEMA, ratios};
use crate::bench::workload::Workload;

/// `tidemill bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure: windows over rows that are made for it (tumbling and session: count, sum, min,
    /// max, avg; hopping: count), a query of Nexmark (q0, q1, q2, q5, q7, q8, q11, q12), which --rows
    /// events are generated for, or a job file, whose sinks are replaced by blackholes. Options about
    /// keys, windows and sources are for windows over rows only.
    #[arg(value_name = "tumbling|hopping|session|nexmark:QUERY|JOB.sql", value_parser = what)]
    what: What,
    /// Rows, or events, of each run [default: 10000000].
    #[arg(long, value_name = "N", value_parser = positive)]
    rows: Option<usize>,
    #[command(flatten)]
    made: MadeArgs,
    /// Numbers of threads to measure with, one after the other.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2", value_parser = positive)]
    parallelism: Vec<usize>,
    /// Runs that count.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = positive)]
    runs: usize,
    /// Runs before, which do not.
    #[arg(long, value_name = "N", default_value_t = 1)]
    warm_up: usize,
    /// Measure with a checkpoint every second, kept in this folder, as well.
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<String>,
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
        let query = match self.what {
            What::Tumbling => self.made.tumbling()?,
            What::Hopping => self.made.hopping()?,
            What::Session => self.made.session()?,
            What::Nexmark(_) | What::JobFile(_) => return self.made.refuse().map(|()| None),
        };
        Ok(Some(Workload {
            rows: self.rows(),
            parallelism: self.parallelism.clone(),
            checkpoints: self.checkpoints.clone(),
            ..self.made.workload(query)?
        }))
    }

    fn contenders(&self, workload: Option<&Workload>) -> Result<Vec<Contender>, Failure> {
        match &self.what {
            What::JobFile(path) => return self.job_file(path),
            What::Nexmark(query) => return Ok(self.nexmark(*query).contenders()?),
            What::Tumbling | What::Hopping | What::Session => {}
        }
        let Some(workload) = workload else { return Ok(Vec::new()) };
        let beside = self.made.beside(workload)?;
        eprintln!("making {} rows", workload.rows);
        Ok(contenders(workload, beside.as_ref(), &self.made.servers())?)
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
            events: self.rows(),
            parallelism: self.parallelism.clone(),
            checkpoints: self.checkpoints.clone(),
        }
    }

    fn rows(&self) -> usize {
        self.rows.unwrap_or(Workload::default().rows)
    }

    /// The job file on each number of threads.
    fn job_file(&self, path: &Path) -> Result<Vec<Contender>, Failure> {
        refuse(
            &[("--rows", self.rows.is_some())],
            "rows that are made; a job file's sources say how many they have",
        )?;
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

pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let machine = machine::this();
    let workload = args.workload()?;
    let name = args.name(workload.as_ref());
    let work = Work {
        name: &name,
        workload: workload.as_ref(),
        rows: (!matches!(args.what, What::JobFile(_))).then_some(args.rows() as u64),
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
    fn what_is_measured_is_a_query_or_a_job_file() {
        assert!(matches!(what("session"), Ok(What::Session)));
        assert!(matches!(what("a/b.sql"), Ok(What::JobFile(_))));
        assert!(matches!(what("nexmark:q11"), Ok(What::Nexmark(_))));
        assert!(what("nexmark:q3").is_err_and(|error| error.contains("'q3'")));
        assert!(what("b.txt").is_err_and(|error| error.contains("hopping")));
    }
}
