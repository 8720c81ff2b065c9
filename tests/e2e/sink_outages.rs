//! Sinks whose calls fail for a while: made again in order, behind a circuit breaker, until patience ends;
//! and a commit that is away holds up nothing but the next epoch.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parking_lot::Mutex;
use tidemill::core::retry::{Backoff, BreakerState, RetrySettings};
use tidemill::core::sink::{Delivery, Guarantee, SinkCommitter, SinkContext, SinkWriter, Staged};
use tidemill::core::time::Clock;
use tidemill::core::{Batch, Epoch, Error, Result};
use tidemill::prelude::*;
use tidemill::runtime::{JobControl, JobSummary, Phase};
use tidemill::testing::{VirtualClock, feed, wait_for};

use crate::flow::{keys_and_times, rows};
use crate::pipelines::fast_disk;

const BATCH: usize = 10;
const SECOND: Duration = Duration::from_secs(1);

/// A call of the sink, when it was made, and how it ended.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    at: Duration,
    what: What,
    failed: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    /// The first key of the batch.
    Write(i64),
    Stage(Epoch),
    Commit(Epoch, usize),
}

/// A sink that fails when told to, and remembers.
#[derive(Clone)]
struct Moody {
    state: Arc<Mood>,
}

/// Whether the call that is to be made, the so-many-th of its kind, fails.
type Fails = Box<dyn Fn(&What, usize) -> bool + Send + Sync>;

struct Mood {
    clock: Arc<VirtualClock>,
    calls: Mutex<Vec<Call>>,
    written: Mutex<Vec<i64>>,
    fails: Fails,
}

impl Moody {
    fn new(
        clock: &Arc<VirtualClock>,
        fails: impl Fn(&What, usize) -> bool + Send + Sync + 'static,
    ) -> Self {
        let state = Mood {
            clock: clock.clone(),
            calls: Mutex::default(),
            written: Mutex::default(),
            fails: Box::new(fails),
        };
        Self { state: Arc::new(state) }
    }

    fn call(&self, what: What) -> Result<()> {
        let mut calls = self.state.calls.lock();
        let before = calls.iter().filter(|call| call.what == what).count();
        let failed = (self.state.fails)(&what, before);
        calls.push(Call { at: self.state.clock.elapsed(), what: what.clone(), failed });
        if failed { Err(Error::transient(format!("{what:?}: not today"))) } else { Ok(()) }
    }

    fn calls_of(&self, wanted: impl Fn(&What) -> bool) -> Vec<Call> {
        self.state.calls.lock().iter().filter(|call| wanted(&call.what)).cloned().collect()
    }
}

impl Sink for Moody {
    fn guarantee(&self, _: bool) -> Guarantee {
        Guarantee { delivery: Delivery::ExactlyOnce, why: "a test".into() }
    }

    fn writer(&self, _: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(self.clone()))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(self.clone()))
    }

    fn describe(&self) -> String {
        "moody".into()
    }
}

impl SinkWriter for Moody {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let keys = batch.rows.column(0).as_primitive::<Int64Type>();
        self.call(What::Write(keys.value(0)))?;
        self.state.written.lock().extend(keys.values());
        Ok(())
    }

    fn poll_stage(&mut self, epoch: Epoch) -> Result<Poll<Staged>> {
        self.call(What::Stage(epoch))?;
        let written = self.state.written.lock().len();
        Ok(Poll::Ready(Staged(written.to_string().into_bytes())))
    }
}

impl SinkCommitter for Moody {
    fn committed(&mut self) -> Result<Option<Epoch>> {
        Ok(None)
    }

    fn commit(&mut self, epoch: Epoch, staged: &[Staged]) -> Result<()> {
        let bytes = staged.iter().map(|staged| staged.0.len()).sum();
        self.call(What::Commit(epoch, bytes))
    }
}

fn retry() -> RetrySettings {
    let backoff = Backoff {
        first: Duration::from_millis(100),
        max: SECOND,
        deadline: Duration::from_secs(60),
    };
    RetrySettings { backoff, threshold: 4, pause: Duration::from_secs(5) }
}

/// Keys `0..total` into the sink.
fn job(sink: &Moody, total: i64, shards: usize) -> Job {
    let split = |n: i64| vec![rows((n * total / 2..(n + 1) * total / 2).map(|key| (key, key)))];
    let splits = if shards == 1 {
        vec![vec![rows((0..total).map(|key| (key, key)))]]
    } else {
        vec![split(0), split(1)]
    };
    let mut job = Job::named("moody");
    job.source(MemorySource::new(keys_and_times(), splits)).sink_with("out", sink.clone(), retry());
    job.parallelism(shards);
    job.settings().batch_rows = BATCH;
    job.settings().clock = sink.state.clock.clone();
    job
}

/// Lets time go by until the job ends.
fn to_the_end(job: &Job, clock: &VirtualClock) -> Result<JobSummary> {
    let running = job.start().unwrap();
    let control = running.control();
    until(clock, || {
        let phase = control.status().phase;
        phase != Phase::Running && phase != Phase::Draining
    });
    running.wait()
}

fn until(clock: &VirtualClock, condition: impl Fn() -> bool) {
    wait_for(|| {
        clock.advance(Duration::from_millis(20));
        condition()
    });
}

fn breaker(control: &JobControl, calls: &str) -> BreakerState {
    let status = control.status();
    status.breakers.iter().find(|breaker| breaker.calls == calls).unwrap().state
}

#[test]
fn a_write_that_fails_for_a_while_is_made_again_in_order_and_nothing_is_lost_or_doubled() {
    let clock = Arc::new(VirtualClock::default());
    // The third batch fails three times, the fifth and the last stage once.
    let sink = Moody::new(&clock, |what, before| match what {
        What::Write(20) => before < 3,
        What::Write(40) | What::Stage(_) => before < 1,
        _ => false,
    });
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let mut job = job(&sink, 100, 1);
    job.checkpoints(folder.path().to_str().unwrap(), Duration::from_secs(3600));
    let ended = to_the_end(&job, &clock).unwrap();
    assert_eq!(*sink.state.written.lock(), (0..100).collect::<Vec<_>>());
    let first_keys: Vec<i64> = sink
        .calls_of(|what| matches!(what, What::Write(_)))
        .iter()
        .map(|call| match call.what {
            What::Write(key) => key,
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(first_keys, [0, 10, 20, 20, 20, 20, 30, 40, 40, 50, 60, 70, 80, 90]);
    let stages = sink.calls_of(|what| matches!(what, What::Stage(_)));
    assert_eq!(stages.len(), 2, "{stages:?}");
    let ledger = &ended.ledgers[0];
    assert!(ledger.balances() && ledger.counted == 100, "{ledger:?}");
    assert_eq!(ended.counts["out"].records_out, 100);
}

#[test]
fn waits_grow_and_the_breaker_gives_the_sink_a_rest_on_all_shards() {
    let clock = Arc::new(VirtualClock::default());
    let away = Arc::new(AtomicBool::new(true));
    let is_away = away.clone();
    let sink = Moody::new(&clock, move |what, _| {
        matches!(what, What::Write(_)) && is_away.load(Ordering::SeqCst)
    });
    let job = job(&sink, 400, 2);
    let running = job.start().unwrap();
    let control = running.control();
    until(&clock, || breaker(&control, "write") == BreakerState::Open);
    let open_at = clock.elapsed();
    // Half open shows only while a call is under way; two trials fail.
    until(&clock, || clock.elapsed() > open_at + Duration::from_secs(12));
    assert_ne!(breaker(&control, "write"), BreakerState::Closed);
    away.store(false, Ordering::SeqCst);
    until(&clock, || breaker(&control, "write") == BreakerState::Closed);
    until(&clock, || control.status().phase == Phase::Finished);
    let ended = running.wait().unwrap();
    let calls = sink.calls_of(|what| matches!(what, What::Write(_)));
    let failed: Vec<&Call> = calls.iter().filter(|call| call.failed).collect();
    // Each shard may have had a call under way when the breaker opened.
    let threshold = retry().threshold as usize;
    let before: Vec<_> = failed.iter().filter(|call| call.at <= open_at).collect();
    assert!((threshold..=threshold + 1).contains(&before.len()), "{failed:?}");
    let pauses: Vec<Duration> =
        failed[before.len() - 1..].windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(pauses.len() >= 2, "{failed:?}");
    assert!(pauses.iter().all(|pause| *pause >= retry().pause), "{pauses:?}");
    let mut written = sink.state.written.lock().clone();
    written.sort_unstable();
    assert_eq!(written, (0..400).collect::<Vec<_>>());
    assert!(ended.ledgers[0].balances());
}

#[test]
fn patience_ends_at_the_deadline_with_the_last_error() {
    let clock = Arc::new(VirtualClock::default());
    let sink = Moody::new(&clock, |what, _| *what == What::Write(30));
    let error = to_the_end(&job(&sink, 100, 1), &clock).unwrap_err().to_string();
    assert!(error.contains("out: given up after"), "{error}");
    assert!(error.contains("Write(30): not today"), "{error}");
    assert_eq!(*sink.state.written.lock(), (0..30).collect::<Vec<_>>(), "nothing overtook it");
    let calls = sink.calls_of(|what| *what == What::Write(30));
    let spent = calls.last().unwrap().at - calls[0].at;
    assert!(spent >= Duration::from_secs(60) && spent < Duration::from_secs(70), "{spent:?}");
}

#[test]
fn a_commit_that_is_away_holds_up_the_next_epoch_and_nothing_else() {
    let clock = Arc::new(VirtualClock::default());
    let away = Arc::new(AtomicBool::new(true));
    let is_away = away.clone();
    let sink = Moody::new(&clock, move |what, _| {
        matches!(what, What::Commit(..)) && is_away.load(Ordering::SeqCst)
    });
    let (source, feed) = feed(keys_and_times(), 1);
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let mut job = Job::named("outage");
    job.source(source).sink_with("out", sink.clone(), retry());
    job.parallelism(1).checkpoints(folder.path().to_str().unwrap(), Duration::from_secs(3600));
    job.settings().clock = clock.clone();
    let running = job.start().unwrap();
    let control = running.control();
    feed.push(0, rows([(1, 1), (2, 2)]));
    let written = |rows: usize| until(&clock, || sink.state.written.lock().len() == rows);
    written(2);
    let asked = control.clone();
    let first = std::thread::spawn(move || asked.checkpoint());
    let attempts = || sink.calls_of(|what| matches!(what, What::Commit(..))).len();
    until(&clock, || attempts() >= 2);
    // The epoch exists; the job goes on; another checkpoint is asked for, and waits.
    assert_eq!(control.status().checkpoints.last_epoch, Some(1));
    feed.push(0, rows([(3, 3)]));
    written(3);
    let asked = control.clone();
    let second = std::thread::spawn(move || asked.checkpoint());
    until(&clock, || !sink.calls_of(|what| *what == What::Stage(2)).is_empty());
    feed.push(0, rows([(4, 4)]));
    written(4);
    until(&clock, || breaker(&control, "commit") != BreakerState::Closed);
    let status = control.status();
    assert_eq!(status.checkpoints.last_epoch, Some(1), "the second is not published");
    assert_eq!(status.phase, Phase::Running);
    assert!(!first.is_finished() && !second.is_finished());
    // Who stops the job is heard as well.
    control.stop().unwrap();
    until(&clock, || control.status().phase == Phase::Draining);
    away.store(false, Ordering::SeqCst);
    until(&clock, || first.is_finished() && second.is_finished());
    assert_eq!((first.join().unwrap().unwrap(), second.join().unwrap().unwrap()), (1, 2));
    until(&clock, || control.status().phase == Phase::Stopped);
    let ended = running.wait().unwrap();
    assert_eq!(ended.checkpoints.last_epoch, Some(3));
    let commits = sink.calls_of(|what| matches!(what, What::Commit(..)));
    let done: Vec<&What> =
        commits.iter().filter(|call| !call.failed).map(|call| &call.what).collect();
    assert_eq!(done, [&What::Commit(1, 1), &What::Commit(2, 1), &What::Commit(3, 1)]);
    let failed = commits.iter().filter(|call| call.failed);
    assert!(failed.clone().count() >= 2);
    assert!(failed.clone().all(|call| call.what == What::Commit(1, 1)), "the same, in turn");
}

#[test]
fn a_commit_that_fails_for_good_ends_the_job_and_says_that_nothing_is_lost() {
    let clock = Arc::new(VirtualClock::default());
    let sink = Moody::new(&clock, |what, _| matches!(what, What::Commit(..)));
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let url = folder.path().to_str().unwrap().to_owned();
    let mut first = job(&sink, 100, 1);
    first.checkpoints(&url, Duration::from_secs(3600));
    let error = to_the_end(&first, &clock).unwrap_err().to_string();
    assert!(error.contains("epoch 1 is not committed: out: given up after"), "{error}");
    assert!(error.contains("committed when the job is started again"), "{error}");
    // The next start commits it, and has nothing else to do.
    let well = Moody::new(&clock, |_, _| false);
    let mut second = job(&well, 100, 1);
    second.checkpoints(&url, Duration::from_secs(3600));
    second.run_blocking().unwrap();
    assert!(well.state.written.lock().is_empty());
    let commits = well.calls_of(|what| matches!(what, What::Commit(..)));
    assert_eq!(commits.iter().map(|call| &call.what).collect::<Vec<_>>(), [&What::Commit(1, 3)]);
}

#[test]
fn a_sink_that_is_away_when_the_job_starts_is_asked_again() {
    let clock = Arc::new(VirtualClock::default());
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let url = folder.path().to_str().unwrap().to_owned();
    let broken = Moody::new(&clock, |what, _| matches!(what, What::Commit(..)));
    let mut first = job(&broken, 50, 1);
    first.checkpoints(&url, Duration::from_secs(3600));
    to_the_end(&first, &clock).unwrap_err();
    let sink = Moody::new(&clock, |what, before| matches!(what, What::Commit(..)) && before < 3);
    let mut second = job(&sink, 50, 1);
    second.checkpoints(&url, Duration::from_secs(3600));
    let ticks = Arc::new(AtomicUsize::new(0));
    let (time, done) = (clock.clone(), ticks.clone());
    let ended = std::thread::spawn(move || {
        let ended = second.run_blocking();
        done.fetch_add(1, Ordering::SeqCst);
        ended
    });
    until(&time, || ticks.load(Ordering::SeqCst) > 0);
    ended.join().unwrap().unwrap();
    assert_eq!(sink.calls_of(|what| matches!(what, What::Commit(..))).len(), 4);
}

/// Stops a job whose sink is away within eight seconds; returns when it ended, and with what.
fn stop_in_vain(fails: impl Fn(&What) -> bool + Send + Sync + 'static) -> (Duration, String) {
    let clock = Arc::new(VirtualClock::default());
    let sink = Moody::new(&clock, move |what, _| fails(what));
    let (source, feed) = feed(keys_and_times(), 1);
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let mut job = Job::named("stuck");
    job.source(source).sink_with("out", sink.clone(), retry());
    job.parallelism(1).checkpoints(folder.path().to_str().unwrap(), Duration::from_secs(3600));
    job.settings().clock = clock.clone();
    let running = job.start().unwrap();
    let control = running.control();
    feed.push(0, rows([(1, 1)]));
    until(&clock, || sink.state.written.lock().len() == 1);
    assert_eq!(control.checkpoint().unwrap(), 1);
    feed.push(0, rows([(2, 2)]));
    until(&clock, || !sink.calls_of(|what| *what == What::Write(2)).is_empty());
    control.stop_within(8 * SECOND).unwrap();
    until(&clock, || control.status().phase == Phase::Draining);
    let asked = clock.elapsed();
    until(&clock, || control.status().phase == Phase::Failed);
    (clock.elapsed() - asked, running.wait().unwrap_err().to_string())
}

#[test]
fn a_job_that_is_to_stop_does_not_wait_for_a_sink_beyond_its_patience() {
    // The retries would go on for a minute.
    let (spent, error) = stop_in_vain(|what| *what == What::Write(2));
    assert!(spent < 40 * SECOND, "{spent:?}");
    assert!(error.contains("not drained after 8s: rows wait for out"), "{error}");
    assert!(error.ends_with("It stopped behind epoch 1; it resumes there"), "{error}");
    let (spent, error) = stop_in_vain(|what| matches!(what, What::Commit(2, _)));
    assert!(spent < 40 * SECOND, "{spent:?}");
    assert!(error.contains("epoch 2 is not committed by out"), "{error}");
    assert!(error.ends_with("It stopped behind epoch 2; it resumes there"), "{error}");
}

#[test]
fn a_signal_ends_the_process_though_a_call_of_a_sink_never_returns() {
    let folder = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000');
        CREATE TABLE out (n BIGINT, wide STRING) WITH ('connector' = 'print');
        INSERT INTO out SELECT n, REPEAT('x', 100000) FROM numbers;";
    let job = crate::command::file(folder.path(), "job.sql", sql);
    let mut run = crate::command::command(["run".as_ref(), job.as_os_str()]);
    let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // After its first lines nobody reads them any more: the pipe fills.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let asked = Instant::now();
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is not drained after 8s: rows "), "{said}");
    assert!(said.contains("lost, since the job makes no checkpoints"), "{said}");
    assert!(asked.elapsed() < 10 * SECOND, "{:?}", asked.elapsed());
    drop(lines);
}
