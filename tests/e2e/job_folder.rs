//! A file → file job for the real binary, in a folder of its own, with the output that it must leave
//! behind: computed in plain Rust, row by row, from the same input.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::pipelines::fast_disk;

/// Input files, and so splits.
const FILES: usize = 4;

/// The watermark's bound, the windows' size and slide, in milliseconds.
const BOUND: i64 = 2_000;
const SIZE: i64 = 20_000;
const SLIDE: i64 = 5_000;

/// Input starts at noon, so that no window reaches into the day before.
const NOON: i64 = 12 * 3_600_000;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

const JOB: &str = "
SET 'pipeline.name' = 'recovery';
SET 'execution.checkpointing.dir' = 'checkpoints';
CREATE TABLE clicks (
  user_id BIGINT, ts TIMESTAMP(3), amount BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'input', 'format' = 'csv', 'rate-limit' = '${RATE:-10000000}');
CREATE TABLE totals (window_start TIMESTAMP(3), user_id BIGINT, n BIGINT, total BIGINT)
WITH ('connector' = 'filesystem', 'path' = 'output', 'format' = 'csv');
INSERT INTO totals
SELECT window_start, user_id, COUNT(*), SUM(amount)
FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
WHERE amount <> 0
GROUP BY window_start, window_end, user_id;
";

/// What the job must leave behind.
#[derive(Debug, Default, Clone)]
pub struct Expected {
    /// Lines of the sink's files, sorted.
    pub lines: Vec<String>,
    pub records: u64,
    pub counted: u64,
    pub late: u64,
    pub filtered: u64,
    pub dead_letters: u64,
}

/// A folder with the job, its input, its checkpoints and its output.
pub struct JobFolder {
    dir: TempDir,
    pub expected: Expected,
}

impl JobFolder {
    /// The job over random input, of so many records a file (the last has half as many).
    pub fn new(seed: u64, records: usize) -> Self {
        let dir = tempfile::tempdir_in(fast_disk()).unwrap();
        fs::create_dir(dir.path().join("input")).unwrap();
        fs::write(dir.path().join("job.sql"), JOB).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut oracle = Oracle::default();
        for file in 0..FILES {
            let records = if file + 1 == FILES { records / 2 } else { records };
            let text = split(&mut rng, records, &mut oracle);
            fs::write(dir.path().join(format!("input/{file}.csv")), text).unwrap();
        }
        Self { dir, expected: oracle.finish() }
    }

    /// The same job in the same state, elsewhere.
    pub fn copy(&self) -> Self {
        let dir = tempfile::tempdir_in(fast_disk()).unwrap();
        copy_all(self.dir.path(), dir.path());
        Self { dir, expected: self.expected.clone() }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// `tidemill` in this folder.
    pub fn tidemill(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(arguments).current_dir(self.dir.path()).env_remove("FAILPOINTS");
        command
    }

    /// `tidemill run` of the job on so many shards, with a checkpoint every `interval`.
    pub fn job(&self, shards: usize, interval: &str) -> Command {
        let shards = shards.to_string();
        let mut command =
            self.tidemill(&["run", "job.sql", "-o", "json", "--parallelism", &shards]);
        command.args(["--checkpoint-interval", interval]);
        command
    }

    /// Starts the job at a limited rate in the background.
    pub fn start(&self, mut command: Command, rate: u32) -> Running {
        command.env("RATE", rate.to_string());
        Running::start(command, self.path(&format!("log-{rate}")))
    }

    /// The epochs that exist, ascending.
    pub fn epochs(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(self.path("checkpoints/recovery/manifests")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut epochs: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
        epochs.sort_unstable();
        epochs
    }

    pub fn newest_epoch(&self) -> u64 {
        self.epochs().last().copied().unwrap_or(0)
    }

    /// Runs at a low rate until `epochs` checkpoints exist and the newest one's results can be seen,
    /// and kills it: a job in its middle.
    pub fn interrupt(&self, epochs: u64, interval: &str) {
        let mut running = self.start(self.job(2, interval), 3000);
        running.until("checkpoints with results", || {
            let newest = self.newest_epoch();
            let results = format!("-{newest:010}.csv");
            let of_newest = |file: &PathBuf| file.to_str().unwrap().ends_with(&results);
            newest >= epochs && self.output_files().iter().any(of_newest)
        });
        running.kill();
    }

    /// Visible files of the sink.
    pub fn output_files(&self) -> Vec<PathBuf> {
        part_files(&self.path("output"))
    }

    /// That the output is the oracle's and the counts of the run's summary are too.
    pub fn assert_exact(&self, ended: &Output, context: &str) {
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{context}: {:?}: {stderr}", ended.status);
        assert_lines(&lines(&self.output_files()), &self.expected.lines, context);
        let dead_letters = lines(&part_files(&self.path("checkpoints/dead-letters/recovery")));
        assert_eq!(dead_letters.len() as u64, self.expected.dead_letters, "{context}");
        let summary = summary(&stderr);
        let ledger = &summary["ledgers"][0];
        let expected = &self.expected;
        let counts = ["records_in", "counted", "late", "filtered", "dead_letters"]
            .map(|name| ledger[name].as_u64().unwrap());
        let wanted = [
            expected.records,
            expected.counted,
            expected.late,
            expected.filtered,
            expected.dead_letters,
        ];
        assert_eq!(counts, wanted, "{context}: in, counted, late, filtered, dead letters");
        assert_eq!(counts[0], counts[1..].iter().sum::<u64>(), "{context}: the ledger balances");
        assert_eq!(summary["phase"], "finished", "{context}");
    }

    /// That every epoch that can be seen is intact.
    pub fn assert_epochs_intact(&self, context: &str) {
        for epoch in self.epochs() {
            let epoch = epoch.to_string();
            let arguments =
                ["checkpoint", "verify", "checkpoints", "--job", "recovery", "--epoch", &epoch];
            let verified = self.tidemill(&arguments).output().unwrap();
            let stderr = String::from_utf8_lossy(&verified.stderr);
            assert!(verified.status.success(), "{context}, epoch {epoch}: {stderr}");
        }
    }
}

/// A process in the background; killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a command; what it says goes to a file.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(&log).unwrap());
        Self { child: command.spawn().unwrap(), log }
    }

    /// Waits for a condition while the process runs.
    pub fn until(&mut self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended before {what}: {ended:?}, {}", self.stderr());
            assert!(start.elapsed() < PATIENCE, "waited for {what} in vain: {}", self.stderr());
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Lets it run for a while; it must not end.
    pub fn let_run(&mut self, time: Duration) {
        let start = Instant::now();
        self.until("its time was over", || start.elapsed() >= time);
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name: `INT`.
    pub fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{name}"), &process]).status().unwrap().success()
        );
    }

    /// Waits for the end; returns exit code and what was said.
    pub fn wait(&mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.stderr());
            }
            assert!(start.elapsed() < PATIENCE, "does not end: {}", self.stderr());
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The summary that `-o json` puts on standard error.
pub fn summary(stderr: &str) -> Value {
    let json = stderr.lines().rfind(|line| line.starts_with('{')).expect("a summary");
    serde_json::from_str(json).unwrap()
}

/// Lines of files, sorted.
pub fn lines(files: &[PathBuf]) -> Vec<String> {
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let mut lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.sort();
    lines
}

/// Equal, or the first lines that are not.
pub fn assert_lines(found: &[String], expected: &[String], context: &str) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        let at = at.unwrap_or(found.len().min(expected.len()));
        panic!(
            "{context}: {} lines instead of {}; at {at} {:?} instead of {:?}",
            found.len(),
            expected.len(),
            found.get(at),
            expected.get(at)
        );
    }
}

/// Visible files of a sink.
pub fn part_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("part-")).collect()
}

/// A folder and all in it.
pub fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// One file: rows out of order, some of them late, some filtered, some that are no rows.
fn split(rng: &mut impl Rng, records: usize, oracle: &mut Oracle) -> String {
    let (mut text, mut now, mut newest) = (String::new(), NOON, None);
    for record in 0..records {
        if record % 500 == 250 {
            writeln!(text, "nobody,never,{record}").unwrap();
            oracle.expected.records += 1;
            oracle.expected.dead_letters += 1;
            continue;
        }
        now += rng.random_range(0..100);
        let behind = match rng.random_range(0..50) {
            0 => rng.random_range(0..60_000),
            1..6 => rng.random_range(0..6_000),
            _ => 0,
        };
        let (user, ts) = (rng.random_range(0..20), now - behind);
        let amount = rng.random_range(-3..20);
        writeln!(text, "{user},{},{amount}", timestamp(ts)).unwrap();
        let watermark = newest.map_or(i64::MIN, |newest: i64| newest - BOUND);
        newest = Some(newest.map_or(ts, |newest| newest.max(ts)));
        oracle.row(user, ts, amount, watermark);
    }
    text
}

fn timestamp(millis: i64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("2024-01-01 {hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

/// Windows by brute force.
#[derive(Default)]
struct Oracle {
    expected: Expected,
    groups: BTreeMap<(i64, i64), (i64, i64)>,
}

impl Oracle {
    fn row(&mut self, user: i64, ts: i64, amount: i64, watermark: i64) {
        self.expected.records += 1;
        if amount == 0 {
            self.expected.filtered += 1;
            return;
        }
        let last = ts - ts % SLIDE;
        let starts = (0..SIZE / SLIDE).map(|n| last - n * SLIDE);
        let open: Vec<i64> = starts.filter(|start| start + SIZE > watermark).collect();
        match open.is_empty() {
            true => self.expected.late += 1,
            false => self.expected.counted += 1,
        }
        for start in open {
            let group = self.groups.entry((start, user)).or_default();
            *group = (group.0 + 1, group.1 + amount);
        }
    }

    fn finish(mut self) -> Expected {
        let line = |(key, value): (&(i64, i64), &(i64, i64))| {
            let start = timestamp(key.0);
            // Windows start at whole seconds, which are written as such.
            format!("{},{},{},{}", start.trim_end_matches(".000"), key.1, value.0, value.1)
        };
        self.expected.lines = self.groups.iter().map(line).collect();
        self.expected.lines.sort();
        assert!(self.expected.late > 0 && self.expected.filtered > 0, "the input is too tame");
        self.expected
    }
}
