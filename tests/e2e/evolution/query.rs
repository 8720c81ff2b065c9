//! A job is killed, its query is changed, and it is started again: what is refused and in which words, what
//! is accepted, and what going on from the offsets alone gives, by an oracle of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use tidemill_checkpoint::Manifest;

use crate::job_folder::{Running, assert_lines, lines, part_files, summary};
use crate::pipelines::fast_disk;

/// Input files, and so splits.
const FILES: usize = 3;

/// Records of a file.
const RECORDS: usize = 3_000;

/// The watermark's bound and the size of windows, in milliseconds.
const BOUND: i64 = 2_000;
const SIZE: i64 = 10_000;

const JOB: &str = "
SET 'pipeline.name' = 'evolving';
SET 'execution.checkpointing.dir' = 'checkpoints';
CREATE TABLE clicks (
  user_id BIGINT, ts TIMESTAMP(3), amount BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'input', 'format' = 'json', 'rate-limit' = '${RATE:-10000000}');
CREATE TABLE totals (window_start TIMESTAMP(3), user_id BIGINT, n BIGINT, total BIGINT)
WITH ('connector' = 'filesystem', 'path' = 'output', 'format' = 'csv');
INSERT INTO totals
SELECT window_start, user_id, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE amount <> 0
GROUP BY window_start, window_end, user_id;
";

#[derive(Debug, Clone, Copy)]
struct Click {
    user: i64,
    ts: i64,
    amount: i64,
}

/// A folder with the job, its input, its checkpoints and its output.
struct Folder {
    dir: TempDir,
    files: Vec<Vec<Click>>,
}

impl Folder {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir_in(fast_disk()).unwrap();
        fs::create_dir(dir.path().join("input")).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let files: Vec<Vec<Click>> = (0..FILES).map(|_| clicks(&mut rng)).collect();
        for (number, clicks) in files.iter().enumerate() {
            let mut text = String::new();
            for Click { user, ts, amount } in clicks {
                let ts = timestamp(*ts);
                let record =
                    format!(r#"{{"user_id":{user},"ts":"{ts}","amount":{amount},"note":"n"}}"#);
                writeln!(text, "{record}").unwrap();
            }
            fs::write(dir.path().join(format!("input/{number}.json")), text).unwrap();
        }
        let folder = Self { dir, files };
        folder.write_job(&[]);
        folder
    }

    /// A job that was killed in its middle, with results of its last checkpoint to be seen.
    fn interrupted(seed: u64) -> Self {
        let folder = Self::new(seed);
        let mut command = folder.run(2);
        command.env("RATE", "3000");
        let mut running = Running::start(command, folder.path("log"));
        running.until("checkpoints with results", || {
            folder.newest_epoch() >= 4 && !folder.output().is_empty()
        });
        running.kill();
        folder
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// The job, with pieces of its text replaced.
    fn write_job(&self, changes: &[(&str, &str)]) {
        let mut job = JOB.to_owned();
        for (from, to) in changes {
            assert!(job.contains(from), "{from}");
            job = job.replace(from, to);
        }
        fs::write(self.path("job.sql"), job).unwrap();
    }

    /// `tidemill run` of the job on so many shards, for a machine.
    fn run(&self, shards: usize) -> Command {
        let mut command = self.tidemill(shards);
        command.args(["-o", "json"]);
        command
    }

    fn tidemill(&self, shards: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(["run", "job.sql", "--checkpoint-interval", "50ms"]);
        command.args(["--parallelism", &shards.to_string()]);
        command.current_dir(self.dir.path()).env_remove("TIDEMILL_LOG").env_remove("FAILPOINTS");
        command
    }

    /// Runs it to its end, text for a person on standard error.
    fn say(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let ended = self.tidemill(2).args(arguments).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    }

    fn manifests(&self) -> PathBuf {
        self.path("checkpoints/evolving/manifests")
    }

    fn newest_epoch(&self) -> u64 {
        let Ok(entries) = fs::read_dir(self.manifests()) else { return 0 };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.parse().ok()).max().unwrap_or(0)
    }

    /// The newest checkpoint's manifest, and where it lies.
    fn manifest(&self) -> (PathBuf, Manifest) {
        let path = self.manifests().join(format!("{:012}", self.newest_epoch()));
        (path.clone(), Manifest::decode(&fs::read(path).unwrap()).unwrap())
    }

    /// How many records of each file the newest checkpoint has read.
    fn read_so_far(&self) -> Vec<usize> {
        let (_, manifest) = self.manifest();
        let splits = &manifest.sources[0].splits;
        assert_eq!(splits.len(), FILES);
        splits.iter().map(|split| split.records as usize).collect()
    }

    /// Lines that can be seen, sorted.
    fn output(&self) -> Vec<String> {
        lines(&part_files(&self.path("output")))
    }
}

/// Out of order, some of them late, some filtered.
fn clicks(rng: &mut impl Rng) -> Vec<Click> {
    let mut now = 12 * 3_600_000;
    let click = |_| {
        now += rng.random_range(0..60);
        let behind = match rng.random_range(0..50) {
            0 => rng.random_range(0..40_000),
            1..6 => rng.random_range(0..5_000),
            _ => 0,
        };
        let (user, amount) = (rng.random_range(0..5), rng.random_range(-3..20));
        Click { user, ts: now - behind, amount }
    };
    (0..RECORDS).map(click).collect()
}

fn timestamp(millis: i64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("2024-01-01 {hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

/// What the job with one aggregate besides the count writes of the records behind `from` in each file,
/// and how many of them are counted, late and filtered. Files have been read up to there before.
fn expected(
    files: &[Vec<Click>],
    from: &[usize],
    aggregate: fn(&[i64]) -> i64,
) -> (Vec<String>, [u64; 3]) {
    let mut groups: BTreeMap<(i64, i64), Vec<i64>> = BTreeMap::new();
    let [mut counted, mut late, mut filtered] = [0; 3];
    for (clicks, from) in files.iter().zip(from) {
        let mut watermark = i64::MIN;
        for (number, click) in clicks.iter().enumerate() {
            let start = click.ts - click.ts % SIZE;
            let is_late = start + SIZE <= watermark;
            watermark = watermark.max(click.ts - BOUND);
            if number < *from {
                continue;
            }
            match (click.amount, is_late) {
                (0, _) => filtered += 1,
                (_, true) => late += 1,
                (_, false) => {
                    counted += 1;
                    groups.entry((start, click.user)).or_default().push(click.amount);
                }
            }
        }
    }
    let line = |((start, user), amounts): (&(i64, i64), &Vec<i64>)| {
        let start = timestamp(*start);
        let start = start.trim_end_matches(".000");
        format!("{start},{user},{},{}", amounts.len(), aggregate(amounts))
    };
    let mut lines: Vec<String> = groups.iter().map(line).collect();
    lines.sort();
    (lines, [counted, late, filtered])
}

fn sum(amounts: &[i64]) -> i64 {
    amounts.iter().sum()
}

fn max(amounts: &[i64]) -> i64 {
    amounts.iter().copied().max().unwrap()
}

/// That a run ended well, having read so many records with these fates.
fn assert_counts(ended: &Output, records: u64, fates: [u64; 3]) {
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{stderr}");
    let ledger = &summary(&stderr)["ledgers"][0];
    let number = |name: &str| ledger[name].as_u64().unwrap();
    let counts = ["counted", "late", "filtered"].map(number);
    assert_eq!((number("records_in"), counts), (records, fates), "{ledger}");
}

/// All digits as `#`, runs of them as one.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }) {
        if c != '#' || !out.ends_with('#') {
            out.push(c);
        }
    }
    out
}

const MAX: (&str, &str) = ("SUM(amount)", "MAX(amount)");

#[test]
fn a_changed_query_is_refused_in_words_of_the_query() {
    let folder = Folder::interrupted(1);
    folder.write_job(&[
        MAX,
        ("'10' SECOND", "'20' SECOND"),
        ("amount <> 0", "amount > 0"),
        ("'format' = 'csv'", "'format' = 'json'"),
    ]);
    let before = folder.output();
    let (code, said) = folder.say(&[]);
    assert_eq!(code, Some(78), "{said}");
    let wanted = "\
error: the checkpoint of epoch # belongs to another query:
  operator `filter(totals)`: condition was amount != #; is now amount > #
  aggregation `window(totals)`: aggregate was sum(amount); is now max(amount)
  aggregation `window(totals)`: window was tumbling #s; is now tumbling #s
This has changed too, and may:
  source `clicks`: rate limit was # rows/s; is now # rows/s
  operator `project(totals)`: column total was sum(clicks.amount); is now max(clicks.amount)
  sink `totals`: writes was files output (csv); is now files output (json)
Go back to that query, or choose:
  --from-offsets  to go on from where it stopped reading, without its state: windows that begin by \
#-#-# #:#:#.# and end after #-#-# #:#:#.# lack the rows read so far; those that begin later are complete
  --fresh         to start from the beginning
";
    assert_eq!(without_numbers(&said), wanted, "{said}");
    assert_eq!(folder.output(), before, "nothing was touched");
    folder.write_job(&[]);
    let (all, fates) = expected(&folder.files, &[0; FILES], sum);
    assert_counts(&folder.run(1).output().unwrap(), (FILES * RECORDS) as u64, fates);
    assert_lines(&folder.output(), &all, "back at the old query");
}

#[test]
fn from_its_offsets_a_changed_query_reads_each_record_once_and_none_twice() {
    let folder = Folder::interrupted(2);
    folder.write_job(&[MAX]);
    let (from, epoch) = (folder.read_so_far(), folder.newest_epoch());
    let rest = FILES * RECORDS - from.iter().sum::<usize>();
    assert!(rest > 0 && rest < FILES * RECORDS, "{from:?}");
    let (all, _) = expected(&folder.files, &[0; FILES], sum);
    let ended = folder.run(3).arg("--from-offsets").output().unwrap();
    let (new, fates) = expected(&folder.files, &from, max);
    assert_counts(&ended, rest as u64, fates);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("without its state: windows that begin by 2024-01-01 12:"), "{said}");
    // Each line is one of the old query's or one of the new one's.
    let mut left = folder.output();
    for line in &new {
        let at = left.iter().position(|found| found == line);
        left.swap_remove(at.unwrap_or_else(|| panic!("{line} is missing")));
    }
    assert!(!left.is_empty() && left.iter().all(|line| all.contains(line)), "{left:?}");
    assert!(folder.newest_epoch() > epoch, "epochs go on");
    let (code, said) = folder.say(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("has finished before"), "{said}");
}

#[test]
fn a_changed_query_may_start_over() {
    let folder = Folder::interrupted(3);
    folder.write_job(&[MAX]);
    let before = folder.output();
    let ended = folder.run(2).arg("--fresh").output().unwrap();
    let (new, fates) = expected(&folder.files, &[0; FILES], max);
    assert_counts(&ended, (FILES * RECORDS) as u64, fates);
    let mut all = [before, new].concat();
    all.sort();
    assert_lines(&folder.output(), &all, "afresh, beside what was there");
}

#[test]
fn what_state_does_not_depend_on_may_change() {
    let folder = Folder::interrupted(4);
    folder.write_job(&[
        // A column that the query does not read, in front of those that it does.
        (
            "user_id BIGINT, ts TIMESTAMP(3), amount",
            "note STRING, user_id BIGINT, ts TIMESTAMP(3), amount",
        ),
        ("'${RATE:-10000000}'", "'5000000'"),
        ("n BIGINT, total BIGINT)", "clicks BIGINT, doubled BIGINT)"),
        // Behind all state.
        ("COUNT(*), SUM(amount)\n", "COUNT(*), SUM(amount) AS doubled\n"),
    ]);
    let ended = folder.run(3).output().unwrap();
    let (all, fates) = expected(&folder.files, &[0; FILES], sum);
    assert_counts(&ended, (FILES * RECORDS) as u64, fates);
    assert_lines(&folder.output(), &all, "exactly once");
    let said = String::from_utf8_lossy(&ended.stderr);
    for change in
        ["source `clicks`: column note is new: STRING", "rate limit was", "column doubled is new"]
    {
        assert!(said.contains(change), "{change}: {said}");
    }
}

#[test]
fn a_source_without_the_splits_of_the_checkpoint_is_refused_with_what_is_missing() {
    let folder = Folder::interrupted(5);
    fs::rename(folder.path("input/1.json"), folder.path("1.json")).unwrap();
    let (code, said) = folder.say(&[]);
    assert_eq!(code, Some(78), "{said}");
    let wanted = "source `clicks` reads files input (json) now, where these splits of the checkpoint are \
                  not found: 1.json (next is ";
    assert!(said.contains(wanted) && said.contains("--from-offsets"), "{said}");
    let (code, said) = folder.say(&["--from-offsets"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("splits are gone") && said.contains("1.json (next is "), "{said}");
}

#[test]
fn a_checkpoint_of_before_there_were_words_is_judged_by_its_fingerprint() {
    let folder = Folder::interrupted(6);
    let (path, manifest) = folder.manifest();
    let old = Manifest { query: None, ..manifest };
    fs::write(path, old.encode().unwrap()).unwrap();
    folder.write_job(&[MAX]);
    let (code, said) = folder.say(&[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("`window(totals)` was: ") && said.contains("--from-offsets"), "{said}");
    folder.write_job(&[]);
    let (all, fates) = expected(&folder.files, &[0; FILES], sum);
    assert_counts(&folder.run(2).output().unwrap(), (FILES * RECORDS) as u64, fates);
    assert_lines(&folder.output(), &all, "resumed from an old manifest");
}

#[test]
fn offsets_need_a_checkpoint() {
    let folder = Folder::new(7);
    let (code, said) = folder.say(&["--from-offsets"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("there is no checkpoint"), "{said}");
    let (code, _) = folder.say(&["--from-offsets", "--fresh"]);
    assert_eq!(code, Some(2));
}
