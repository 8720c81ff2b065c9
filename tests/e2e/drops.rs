//! Sources that drop: which records stay, how many go, and that nothing else is lost, doubled or moved by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parking_lot::Mutex;
use tidemill::core::sink::{Guarantee, SinkCommitter, SinkContext, SinkWriter, Staged};
use tidemill::core::{Batch, Epoch, Result};
use tidemill::prelude::*;
use tidemill::runtime::{CheckpointSettings, JobControl, StartFrom};
use tidemill::testing::{CrashPoint, crash_at, wait_for};

use crate::flow::{Gate, Gated, keys_and_times, rows};
use crate::pipelines::fast_disk;

const SECOND: i64 = 1_000_000;

/// Batches that go past the buffer before a closed gate stops it: with its watermark, one fills the queue
/// in front of the sink.
const QUEUED: usize = 1;

const BATCH: usize = 10;

/// Keys `0..total`, a second apart.
fn input(total: i64) -> RecordBatch {
    rows((0..total).map(|n| (n, n * SECOND)))
}

fn keys(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// A job whose sink is closed, and what it has written so far.
fn behind_a_gate(buffer: Buffer, total: i64) -> (Job, Arc<Gate>, Arc<Mutex<Vec<i64>>>) {
    let written: Arc<Mutex<Vec<i64>>> = Arc::default();
    let gate = Arc::new(Gate::default());
    let into = written.clone();
    let on_write = Arc::new(move |batch: &RecordBatch| into.lock().extend(keys(batch)));
    let mut job = Job::named("drops");
    job.source(MemorySource::new(keys_and_times(), vec![vec![input(total)]]))
        .event_time("ts", Watermarks::bounded(Duration::ZERO))
        .buffer(buffer)
        .sink(Gated { gate: gate.clone(), on_write });
    job.parallelism(1);
    job.settings().batch_rows = BATCH;
    (job, gate, written)
}

fn dropped(control: &JobControl) -> u64 {
    control.status().splits.iter().map(|split| split.dropped).sum()
}

fn capacity(records: usize, bytes: usize) -> BufferCapacity {
    BufferCapacity { records, bytes }
}

#[test]
fn drop_oldest_keeps_the_newest_and_drop_newest_the_oldest_to_the_record() {
    const TOTAL: i64 = 1000;
    let front = (QUEUED * BATCH) as i64;
    // Sixteen bytes a row: a key and a time.
    for room in [capacity(45, 1 << 20), capacity(100_000, 45 * 16)] {
        let newest = (0..front).chain(TOTAL - 45..TOTAL).collect::<Vec<_>>();
        let oldest = (0..front + 45).collect::<Vec<_>>();
        let kept = [(Buffer::DropOldest(room), newest), (Buffer::DropNewest(room), oldest)];
        for (buffer, expected) in kept {
            let (job, gate, written) = behind_a_gate(buffer, TOTAL);
            let running = job.start().unwrap();
            let control = running.control();
            let lost = TOTAL as u64 - expected.len() as u64;
            wait_for(|| dropped(&control) == lost);
            let status = control.status();
            assert_eq!(status.memory.kinds["buffers"], 45 * 16, "{buffer:?}");
            let seen = status.splits[0].watermark.unwrap();
            assert!(seen < front * SECOND, "what waits or is dropped moves no time: {seen}");
            gate.let_through(usize::MAX / 2);
            let ended = running.wait().unwrap();
            assert_eq!(*written.lock(), expected, "{buffer:?}");
            let ledger = &ended.ledgers[0];
            assert!(ledger.balances() && ledger.late == 0, "{ledger:?}");
            assert_eq!((ledger.records_in, ledger.dropped), (TOTAL as u64, lost), "{buffer:?}");
        }
    }
}

#[test]
fn a_source_that_keeps_up_drops_nothing_and_one_that_blocks_never_does() {
    for buffer in [Buffer::Block, Buffer::DropOldest(BufferCapacity::default())] {
        let (job, gate, written) = behind_a_gate(buffer, 5000);
        gate.let_through(usize::MAX / 2);
        let ended = job.run_blocking().unwrap();
        assert_eq!(*written.lock(), (0..5000).collect::<Vec<_>>(), "{buffer:?}");
        assert_eq!(ended.ledgers[0].dropped, 0);
    }
}

/// A transactional sink that takes a batch only every so many times it is asked.
struct Slow {
    inner: MemorySink,
    every: usize,
}

impl Sink for Slow {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        self.inner.guarantee(checkpointed)
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let inner = self.inner.writer(context)?;
        Ok(Box::new(SlowWriter { inner, every: self.every, asked: 0 }))
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        self.inner.committer(context)
    }

    fn describe(&self) -> String {
        "slow".to_owned()
    }
}

struct SlowWriter {
    inner: Box<dyn SinkWriter>,
    every: usize,
    asked: usize,
}

impl SinkWriter for SlowWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        self.asked += 1;
        if self.asked.is_multiple_of(self.every) {
            self.inner.poll_ready()
        } else {
            Ok(Poll::Pending)
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.inner.write(batch)
    }

    fn poll_stage(&mut self, epoch: Epoch) -> Result<Poll<Staged>> {
        self.inner.poll_stage(epoch)
    }
}

/// How one seed runs it.
struct Case {
    seed: u64,
    splits: usize,
    buffer: Buffer,
    batch_rows: usize,
    every: usize,
}

const ROWS: i64 = 400;

fn case(seed: u64) -> Case {
    let n = seed as usize;
    let room = capacity(1 + n * 7 % 60, 16 + n * 131 % 2000);
    let buffer =
        if seed.is_multiple_of(2) { Buffer::DropOldest(room) } else { Buffer::DropNewest(room) };
    Case { seed, splits: 1 + n % 3, buffer, batch_rows: 1 + n * 5 % 17, every: 1 + n % 3 }
}

impl Case {
    /// The job on so many shards. Keys of split `n` are `n * ROWS..(n + 1) * ROWS`.
    fn job(&self, shards: usize, sink: &MemorySink, url: &str) -> Job {
        let split = |n: usize| {
            let first = n as i64 * ROWS;
            vec![rows((first..first + ROWS).map(|key| (key, (key - first) * SECOND)))]
        };
        let splits = (0..self.splits).map(split).collect();
        let mut job = Job::named("drops-and-crashes");
        job.source(MemorySource::new(keys_and_times(), splits))
            .event_time("ts", Watermarks::bounded(Duration::ZERO))
            .buffer(self.buffer)
            .rate_limit(40_000)
            .sink(Slow { inner: sink.clone(), every: self.every });
        job.parallelism(shards);
        let settings = job.settings();
        settings.batch_rows = self.batch_rows;
        settings.checkpoints = Some(CheckpointSettings {
            start: StartFrom::Checkpoint,
            retained: 10_000,
            ..CheckpointSettings::new(url, Duration::from_millis(3))
        });
        job
    }
}

/// The counters by node of every checkpoint under a folder, in order.
fn counts_of_checkpoints(folder: &std::path::Path) -> Vec<serde_json::Value> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path)
                && let Some((_, body)) = text.split_once('\n').filter(|_| path_is_manifest(&path))
            {
                let manifest: serde_json::Value = serde_json::from_str(body).unwrap();
                found.insert(manifest["epoch"].as_u64(), manifest["counts"].clone());
            }
        }
    }
    found.into_values().collect()
}

fn path_is_manifest(path: &std::path::Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("manifests"))
}

#[test]
fn with_crashes_every_record_is_written_once_or_dropped_and_counts_agree_at_every_checkpoint() {
    let points = [CrashPoint::BeforePublish, CrashPoint::BeforeCommit, CrashPoint::AfterCommit];
    let (mut checkpoints, mut lost_in_all, mut crashes) = (0, 0, 0);
    for seed in 0..60 {
        let case = case(seed);
        let folder = tempfile::tempdir_in(fast_disk()).unwrap();
        let url = folder.path().to_str().unwrap();
        let (handle, sink) = collect_transactional();
        let shards = [1 + seed as usize % 2, 1 + seed as usize / 2 % 3];
        let mut first = case.job(shards[0], &sink, url);
        crash_at(&mut first, 1 + seed % 4, points[seed as usize % 3]);
        let ended = match first.run_blocking() {
            Ok(ended) => ended,
            Err(error) => {
                assert!(error.to_string().contains("crashed on request"), "{error}");
                crashes += 1;
                case.job(shards[1], &sink, url).run_blocking().unwrap()
            }
        };
        let context = format!("seed {}, {:?}, {shards:?} shards", case.seed, case.buffer);
        let ledger = &ended.ledgers[0];
        let read = case.splits as u64 * ROWS as u64;
        assert!(ledger.balances() && ledger.late == 0, "{context}: {ledger:?}");
        assert_eq!(ledger.records_in, read, "{context}");
        let mut written: Vec<i64> = handle.batches().iter().flat_map(keys).collect();
        assert_eq!(written.len() as u64 + ledger.dropped, read, "{context}: {ledger:?}");
        written.sort_unstable();
        assert!(written.is_sorted_by(|a, b| a < b), "{context}: a record came twice");
        lost_in_all += ledger.dropped;
        for counts in counts_of_checkpoints(folder.path()) {
            let of = |node: &str, name: &str| counts[node][name].as_u64().unwrap();
            let source = of("source", "records_out") + of("source", "dropped");
            assert_eq!(of("source", "records_in"), source, "{context}: {counts}");
            assert_eq!(of("source", "records_out"), of("sink", "records_out"), "{context}");
            checkpoints += 1;
        }
    }
    println!("{checkpoints} checkpoints, {lost_in_all} records dropped, {crashes} crashes");
    assert!(checkpoints > 200 && lost_in_all > 1000 && crashes > 30);
}

fn collect_transactional() -> (tidemill::memory::MemoryHandle, MemorySink) {
    let (sink, handle) = MemorySink::new();
    (handle, sink)
}
