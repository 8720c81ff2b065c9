//! The aggregates of sessions that rows are being added to. Part of the state of session windows.
//! Invariant: groups are numbered in the order of their first rows, and each belongs to a session, on its
//! own or by way of a group that it was joined to.

use arrow::array::ArrayRef;
use tidemill_core::{EventTime, Result};

use super::keys::Slot;
use super::open::Session;
use super::resting::NONE;
use crate::window::plan::Plan;
use crate::window::table::Accumulators;

/// Groups that are being added to.
pub(super) struct Live {
    pub accumulators: Accumulators,
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
        let accumulators = Accumulators::new(plan)?;
        Ok(Self { accumulators, groups: Vec::new(), earliest_end: EventTime::MAX })
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// The group of a session.
    #[inline(always)]
    pub fn group(&mut self, session: &mut Session, slot: Slot) -> usize {
        if session.live == NONE {
            session.live = self.groups.len() as u32;
            self.groups.push(Group { slot, into: NONE });
            self.earliest_end = self.earliest_end.min(session.end);
        }
        session.live as usize
    }

    /// Two sessions have become one.
    pub fn join(&mut self, into: &mut Session, from: Session) {
        if into.live == NONE {
            into.live = from.live;
        } else if from.live != NONE {
            self.groups[from.live as usize].into = into.live;
        }
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

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.accumulators.bytes() + self.groups.capacity() * size_of::<Group>()
    }
}
