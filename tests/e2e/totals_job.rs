//! The job of [`crate::totals`] for the real binary, from any connector to any others, with a folder of
//! its own for its checkpoints.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::job_folder::{Running, copy_all, lines, part_files, summary};
use crate::pipelines::fast_disk;
use crate::totals::Expected;

const SOURCE: &str = "
SET 'pipeline.name' = '{name}';
SET 'execution.checkpointing.dir' = 'checkpoints';
CREATE TABLE clicks (
  user_id BIGINT, ts TIMESTAMP(3), amount BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH ({options}, 'format' = 'json', 'rate-limit' = '${RATE:-10000000}');
";

const SINK: &str = "
CREATE TABLE {name} ({columns}) WITH ({options});
";

const INSERT: &str = "
INSERT INTO {name}
SELECT {selected}
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE amount <> 0
GROUP BY window_start, window_end, user_id;
";

/// A number that makes a test longer or shorter: an environment variable, or what CI has time for.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
    })
}

/// What chooses the input and the moments of kills.
pub fn seed(default: u64) -> u64 {
    let seed = number("TIDEMILL_KILL_SEED", default);
    println!("seed {seed}");
    seed
}

/// One of the job's outputs: a table and its options.
pub struct Sink<'a> {
    name: &'a str,
    total: bool,
    options: &'a str,
}

impl<'a> Sink<'a> {
    /// Window, user, count and sum.
    pub fn totals(options: &'a str) -> Self {
        Self { name: "totals", total: true, options }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    /// Without the sum.
    #[must_use]
    pub fn counts(self) -> Self {
        Self { total: false, ..self }
    }

    fn fill(&self, template: &str) -> String {
        let columns = "window_start TIMESTAMP(3), user_id BIGINT, n BIGINT";
        let selected = "window_start, user_id, COUNT(*)";
        let both = |text: &str, more: &str| {
            if self.total { format!("{text}, {more}") } else { text.into() }
        };
        template
            .replace("{name}", self.name)
            .replace("{columns}", &both(columns, "total BIGINT"))
            .replace("{selected}", &both(selected, "SUM(amount)"))
            .replace("{options}", self.options)
    }
}

/// Totals per user and ten seconds. A clone is another instance of it in the same folder.
#[derive(Clone)]
pub struct TotalsJob {
    dir: Arc<TempDir>,
    name: String,
}

impl TotalsJob {
    /// The job from the source with these options to some sinks.
    pub fn new(name: &str, source: &str, sinks: &[Sink<'_>]) -> Self {
        let mut job = SOURCE.replace("{name}", name).replace("{options}", source);
        sinks.iter().for_each(|sink| job += &sink.fill(SINK));
        let inserts: String = sinks.iter().map(|sink| sink.fill(INSERT)).collect();
        job += &match sinks {
            [_] => inserts,
            _ => format!("EXECUTE STATEMENT SET BEGIN{inserts}END;\n"),
        };
        let dir = tempfile::tempdir_in(fast_disk()).unwrap();
        fs::write(dir.path().join("job.sql"), job).unwrap();
        Self { dir: Arc::new(dir), name: name.into() }
    }

    /// The same job in the same state, elsewhere: what it reads and writes is the same.
    pub fn copy(&self) -> Self {
        let dir = tempfile::tempdir_in(fast_disk()).unwrap();
        copy_all(self.dir.path(), dir.path());
        Self { dir: Arc::new(dir), name: self.name.clone() }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Its name, under which `checkpoints` holds its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `tidemill` in its folder.
    pub fn tidemill(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_remove("TIDEMILL_LOG").env_remove("FAILPOINTS");
        command
    }

    /// `tidemill run` of the job on so many shards, with a checkpoint every `interval`.
    pub fn run(&self, shards: usize, interval: &str) -> Command {
        let shards = shards.to_string();
        let mut command =
            self.tidemill(&["run", "job.sql", "-o", "json", "--parallelism", &shards]);
        command.args(["--checkpoint-interval", interval]);
        command
    }

    /// The same in the background, reading so many rows a second; what it says goes to `log`.
    pub fn start(&self, mut command: Command, rate: u64, log: &str) -> Running {
        command.env("RATE", rate.to_string());
        Running::start(command, self.path(log))
    }

    /// The newest epoch that exists; 0 where there is none.
    pub fn newest_epoch(&self) -> u64 {
        let manifests = self.path(&format!("checkpoints/{}/manifests", self.name));
        let Ok(entries) = fs::read_dir(manifests) else { return 0 };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.parse().ok()).max().unwrap_or(0)
    }

    /// Kills it so often, with a checkpoint every `interval` and on other numbers of shards from time
    /// to time, then lets it run to its end.
    pub fn killed(&self, expected: &Expected, seed: u64, kills: u64, interval: &str) -> Output {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Low enough that the input outlasts the kills, a run reading for a quarter of a second.
        let rate = 2 * expected.records / kills;
        let start = Instant::now();
        for kill in 0..kills {
            let shards = [2, 2, 1, 3][kill as usize / 5 % 4];
            let before = self.newest_epoch();
            let mut running = self.start(self.run(shards, interval), rate, "log");
            // Half of the runs get somewhere, the other half may die while they restore.
            let longest = if kill % 2 == 0 {
                running.until("a checkpoint", || self.newest_epoch() > before);
                200
            } else {
                600
            };
            running.let_run(Duration::from_millis(rng.random_range(0..longest)));
            running.kill();
        }
        let epochs = self.newest_epoch();
        println!("{kills} kills in {:?}, {epochs} epochs", start.elapsed());
        assert!(epochs >= kills / 2, "only {epochs} epochs");
        let start = Instant::now();
        let ended = self.run(2, "500ms").output().unwrap();
        println!("the last run took {:?}", start.elapsed());
        ended
    }

    /// Stops an instance in its middle so often, lets another take over and wakes the first up, which
    /// must find itself fenced; returns the instance that came last, killed.
    pub fn haunted(&self, rounds: u64, rate: u64, rng: &mut impl Rng) -> Self {
        let mut job = self.clone();
        let mut running = job.start(job.run(2, "40ms"), rate, "log-0");
        for round in 1..=rounds {
            running.until("a checkpoint", || job.newest_epoch() > 0);
            running.let_run(Duration::from_millis(rng.random_range(0..400)));
            running.signal("STOP");
            let lost = if round % 2 == 0 { Lost::Folder } else { Lost::Lock };
            let replacement = lost.replacement(&job);
            let before = replacement.newest_epoch();
            let log = format!("log-{round}");
            let mut second = replacement.start(replacement.run(2, "40ms"), rate, &log);
            second.until("a checkpoint of its own", || replacement.newest_epoch() > before + 1);
            running.signal("CONT");
            let (code, said) = running.wait();
            assert_eq!(code, Some(1), "round {round}, {lost:?}: {said}");
            assert!(said.contains(lost.fence()), "round {round}, {lost:?}: {said}");
            (job, running) = (replacement, second);
        }
        running.kill();
        job
    }

    /// That a run to the end ended well, and that its counts over all runs are the oracle's.
    pub fn assert_counts(&self, ended: &Output, expected: &Expected, context: &str) {
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{context}: {:?}: {stderr}", ended.status);
        let dead_letters = self.path(&format!("checkpoints/dead-letters/{}", self.name));
        let dead_letters = lines(&part_files(&dead_letters)).len() as u64;
        assert_eq!(dead_letters, expected.dead_letters, "{context}: dead letters kept");
        let ledger = &summary(&stderr)["ledgers"][0];
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
    }
}

/// What the first of two instances has lost when the second starts.
#[derive(Debug, Clone, Copy)]
enum Lost {
    /// The lock on the checkpoint folder: some network file systems forget it.
    Lock,
    /// The folder: the second has a copy of it, on another machine.
    Folder,
}

impl Lost {
    /// Who tells the first of the second: with the folder still shared that may be either.
    fn fence(self) -> &'static str {
        match self {
            Self::Lock => "another instance of",
            Self::Folder => ": another instance of this job has taken over",
        }
    }

    fn replacement(self, job: &TotalsJob) -> TotalsJob {
        match self {
            Self::Lock => {
                fs::remove_file(job.path(&format!("checkpoints/{}/lock", job.name()))).unwrap();
                job.clone()
            }
            Self::Folder => job.copy(),
        }
    }
}
