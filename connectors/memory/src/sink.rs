//! A transactional sink in memory.
//!
//! Last link of the data path and of the checkpoint path: what writers stage at a barrier goes
//! into the checkpoint as Arrow IPC, and becomes visible in the [`MemoryHandle`] when its epoch is
//! committed. The store behind the handle outlives the job, as a database would, so that a job
//! that crashes and resumes shows every row exactly once.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use parking_lot::Mutex;
use tidemill_core::element::Epoch;
use tidemill_core::sink::{
    Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill_core::{Batch, Error, Result};

/// A sink that keeps results in memory, exactly once with checkpoints.
#[derive(Debug, Clone)]
pub struct MemorySink {
    store: Arc<Mutex<Store>>,
}

/// What a [`MemorySink`] has committed, readable while the job runs and after it.
#[derive(Debug, Clone)]
pub struct MemoryHandle {
    store: Arc<Mutex<Store>>,
}

/// Committed batches by run and epoch. A run is a job started from nothing and all that resumed
/// from its checkpoints: epochs count from 1 in each, so without the run's number a second job
/// over the same sink would be taken for a repetition of the first.
#[derive(Debug, Default)]
struct Store {
    run: u64,
    committed: BTreeMap<(u64, Epoch), Vec<RecordBatch>>,
}

impl Store {
    fn last_epoch(&self) -> Option<Epoch> {
        let last = self.committed.range((self.run, 0)..).next_back();
        last.map(|((_, epoch), _)| *epoch)
    }

    fn start_run(&mut self) {
        if self.last_epoch().is_some() {
            self.run += 1;
        }
    }
}

impl MemorySink {
    /// An empty sink, and the handle that shows what is committed to it.
    pub fn new() -> (Self, MemoryHandle) {
        let store = Arc::default();
        (Self { store: Arc::clone(&store) }, MemoryHandle { store })
    }
}

impl MemoryHandle {
    /// All committed batches, in the order of epochs, of shards within an epoch, and of writes
    /// within a shard.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.store.lock().committed.values().flatten().cloned().collect()
    }

    /// How many rows are committed.
    pub fn rows(&self) -> usize {
        self.store.lock().committed.values().flatten().map(RecordBatch::num_rows).sum()
    }

    /// The last committed epoch of the newest run.
    pub fn committed(&self) -> Option<Epoch> {
        self.store.lock().last_epoch()
    }

    /// A further sink into the same store: what a restarted process would open.
    pub fn sink(&self) -> MemorySink {
        MemorySink { store: Arc::clone(&self.store) }
    }
}

impl Sink for MemorySink {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        let (delivery, why) = if checkpointed {
            (Delivery::ExactlyOnce, "rows become visible together with their epoch")
        } else {
            (Delivery::AtLeastOnce, "without checkpoints a job that crashed starts from nothing")
        };
        Guarantee { delivery, why: why.to_owned() }
    }

    fn writer(&self, _: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(MemoryWriter::default()))
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        if context.first_epoch <= 1 {
            self.store.lock().start_run();
        }
        Ok(Box::new(MemoryCommitter { store: Arc::clone(&self.store) }))
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

/// Holds one shard's rows of the current epoch.
#[derive(Default)]
struct MemoryWriter {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl SinkWriter for MemoryWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        if !batch.is_empty() {
            self.bytes += batch.rows.get_array_memory_size();
            self.batches.push(batch.rows.clone());
        }
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        let staged = encode(&self.batches)?;
        self.batches.clear();
        self.bytes = 0;
        Ok(Poll::Ready(staged))
    }

    fn buffered_bytes(&self) -> usize {
        self.bytes
    }
}

struct MemoryCommitter {
    store: Arc<Mutex<Store>>,
}

impl SinkCommitter for MemoryCommitter {
    fn committed(&mut self) -> Result<Option<Epoch>> {
        Ok(self.store.lock().last_epoch())
    }

    fn commit(&mut self, epoch: Epoch, staged: &[Staged]) -> Result<()> {
        let mut batches = Vec::new();
        for (shard, staged) in staged.iter().enumerate() {
            let decoded = decode(staged).map_err(|error| {
                Error::corrupt(format!(
                    "staged output of epoch {epoch}, shard {shard}, for the memory sink is \
                     unreadable"
                ))
                .caused_by(error)
            })?;
            batches.extend(decoded);
        }
        let mut store = self.store.lock();
        let run = store.run;
        store.committed.entry((run, epoch)).or_insert(batches);
        Ok(())
    }
}

fn encode(batches: &[RecordBatch]) -> Result<Staged> {
    let Some(first) = batches.first() else { return Ok(Staged::default()) };
    let mut writer = StreamWriter::try_new(Vec::new(), first.schema_ref())?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(Staged(writer.into_inner()?))
}

fn decode(staged: &Staged) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    if staged.0.is_empty() {
        return Ok(Vec::new());
    }
    StreamReader::try_new(Cursor::new(&staged.0), None)?.collect()
}
