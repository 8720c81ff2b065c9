//! `costs BINARY`: what the binary costs a user who gives it nothing to do: its start, shards without
//! rows, checkpoints without changes, metrics that are served.
//!
//! Start-up is wall time; all else is CPU time of the process, as the kernel accounts for each of its
//! threads, so that other work on the machine counts little. Jobs take turns; printed are medians, with
//! the least and the most.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidemill_core::{Error, Result};

const STARTS: usize = 21;

/// Before a job is looked at, so that its start is over.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How long a job is looked at.
const LOOKED_AT: Duration = Duration::from_secs(4);

/// The jobs take turns so often.
const ROUNDS: usize = 3;

const CHECKPOINT_INTERVAL: &str = "100ms";

const FIRST_WINDOW: &str = "
CREATE TABLE bids (auction BIGINT, `dateTime` TIMESTAMP(3),
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '1' SECOND)
WITH ('connector' = 'nexmark', 'nexmark.table' = 'bid', 'events.num' = '1000000');
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
INSERT INTO counts SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(`dateTime`), INTERVAL '1' SECOND))
GROUP BY window_start, window_end;
";

/// Ten rows a second from one split: one shard has next to nothing to do, the others nothing.
const IDLE: &str = "
CREATE TABLE numbers (n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'datagen', 'rows-per-second' = '10');
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO counts SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' SECOND))
GROUP BY window_start, window_end;
";

fn main() -> ExitCode {
    let Some(binary) = std::env::args_os().nth(1) else {
        eprintln!("costs: say which binary: costs target/release/tidemill");
        return ExitCode::from(2);
    };
    match measure(Path::new(&binary)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("costs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(binary: &Path) -> Result<()> {
    let bench = Bench::new(binary)?;
    bench.start_up()?;
    let mut rounds: Vec<[f64; 5]> = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(bench.round()?);
    }
    let labels = [
        "a shard without a split        ",
        "1 shard, 10 rows a second      ",
        "metrics of 64 shards, served   ",
        "a checkpoint of 1 shard        ",
        "a checkpoint of 64 shards      ",
    ];
    for (column, label) in labels.iter().enumerate() {
        let mut found: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
        found.sort_by(f64::total_cmp);
        let (least, most) = (found[0], found[ROUNDS - 1]);
        let unit = if label.contains("checkpoint") { "" } else { " a second" };
        let median = found[ROUNDS / 2];
        println!("{label}{median:8.3} ms of CPU{unit} ({least:.3} to {most:.3})");
    }
    Ok(())
}

/// The binary and the jobs that it is given.
struct Bench {
    binary: PathBuf,
    folder: TempDir,
}

/// What was seen of a job.
struct Looked {
    /// CPU time while it was looked at.
    cpu: Duration,
    /// Checkpoints that it completed in all.
    checkpoints: f64,
    /// From its start to its end.
    lasted: Duration,
}

impl Looked {
    /// Milliseconds of CPU in a second.
    fn per_second(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / LOOKED_AT.as_secs_f64()
    }
}

impl Bench {
    fn new(binary: &Path) -> Result<Self> {
        let folder = TempDir::new()?;
        fs::write(folder.path().join("first-window.sql"), FIRST_WINDOW)?;
        fs::write(folder.path().join("idle.sql"), IDLE)?;
        let binary = binary.canonicalize().map_err(|error| {
            Error::from(error).at(format!("{} (build it first)", binary.display()))
        })?;
        Ok(Self { binary, folder })
    }

    fn run(&self, job: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("run").arg(self.folder.path().join(job)).args(["-o", "json"]).args(flags);
        command
    }

    /// From starting the process to the first result row on its standard output.
    fn start_up(&self) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let started = Instant::now();
            let mut command = self.run("first-window.sql", &["--parallelism", "1"]);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
            let mut row = String::new();
            if let Some(output) = child.stdout.take() {
                BufReader::new(output).read_line(&mut row)?;
            }
            times.push(started.elapsed().as_secs_f64() * 1e3);
            child.kill()?;
            child.wait()?;
            if !row.contains("window_start") {
                return Err(Error::external(format!("the first row is not a window: '{row}'")));
            }
        }
        times.sort_by(f64::total_cmp);
        let (least, median, most) = (times[0], times[STARTS / 2], times[STARTS - 1]);
        println!("start to first window          {median:8.1} ms ({least:.1} to {most:.1})");
        Ok(())
    }

    /// The costs in the order of their labels, each from the jobs of one round.
    fn round(&self) -> Result<[f64; 5]> {
        let one = self.idle(1, &[])?;
        let many = self.idle(64, &[])?;
        let served = self.idle(64, &["--http", "127.0.0.1:0"])?;
        Ok([
            (many.per_second() - one.per_second()) / 63.0,
            one.per_second(),
            served.per_second() - many.per_second(),
            self.checkpoint(1, &one)?,
            self.checkpoint(64, &many)?,
        ])
    }

    /// Milliseconds of CPU for each checkpoint, by what the job costs without any.
    fn checkpoint(&self, shards: usize, without: &Looked) -> Result<f64> {
        let folder = TempDir::new()?;
        let url = format!("file://{}", folder.path().display());
        let flags = ["--checkpoint-dir", &url, "--checkpoint-interval", CHECKPOINT_INTERVAL];
        let job = self.idle(shards, &flags)?;
        let each_second = job.checkpoints / job.lasted.as_secs_f64();
        Ok((job.per_second() - without.per_second()) / each_second)
    }

    /// Runs the idle job for a while and looks at it.
    fn idle(&self, shards: usize, flags: &[&str]) -> Result<Looked> {
        let log = self.folder.path().join("log");
        let started = Instant::now();
        let mut command = self.run("idle.sql", &["--parallelism", &shards.to_string()]);
        let output = File::create(&log)?;
        command.args(flags).stdout(output.try_clone()?).stderr(output);
        let mut child = command.spawn()?;
        thread::sleep(SETTLED_AFTER);
        let before = cpu(&child)?;
        thread::sleep(LOOKED_AT);
        let cpu = cpu(&child)?.saturating_sub(before);
        Command::new("kill").arg(child.id().to_string()).status()?;
        let ended = child.wait()?;
        let said = fs::read_to_string(&log)?;
        let summary = said.lines().find_map(|line| serde_json::from_str(line).ok());
        let Some(serde_json::Value::Object(summary)) = summary.filter(|_| ended.success()) else {
            return Err(Error::external(format!("the job of {shards} shards failed: {said}")));
        };
        let checkpoints = summary["checkpoints"]["completed"].as_f64().unwrap_or_default();
        Ok(Looked { cpu, checkpoints, lasted: started.elapsed() })
    }
}

/// CPU time of all threads of a process so far.
fn cpu(child: &Child) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", child.id()))? {
        let path = thread?.path().join("schedstat");
        let stat = fs::read_to_string(path)?;
        nanos += stat.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}
