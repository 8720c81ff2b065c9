//! The queue between the thread that fetches and the shard that decodes, one for each stream. Bounded: a
//! full one is not fetched for, and nobody waits for anybody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tidemill_core::{Error, Result};

use super::entries::Entries;
use super::gap::Place;
use super::id::EntryId;
use super::records::Taken;

/// So much may wait in the queues of one source together, and in one of them.
const BYTES_OF_SOURCE: usize = 64 << 20;
const BYTES: std::ops::RangeInclusive<usize> = (1 << 20)..=(16 << 20);
const ENTRIES: usize = 65_536;

/// Wakes the thread that fetches.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *self.rung.lock() = true;
        self.heard.notify_all();
    }

    /// Waits until it rings, at most for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.heard.wait_for(&mut rung, timeout);
        }
        *rung = false;
    }
}

/// See the module.
pub(crate) struct Lane {
    pub key: String,
    bell: Arc<Bell>,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    entries: usize,
    bytes: usize,
    /// The fetching thread has seen that there is no room, and waits for the bell.
    is_full: bool,
    failure: Option<Error>,
    /// Nothing will come any more.
    ended: bool,
    /// The reader is gone.
    closed: bool,
    /// The server does not answer.
    down: bool,
    told: Told,
    waker: Option<Waker>,
}

/// What Redis told of the stream last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// How many entries it has ever had.
    pub added: Option<u64>,
    /// How many entries the group has not got.
    pub lag: Option<u64>,
    /// How many entries its consumers have got and not acknowledged.
    pub pending: Option<u64>,
}

/// Entries that were fetched together.
pub(crate) struct Piece {
    pub entries: Arc<Entries>,
    /// The first that was not taken yet.
    pub next: usize,
    /// Where the stream is read to, behind all of them.
    pub behind: Place,
    /// They were taken over from a dead consumer: the position stays, this other one moves.
    pub claimed: bool,
}

/// What was taken from a lane, and where that leads to.
pub(crate) struct Took {
    pub taken: Taken,
    pub place: Place,
    pub claimed: EntryId,
    /// Nothing is there, and nothing will come.
    pub ended: bool,
}

impl Lane {
    /// An empty queue, one of `lanes` of its source.
    pub fn new(key: &str, waker: Waker, bell: Arc<Bell>, lanes: usize) -> Self {
        let share = BYTES_OF_SOURCE / lanes.max(1);
        Self {
            key: key.to_owned(),
            bell,
            bytes_max: share.clamp(*BYTES.start(), *BYTES.end()),
            state: Mutex::new(State { waker: Some(waker), ..State::default() }),
        }
    }

    /// How many bytes may come yet, if there is room at all.
    pub fn room(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let is_full = 2 * state.bytes >= self.bytes_max || 2 * state.entries >= ENTRIES;
        state.is_full = is_full;
        (!is_full).then(|| self.bytes_max - state.bytes)
    }

    pub fn put(&self, piece: Piece) {
        let mut state = self.state.lock();
        state.entries += piece.entries.len();
        state.bytes += piece.entries.size();
        state.told.added = state.told.added.max(piece.behind.count);
        state.pieces.push_back(piece);
        wake(state);
    }

    pub fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        wake(state);
    }

    /// The reader gets this once it has taken what is there.
    pub fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        state.failure = Some(error);
        wake(state);
    }

    pub fn set_down(&self, down: bool) {
        self.state.lock().down = down;
    }

    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    pub fn tell(&self, told: Told) {
        let mut state = self.state.lock();
        // An answer may be older than what was fetched meanwhile.
        let added = told.added.max(state.told.added.filter(|_| told.added.is_some()));
        state.told = Told { added, ..told };
    }

    pub fn told(&self) -> Told {
        self.state.lock().told
    }

    /// How many entries wait here.
    pub fn waiting(&self) -> u64 {
        self.state.lock().entries as u64
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.pieces.clear();
        drop(state);
        self.bell.ring();
    }

    /// At most `max` entries that are there, for a reader at `place` and `claimed`.
    ///
    /// # Errors
    /// What the fetching thread has met, behind all that it had fetched.
    pub fn take(&self, max: usize, place: Place, claimed: EntryId) -> Result<Took> {
        let mut took = Took { taken: Taken::default(), place, claimed, ended: false };
        let mut state = self.state.lock();
        while took.taken.len() < max || state.pieces.front().is_some_and(Piece::is_done) {
            let Some(piece) = state.pieces.front_mut() else { break };
            let from = piece.next;
            let to = piece.entries.len().min(from + max - took.taken.len());
            piece.next = to;
            if from < to {
                took.taken.add(&piece.entries, from, to);
            }
            let place = piece.place();
            match piece.claimed {
                true => took.claimed = place.at,
                false => took.place = place,
            }
            state.entries -= to - from;
            if state.pieces.front().is_some_and(Piece::is_done) {
                let size = state.pieces.pop_front().map_or(0, |piece| piece.entries.size());
                state.bytes -= size;
            }
        }
        if state.is_full && 2 * state.bytes < self.bytes_max && 2 * state.entries < ENTRIES {
            state.is_full = false;
            self.bell.ring();
        }
        if took.taken.len() > 0 {
            return Ok(took);
        }
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        took.ended = state.ended;
        Ok(took)
    }
}

fn wake(state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.clone();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Piece {
    fn is_done(&self) -> bool {
        self.next == self.entries.len()
    }

    /// Where the reader is that has taken what was taken.
    fn place(&self) -> Place {
        let left = (self.entries.len() - self.next) as u64;
        match self.next.checked_sub(1) {
            Some(last) if left > 0 => Place {
                at: self.entries.id(last),
                count: self.behind.count.map(|count| count.saturating_sub(left)),
                sure: self.behind.sure,
            },
            _ => self.behind,
        }
    }
}
