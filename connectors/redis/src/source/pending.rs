//! What a consumer of a group has got and not acknowledged: shared by the thread that fetches, the reader, and
//! whoever learns that a checkpoint holds it.
//!
//! Two consumers stand for one reader. One gets new entries, in the order of their ids, so that of those
//! pending with it the checkpoint holds exactly the ones up to its position. The other takes over what dead
//! consumers left, pass by pass, in the order of ids within each; a position of its own tells, in the same
//! way, which of those the checkpoint holds. That works as long as no pass begins before a checkpoint
//! exists in which this position is back at the beginning:
//!
//! ```text
//!            claimed some          all fetched         all acknowledged
//!   ready ────────────────▶ running ──────────▶ fetched ──────────▶ acknowledged
//!     ▲                                                                  │ the reader's position
//!     └────────────────── a checkpoint holds that ─────────────── reset ◀┘ goes back to 0-0
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::id::EntryId;
use super::offset::Position;

/// See the module.
#[derive(Default)]
pub(crate) struct Pending(Mutex<State>);

#[derive(Default)]
struct State {
    /// Got by the consumer itself.
    own: Held,
    /// Taken over in this pass.
    claimed: Held,
    pass: Pass,
}

/// Entries in the order of their ids, and how many of them were got when.
#[derive(Default)]
struct Held {
    ids: VecDeque<EntryId>,
    got: VecDeque<(usize, Instant)>,
}

impl Held {
    fn extend(&mut self, ids: impl Iterator<Item = EntryId>) {
        let before = self.ids.len();
        self.ids.extend(ids);
        // A group that Redis has put back gives out again what it gave out before.
        if !self.ids.range(before.saturating_sub(1)..).is_sorted() {
            self.ids.make_contiguous().sort_unstable();
        }
        match self.ids.len() - before {
            0 => {}
            more => self.got.push_back((more, Instant::now())),
        }
    }

    /// How many there are up to `position`.
    fn up_to(&self, position: EntryId) -> usize {
        self.ids.partition_point(|id| *id <= position)
    }

    /// Forgets the first.
    fn forget(&mut self, mut count: usize) {
        self.ids.drain(..count);
        while let Some((first, _)) = self.got.front_mut() {
            if *first > count {
                *first -= count;
                break;
            }
            count -= *first;
            self.got.pop_front();
        }
    }

    /// When the first of them was got: some wait for long to be read, and in no checkpoint meanwhile.
    fn since(&self) -> Option<Instant> {
        self.got.front().map(|(_, since)| *since)
    }
}

/// How far taking over has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pass {
    /// A new one may begin.
    #[default]
    Ready,
    Running,
    Fetched,
    Acknowledged,
    Reset,
}

impl Pending {
    /// Of a reader that goes on where `claimed` entries had been taken over.
    pub fn restored(claimed: EntryId) -> Self {
        let pass = if claimed > EntryId::ZERO { Pass::Running } else { Pass::Ready };
        Self(Mutex::new(State { pass, ..State::default() }))
    }

    /// The consumer has got these.
    pub fn got(&self, ids: impl Iterator<Item = EntryId>, claimed: bool) {
        let mut state = self.0.lock();
        if !claimed {
            return state.own.extend(ids);
        }
        let before = state.claimed.ids.len();
        state.claimed.extend(ids);
        if state.claimed.ids.len() > before {
            state.pass = Pass::Running;
        }
    }

    /// No more comes in this pass.
    pub fn fetched(&self) {
        let mut state = self.0.lock();
        if state.pass == Pass::Running {
            state.pass =
                if state.claimed.ids.is_empty() { Pass::Acknowledged } else { Pass::Fetched };
        }
    }

    /// Whether a pass may begin or go on: it must not take over what this consumer itself has held for
    /// long, which is in no checkpoint yet.
    pub fn may_claim(&self, min_idle: Duration) -> bool {
        let state = self.0.lock();
        let since = [&state.own, &state.claimed].into_iter().filter_map(Held::since).min();
        let is_fresh = since.is_none_or(|since| since.elapsed() < min_idle * 3 / 4);
        matches!(state.pass, Pass::Ready | Pass::Running) && is_fresh
    }

    /// Whether the reader is to put the position of what was taken over back; asked once.
    pub fn resets(&self) -> bool {
        let mut state = self.0.lock();
        let resets = state.pass == Pass::Acknowledged;
        if resets {
            state.pass = Pass::Reset;
        }
        resets
    }

    /// What a checkpoint at `position` holds and is not acknowledged: how many of the consumer's own, how
    /// many that were taken over, and all of them.
    pub fn held(&self, position: &Position) -> (usize, usize, Vec<EntryId>) {
        let state = self.0.lock();
        let own = state.own.up_to(position.at);
        let claimed = state.claimed.up_to(position.claimed);
        let ids = state.own.ids.range(..own).chain(state.claimed.ids.range(..claimed));
        (own, claimed, ids.copied().collect())
    }

    /// So many of each are acknowledged, up to `position`, which a checkpoint holds.
    pub fn acknowledged(&self, (own, claimed): (usize, usize), position: &Position) {
        let mut state = self.0.lock();
        state.own.forget(own);
        state.claimed.forget(claimed);
        match state.pass {
            Pass::Fetched if state.claimed.ids.is_empty() => state.pass = Pass::Acknowledged,
            Pass::Reset if position.claimed == EntryId::ZERO => state.pass = Pass::Ready,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u64) -> EntryId {
        EntryId { millis, number: 0 }
    }

    fn checkpoint(pending: &Pending, at: u64, claimed: u64) -> Vec<u64> {
        let position = Position { at: id(at), claimed: id(claimed), ..Position::default() };
        let (own, of_others, ids) = pending.held(&position);
        pending.acknowledged((own, of_others), &position);
        ids.into_iter().map(|id| id.millis).collect()
    }

    #[test]
    fn a_checkpoint_acknowledges_what_it_holds_and_nothing_else() {
        let pending = Pending::default();
        pending.got([5, 6, 7].map(id).into_iter(), false);
        pending.got([1, 2, 9].map(id).into_iter(), true);
        assert_eq!(checkpoint(&pending, 5, 2), [5, 1, 2]);
        assert!(checkpoint(&pending, 5, 2).is_empty(), "once");
        assert_eq!(checkpoint(&pending, 7, 9), [6, 7, 9]);
    }

    #[test]
    fn a_pass_begins_when_a_checkpoint_holds_the_end_of_the_one_before() {
        const LONG: Duration = Duration::from_secs(3600);
        let pending = Pending::default();
        assert!(pending.may_claim(LONG));
        pending.got([id(3)].into_iter(), true);
        assert!(pending.may_claim(LONG), "the pass goes on");
        pending.fetched();
        assert!(!pending.may_claim(LONG) && !pending.resets());
        checkpoint(&pending, 0, 3);
        assert!(!pending.may_claim(LONG));
        assert!(pending.resets() && !pending.resets(), "the reader goes back once");
        checkpoint(&pending, 0, 3);
        assert!(!pending.may_claim(LONG), "a checkpoint that began before");
        checkpoint(&pending, 0, 0);
        assert!(pending.may_claim(LONG));
    }

    #[test]
    fn what_this_consumer_holds_for_long_is_not_claimed_from_itself() {
        let pending = Pending::default();
        pending.got([id(1)].into_iter(), false);
        assert!(!pending.may_claim(Duration::ZERO));
        checkpoint(&pending, 1, 0);
        assert!(pending.may_claim(Duration::ZERO));
        // However many checkpoints come before it is read.
        pending.got([id(2), id(3)].into_iter(), false);
        checkpoint(&pending, 2, 0);
        checkpoint(&pending, 2, 0);
        assert!(!pending.may_claim(Duration::ZERO));
    }
}
