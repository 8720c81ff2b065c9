//! Aggregates of open sessions that no row is added to at present: states as Arrow columns, and which
//! of their rows make up a session. Part of the state of session windows. Invariant: states that no
//! session holds any more are at most as many as those that are held, and a constant.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{interleave, take};
use tidemill_core::Result;

/// States that may be kept in vain beside as many as are held, or held beside a few for each session.
const WASTE_MAX: usize = 8192;

/// More states than so many for each session are worth being merged.
const STATES_PER_SESSION_MAX: usize = 8;

/// The end of a list, and the number of what there is none of.
pub(super) const NONE: u32 = u32::MAX;

/// Number of a batch, and of a row in it.
pub(super) type StateId = (u32, u32);

/// The states of one session, which [`Resting`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct States(u32);

/// States of sessions, at rest.
pub(super) struct Resting {
    batches: Vec<Batch>,
    /// Numbers of batches that are there no more.
    free_batches: Vec<u32>,
    nodes: Vec<Node>,
    free_node: u32,
    /// Rows in all batches.
    kept: usize,
    /// Rows that sessions hold.
    held: usize,
    bytes: usize,
}

#[derive(Default)]
struct Batch {
    columns: Vec<ArrayRef>,
    rows: usize,
    held: usize,
    bytes: usize,
}

/// One state of a session, and which is the next.
#[derive(Clone, Copy)]
struct Node {
    state: StateId,
    next: u32,
}

impl States {
    pub const NONE: Self = Self(NONE);
}

impl Resting {
    pub fn new() -> Self {
        Self {
            batches: Vec::new(),
            free_batches: Vec::new(),
            nodes: Vec::new(),
            free_node: NONE,
            kept: 0,
            held: 0,
            bytes: 0,
        }
    }

    /// Takes so many rows of states, of which each is going to be added to a session. Returns the
    /// number of their batch.
    pub fn keep(&mut self, columns: Vec<ArrayRef>, rows: usize) -> u32 {
        let bytes = columns.iter().map(|column| column.get_array_memory_size()).sum();
        self.kept += rows;
        self.bytes += bytes;
        let batch = Batch { columns, rows, held: 0, bytes };
        match self.free_batches.pop() {
            Some(number) => {
                self.batches[number as usize] = batch;
                number
            }
            None => {
                self.batches.push(batch);
                self.batches.len() as u32 - 1
            }
        }
    }

    /// Adds a state to a session's.
    pub fn add(&mut self, states: &mut States, state: StateId) {
        let node = Node { state, next: states.0 };
        self.held += 1;
        self.batches[state.0 as usize].held += 1;
        match self.free_node {
            NONE => {
                states.0 = self.nodes.len() as u32;
                self.nodes.push(node);
            }
            free => {
                states.0 = free;
                self.free_node = self.nodes[free as usize].next;
                self.nodes[free as usize] = node;
            }
        }
    }

    /// Adds one session's states to another's.
    pub fn join(&mut self, into: &mut States, from: States) {
        if from == States::NONE {
            return;
        }
        let mut last = from.0;
        while self.nodes[last as usize].next != NONE {
            last = self.nodes[last as usize].next;
        }
        self.nodes[last as usize].next = into.0;
        *into = from;
    }

    /// The states of a session.
    pub fn of(&self, states: States) -> impl Iterator<Item = StateId> {
        let mut next = states.0;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            next = node.next;
            Some(node.state)
        })
    }

    /// Lets go of a session's states.
    pub fn release(&mut self, states: States) {
        let mut next = states.0;
        while next != NONE {
            let node = &mut self.nodes[next as usize];
            let (number, number_of_next) = (node.state.0, node.next);
            node.next = self.free_node;
            self.free_node = next;
            next = number_of_next;
            self.held -= 1;
            let batch = &mut self.batches[number as usize];
            batch.held -= 1;
            if batch.held == 0 {
                self.kept -= batch.rows;
                self.bytes -= batch.bytes;
                *batch = Batch::default();
                self.free_batches.push(number);
            }
        }
    }

    /// Whether sessions should be put together: too much is kept in vain, or in too many pieces.
    pub fn is_wasteful(&self, sessions: usize) -> bool {
        self.kept > 2 * self.held + WASTE_MAX
            || self.held > STATES_PER_SESSION_MAX * sessions + WASTE_MAX
    }

    /// The columns of these states.
    pub fn columns(&self, states: &[StateId]) -> Result<Vec<ArrayRef>> {
        let mut used: Vec<u32> = states.iter().map(|(batch, _)| *batch).collect();
        used.sort_unstable();
        used.dedup();
        let batch = |number: &u32| &self.batches[*number as usize].columns;
        let Some(first) = used.first().map(batch) else { return Ok(Vec::new()) };
        if used.len() == 1 {
            let rows: UInt32Array = states.iter().map(|(_, row)| *row).collect::<Vec<_>>().into();
            return first.iter().map(|column| Ok(take(column, &rows, None)?)).collect();
        }
        let mut among_used = vec![0; self.batches.len()];
        used.iter().enumerate().for_each(|(at, batch)| among_used[*batch as usize] = at);
        let rows = states.iter().map(|(batch, row)| (among_used[*batch as usize], *row as usize));
        let rows: Vec<(usize, usize)> = rows.collect();
        let column = |index: usize| {
            let columns: Vec<&dyn Array> = used.iter().map(|b| batch(b)[index].as_ref()).collect();
            Ok(interleave(&columns, &rows)?)
        };
        (0..first.len()).map(column).collect()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes + self.nodes.capacity() * size_of::<Node>()
    }
}
