//! Splits that come while a job runs, splits that run ahead of the others, and rows that a sink
//! refuses: what brokers do to a job.

use std::task::Poll;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use tidemill::core::dead_letter::{DeadLetter, OnError};
use tidemill::core::record::SourceRecord;
use tidemill::core::sink::{
    Delivered, Delivery, Guarantee, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill::core::source::SplitId;
use tidemill::core::{Batch, Epoch, Result};
use tidemill::memory::MemoryHandle;
use tidemill::prelude::*;
use tidemill::runtime::{JobHandle, JobSummary};
use tidemill::testing::{CrashPoint, FedSource, Feed, crash_at, feed, wait_for};

use crate::flow::{keys_and_times, rows};
use crate::pipelines::fast_disk;

const SECOND: i64 = 1_000_000;

/// A job that counts by key in windows of ten seconds and looks for new splits all the time.
fn counting(source: &FedSource, shards: usize, folder: &std::path::Path) -> (MemoryHandle, Job) {
    let (results, sink) = collect();
    let mut job = Job::named("growing");
    job.source(source.clone())
        .event_time("ts", Watermarks::bounded(Duration::ZERO))
        .key_by(["key"])
        .window(Tumbling::of(Duration::from_secs(10)))
        .aggregate([count().alias("n")])
        .sink(sink);
    job.parallelism(shards);
    job.checkpoints(folder.to_str().unwrap(), Duration::from_millis(20));
    job.settings().discovery_interval = Duration::from_millis(5);
    (results, job)
}

/// The counts of all windows, added up.
fn counted(results: &MemoryHandle) -> i64 {
    let n = |batch: &RecordBatch| {
        let column = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
        column.values().iter().sum::<i64>()
    };
    results.batches().iter().map(n).sum()
}

fn has_read(running: &JobHandle, split: &str, records: u64) -> bool {
    let splits = running.status().splits;
    splits.iter().any(|s| s.split.as_str() == split && s.records == records)
}

fn end_all(feed: &Feed, splits: usize) {
    (0..splits).for_each(|split| feed.end(split));
}

#[test]
fn a_split_that_comes_while_the_job_runs_is_read_from_its_beginning() {
    for shards in [1, 2, 3] {
        let folder = tempfile::tempdir_in(fast_disk()).unwrap();
        let (source, feed) = feed(keys_and_times(), 1);
        let (results, job) = counting(&source, shards, folder.path());
        feed.push(0, rows([(1, SECOND), (2, 2 * SECOND)]));
        let running = job.start().unwrap();
        wait_for(|| has_read(&running, "fed/0", 2));
        let new = feed.add_split();
        feed.push(new, rows([(1, 3 * SECOND), (3, 4 * SECOND), (3, 15 * SECOND)]));
        wait_for(|| has_read(&running, "fed/1", 3));
        end_all(&feed, 2);
        let ended = running.wait().unwrap();
        assert_eq!(counted(&results), 5, "{shards} shards");
        let ledger = &ended.ledgers[0];
        assert!(ledger.balances() && ledger.late == 0, "{shards} shards: {ledger:?}");
    }
}

#[test]
fn a_new_split_survives_a_crash_whether_or_not_a_checkpoint_knows_it() {
    for (shards, at) in [(1, CrashPoint::BeforePublish), (2, CrashPoint::AfterCommit)] {
        let folder = tempfile::tempdir_in(fast_disk()).unwrap();
        let (source, feed) = feed(keys_and_times(), 1);
        feed.push(0, rows([(1, SECOND)]));
        let (results, mut job) = counting(&source, shards, folder.path());
        crash_at(&mut job, 40, at);
        let running = job.start().unwrap();
        wait_for(|| has_read(&running, "fed/0", 1));
        let new = feed.add_split();
        feed.push(new, rows([(2, 2 * SECOND), (3, 3 * SECOND)]));
        running.wait().unwrap_err();
        let before = counted(&results);
        let (results, job) = counting(&source, 3 - shards, folder.path());
        end_all(&feed, 2);
        job.run_blocking().unwrap();
        assert_eq!(before + counted(&results), 3, "{shards} shards, {at:?}");
    }
}

#[test]
fn a_fast_split_waits_for_the_slowest_of_its_group() {
    for shards in [1, 2] {
        let (source, feed) = feed(keys_and_times(), 3);
        let (results, sink) = collect();
        let mut job = Job::named("aligned");
        job.source(source)
            .event_time("ts", Watermarks::bounded(Duration::ZERO))
            .align("all", Duration::from_secs(60))
            .window(Tumbling::of(Duration::from_secs(10)))
            .aggregate([count().alias("n")])
            .sink(sink);
        job.parallelism(shards);
        job.settings().linger = Duration::from_micros(100);
        // The third split never has anything: it says nothing about time, and holds nobody.
        for second in 0..1000 {
            feed.push(0, rows([(1, second * SECOND)]));
        }
        feed.push(1, rows([(2, 5 * SECOND)]));
        let running = job.start().unwrap();
        let held = || running.status().splits.iter().any(|s| s.split.as_str() == "fed/0" && s.held);
        // One batch may take it across the line: here, a row.
        wait_for(|| has_read(&running, "fed/0", 67) && held());
        feed.push(1, rows([(2, 100 * SECOND)]));
        wait_for(|| has_read(&running, "fed/0", 162) && held());
        end_all(&feed, 3);
        let ended = running.wait().unwrap();
        assert_eq!(counted(&results), 1002, "{shards} shards");
        assert!(ended.ledgers.iter().all(|ledger| ledger.balances() && ledger.late == 0));
    }
}

/// Delivers rows with an even key, and refuses the others when it is asked to stage.
struct Picky;

struct PickyWriter {
    refused: Vec<DeadLetter>,
    staging: bool,
}

impl Sink for Picky {
    fn guarantee(&self, _: bool) -> Guarantee {
        Guarantee { delivery: Delivery::AtLeastOnce, why: "a test".into() }
    }

    fn writer(&self, _: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(PickyWriter { refused: Vec::new(), staging: false }))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        "picky".into()
    }
}

impl SinkWriter for PickyWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let keys = batch.rows.column_by_name("key").unwrap();
        for key in keys.as_primitive::<Int64Type>().values() {
            if key % 2 == 1 {
                let record = SourceRecord::new(format!("key {key}"), key.to_string());
                self.refused.push(DeadLetter::new(SplitId::new("out"), record, "it is odd"));
            }
        }
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        self.staging = true;
        Ok(Poll::Ready(Staged::default()))
    }

    fn take_refused(&mut self) -> Vec<DeadLetter> {
        if std::mem::take(&mut self.staging) { std::mem::take(&mut self.refused) } else { vec![] }
    }
}

/// Writes the keys 0 to 9 to a picky sink.
fn run_picky(on_error: OnError, folder: &std::path::Path) -> Result<JobSummary> {
    let (source, feed) = feed(keys_and_times(), 2);
    feed.push(0, rows((0..5).map(|key| (key, SECOND))));
    feed.push(1, rows((5..10).map(|key| (key, SECOND))));
    end_all(&feed, 2);
    let mut job = Job::named("picky");
    job.source(source).on_error(on_error).sink(Picky);
    job.parallelism(2);
    job.checkpoints(folder.to_str().unwrap(), Duration::from_millis(20));
    job.run_blocking()
}

#[test]
fn rows_that_a_sink_refuses_at_the_very_end_are_dead_letters_and_counted() {
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let ended = run_picky(OnError::DeadLetter, folder.path()).unwrap();
    let mut letters = Vec::new();
    for file in std::fs::read_dir(folder.path().join("dead-letters/picky")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        letters.extend(text.lines().map(|line| {
            let letter: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&letter["reason"], &letter["operator"]),
                (&"it is odd".into(), &"sink".into())
            );
            letter["position"].as_str().unwrap().to_owned()
        }));
    }
    letters.sort();
    assert_eq!(letters, ["key 1", "key 3", "key 5", "key 7", "key 9"]);
    let ledger = ended.ledgers.iter().find(|ledger| ledger.node == "sink").unwrap();
    assert!(ledger.balances(), "{ledger:?}");
    assert_eq!((ledger.records_in, ledger.counted, ledger.dead_letters), (10, 5, 5));
}

#[test]
fn results_of_windows_that_a_sink_refuses_are_told_when_the_job_ends() {
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let (source, feed) = feed(keys_and_times(), 1);
    feed.push(0, rows((0..6).map(|key| (key, SECOND))));
    end_all(&feed, 1);
    let mut job = Job::named("picky");
    job.source(source)
        .on_error(OnError::DeadLetter)
        .event_time("ts", Watermarks::bounded(Duration::ZERO))
        .key_by(["key"])
        .window(Tumbling::of(Duration::from_secs(10)))
        .aggregate([count().alias("n")])
        .sink(Picky);
    job.checkpoints(folder.path().to_str().unwrap(), Duration::from_millis(20));
    let ended = job.run_blocking().unwrap();
    assert_eq!(ended.dead_lettered_results.into_iter().collect::<Vec<_>>(), [("sink".into(), 3)]);
    assert!(ended.ledgers.iter().all(|ledger| ledger.dead_letters == 0), "no record of the source");
}

#[test]
fn a_refused_row_ends_a_job_that_says_so() {
    let error = run_picky(OnError::Fail, tempfile::tempdir_in(fast_disk()).unwrap().path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("it is odd") && error.contains("'on-error'"), "{error}");
}
