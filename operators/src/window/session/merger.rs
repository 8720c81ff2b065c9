//! Joins runs to sessions behind the exchange and fires those that the watermark has passed: where
//! the state of session windows lives. Invariants: no two sessions of a key touch; each is due at
//! its end; what a barrier hands over, on top of all before, are the runs of all open sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use tidemill_core::operator::{
    Barrier, Operator, OperatorContext, Output, Progress, StateChange, StateFragment,
};
use tidemill_core::time::{BEGINNING, END_OF_TIME};
use tidemill_core::{Batch, EventTime, Result};

use super::fragments::{Closing, Fragments, RowId};
use crate::window::emit;
use crate::window::plan::Plan;
use crate::window::windows::owned;

/// Most sessions that fire in one go.
const FIRING_MAX: usize = 65_536;

/// A session made of so many runs is put together.
const RUNS_MAX: usize = 64;

/// Rows of a fragment of a full snapshot.
const FRAGMENT_ROWS: usize = 1 << 18;

/// A key in Arrow's row format.
type Key = Arc<[u8]>;

/// Session windows: the operator behind the exchange.
pub(in crate::window) struct Merger {
    plan: Arc<Plan>,
    context: OperatorContext,
    converter: Option<RowConverter>,
    /// The sessions of each key, by start.
    by_key: HashMap<Key, Vec<Session>, ahash::RandomState>,
    /// End and key of each session.
    due: BTreeSet<(EventTime, Key)>,
    fragments: Fragments,
    /// What came since the last checkpoint, as it came; empty where there are no checkpoints.
    increment: Vec<RecordBatch>,
    /// Sessions are being restored: some of them have fired.
    restoring: bool,
}

struct Session {
    start: EventTime,
    end: EventTime,
    rows: Vec<RowId>,
    /// The watermark under which its runs were put into a checkpoint.
    restored_at: EventTime,
}

impl Merger {
    pub fn new(plan: Arc<Plan>, context: &OperatorContext) -> Result<Self> {
        let fields = plan.keys.fields().iter();
        let fields: Vec<_> = fields.map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = match fields.is_empty() {
            true => None,
            false => Some(RowConverter::new(fields)?),
        };
        Ok(Self {
            fragments: Fragments::new(plan.clone()),
            plan,
            context: context.clone(),
            converter,
            by_key: HashMap::default(),
            due: BTreeSet::new(),
            increment: Vec::new(),
            restoring: false,
        })
    }

    /// Joins runs to the sessions that they touch.
    fn insert(&mut self, rows: RecordBatch, restored_at: EventTime) -> Result<()> {
        let starts = rows.column(0).as_primitive::<Int64Type>().values().clone();
        let ends = rows.column(1).as_primitive::<Int64Type>().values().clone();
        let keys = match &self.converter {
            Some(converter) => {
                Some(converter.convert_columns(&rows.columns()[self.plan.key_columns()])?)
            }
            None => None,
        };
        let batch = self.fragments.keep(rows);
        let mut crowded = BTreeSet::new();
        for (row, (start, end)) in starts.iter().zip(ends.iter()).enumerate() {
            let key = keys.as_ref().map(|keys| keys.row(row));
            let key = key.as_ref().map_or(&[][..], |key| key.as_ref());
            let session =
                Session { start: *start, end: *end, rows: vec![(batch, row)], restored_at };
            if let Some(key) = self.join(key, session) {
                crowded.insert(key);
            }
        }
        self.compact(&crowded)?;
        self.tidy()
    }

    /// Joins a run to the sessions of its key. Returns the key where a session has become crowded.
    fn join(&mut self, key: &[u8], mut run: Session) -> Option<Key> {
        let key = match self.by_key.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => Key::from(key),
        };
        let sessions = self.by_key.entry(key.clone()).or_default();
        let from = sessions.partition_point(|session| session.end < run.start);
        let to = from + sessions[from..].partition_point(|session| session.start <= run.end);
        for touched in sessions.drain(from..to) {
            self.due.remove(&(touched.end, key.clone()));
            run.start = run.start.min(touched.start);
            run.end = run.end.max(touched.end);
            run.restored_at = run.restored_at.max(touched.restored_at);
            // The longer list is extended, so that a long session costs no more per run.
            let mut rows = touched.rows;
            if rows.len() < run.rows.len() {
                std::mem::swap(&mut rows, &mut run.rows);
            }
            rows.append(&mut run.rows);
            run.rows = rows;
        }
        let is_crowded = run.rows.len() >= RUNS_MAX;
        self.due.insert((run.end, key.clone()));
        sessions.insert(from, run);
        is_crowded.then_some(key)
    }

    /// Puts each session of these keys together into one row.
    fn compact(&mut self, keys: &BTreeSet<Key>) -> Result<()> {
        let sessions: Vec<_> = keys.iter().flat_map(|key| &self.by_key[key]).collect();
        if sessions.is_empty() {
            return Ok(());
        }
        let released = sessions.iter().map(|session| session.rows.len()).sum();
        let closing: Vec<_> = sessions.iter().map(|session| session.closing()).collect();
        let rows = self.fragments.compact(&closing)?;
        let batch = self.fragments.keep(rows);
        self.fragments.release(released);
        let mut row = 0;
        for key in keys {
            for session in self.by_key.get_mut(key).into_iter().flatten() {
                session.rows = vec![(batch, row)];
                row += 1;
            }
        }
        Ok(())
    }

    /// Writes all sessions anew where too much is kept in vain.
    fn tidy(&mut self) -> Result<()> {
        if !self.fragments.is_wasteful() {
            return Ok(());
        }
        let closing: Vec<_> = self.by_key.values().flatten().map(Session::closing).collect();
        let rows = self.fragments.compact(&closing)?;
        self.fragments = Fragments::new(self.plan.clone());
        let batch = self.fragments.keep(rows);
        // The map has not changed, so its order has not either.
        for (row, session) in self.by_key.values_mut().flatten().enumerate() {
            session.rows = vec![(batch, row)];
        }
        Ok(())
    }

    /// Takes the sessions that are due before `watermark`, in the order of their ends; not all at
    /// once where there are very many.
    fn take_due(&mut self, watermark: EventTime) -> Vec<Session> {
        let mut taken = Vec::new();
        while taken.len() < FIRING_MAX {
            match self.due.first() {
                Some((end, _)) if *end < watermark || watermark == END_OF_TIME => {}
                _ => break,
            }
            let Some((end, key)) = self.due.pop_first() else { break };
            let Some(sessions) = self.by_key.get_mut(&key) else { continue };
            taken.extend(sessions.extract_if(.., |session| session.end == end));
            if sessions.is_empty() {
                self.by_key.remove(&key);
            }
        }
        taken
    }

    /// After the last fragment: drops the sessions that had fired by their checkpoint.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.restoring) {
            return;
        }
        let mut released = 0;
        let due = &mut self.due;
        self.by_key.retain(|key, sessions| {
            for fired in sessions.extract_if(.., |session| session.end < session.restored_at) {
                released += fired.rows.len();
                due.remove(&(fired.end, key.clone()));
            }
            !sessions.is_empty()
        });
        self.fragments.release(released);
    }

    /// All runs of open sessions.
    fn snapshot(&self) -> Result<Vec<StateFragment>> {
        let sessions = self.by_key.values().flatten();
        let rows: Vec<RowId> = sessions.flat_map(|session| session.rows.iter().copied()).collect();
        rows.chunks(FRAGMENT_ROWS).map(|rows| Ok(fragment(self.fragments.rows(rows)?))).collect()
    }
}

impl Session {
    fn closing(&self) -> Closing<'_> {
        Closing { start: self.start, end: self.end, rows: &self.rows }
    }
}

/// Runs as a piece of state. Which session they belong to is not known before they are all there.
fn fragment(rows: RecordBatch) -> StateFragment {
    StateFragment { rows, needed_until: END_OF_TIME, watermark: BEGINNING }
}

impl Operator for Merger {
    fn process(&mut self, _: usize, batch: Batch, _: &mut dyn Output) -> Result<()> {
        self.settle();
        if self.context.checkpointed {
            self.increment.push(batch.rows.clone());
        }
        self.insert(batch.rows, BEGINNING)
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.settle();
        let sessions = self.take_due(watermark);
        if sessions.is_empty() {
            return Ok(Progress::Done);
        }
        let closing: Vec<_> = sessions.iter().map(Session::closing).collect();
        let (starts, ends, results) = self.fragments.results(&closing)?;
        self.fragments.release(sessions.iter().map(|session| session.rows.len()).sum());
        self.tidy()?;
        emit::windows(&self.plan, starts, ends, results, out)?;
        Ok(if sessions.len() < FIRING_MAX { Progress::Done } else { Progress::More })
    }

    fn barrier(&mut self, barrier: Barrier, _: &mut dyn Output) -> Result<StateChange> {
        self.settle();
        if !barrier.checkpointed {
            return Ok(StateChange::default());
        }
        let increment = std::mem::take(&mut self.increment);
        if barrier.full || !self.context.checkpointed {
            return Ok(StateChange::Replace(self.snapshot()?));
        }
        Ok(StateChange::Append(increment.into_iter().map(fragment).collect()))
    }

    fn restore(&mut self, fragment: StateFragment) -> Result<()> {
        self.restoring = true;
        let rows = owned(&self.plan, &fragment, &self.context)?;
        self.insert(rows, fragment.watermark)
    }

    fn state_bytes(&self) -> usize {
        self.fragments.bytes() + self.due.len() * size_of::<(Session, Key, [u64; 8])>()
    }
}
