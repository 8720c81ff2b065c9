//! Open sessions with their aggregates: the state of mergers and fused operators. Invariant: a session
//! fires once, when the watermark has passed its end, and then its state is gone.
//!
//! ```text
//! row ─▶ slot of its key ─▶ its session's bounds ─▶ live group ──────────────────────fire──▶ result
//!                                                       └──seal──▶ cells or rows ───fire──▶
//! ```
//!
//! Live groups are **sealed** at barriers: their states become rows of Arrow columns, which go into the
//! checkpoint. Cells keep what is sealed in cells again. Of accumulators, sessions refer to the rows of those columns,
//! which are merged when a session is due. Accumulators give results of all their groups or of none, and sessions end one
//! by one: there groups are sealed before sessions with live rows are due, too. A session that rows were added to
//! cannot end for a gap, so that is seldom.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use tidemill_core::operator::{Output, Progress};
use tidemill_core::{EventTime, Result};

use super::keys::{Keys, Slot};
use super::live::{Assign, Live};
use super::open::{Due, Open, TOGETHER};
use super::resting::{NONE, Resting, StateId, States};
use crate::window::aggregates::Accumulators;
use crate::window::emit;
use crate::window::plan::{Evaluated, Plan};
use crate::window::table::{Partial, Results, Scratch};

/// Most sessions that fire in one go, nearly: what belongs to them stays in the cache meanwhile.
const FIRING_MAX: usize = 4096;

/// Rows of a batch of a full snapshot.
const SNAPSHOT_ROWS: usize = 1 << 18;

/// Rows of a batch of an increment: their cells stay in the cache from one column to the next.
const SAVED_ROWS: usize = 1 << 16;

/// Open sessions.
pub(super) struct Sessions {
    plan: Arc<Plan>,
    gap: i64,
    keys: Keys,
    open: Open,
    live: Live,
    resting: Resting,
    /// What no checkpoint holds yet, where that is asked for.
    unsaved: Option<Vec<RecordBatch>>,
    /// While sessions are being restored: by key, the watermark under which they were put into a
    /// checkpoint.
    restored_at: Vec<EventTime>,
    slots: Vec<Slot>,
    groups: Scratch,
    bytes: usize,
}

/// Finds the session of each row, and its live group.
#[inline(always)]
fn assign(
    open: &mut Open,
    live: &mut impl Assign,
    resting: &mut Resting,
    slots: &[Slot],
    mut bounds: impl Iterator<Item = (EventTime, EventTime)>,
    groups: &mut Scratch,
) {
    let mut chunks = slots.chunks(TOGETHER).peekable();
    chunks.peek().into_iter().for_each(|first| open.fetch(first));
    while let Some(slots) = chunks.next() {
        chunks.peek().into_iter().for_each(|next| open.fetch(next));
        groups.extend(slots.iter().zip(&mut bounds).map(|(slot, (start, end))| {
            let session = open.join(*slot, start, end, |into, from| {
                live.join(into, from);
                resting.join(&mut into.states, from.states);
            });
            live.group(session, *slot)
        }));
    }
}

/// Sessions by their ends. Ends are sorted with numbers behind them, which is less to be moved about.
fn in_order(due: &[Due]) -> Vec<Due> {
    let mut order: Vec<_> = due.iter().zip(0_u32..).map(|(due, n)| (due.end, n)).collect();
    order.sort_unstable_by_key(|(end, _)| *end);
    order.into_iter().map(|(_, n)| due[n as usize]).collect()
}

impl Sessions {
    /// No sessions. `keep_unsaved`: [`Sessions::increment`] is going to be called.
    pub fn new(plan: Arc<Plan>, gap: i64, keep_unsaved: bool) -> Result<Self> {
        Ok(Self {
            keys: Keys::new(plan.keys.clone())?,
            open: Open::new(gap),
            live: Live::new(&plan)?,
            resting: Resting::new(),
            unsaved: keep_unsaved.then(Vec::new),
            restored_at: Vec::new(),
            slots: Vec::new(),
            groups: Scratch::new(),
            bytes: 0,
            plan,
            gap,
        })
    }

    /// Takes rows with these event times.
    pub fn update(&mut self, rows: &Evaluated, times: &[EventTime]) -> Result<()> {
        self.keys.find(&rows.keys, rows.rows, &mut self.slots)?;
        let gap = self.gap;
        self.group(times.iter().map(|time| (*time, *time + gap)));
        let Self { plan, live, groups, .. } = self;
        match live {
            Live::Cells(cells) => cells.add(|columns| {
                columns.update(rows, groups);
                Ok(())
            }),
            Live::Groups(live) => live.add(|acc, total| acc.update(plan, rows, groups, total)),
        }
    }

    /// Takes partial aggregates: rows of [`Plan::partial`].
    pub fn merge(&mut self, rows: &RecordBatch) -> Result<()> {
        let [starts, ends] = [0, 1].map(|bound| rows.column(bound).as_primitive::<Int64Type>());
        let partial = Partial::of(&self.plan, rows);
        self.keys.find(&partial.keys, partial.rows, &mut self.slots)?;
        let bounds = starts.values().iter().copied().zip(ends.values().iter().copied());
        self.group(bounds);
        let Self { plan, live, groups, .. } = self;
        let states = &partial.states;
        match live {
            Live::Cells(cells) => cells.add(|columns| columns.merge(states, groups)),
            Live::Groups(live) => live.add(|acc, total| acc.merge(plan, states, groups, total)),
        }
    }

    /// Puts rows between these bounds into sessions, and those into live groups.
    fn group(&mut self, bounds: impl Iterator<Item = (EventTime, EventTime)>) {
        let Self { open, live, resting, slots, groups, .. } = self;
        open.resize(self.keys.slots());
        groups.clear();
        match live {
            Live::Cells(cells) => assign(open, cells, resting, slots, bounds, groups),
            Live::Groups(live) => assign(open, live, resting, slots, bounds, groups),
        }
    }

    /// Puts what came since the last checkpoint beside what came before.
    fn seal(&mut self) -> Result<()> {
        match self.live {
            Live::Groups(_) => self.seal_groups(),
            Live::Cells(_) => self.seal_cells(),
        }
    }

    /// Puts live groups to rest.
    fn seal_groups(&mut self) -> Result<()> {
        let Live::Groups(live) = &mut self.live else { return Ok(()) };
        let owners: Vec<(Slot, u32)> = live.owners().collect();
        let states = live.take_states()?;
        if owners.is_empty() {
            return Ok(());
        }
        let batch = self.resting.keep(states.clone(), owners.len());
        let mut sealed = Vec::with_capacity(owners.len());
        for (row, (slot, group)) in owners.iter().enumerate() {
            let session = self.open.live(*slot, *group);
            let session = session.expect("a group's session is open until the group is sealed");
            self.resting.add(&mut session.states, (batch, row as u32));
            sealed.push(Due::of(*slot, session));
        }
        for (slot, group) in &owners {
            if let Some(session) = self.open.live(*slot, *group) {
                session.live = NONE;
            }
        }
        self.note(&sealed, states)?;
        self.tidy()
    }

    /// Saves cells.
    fn seal_cells(&mut self) -> Result<()> {
        let Live::Cells(cells) = &self.live else { return Ok(()) };
        let mut changed = Vec::new();
        self.open.each(|slot, session| {
            if cells.is_fresh(session.live) {
                changed.push(Due::of(slot, session));
            }
        });
        for part in changed.chunks(SAVED_ROWS) {
            let Live::Cells(cells) = &mut self.live else { return Ok(()) };
            let states = cells.save(part.iter().map(|session| session.live));
            self.note(part, states)?;
        }
        Ok(())
    }

    /// Keeps what the next checkpoint takes, where there are any.
    fn note(&mut self, sessions: &[Due], states: Vec<ArrayRef>) -> Result<()> {
        if self.unsaved.is_some() {
            let rows = self.rows(sessions, states)?;
            self.unsaved.get_or_insert_default().push(rows);
        }
        Ok(())
    }

    /// Sessions with their states: rows of [`Plan::partial`].
    fn rows(&self, sessions: &[Due], states: Vec<ArrayRef>) -> Result<RecordBatch> {
        let keys = self.keys.columns(sessions.iter().map(|session| session.slot))?;
        let bound = |of: fn(&Due) -> EventTime| sessions.iter().map(of).collect::<Vec<_>>().into();
        let bounds: [Int64Array; 2] =
            [bound(|session| session.start), bound(|session| session.end)];
        Partial { rows: sessions.len(), keys, states }.into_batch(&self.plan, bounds)
    }

    /// Puts the states of each session together where too many are kept.
    fn tidy(&mut self) -> Result<()> {
        if !self.resting.is_wasteful(self.open.len()) {
            return Ok(());
        }
        let (mut states, mut groups, mut sessions) = (Vec::new(), Scratch::new(), 0);
        self.open.each(|_, session| {
            if session.states != States::NONE {
                states.extend(self.resting.of(session.states));
                groups.resize(states.len(), sessions);
                sessions += 1;
            }
        });
        let mut merged = self.merged(&states, &groups, sessions)?;
        self.resting = Resting::new();
        let batch = self.resting.keep(merged.take_states()?, sessions);
        let mut row = 0;
        self.open.each(|_, session| {
            if session.states != States::NONE {
                session.states = States::NONE;
                self.resting.add(&mut session.states, (batch, row));
                row += 1;
            }
        });
        Ok(())
    }

    /// States put together, each in its group.
    fn merged(&self, states: &[StateId], groups: &[usize], total: usize) -> Result<Accumulators> {
        let mut merged = Accumulators::new(&self.plan)?;
        if total > 0 {
            merged.merge(&self.plan, &self.resting.columns(states)?, groups, total)?;
        }
        Ok(merged)
    }

    /// Fires sessions that the watermark has passed, in the order of their ends; not all at once where
    /// there are very many.
    pub fn fire(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.settle()?;
        if let Live::Groups(live) = &self.live
            && live.earliest_end < watermark
        {
            self.seal()?;
        }
        let mut emptied = Vec::new();
        let due = self.open.take_due(watermark, FIRING_MAX, &mut emptied);
        if due.is_empty() {
            return Ok(Progress::Done);
        }
        let due = in_order(&due);
        let values = self.results(&due)?;
        let keys = self.keys.columns(due.iter().map(|due| due.slot))?;
        self.forget(&due, &emptied);
        self.tidy()?;
        let bound = |of: fn(&Due) -> EventTime| due.iter().map(of).collect::<Vec<_>>().into();
        let (starts, ends) = (bound(|due| due.start), bound(|due| due.end));
        emit::windows(&self.plan, starts, ends, Results { keys, values, rows: due.len() }, out)?;
        if due.len() >= FIRING_MAX {
            return Ok(Progress::More);
        }
        self.measure();
        Ok(Progress::Done)
    }

    /// The results of sessions.
    fn results(&mut self, due: &[Due]) -> Result<Vec<ArrayRef>> {
        if let Live::Cells(cells) = &mut self.live {
            return Ok(cells.results(due.iter().map(|due| due.live)));
        }
        let (mut states, mut groups) = (Vec::new(), Scratch::new());
        for (group, due) in due.iter().enumerate() {
            states.extend(self.resting.of(due.states));
            groups.resize(states.len(), group);
        }
        self.merged(&states, &groups, due.len())?.into_results()
    }

    /// Lets go of sessions that were taken out, and of keys that have none left.
    fn forget(&mut self, taken: &[Due], emptied: &[Slot]) {
        taken.iter().for_each(|taken| self.resting.release(taken.states));
        if let Live::Cells(cells) = &mut self.live {
            taken.iter().for_each(|due| cells.clear(due.live));
        }
        self.keys.forget(emptied);
    }

    /// Takes back rows of a checkpoint whose owner had come to this watermark.
    pub fn restore(&mut self, rows: &RecordBatch, watermark: EventTime) -> Result<()> {
        self.merge(rows)?;
        self.restored_at.resize(self.keys.slots(), EventTime::MIN);
        for slot in &self.slots {
            let restored_at = &mut self.restored_at[*slot as usize];
            *restored_at = watermark.max(*restored_at);
        }
        self.measure();
        Ok(())
    }

    /// After the last row of a checkpoint: drops the sessions that had fired by then. Only when all is
    /// back is it known which rows make up a session.
    pub fn settle(&mut self) -> Result<()> {
        if self.restored_at.is_empty() {
            return Ok(());
        }
        self.seal()?;
        self.unsaved.iter_mut().for_each(Vec::clear);
        let restored_at = std::mem::take(&mut self.restored_at);
        let mut emptied = Vec::new();
        let fired =
            self.open.take(|slot, session| session.end < restored_at[slot as usize], &mut emptied);
        self.forget(&fired, &emptied);
        self.tidy()
    }

    /// Hands over what came since the last time.
    pub fn increment(&mut self) -> Result<Vec<RecordBatch>> {
        self.settle()?;
        self.seal()?;
        self.measure();
        Ok(self.unsaved.as_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Hands over everything.
    pub fn snapshot(&mut self) -> Result<Vec<RecordBatch>> {
        self.settle()?;
        self.seal()?;
        self.unsaved.iter_mut().for_each(Vec::clear);
        let (mut sessions, mut states) = (Vec::new(), Vec::new());
        self.open.each(|slot, session| match self.live {
            Live::Cells(_) => sessions.push(Due::of(slot, session)),
            Live::Groups(_) => {
                states.extend(self.resting.of(session.states));
                sessions.resize(states.len(), Due::of(slot, session));
            }
        });
        self.measure();
        let chunk = |start: usize| {
            let range = start..sessions.len().min(start + SNAPSHOT_ROWS);
            let part = &sessions[range.clone()];
            let states = match &self.live {
                Live::Cells(cells) => cells.saved(part.iter().map(|session| session.live)),
                Live::Groups(_) => self.resting.columns(&states[range])?,
            };
            self.rows(part, states)
        };
        (0..sessions.len()).step_by(SNAPSHOT_ROWS).map(chunk).collect()
    }

    /// Takes the measure of the state.
    pub fn measure(&mut self) {
        let unsaved = self.unsaved.iter().flatten().map(RecordBatch::get_array_memory_size);
        self.bytes = self.keys.bytes()
            + self.open.bytes()
            + self.live.bytes()
            + self.resting.bytes()
            + unsaved.sum::<usize>();
    }

    /// Bytes in use when they were last measured.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
