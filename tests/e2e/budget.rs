//! The memory budget, blocked time of links, and rate limits: what a job is held to, and what it says of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidemill::prelude::*;
use tidemill::runtime::JobSummary;
use tidemill::testing::{VirtualClock, feed, wait_for};

use crate::flow::{Gate, Gated, keys_and_times, rows};
use crate::pipelines::{fast_disk, sorted_rows};

const MIB: usize = 1 << 20;
const SECOND: i64 = 1_000_000;

/// Unique keys, all in one hour: state that only grows.
fn growing(splits: usize, each: i64) -> MemorySource {
    let split = |n: i64| {
        let batch = |from: i64| rows((from..from + 10_000).map(|key| (key, key % 1000)));
        (n * each..(n + 1) * each).step_by(10_000).map(batch).collect()
    };
    MemorySource::new(keys_and_times(), (0..splits as i64).map(split).collect())
}

fn hourly(source: MemorySource, shards: usize) -> Job {
    let mut job = Job::named("growing");
    job.source(source)
        .event_time("ts", Watermarks::bounded(Duration::ZERO))
        .key_by(["key"])
        .window(Tumbling::of(Duration::from_secs(3600)))
        .aggregate([count().alias("n"), sum(col("key")).alias("sum")])
        .sink(Blackhole);
    job.parallelism(shards);
    job
}

#[test]
fn state_that_outgrows_the_budget_ends_the_job_long_before_memory_is_full_and_names_who_holds_it() {
    const BUDGET: usize = 16 * MIB;
    for (shards, checkpoints) in [(1, false), (2, false), (1, true), (2, true)] {
        // Without a budget this would be more than ten times as much.
        let mut job = hourly(growing(2, 1_500_000), shards);
        let folder = tempfile::tempdir_in(fast_disk()).unwrap();
        if checkpoints {
            job.checkpoints(folder.path().to_str().unwrap(), Duration::from_secs(3600));
        }
        job.memory_budget(BUDGET);
        let running = job.start().unwrap();
        let control = running.control();
        let error = running.wait().unwrap_err().to_string();
        let context = format!("{shards} shards, checkpoints: {checkpoints}: {error}");
        assert!(error.contains("needs more memory than its budget"), "{context}");
        assert!(error.contains("of 16.0 MiB"), "{context}");
        assert!(error.contains("in state of window"), "{context}");
        assert!(error.contains("'memory.budget'"), "{context}");
        let memory = control.status().memory;
        assert!(memory.used < 3 * BUDGET as u64, "{context}: {memory:?}");
        assert_eq!(memory.budget, Some(BUDGET as u64));
    }
}

#[test]
fn state_that_comes_and_goes_stays_below_the_budget_and_the_result_is_the_same() {
    // A second of 2000 keys after the other; a window is gone when the next begins.
    let input = || {
        let second = |n: i64| rows((0..2000).map(|key| (n * 2000 + key, n * SECOND)));
        MemorySource::new(keys_and_times(), vec![(0..300).map(second).collect()])
    };
    let run = |budget: Option<usize>| -> (Vec<String>, JobSummary) {
        let (results, sink) = collect();
        let mut job = Job::named("passing");
        job.source(input())
            .event_time("ts", Watermarks::bounded(Duration::ZERO))
            .key_by(["key"])
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate([count().alias("n")])
            .sink(sink);
        job.parallelism(2);
        job.settings().memory_budget = budget;
        let folder = tempfile::tempdir_in(fast_disk()).unwrap();
        job.checkpoints(folder.path().to_str().unwrap(), Duration::from_millis(20));
        let ended = job.run_blocking().unwrap();
        (sorted_rows(&results.batches()), ended)
    };
    let (free, _) = run(None);
    let (bound, ended) = run(Some(12 * MIB));
    assert_eq!(free.len(), 600_000);
    assert!(free == bound, "another result under a budget");
    assert!(ended.ledgers[0].balances());
}

#[test]
fn a_slow_sink_and_a_budget_make_sources_wait() {
    const BATCH: usize = 10_000;
    let gate = Arc::new(Gate::default());
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let on_write = Arc::new(move |batch: &RecordBatch| {
        count.fetch_add(batch.num_rows(), Ordering::SeqCst);
    });
    let source = growing(1, 1_000_000);
    let mut job = Job::named("slow");
    job.source(source).sink(Gated { gate: gate.clone(), on_write });
    job.parallelism(1);
    job.settings().batch_rows = BATCH;
    // A batch is 10 000 rows of 16 bytes: the second is one too many.
    let budget = 200_000;
    job.memory_budget(budget);
    let running = job.start().unwrap();
    let control = running.control();
    let mut most = 0;
    for n in 1..=50 {
        gate.let_through(1);
        wait_for(|| written.load(Ordering::SeqCst) >= n * BATCH);
        most = most.max(control.status().memory.used);
    }
    assert!(most <= budget as u64 + 160_000, "{most} bytes, one batch above the budget at most");
    assert!(most > 0);
    gate.let_through(usize::MAX / 2);
    running.wait().unwrap();
    assert_eq!(written.load(Ordering::SeqCst), 1_000_000);
    assert_eq!(control.status().memory.used, 0, "all that came has gone");
}

#[test]
fn a_link_that_is_full_tells_for_how_long() {
    let clock = Arc::new(VirtualClock::default());
    let gate = Arc::new(Gate::default());
    let (source, feed) = feed(keys_and_times(), 1);
    let mut job = Job::named("blocked");
    job.source(source)
        .filter(col("key").gt_eq(lit(0_i64)))
        .sink(Gated { gate: gate.clone(), on_write: Arc::new(|_| {}) });
    job.parallelism(1);
    job.settings().clock = clock.clone();
    job.settings().batch_rows = 1;
    let running = job.start().unwrap();
    let control = running.control();
    let blocked = |from: &str, to: &str| {
        let links = control.status().links;
        let link = links.iter().find(|link| link.from == from && link.to == to);
        link.unwrap().blocked_seconds
    };
    feed.push(0, rows((0..20).map(|n| (n, n))));
    let read = || control.status().nodes[0].counts.records_in;
    wait_for(|| read() == 4);
    // Both queues are full: the filter waits for the sink, the source for the filter.
    let full = clock_seconds(&clock);
    clock.advance(Duration::from_secs(10));
    wait_for(|| blocked("filter", "sink") > 9.9 && blocked("source", "filter") > 9.9);
    assert!(blocked("filter", "sink") <= 10.0 + full);
    assert_eq!(read(), 4);
    gate.let_through(usize::MAX / 2);
    feed.end(0);
    wait_for(|| {
        clock.advance(Duration::from_millis(20));
        read() == 20
    });
    let when_free = blocked("filter", "sink");
    let end = clock_seconds(&clock);
    running.wait().unwrap();
    assert!(when_free <= end, "{when_free} of {end} s");
}

fn clock_seconds(clock: &VirtualClock) -> f64 {
    use tidemill::core::time::Clock;
    clock.elapsed().as_secs_f64()
}

#[test]
fn a_rate_limit_holds_over_all_shards_and_what_is_not_used_is_made_up_for() {
    for shards in [1, 2] {
        let clock = Arc::new(VirtualClock::default());
        let mut job = Job::named("limited");
        job.source(growing(2, 10_000)).rate_limit(200).sink(Blackhole);
        job.parallelism(shards);
        job.settings().clock = clock.clone();
        let running = job.start().unwrap();
        let control = running.control();
        let read = || control.status().nodes[0].counts.records_in;
        for second in 1..=5 {
            clock.advance(Duration::from_secs(1));
            wait_for(|| read() >= second * 200);
            assert_eq!(read(), second * 200, "{shards} shards");
        }
        control.abort().unwrap();
        running.wait().unwrap_err();
    }
}
