//! What a job holds in memory, against its budget: queues, sources' buffers, state, and what sinks keep.
//!
//! Every holder says how much it has when that changes, once a batch; nothing is measured row by row. Above the
//! budget sources are not read, so that what is under way drains. [`Pressure`] decides, purely, when nothing can
//! drain any more. Invariant: the total is the sum over the holders.
//!
//! Sizes are those of Arrow's buffers and of aggregates' own reckoning: what batches share counts for each, and
//! what a connector's client library keeps does not count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use parking_lot::Mutex;
use serde::Serialize;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::{Epoch, Error};

/// What memory is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// Batches between operators and between shards.
    Queues,
    /// What sources that drop have read and not passed on.
    Buffers,
    /// State of operators.
    State,
    /// What sinks have taken and not delivered, staged output included.
    Sinks,
}

impl MemoryKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Queues, Self::Buffers, Self::State, Self::Sinks];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::Buffers => "buffers",
            Self::State => "state",
            Self::Sinks => "sinks",
        }
    }
}

/// What a job holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryStatus {
    /// The budget; `None`: there is no limit.
    pub budget: Option<u64>,
    /// Bytes in all.
    pub used: u64,
    /// Bytes by kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

/// The memory of a job.
pub(crate) struct Memory {
    budget: u64,
    /// Bytes in all, where there is a budget. Without one nobody asks after each batch, and shards that all write to it
    /// wait for each other.
    against_budget: AtomicU64,
    holders: Mutex<Vec<Arc<Bytes>>>,
}

/// The bytes of one holder. Several threads may add to them.
#[derive(Debug)]
pub(crate) struct Bytes {
    kind: MemoryKind,
    name: String,
    held: AtomicU64,
}

/// A holder's account.
#[derive(Clone)]
pub(crate) struct Account {
    memory: Arc<Memory>,
    bytes: Arc<Bytes>,
}

impl Memory {
    pub fn new(budget: Option<usize>) -> Arc<Self> {
        let budget = budget.map_or(u64::MAX, |budget| budget as u64);
        Arc::new(Self { budget, against_budget: AtomicU64::new(0), holders: Mutex::default() })
    }

    /// An account for one holder; those with the same name and kind are told of together.
    pub fn account(self: &Arc<Self>, kind: MemoryKind, name: impl Into<String>) -> Account {
        let bytes = Arc::new(Bytes { kind, name: name.into(), held: AtomicU64::new(0) });
        self.holders.lock().push(bytes.clone());
        Account { memory: self.clone(), bytes }
    }

    pub fn has_budget(&self) -> bool {
        self.budget != u64::MAX
    }

    /// Whether more is held than the budget allows.
    pub fn is_over(&self) -> bool {
        self.against_budget.load(Ordering::Relaxed) > self.budget
    }

    fn used(&self) -> u64 {
        self.holders.lock().iter().map(|bytes| bytes.held.load(Ordering::Relaxed)).sum()
    }

    pub fn held(&self, kind: MemoryKind) -> u64 {
        let holders = self.holders.lock();
        holders.iter().filter(|b| b.kind == kind).map(|b| b.held.load(Ordering::Relaxed)).sum()
    }

    pub fn status(&self) -> MemoryStatus {
        MemoryStatus {
            budget: self.has_budget().then_some(self.budget),
            used: self.used(),
            kinds: MemoryKind::ALL.iter().map(|kind| (kind.name(), self.held(*kind))).collect(),
        }
    }

    /// That nothing more can be let go, with who holds most.
    pub fn exhausted(&self) -> Error {
        let mut by_name: BTreeMap<(MemoryKind, String), u64> = BTreeMap::new();
        for bytes in self.holders.lock().iter() {
            let name = (bytes.kind, bytes.name.clone());
            *by_name.entry(name).or_default() += bytes.held.load(Ordering::Relaxed);
        }
        let mut holders: Vec<_> = by_name.into_iter().filter(|(_, held)| *held > 0).collect();
        holders.sort_by_key(|(_, held)| std::cmp::Reverse(*held));
        let holders: Vec<String> = holders
            .iter()
            .take(3)
            .map(|((kind, name), held)| {
                format!("{} in {} of {name}", mebibytes(*held), kind.name())
            })
            .collect();
        let (used, budget) = (self.used(), self.budget);
        Error::external(format!(
            "the job needs more memory than its budget: it holds {} of {} ({}), its sources wait, and \
             nothing of it can be let go before they are read on. Give it more ('memory.budget', \
             --memory), or let it hold less: shorter windows, fewer keys, a longer slide, no aggregates \
             that keep rows (ordered, DISTINCT, collecting ones). State is not spilled to disk",
            mebibytes(used),
            mebibytes(budget),
            holders.join(", ")
        ))
    }
}

impl Account {
    pub fn add(&self, bytes: usize) {
        self.change(bytes as u64, |count, bytes| _ = count.fetch_add(bytes, Ordering::Relaxed));
    }

    pub fn subtract(&self, bytes: usize) {
        self.change(bytes as u64, |count, bytes| _ = count.fetch_sub(bytes, Ordering::Relaxed));
    }

    /// The holder has so much now. For holders of one thread only.
    pub fn set(&self, bytes: usize) {
        let before = self.bytes.held.load(Ordering::Relaxed) as usize;
        match bytes >= before {
            true => self.add(bytes - before),
            false => self.subtract(before - bytes),
        }
    }

    fn change(&self, bytes: u64, by: impl Fn(&AtomicU64, u64)) {
        if bytes > 0 {
            by(&self.bytes.held, bytes);
            if self.memory.has_budget() {
                by(&self.memory.against_budget, bytes);
            }
        }
    }

    /// Whether the job holds more than its budget allows.
    pub fn is_over(&self) -> bool {
        self.memory.is_over()
    }
}

/// What the coordinator sees when it looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// More is held than the budget allows.
    pub over: bool,
    /// Nothing is under way between operators, or in a source's buffer.
    pub quiet: bool,
    /// Records read so far.
    pub records_in: u64,
    /// The last epoch that was started, and the last that is committed.
    pub started: Epoch,
    pub committed: Epoch,
}

/// What to do about memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relief {
    /// Nothing: it is enough, or it drains.
    None,
    /// Make a checkpoint: staged output and increments of state go with it, and its barrier finds what
    /// is still under way.
    Checkpoint,
    /// End the job.
    Impossible,
}

/// Finds out whether waiting helps. A checkpoint that is asked for when all is quiet passes through
/// everything; where more is held than allowed behind it, and nothing was read since, nothing can change.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Records that had been read when a checkpoint was asked for, and the epoch that must be committed.
    asked: Option<(u64, Epoch)>,
}

impl Pressure {
    pub fn look(&mut self, sight: Sight) -> Relief {
        let Sight { over, quiet, records_in, started, committed } = sight;
        if !over {
            self.asked = None;
        }
        if !over || !quiet {
            return Relief::None;
        }
        match self.asked {
            Some((then, epoch)) if then == records_in => {
                if committed >= epoch {
                    Relief::Impossible
                } else {
                    Relief::None
                }
            }
            _ => {
                self.asked = Some((records_in, started + 1));
                Relief::Checkpoint
            }
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What rows weigh: the part of Arrow's buffers that they use. Of buffers that views point into, all of
/// each, once: the views keep it alive.
pub(crate) fn rows_bytes(rows: &RecordBatch) -> usize {
    let mut seen: Vec<*const u8> = Vec::new();
    rows.columns().iter().map(|column| array_bytes(column.as_ref(), &mut seen)).sum()
}

fn array_bytes(array: &dyn Array, seen: &mut Vec<*const u8>) -> usize {
    if let Some(width) = array.data_type().primitive_width() {
        let nulls = array.nulls().map_or(0, |nulls| nulls.len().div_ceil(8));
        return array.len() * width + nulls;
    }
    let views = match array.data_type() {
        DataType::Utf8View => array.as_string_view().data_buffers(),
        DataType::BinaryView => array.as_binary_view().data_buffers(),
        _ => &[],
    };
    let mut first_time = |buffer: &&Buffer| {
        let at = buffer.as_ptr();
        let is_new = !seen.contains(&at);
        if is_new {
            seen.push(at);
        }
        is_new
    };
    let pointed_at: usize = views.iter().filter(&mut first_time).map(Buffer::len).sum();
    let own = array.to_data().get_slice_memory_size();
    pointed_at + own.unwrap_or_else(|_| array.get_array_memory_size())
}

/// What bad records weigh.
pub(crate) fn letters_bytes(letters: &[DeadLetter]) -> usize {
    let payload = |letter: &DeadLetter| letter.record.payload.as_ref().map_or(0, Vec::len);
    letters.iter().map(|letter| size_of::<DeadLetter>() + payload(letter)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    #[test]
    fn the_total_is_the_sum_over_the_holders() {
        let memory = Memory::new(Some(1 << 20));
        let state = memory.account(MemoryKind::State, "per_user");
        let queue = memory.account(MemoryKind::Queues, "a → b");
        state.set(700 << 10);
        queue.add(300 << 10);
        assert!(!memory.is_over());
        queue.add(100 << 10);
        assert!(memory.is_over() && state.is_over());
        assert_eq!(memory.status().kinds["queues"], 400 << 10);
        queue.subtract(400 << 10);
        state.set(600 << 10);
        assert_eq!(memory.status().used, 600 << 10);
        assert!(!memory.is_over(), "what was taken back no longer counts");
        state.set(1200 << 10);
        let said = memory.exhausted().to_string();
        assert!(said.contains("holds 1.2 MiB of 1.0 MiB (1.2 MiB in state of per_user)"), "{said}");
        let without = Memory::new(None);
        without.account(MemoryKind::State, "per_user").add(5);
        assert_eq!((without.status().used, without.is_over()), (5, false));
    }

    #[test]
    fn the_job_ends_only_behind_a_checkpoint_that_relieved_nothing() {
        let mut pressure = Pressure::default();
        let quiet = Sight { over: true, quiet: true, records_in: 10, started: 4, committed: 4 };
        assert_eq!(pressure.look(Sight { quiet: false, ..quiet }), Relief::None);
        assert_eq!(pressure.look(quiet), Relief::Checkpoint);
        assert_eq!(pressure.look(Sight { started: 5, ..quiet }), Relief::None, "not committed");
        let done = Sight { started: 5, committed: 5, ..quiet };
        assert_eq!(pressure.look(Sight { quiet: false, ..done }), Relief::None);
        let read_on = Sight { records_in: 11, ..done };
        assert_eq!(pressure.look(read_on), Relief::Checkpoint, "it had helped for a while");
        assert_eq!(pressure.look(Sight { over: false, ..read_on }), Relief::None);
        assert_eq!(pressure.look(read_on), Relief::Checkpoint, "anew");
        let again = Sight { started: 6, committed: 6, ..read_on };
        assert_eq!(pressure.look(again), Relief::Impossible);
    }

    #[test]
    fn slices_weigh_their_part_and_shared_buffers_once() {
        let numbers: ArrayRef = Arc::new((0..1000).collect::<Int64Array>());
        let rows = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        assert_eq!(rows_bytes(&rows), 8000);
        assert_eq!(rows_bytes(&rows.slice(10, 100)), 800);
        let words = StringViewArray::from_iter_values(["a word that is longer than its view"; 10]);
        let buffer = words.data_buffers()[0].len();
        let words: ArrayRef = Arc::new(words);
        let rows = RecordBatch::try_from_iter([("a", words.clone()), ("b", words)]).unwrap();
        assert_eq!(rows_bytes(&rows), buffer + 2 * 160);
    }
}
