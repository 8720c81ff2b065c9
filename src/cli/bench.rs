//! `tidemill bench`: measures the engine beside yardsticks, or a job file by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tidemill_core::graph::{Graph, NodeKind, SinkNode};
use tidemill_core::{Error, Result};
use tidemill_print::Blackhole;

use super::output::{out, outln};
use super::{Failure, JobFileArgs, OutputFormat};
use crate::Job;
use crate::bench::contenders::{Family, RowSource, Workload, contenders};
use crate::bench::machine;
use crate::bench::measure::{Contender, Outcome, measure};
use crate::bench::report::{Figures, Report, ratios};

/// `tidemill bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure: `tumbling`, or a job file, whose sinks are replaced by blackholes.
    #[arg(value_name = "tumbling|JOB.sql", value_parser = what)]
    what: What,
    /// Rows of each run.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = positive)]
    rows: usize,
    /// Keys, equally frequent.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = positive)]
    keys: usize,
    /// Numbers of threads to measure with, one after the other.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2", value_parser = positive)]
    parallelism: Vec<usize>,
    /// Where the rows come from; files are written to the temporary folder first.
    #[arg(long, default_value = "memory")]
    source: RowSource,
    /// Runs that count.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = positive)]
    runs: usize,
    /// Runs before, which do not.
    #[arg(long, value_name = "N", default_value_t = 1)]
    warm_up: usize,
    /// Measure with a checkpoint every second, kept in this folder, as well.
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<String>,
    /// Who the report is for.
    #[arg(short, long, default_value = "text")]
    pub output: OutputFormat,
}

/// What is measured.
#[derive(Debug, Clone)]
enum What {
    Tumbling,
    JobFile(PathBuf),
}

fn what(text: &str) -> Result<What, String> {
    let path = PathBuf::from(text);
    match text {
        "tumbling" => Ok(What::Tumbling),
        _ if path.extension().is_some_and(|suffix| suffix == "sql") => Ok(What::JobFile(path)),
        _ => Err("write `tumbling`, or the path of a job file (JOB.sql)".to_owned()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("write a whole number of at least 1".to_owned()),
    }
}

pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let machine = machine::this();
    let (name, contenders, workload) = match &args.what {
        What::Tumbling => {
            let workload = args.workload();
            eprintln!("making {} rows", workload.rows);
            ("tumbling".to_owned(), contenders(&workload)?, Some(workload))
        }
        What::JobFile(path) => (path.display().to_string(), args.job_file(path)?, None),
    };
    let rounds = args.warm_up + args.runs;
    let measured = measure(&contenders, args.warm_up, args.runs, |round| {
        eprintln!("round {} of {rounds}", round + 1);
    })?;
    let rows = workload.as_ref().map_or(0, |workload| workload.rows as u64);
    let report = Report {
        name,
        workload,
        warm_up: args.warm_up,
        runs: args.runs,
        machine,
        contenders: measured.iter().map(|contender| Figures::of(contender, rows)).collect(),
        ratios: ratios(&measured),
    };
    Ok(show(&report, args.output)?)
}

fn show(report: &Report, output: OutputFormat) -> Result<()> {
    match output {
        OutputFormat::Text => out!("{report}"),
        OutputFormat::Json => {
            let json = serde_json::to_string(report);
            let json = json.map_err(|e| Error::internal("the report is no JSON").caused_by(e))?;
            outln!("{json}");
        }
    }
    Ok(())
}

impl BenchArgs {
    fn workload(&self) -> Workload {
        Workload {
            rows: self.rows,
            keys: self.keys as u64,
            source: self.source,
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
            Ok(Contender::new(Family::JobFile, *threads, move || run_job(&job)))
        };
        self.parallelism.iter().map(on).collect()
    }
}

fn run_job(job: &Job) -> Result<Outcome> {
    let summary = job.run_blocking()?;
    let (emit_delay, rows) = (Some(summary.emit_delay), Some(summary.records_in));
    Ok(Outcome { checksum: None, emit_delay, rows })
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
