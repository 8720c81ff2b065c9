//! The same from Rust: a job that crashed between its checkpoint and the commit comes back with another query.

use std::time::Duration;

use tempfile::TempDir;
use tidemill::memory::{MemoryHandle, MemorySink};
use tidemill::prelude::*;
use tidemill::testing::{CrashPoint, FedSource, Feed, crash_at, feed, wait_for};
use tidemill::{ErrorKind, Result};

use crate::flow::{keys_and_times, rows};

const SECOND: i64 = 1_000_000;

/// What all runs share.
struct Rig {
    folder: TempDir,
    source: FedSource,
    feed: Feed,
    results: MemoryHandle,
}

impl Rig {
    fn new() -> Self {
        let (source, feed) = feed(keys_and_times(), 1);
        let (_, results) = MemorySink::new();
        Self { folder: tempfile::tempdir().unwrap(), source, feed, results }
    }

    /// Ten-second windows per key with one of two aggregates.
    fn job(&self, aggregate: Expr) -> Job {
        let mut job = Job::named("evolving");
        job.source(self.source.clone())
            .event_time("ts", Watermarks::bounded(Duration::ZERO))
            .key_by(["key"])
            .window(Tumbling::of(Duration::from_secs(10)))
            .aggregate([count().alias("n"), aggregate.alias("value")])
            .sink(self.results.sink());
        job.parallelism(1);
        job.checkpoints(self.folder.path().to_str().unwrap(), Duration::from_secs(3600));
        job
    }

    /// Reads three rows, of which one is in a window that is open yet, and dies behind the checkpoint.
    fn crashed(&self) -> Result<()> {
        self.feed.push(0, rows([(1, SECOND), (2, 11 * SECOND), (1, 25 * SECOND)]));
        let mut job = self.job(sum(col("key")));
        crash_at(&mut job, 1, CrashPoint::BeforeCommit);
        let running = job.start()?;
        let fired = |node: &tidemill::runtime::NodeStatus| {
            node.kind == "window" && node.counts.records_out == 2
        };
        wait_for(|| running.status().nodes.iter().any(fired));
        running.control().checkpoint().unwrap_err();
        running.wait().unwrap_err();
        assert_eq!(self.results.rows(), 0, "the epoch exists, and nothing of it is committed");
        Ok(())
    }
}

#[test]
fn what_was_staged_is_committed_before_the_changed_query_goes_on_from_the_offsets() -> Result<()> {
    let rig = Rig::new();
    rig.crashed()?;
    let Err(refused) = rig.job(max(col("key"))).start() else { panic!("another query") };
    assert_eq!(refused.kind(), ErrorKind::Configuration);
    let said = refused.to_string();
    assert!(said.contains("aggregate was sum(key); is now max(key)"), "{said}");
    assert!(
        said.contains("begin by 1970-01-01 00:00:25 and end after 1970-01-01 00:00:25"),
        "{said}"
    );
    assert_eq!(rig.results.rows(), 0, "a refusal touches nothing");

    let mut job = rig.job(max(col("key")));
    job.from_offsets();
    let running = job.start()?;
    assert_eq!(rig.results.rows(), 2, "of the old query, committed before anything is read");
    // The first is late, by what was read before: its window has fired. That of the second is open, and
    // has lost the row before.
    rig.feed.push(0, rows([(1, 5 * SECOND), (1, 26 * SECOND)]));
    rig.feed.end(0);
    let summary = running.wait()?;
    let ledger = &summary.ledgers[0];
    assert!(ledger.balances());
    assert_eq!((ledger.records_in, ledger.counted, ledger.late), (2, 1, 1));
    let batches = rig.results.batches();
    let last = batches.last().unwrap();
    assert_eq!((rig.results.rows(), last.num_rows()), (3, 1));
    let counts = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(
        last.column_by_name("n").unwrap().as_ref(),
    );
    assert_eq!(counts.value(0), 1);
    Ok(())
}

#[test]
fn a_sink_of_another_name_gets_what_comes_and_nothing_of_the_old_one() -> Result<()> {
    let rig = Rig::new();
    rig.crashed()?;
    rig.feed.end(0);
    let (results, sink) = collect();
    let mut job = Job::named("evolving");
    job.source(rig.source.clone())
        .event_time("ts", Watermarks::bounded(Duration::ZERO))
        .key_by(["key"])
        .window(Tumbling::of(Duration::from_secs(10)))
        .aggregate([count().alias("n"), sum(col("key")).alias("renamed")])
        .sink_named("another", sink);
    job.parallelism(2);
    job.checkpoints(rig.folder.path().to_str().unwrap(), Duration::from_secs(3600));
    let summary = job.run_blocking()?;
    assert_eq!(summary.ledgers[0].records_in, 3, "counters go on");
    assert_eq!((results.rows(), rig.results.rows()), (1, 0), "the window that was open");
    Ok(())
}

#[test]
fn a_job_may_start_over() -> Result<()> {
    let rig = Rig::new();
    rig.crashed()?;
    rig.feed.end(0);
    let mut job = rig.job(max(col("key")));
    job.fresh();
    let summary = job.run_blocking()?;
    assert_eq!((summary.ledgers[0].records_in, rig.results.rows()), (3, 3));
    Ok(())
}

#[test]
fn where_to_start_is_said_behind_where_checkpoints_are() {
    let (source, _feed) = feed(keys_and_times(), 1);
    let mut job = Job::named("nowhere");
    job.source(source).sink(Blackhole);
    job.from_offsets();
    let error = job.start().err().unwrap();
    assert!(error.to_string().contains("behind checkpoints()"), "{error}");
}

/// Rows from two sources, of which the second is called `second`.
fn two_sources(rig: &Rig, of: &FedSource, second: &str) -> Job {
    let mut job = Job::named("two");
    job.source_named("orders", rig.source.clone()).sink_named("one", Blackhole);
    job.source_named(second, of.clone()).sink_named("two", Blackhole);
    job.parallelism(1);
    job.checkpoints(rig.folder.path().to_str().unwrap(), Duration::from_secs(3600));
    job
}

#[test]
fn from_offsets_needs_every_source_that_has_not_ended() -> Result<()> {
    for has_ended in [false, true] {
        let rig = Rig::new();
        let (source, second) = feed(keys_and_times(), 1);
        rig.feed.push(0, rows([(1, SECOND)]));
        second.push(0, rows([(1, SECOND), (2, SECOND)]));
        if has_ended {
            second.end(0);
        }
        let mut job = two_sources(&rig, &source, "payments");
        crash_at(&mut job, 1, CrashPoint::BeforeCommit);
        let running = job.start()?;
        wait_for(|| {
            let status = running.status();
            let splits = status.splits.iter().filter(|split| split.source == "payments");
            splits.filter(|split| split.ended == has_ended).map(|split| split.records).sum::<u64>()
                == 2
        });
        running.control().checkpoint().unwrap_err();
        running.wait().unwrap_err();

        let mut job = two_sources(&rig, &source, "refunds");
        job.from_offsets();
        rig.feed.end(0);
        second.end(0);
        let started = job.start();
        if has_ended {
            started?.wait()?;
            continue;
        }
        let said = started.err().expect("payments would be read twice, as refunds").to_string();
        assert!(said.contains("offsets of `payments`, which the job does not read"), "{said}");
        assert!(said.contains("it reads `orders`, `refunds`"), "{said}");
    }
    Ok(())
}

#[test]
fn offsets_of_one_connector_are_not_given_to_another() -> Result<()> {
    let rig = Rig::new();
    rig.crashed()?;
    for from_offsets in [false, true] {
        let mut job = Job::named("evolving");
        let (_, sink) = collect();
        job.source(MemorySource::new(keys_and_times(), vec![Vec::new()]))
            .event_time("ts", Watermarks::bounded(Duration::ZERO))
            .key_by(["key"])
            .window(Tumbling::of(Duration::from_secs(10)))
            .aggregate([count().alias("n"), sum(col("key")).alias("value")])
            .sink(sink);
        job.parallelism(1);
        job.checkpoints(rig.folder.path().to_str().unwrap(), Duration::from_secs(3600));
        if from_offsets {
            job.from_offsets();
        }
        let said = job.start().err().expect("a source of another connector").to_string();
        assert!(said.contains("it was fed by a test\n"), "{said}");
        assert!(said.contains("--fresh"), "{said}");
    }
    Ok(())
}
