//! Invariants 1, 7 and 9: a slow sink slows its source and no more, a silent split holds nothing up,
//! a panic ends the job, and a signal lets it drain.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use parking_lot::Mutex;
use tidemill::core::sink::{
    Delivered, Delivery, Guarantee, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill::core::source::{Offset, ReaderContext, SplitId, SplitReader};
use tidemill::core::{Batch, Epoch, Result};
use tidemill::prelude::*;
use tidemill::runtime::{JobSummary, Phase};
use tidemill::testing::{VirtualClock, feed, wait_for};

use crate::job_folder::{JobFolder, summary};
use crate::pipelines::fast_disk;

const SECOND: i64 = 1_000_000;

/// A batch of a key and a time column.
pub(crate) fn rows(rows: impl IntoIterator<Item = (i64, i64)>) -> RecordBatch {
    let (keys, times): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int64Array::from(keys)), Arc::new(TimestampMicrosecondArray::from(times))];
    RecordBatch::try_new(keys_and_times(), columns).unwrap()
}

pub(crate) fn keys_and_times() -> SchemaRef {
    schema([("key", DataType::Int64), ("ts", TIMESTAMP)])
}

/// A sink that takes a batch when its gate lets it, and tells somebody.
pub(crate) struct Gated {
    pub gate: Arc<Gate>,
    pub on_write: Arc<dyn Fn(&RecordBatch) + Send + Sync>,
}

/// Lets batches through one by one.
#[derive(Default)]
pub(crate) struct Gate {
    tickets: AtomicUsize,
    wakers: Mutex<HashMap<usize, Waker>>,
}

impl Gate {
    pub fn let_through(&self, batches: usize) {
        self.tickets.fetch_add(batches, Ordering::SeqCst);
        self.wakers.lock().values().for_each(Waker::wake_by_ref);
    }
}

impl Sink for Gated {
    fn guarantee(&self, _: bool) -> Guarantee {
        Guarantee { delivery: Delivery::AtLeastOnce, why: "a test".into() }
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        self.gate.wakers.lock().insert(context.shard, context.waker.clone());
        Ok(Box::new(Gated { gate: self.gate.clone(), on_write: self.on_write.clone() }))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        "gated by a test".into()
    }
}

impl SinkWriter for Gated {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        let open = self.gate.tickets.load(Ordering::SeqCst) > 0;
        Ok(if open { Poll::Ready(()) } else { Poll::Pending })
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        // Two shards may have seen the same ticket; a count that is spent stays so.
        let spend = |tickets: usize| tickets.checked_sub(1);
        let _ = self.gate.tickets.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend);
        (self.on_write)(&batch.rows);
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged::default()))
    }
}

/// Elements between a source and its sink on one shard: queues of two behind source, combiner (eight,
/// to each of two shards), merger, each soft by one step, and what is in hand.
const ELEMENTS_BETWEEN: usize = (2 + 1) + 2 * (8 + 1) + (2 + 1) + 3;

const BATCH: usize = 500;

#[test]
fn a_slow_sink_slows_its_source_and_checkpoints_go_on() {
    const SHARDS: usize = 2;
    const BATCHES: usize = 600;
    // Every row is a result: nothing hides in aggregates. Rows of a window come in one batch.
    let split = |split: i64| -> Vec<RecordBatch> {
        let batch =
            |n: i64| rows((0..BATCH as i64).map(|row| (2 * (n * 500 + row) + split, n * SECOND)));
        (0..BATCHES as i64).map(batch).collect()
    };
    let total = SHARDS * BATCHES * BATCH;
    let written = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Gate::default());
    let count = written.clone();
    let on_write = Arc::new(move |batch: &RecordBatch| {
        count.fetch_add(batch.num_rows(), Ordering::SeqCst);
    });
    let folder = tempfile::tempdir_in(fast_disk()).unwrap();
    let mut job = Job::named("slow-sink");
    job.source(MemorySource::new(keys_and_times(), vec![split(0), split(1)]))
        .event_time("ts", Watermarks::bounded(Duration::ZERO))
        .key_by(["key"])
        .window(Tumbling::of(Duration::from_secs(1)))
        .aggregate([count_rows()])
        .sink(Gated { gate: gate.clone(), on_write });
    job.parallelism(SHARDS);
    job.settings().batch_rows = BATCH;
    job.checkpoints(folder.path().to_str().unwrap(), Duration::from_millis(5));
    let running = job.start().unwrap();
    let control = running.control();
    let read = || -> usize {
        let nodes = control.status().nodes;
        let source = nodes.iter().find(|node| node.kind == "source").unwrap();
        source.counts.records_in as usize
    };
    // A window may be open at each end: rows that are read, and not results yet.
    let bound = SHARDS * (ELEMENTS_BETWEEN + 2) * BATCH;
    assert!(bound < total / 5, "the bound would prove nothing");
    let (mut most, mut epochs) = (0, 0);
    for _ in 0..40 {
        let before = written.load(Ordering::SeqCst);
        gate.let_through(2);
        wait_for(|| written.load(Ordering::SeqCst) > before);
        let ahead = read().saturating_sub(written.load(Ordering::SeqCst));
        most = most.max(ahead);
        assert!(ahead <= bound, "{ahead} rows were read ahead of the sink; the bound is {bound}");
        epochs = epochs.max(control.status().checkpoints.completed);
    }
    assert!(read() < total / 2, "the source did not wait");
    assert!(most > 0 && epochs > 0, "{epochs} checkpoints while the sink was slow");
    gate.let_through(usize::MAX / 2);
    let ended = running.wait().unwrap();
    assert_eq!(written.load(Ordering::SeqCst), total);
    assert!(ended.ledgers[0].balances() && ended.ledgers[0].late == 0);
}

fn count_rows() -> Expr {
    count().alias("n")
}

/// How a job ends that must end: in time.
fn end_of(job: Job) -> Result<JobSummary> {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more when the test has given up.
        let _ = done.send(job.run_blocking());
    });
    is_done.recv_timeout(Duration::from_secs(60)).expect("the job hangs")
}

/// A job on two shards.
fn on_two_shards() -> Job {
    let mut job = Job::named("doomed");
    job.parallelism(2);
    job
}

fn some_rows() -> RecordBatch {
    rows((0..100).map(|n| (n, n * SECOND)))
}

#[test]
fn a_panic_in_a_function_ends_the_job_with_its_message() {
    let (source, feed) = feed(keys_and_times(), 2);
    let (_, sink) = collect();
    let mut job = on_two_shards();
    job.source(source)
        .flat_map(keys_and_times(), |batch| {
            let keys = batch.column(0).as_primitive::<Int64Type>();
            assert!(!keys.values().contains(&42), "no answer today");
            Ok(vec![batch])
        })
        .sink(sink);
    feed.push(1, some_rows());
    let error = end_of(job).unwrap_err().to_string();
    assert!(error.contains("no answer today"), "{error}");
}

#[test]
fn a_panic_in_a_sink_ends_the_job_with_its_message() {
    let (source, feed) = feed(keys_and_times(), 2);
    let gate = Arc::new(Gate::default());
    gate.let_through(1000);
    let mut job = on_two_shards();
    let on_write = Arc::new(|_: &RecordBatch| panic!("the printer is on fire"));
    job.source(source).sink(Gated { gate, on_write });
    feed.push(0, some_rows());
    let error = end_of(job).unwrap_err().to_string();
    assert!(error.contains("the printer is on fire"), "{error}");
}

/// A source whose readers panic: the shard dies outside of any operator.
struct Deadly;

impl Source for Deadly {
    fn schema(&self) -> SchemaRef {
        keys_and_times()
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(vec![SplitId::new("one"), SplitId::new("two")])
    }

    fn open(
        &self,
        split: &SplitId,
        _: Option<&Offset>,
        _: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(DeadlyReader { dies: split.as_str() == "two" }))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "deadly".into()
    }
}

struct DeadlyReader {
    dies: bool,
}

impl SplitReader for DeadlyReader {
    fn read(&mut self, _: usize) -> Result<tidemill::core::source::Read> {
        assert!(!self.dies, "the wire is cut");
        Ok(tidemill::core::source::Read::Pending)
    }

    fn offset(&self) -> Offset {
        Offset("0".into())
    }

    fn progress(&self) -> Option<(u64, u64)> {
        None
    }
}

#[test]
fn a_dead_shard_ends_the_job_while_the_other_lives() {
    let mut job = on_two_shards();
    let (_, sink) = collect();
    job.source(Deadly).sink(sink);
    let error = end_of(job).unwrap_err().to_string();
    assert!(error.contains("shard 1 panicked: the wire is cut"), "{error}");
}

/// Two splits of which one falls silent and wakes, on `shards` shards.
fn silent_split(shards: usize) {
    let (source, feed) = feed(keys_and_times(), 2);
    let (results, sink) = collect();
    let clock = Arc::new(VirtualClock::starting_at(100 * SECOND));
    let mut job = Job::named("silent");
    job.source(source)
        .event_time("ts", Watermarks::bounded(Duration::ZERO).idle_after(Duration::from_secs(30)))
        .window(Tumbling::of(Duration::from_secs(10)))
        .aggregate([count_rows()])
        .sink(sink);
    job.parallelism(shards);
    job.settings().clock = clock.clone();
    // Splits are asked for rows again as time goes by, so it must go, if only by so little.
    let tick = Duration::from_micros(1);
    job.settings().linger = tick;
    let running = job.start().unwrap();
    let control = running.control();
    let window = || {
        let status = control.status();
        status.nodes.into_iter().find(|node| node.kind == "window").unwrap()
    };
    let wait_until = |condition: &dyn Fn() -> bool| {
        wait_for(|| {
            clock.advance(tick);
            condition()
        });
    };
    let counted = |rows: u64| wait_until(&|| window().counts.records_in == rows);
    feed.push(1, rows([(1, SECOND)]));
    counted(1);
    feed.push(0, rows([(1, 2 * SECOND), (1, 25 * SECOND)]));
    counted(3);
    clock.advance(Duration::from_secs(29));
    feed.push(0, rows([(1, 26 * SECOND)]));
    counted(4);
    assert_eq!(window().counts.records_out, 0, "split 1 is not silent for long enough");
    clock.advance(Duration::from_secs(2));
    // Split 0 had a row two seconds ago; split 1 thirty-one.
    wait_until(&|| window().counts.records_out == 1);
    // The shard of split 1 may say so of itself after the other has fired, and says it ten times a second.
    clock.advance(Duration::from_millis(100));
    wait_until(&|| control.status().held_back_by.as_deref() == Some("source, fed/0"));
    // Time stands at 26 s: the first row is late, the second is in time.
    feed.push(1, rows([(1, 3 * SECOND), (1, 24 * SECOND)]));
    counted(6);
    feed.push(1, rows([(1, 41 * SECOND)]));
    feed.end(0);
    feed.end(1);
    clock.advance(tick);
    wait_until(&|| control.status().phase != Phase::Running);
    let ended = running.wait().unwrap();
    let fired: Vec<(i64, i64)> = results
        .batches()
        .iter()
        .flat_map(|batch| {
            let starts = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            let counts = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>();
            (0..batch.num_rows())
                .map(|row| (starts.value(row) / SECOND, counts.value(row)))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(fired, [(0, 2), (20, 3), (40, 1)], "{shards} shards");
    let ledger = &ended.ledgers[0];
    assert!(ledger.balances() && ledger.late == 1, "{shards} shards: {ledger:?}");
}

/// The clock stands still: a split that is left alone for a while would be so for ever.
#[test]
fn rows_that_are_all_there_are_read_to_their_end_without_a_pause() {
    let few = |first: i64| rows((first..first + 3).map(|n| (n, n * SECOND)));
    let splits = vec![vec![few(0), few(3)], vec![few(6)]];
    let mut job = Job::named("at-hand");
    let (results, sink) = collect();
    job.source(MemorySource::new(keys_and_times(), splits)).sink(sink);
    job.settings().clock = Arc::new(VirtualClock::starting_at(100 * SECOND));
    let running = job.start().unwrap();
    let control = running.control();
    wait_for(|| control.status().phase != Phase::Running);
    running.wait().unwrap();
    assert_eq!(results.batches().iter().map(RecordBatch::num_rows).sum::<usize>(), 9);
}

#[test]
fn sources_of_a_shard_are_read_in_turns() {
    let table = |first: i64| {
        let batches = (first..first + 20).map(|n| rows([(n, n * SECOND)])).collect();
        MemorySource::new(keys_and_times(), vec![batches])
    };
    let mut job = Job::named("turns");
    let (results, sink) = collect();
    let low = job.source(table(0));
    let high = job.source(table(100));
    low.union(&high).sink(sink);
    job.parallelism(1);
    job.run_blocking().unwrap();
    let keys = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let keys: Vec<i64> = results.batches().iter().flat_map(keys).collect();
    assert_eq!(keys.len(), 40);
    let (from_low, from_high): (Vec<i64>, Vec<i64>) = keys[..20].iter().partition(|n| **n < 100);
    assert_eq!((from_low.len(), from_high.len()), (10, 10), "{keys:?}");
}

#[test]
fn a_silent_split_holds_nothing_beyond_its_timeout_and_is_judged_exactly_when_it_wakes() {
    for shards in [1, 2] {
        silent_split(shards);
    }
}

#[test]
fn a_signal_drains_the_job_and_another_run_finishes_it_exactly() {
    let folder = JobFolder::new(11, 2500);
    for (signal, shards) in [("INT", 2), ("TERM", 3), ("INT", 1)] {
        let epoch = folder.newest_epoch();
        let mut running = folder.start(folder.job(shards, "30ms"), 1500);
        running.until("a checkpoint", || folder.newest_epoch() > epoch);
        let (before, asked) = (folder.newest_epoch(), Instant::now());
        running.signal(signal);
        let (code, said) = running.wait();
        assert_eq!(code, Some(0), "{said}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        let ended = summary(&said);
        assert_eq!(ended["phase"], "stopped", "{said}");
        assert!(folder.newest_epoch() > before, "there is a last checkpoint");
        assert_eq!(ended["checkpoints"]["last_epoch"], folder.newest_epoch());
        let ledger = &ended["ledgers"][0];
        let count = |name: &str| ledger[name].as_u64().unwrap();
        let sum = count("counted") + count("late") + count("dead_letters") + count("filtered");
        assert_eq!(count("records_in"), sum, "{said}");
        assert!(sum < folder.expected.records, "it was stopped in its middle");
    }
    folder.assert_exact(&folder.job(2, "30ms").output().unwrap(), "after three signals");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_second_signal_stops_at_once_even_a_job_that_hangs() {
    let folder = JobFolder::new(12, 2500);
    let mut command = folder.job(2, "30ms");
    command.env("FAILPOINTS", "checkpoint::before_publish=2*off->pause");
    let mut running = folder.start(command, 1500);
    running.until("two checkpoints", || folder.newest_epoch() >= 2);
    running.signal("INT");
    running.until("word of the first signal", || running_says(&folder, "once more to stop now"));
    running.signal("INT");
    let (code, said) = running.wait();
    assert_eq!(code, Some(130), "{said}");
    folder.assert_exact(&folder.job(2, "30ms").output().unwrap(), "after a hard stop");
}

#[cfg(feature = "failpoints")]
fn running_says(folder: &JobFolder, text: &str) -> bool {
    std::fs::read_to_string(folder.path("log-1500")).is_ok_and(|log| log.contains(text))
}
