//! The aggregates of sessions that rows are being added to. Part of the state of session windows.
//! Invariant: each group belongs to one session: on its own, or by way of a group that it was joined to.
//!
//! | form | for | what it can do |
//! |---|---|---|
//! | [`Cells`] | the usual aggregates of doubles | give the results of single sessions, and join two |
//! | [`Groups`] | all aggregates | give the states of all groups at once |

use arrow::array::ArrayRef;
use hashbrown::HashMap;
use tidemill_core::{EventTime, Result};

use super::keys::Slot;
use super::open::Session;
use super::resting::NONE;
use crate::window::aggregates::Accumulators;
use crate::window::columns::CellColumns;
use crate::window::plan::Plan;

/// Groups that are being added to.
pub(super) enum Live {
    Cells(Cells),
    Groups(Groups),
}

/// Gives sessions their groups.
pub(super) trait Assign {
    /// The group of a session.
    fn group(&mut self, session: &mut Session, slot: Slot) -> usize;

    /// Two sessions have become one.
    fn join(&mut self, into: &mut Session, from: &Session);
}

/// Groups in cells: a session's group stays its own until it is cleared, and is then given out again. What of it a
/// checkpoint has lies beside what came since, so that a checkpoint takes only that.
pub(super) struct Cells {
    /// What came since the last checkpoint.
    fresh: CellColumns,
    /// What came before; no longer than there was anything.
    saved: CellColumns,
    free: Vec<u32>,
    len: u32,
    /// Groups whose sessions have become one, in that order: rows may yet be added to the second.
    joins: Vec<(u32, u32)>,
}

/// Groups of accumulators, numbered in the order of their first rows.
pub(super) struct Groups {
    accumulators: Accumulators,
    groups: Vec<Group>,
    /// No session with a group ends before this.
    pub earliest_end: EventTime,
}

#[derive(Clone, Copy)]
struct Group {
    slot: Slot,
    /// The group whose session this one's was joined to.
    into: u32,
}

impl Live {
    pub fn new(plan: &Plan) -> Result<Self> {
        Ok(match &plan.cells {
            Some(cells) => {
                let [fresh, saved] = [(); 2].map(|()| CellColumns::new(cells.clone()));
                Self::Cells(Cells { fresh, saved, free: Vec::new(), len: 0, joins: Vec::new() })
            }
            None => Self::Groups(Groups {
                accumulators: Accumulators::new(plan)?,
                groups: Vec::new(),
                earliest_end: EventTime::MAX,
            }),
        })
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Cells(cells) => {
                let free = cells.free.capacity() * size_of::<u32>();
                cells.fresh.bytes() + cells.saved.bytes() + free
            }
            Self::Groups(groups) => {
                groups.accumulators.bytes() + groups.groups.capacity() * size_of::<Group>()
            }
        }
    }
}

impl Cells {
    /// A group of which nothing is known yet.
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        })
    }

    /// Adds to groups, and joins those whose sessions have become one meanwhile.
    pub fn add(&mut self, add: impl FnOnce(&mut CellColumns) -> Result<()>) -> Result<()> {
        self.fresh.resize(self.len as usize);
        add(&mut self.fresh)?;
        if self.joins.is_empty() { Ok(()) } else { self.join_groups() }
    }

    /// Adds each group whose session was joined to the one that is left in the end.
    fn join_groups(&mut self) -> Result<()> {
        let mut last: HashMap<u32, u32> = HashMap::new();
        // Backwards: where `into` was itself joined later, that is known by then.
        for (into, from) in self.joins.iter().rev() {
            let into = last.get(into).copied().unwrap_or(*into);
            last.insert(*from, into);
        }
        self.joins.clear();
        for columns in [&mut self.fresh, &mut self.saved] {
            let joined = last.iter().filter(|(from, _)| has_rows(columns, **from));
            let (from, into): (Vec<u32>, Vec<usize>) =
                joined.map(|(from, into)| (*from, *into as usize)).unzip();
            let states = columns.states(&columns.groups(from.into_iter()));
            columns.resize(into.iter().max().map_or(0, |last| last + 1));
            columns.merge(&states, &into)?;
        }
        last.into_keys().for_each(|from| self.clear(from));
        Ok(())
    }

    /// Whether rows came for a group since the last checkpoint.
    pub fn is_fresh(&self, group: u32) -> bool {
        has_rows(&self.fresh, group)
    }

    /// The states of what came for groups since the last checkpoint, which has it now.
    pub fn save(&mut self, groups: impl Iterator<Item = u32> + Clone) -> Vec<ArrayRef> {
        let states = self.fresh.states(&self.fresh.groups(groups.clone()));
        self.saved.resize(self.len as usize);
        let moves = groups.clone().map(|group| (group as usize, group as usize));
        self.saved.take_in(&self.fresh, moves, |group| group as i64);
        groups.for_each(|group| self.fresh.clear(group as usize));
        states
    }

    /// The states of groups to which nothing came since they were saved.
    pub fn saved(&self, groups: impl Iterator<Item = u32> + Clone) -> Vec<ArrayRef> {
        self.saved.states(&self.saved.groups(groups))
    }

    /// The results of groups.
    pub fn results(&mut self, groups: impl Iterator<Item = u32> + Clone) -> Vec<ArrayRef> {
        let saved = groups.clone().filter(|group| has_rows(&self.saved, *group));
        let moves = saved.map(|group| (group as usize, group as usize));
        self.fresh.take_in(&self.saved, moves, |group| group as i64);
        self.fresh.results(&self.fresh.groups(groups))
    }

    /// Lets go of a session's group.
    pub fn clear(&mut self, group: u32) {
        self.fresh.clear(group as usize);
        if has_rows(&self.saved, group) {
            self.saved.clear(group as usize);
        }
        self.free.push(group);
    }
}

fn has_rows(columns: &CellColumns, group: u32) -> bool {
    columns.counts.get(group as usize).is_some_and(|rows| *rows > 0)
}

impl Assign for Cells {
    #[inline(always)]
    fn group(&mut self, session: &mut Session, _: Slot) -> usize {
        if session.live == NONE {
            session.live = self.take();
        }
        session.live as usize
    }

    fn join(&mut self, into: &mut Session, from: &Session) {
        if into.live == NONE {
            into.live = from.live;
        } else if from.live != NONE {
            self.joins.push((into.live, from.live));
        }
    }
}

impl Groups {
    /// Adds to so many groups in all.
    pub fn add(&mut self, add: impl FnOnce(&mut Accumulators, usize) -> Result<()>) -> Result<()> {
        add(&mut self.accumulators, self.groups.len())
    }

    /// Key and session of each group: the session's own group.
    pub fn owners(&self) -> impl ExactSizeIterator<Item = (Slot, u32)> {
        (0..self.groups.len() as u32).map(|mut group| {
            while self.groups[group as usize].into != NONE {
                group = self.groups[group as usize].into;
            }
            (self.groups[group as usize].slot, group)
        })
    }

    /// The states of all groups, which are gone then.
    pub fn take_states(&mut self) -> Result<Vec<ArrayRef>> {
        self.groups.clear();
        self.earliest_end = EventTime::MAX;
        self.accumulators.take_states()
    }
}

impl Assign for Groups {
    #[inline(always)]
    fn group(&mut self, session: &mut Session, slot: Slot) -> usize {
        if session.live == NONE {
            session.live = self.groups.len() as u32;
            self.groups.push(Group { slot, into: NONE });
            self.earliest_end = self.earliest_end.min(session.end);
        }
        session.live as usize
    }

    fn join(&mut self, into: &mut Session, from: &Session) {
        if into.live == NONE {
            into.live = from.live;
        } else if from.live != NONE {
            self.groups[from.live as usize].into = into.live;
        }
    }
}
