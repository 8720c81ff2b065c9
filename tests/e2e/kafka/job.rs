//! A job from topic to topic for the real binary, with a folder of its own for its checkpoints.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::broker::{Broker, Group, Isolation, Topic};
use super::oracle::{Expected, Found};
use crate::job_folder::{Running, copy_all, lines, part_files, summary};
use crate::pipelines::fast_disk;

const JOB: &str = "
SET 'pipeline.name' = '{name}';
SET 'execution.checkpointing.dir' = 'checkpoints';
CREATE TABLE clicks (
  user_id BIGINT, ts TIMESTAMP(3), amount BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH ('connector' = 'kafka', 'topic' = '{input}', 'properties.bootstrap.servers' = '{brokers}',
        'properties.group.id' = '{name}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json',
        'rate-limit' = '${RATE:-10000000}'{source});
CREATE TABLE totals (window_start TIMESTAMP(3), user_id BIGINT, n BIGINT, total BIGINT)
WITH ('connector' = 'kafka', 'topic' = '{output}', 'properties.bootstrap.servers' = '{brokers}',
      'key.format' = 'json', 'key.fields' = 'user_id', 'format' = 'json'{sink});
INSERT INTO totals
SELECT window_start, user_id, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE amount <> 0
GROUP BY window_start, window_end, user_id;
";

/// Options of a source that ends where the topic ends.
pub const TO_THE_END: &str = "'scan.bounded.mode' = 'latest-offset'";

/// Options of a sink that transacts.
pub const EXACTLY_ONCE: &str = "'sink.delivery-guarantee' = 'exactly-once'";

/// Options of a sink that does not.
pub const AT_LEAST_ONCE: &str = "'sink.delivery-guarantee' = 'at-least-once'";

/// Totals per user and ten seconds, from one topic to another. A clone is another instance of it in the
/// same folder.
#[derive(Clone)]
pub struct TopicJob {
    dir: Arc<TempDir>,
    name: String,
    pub input: Arc<Topic>,
    pub output: Arc<Topic>,
}

impl TopicJob {
    /// The job over a topic, with more options of its source and its sink; its output is new.
    pub fn new(input: &Arc<Topic>, source: &str, sink: &str) -> Self {
        let output = input.broker().topic("totals", 4);
        let name = output.name().replacen("totals", "job", 1);
        let broker: &Broker = input.broker();
        let more = |options: &str| match options {
            "" => String::new(),
            options => format!(", {options}"),
        };
        let job = JOB
            .replace("{name}", &name)
            .replace("{brokers}", broker.addresses())
            .replace("{input}", input.name())
            .replace("{output}", output.name())
            .replace("{source}", &more(source))
            .replace("{sink}", &more(sink));
        let dir = tempfile::tempdir_in(fast_disk()).unwrap();
        fs::write(dir.path().join("job.sql"), job).unwrap();
        Self { dir: Arc::new(dir), name, input: input.clone(), output }
    }

    /// The same job in the same state, elsewhere: its topics are the same.
    pub fn copy(&self) -> Self {
        let dir = tempfile::tempdir_in(fast_disk()).unwrap();
        copy_all(self.dir.path(), dir.path());
        Self { dir: Arc::new(dir), ..self.clone() }
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

    /// Waits until a running job has put out so many results.
    pub fn until_results(&self, running: &mut Running, results: usize) {
        let (count, reader) =
            (Cell::new(0), RefCell::new(self.output.reader(Isolation::Committed)));
        running.until("all results", || {
            reader.borrow_mut().more(|_, _| count.set(count.get() + 1));
            count.get() >= results
        });
    }

    /// Up to where the job has told the broker that its checkpoints reach: the sum over the partitions.
    pub fn group(&self) -> Group {
        self.input.group(&self.name)
    }

    /// That a run to the end ended well, that its counts over all runs are the oracle's, and that the
    /// output topic holds exactly what it should.
    pub fn assert_exact(&self, ended: &Output, expected: &Expected, context: &str) {
        self.assert_counts(ended, expected, context);
        Found::in_topic(&self.output).assert_exact(expected, context);
        self.output.assert_no_open_transaction(context);
    }

    /// The first half of [`TopicJob::assert_exact`].
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
