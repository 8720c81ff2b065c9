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

/// Groups in cells: a session's group stays its own until it is cleared, and is then given out again.
pub(super) struct Cells {
    columns: CellColumns,
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
                let columns = CellColumns::new(cells.clone());
                Self::Cells(Cells { columns, free: Vec::new(), len: 0, joins: Vec::new() })
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
            Self::Cells(cells) => cells.columns.bytes() + cells.free.capacity() * size_of::<u32>(),
            Self::Groups(groups) => {
                groups.accumulators.bytes() + groups.groups.capacity() * size_of::<Group>()
            }
        }
    }
}

impl Cells {
    /// A group of which nothing is known yet.
    pub fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        })
    }

    /// Adds to groups, and joins those whose sessions have become one meanwhile.
    pub fn add(&mut self, add: impl FnOnce(&mut CellColumns) -> Result<()>) -> Result<()> {
        self.columns.resize(self.len as usize);
        add(&mut self.columns)?;
        if self.joins.is_empty() { Ok(()) } else { self.join_groups() }
    }

    /// Adds each group whose session was joined to the one that is left in the end.
    fn join_groups(&mut self) -> Result<()> {
        let mut last: HashMap<u32, usize> = HashMap::new();
        // Backwards: where `into` was itself joined later, that is known by then.
        for (into, from) in self.joins.iter().rev() {
            let into = last.get(into).copied().unwrap_or(*into as usize);
            last.insert(*from, into);
        }
        let (from, into): (Vec<u32>, Vec<usize>) = last.into_iter().unzip();
        self.joins.clear();
        let states = self.take_states(from.iter().copied());
        self.columns.merge(&states, &into)
    }

    /// The results of groups.
    pub fn results(&self, groups: impl Iterator<Item = u32> + Clone) -> Vec<ArrayRef> {
        self.columns.results(&self.columns.groups(groups))
    }

    /// The states of groups, which are let go of.
    pub fn take_states(&mut self, groups: impl Iterator<Item = u32> + Clone) -> Vec<ArrayRef> {
        let states = self.columns.states(&self.columns.groups(groups.clone()));
        groups.for_each(|group| self.clear(group));
        states
    }

    /// Lets go of a session's group.
    pub fn clear(&mut self, group: u32) {
        self.columns.clear(group as usize);
        self.free.push(group);
    }
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
