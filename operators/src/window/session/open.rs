//! The bounds of open sessions by key, and which of them are due. Part of the state of session windows.
//! Invariants: no two sessions of a key touch; each key with a session is looked at by the end of
//! its earliest one.
//!
//! Most keys have one session, and most rows go on with it: that is one comparison in one place.

use tidemill_core::EventTime;
use tidemill_core::prefetch::prefetch;
use tidemill_core::time::END_OF_TIME;

use super::keys::Slot;
use super::resting::{NONE, States};
use super::timers::Timers;

/// So many keys are looked at together.
pub(super) const TOGETHER: usize = 128;

/// This many sessions stay in the cache without help.
const CACHED: usize = 1 << 14;

/// An open session, `[start, end)`.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))] // So that it lies in one line of the cache.
pub(super) struct Session {
    pub start: EventTime,
    pub end: EventTime,
    /// Its group among those that rows are added to at present; [`NONE`] for none.
    pub live: u32,
    /// What rows before those have come to.
    pub states: States,
    /// The session of the same key before it.
    older: u32,
    /// The last bits of the bucket of the key's timer: in its newest session.
    timer: u32,
}

/// A session that was taken out.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub slot: Slot,
    pub start: EventTime,
    pub end: EventTime,
    pub live: u32,
    pub states: States,
}

/// Open sessions by key.
pub(super) struct Open {
    /// The newest session of each key.
    newest: Vec<Session>,
    /// Others, linked from newer to older.
    older: Vec<Session>,
    free_older: Vec<u32>,
    timers: Timers,
    sessions: usize,
    /// The sessions of one key, newest first; kept only for its memory.
    chain: Vec<Session>,
}

impl Session {
    /// In place of the session of a key that has none.
    const ABSENT: Self = Self::new(EventTime::MAX, EventTime::MIN);

    const fn new(start: EventTime, end: EventTime) -> Self {
        Self { start, end, live: NONE, states: States::NONE, older: NONE, timer: 0 }
    }

    fn is_absent(&self) -> bool {
        self.start > self.end
    }
}

impl Due {
    pub fn of(slot: Slot, session: &Session) -> Self {
        let Session { start, end, live, states, .. } = *session;
        Self { slot, start, end, live, states }
    }
}

impl Open {
    /// No sessions, which end `gap` microseconds after their last row.
    pub fn new(gap: i64) -> Self {
        Self {
            newest: Vec::new(),
            older: Vec::new(),
            free_older: Vec::new(),
            timers: Timers::new(gap),
            sessions: 0,
            chain: Vec::new(),
        }
    }

    /// How many sessions are open.
    pub fn len(&self) -> usize {
        self.sessions
    }

    /// There are so many slots.
    pub fn resize(&mut self, slots: usize) {
        if slots > self.newest.len() {
            self.newest.resize(slots, Session::ABSENT);
        }
    }

    /// Has the sessions of keys brought into the cache, some time before they are needed. One after the
    /// other would be waited for: what is done with one depends on what it is.
    #[inline(always)]
    pub fn fetch(&self, slots: &[Slot]) {
        if self.newest.len() > CACHED {
            slots.iter().for_each(|slot| prefetch(&self.newest[*slot as usize]));
        }
    }

    /// The same for the sessions before those, which those know.
    fn fetch_older(&self, slots: &[Slot]) {
        let older = |slot: &Slot| self.older.get(self.newest[*slot as usize].older as usize);
        slots.iter().filter_map(older).for_each(prefetch);
    }

    /// Joins rows between these bounds to the sessions of their key that they touch, or begins one.
    /// `unite` is told which sessions become one: the first takes over from the second.
    #[inline(always)]
    pub fn join(
        &mut self,
        slot: Slot,
        start: EventTime,
        end: EventTime,
        unite: impl FnMut(&mut Session, &Session),
    ) -> &mut Session {
        let newest = &self.newest[slot as usize];
        if newest.start <= start && start <= newest.end {
            let newest = &mut self.newest[slot as usize];
            newest.end = newest.end.max(end);
            return newest;
        }
        if newest.end < start {
            return self.begin(slot, start, end);
        }
        if newest.older == NONE && newest.start <= end {
            let newest = &mut self.newest[slot as usize];
            (newest.start, newest.end) = (start.min(newest.start), end.max(newest.end));
            return newest;
        }
        self.join_any(slot, start, end, unite)
    }

    /// Begins a session behind all others of its key.
    #[inline(never)]
    fn begin(&mut self, slot: Slot, start: EventTime, end: EventTime) -> &mut Session {
        self.sessions += 1;
        let last = self.newest[slot as usize];
        let began = Session::new(start, end);
        if last.is_absent() {
            self.newest[slot as usize] = began;
            self.schedule(slot, end);
        } else {
            let older = self.put_older(last);
            self.newest[slot as usize] = Session { older, timer: last.timer, ..began };
        }
        &mut self.newest[slot as usize]
    }

    /// Finds a place for a session that is not its key's newest.
    fn put_older(&mut self, session: Session) -> u32 {
        match self.free_older.pop() {
            Some(place) => {
                self.older[place as usize] = session;
                place
            }
            None => {
                self.older.push(session);
                self.older.len() as u32 - 1
            }
        }
    }

    #[inline(never)]
    fn join_any(
        &mut self,
        slot: Slot,
        start: EventTime,
        end: EventTime,
        mut unite: impl FnMut(&mut Session, &Session),
    ) -> &mut Session {
        let mut joined = Session::new(start, end);
        let mut chain = std::mem::take(&mut self.chain);
        self.take_chain(slot, &mut chain);
        let timer = chain.first().map_or(0, |session| session.timer);
        let due = chain.last().map(|session| session.end);
        chain.retain(|session| {
            let touches = session.start <= joined.end && joined.start <= session.end;
            if touches {
                joined.start = joined.start.min(session.start);
                joined.end = joined.end.max(session.end);
                unite(&mut joined, session);
            }
            !touches
        });
        let at = chain.partition_point(|session| session.start > joined.start);
        chain.insert(at, joined);
        self.put_chain(slot, &chain, timer);
        self.chain = chain;
        if due.is_none_or(|due| joined.end < due) {
            self.schedule(slot, joined.end);
        }
        let mut place = self.newest[slot as usize].older;
        match at {
            0 => &mut self.newest[slot as usize],
            _ => {
                (1..at).for_each(|_| place = self.older[place as usize].older);
                &mut self.older[place as usize]
            }
        }
    }

    /// Moves a key's sessions out, newest first.
    fn take_chain(&mut self, slot: Slot, chain: &mut Vec<Session>) {
        chain.clear();
        let newest = std::mem::replace(&mut self.newest[slot as usize], Session::ABSENT);
        if newest.is_absent() {
            return;
        }
        let mut older = newest.older;
        chain.push(newest);
        while older != NONE {
            self.free_older.push(older);
            let session = self.older[older as usize];
            older = session.older;
            chain.push(session);
        }
        self.sessions -= chain.len();
    }

    /// Moves a key's sessions back in.
    fn put_chain(&mut self, slot: Slot, chain: &[Session], timer: u32) {
        let Some((newest, rest)) = chain.split_first() else { return };
        self.sessions += chain.len();
        let mut older = NONE;
        for session in rest.iter().rev() {
            older = self.put_older(Session { older, ..*session });
        }
        self.newest[slot as usize] = Session { older, timer, ..*newest };
    }

    /// Has a key looked at by this end, and not before.
    fn schedule(&mut self, slot: Slot, end: EventTime) {
        let bucket = self.timers.bucket(end);
        self.newest[slot as usize].timer = bucket as u32;
        self.timers.push(bucket, slot);
    }

    /// The session of a key that rows are added to in this group.
    pub fn live(&mut self, slot: Slot, group: u32) -> Option<&mut Session> {
        let newest = &mut self.newest[slot as usize];
        if newest.live == group {
            return Some(newest);
        }
        let mut older = newest.older;
        while older != NONE && self.older[older as usize].live != group {
            older = self.older[older as usize].older;
        }
        self.older.get_mut(older as usize)
    }

    /// Every session with its key.
    pub fn each(&mut self, mut f: impl FnMut(Slot, &mut Session)) {
        for (slot, newest) in self.newest.iter_mut().enumerate() {
            if newest.is_absent() {
                continue;
            }
            f(slot as Slot, newest);
            let mut older = newest.older;
            while older != NONE {
                let session = &mut self.older[older as usize];
                f(slot as Slot, session);
                older = session.older;
            }
        }
    }

    /// Takes out the sessions that end before the watermark; no more than about so many.
    /// `emptied` are the keys that have none left.
    pub fn take_due(
        &mut self,
        watermark: EventTime,
        most: usize,
        emptied: &mut Vec<Slot>,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        let mut done = None;
        let is_due = |session: &Session| session.end < watermark || watermark == END_OF_TIME;
        while due.len() < most
            && let Some((bucket, mut slots)) = self.timers.pop(watermark, done)
        {
            done = Some(bucket);
            let mut kept = Vec::new();
            self.fetch(&slots[slots.len().saturating_sub(TOGETHER)..]);
            while due.len() < most && !slots.is_empty() {
                let from = slots.len().saturating_sub(TOGETHER);
                self.fetch_older(&slots[from..]);
                self.fetch(&slots[from.saturating_sub(TOGETHER)..from]);
                for slot in slots.drain(from..) {
                    // The key has another timer, or it is another key. If it only looks as if this were
                    // its timer, it is looked at once more.
                    let newest = &self.newest[slot as usize];
                    if newest.is_absent() || newest.timer != bucket as u32 {
                        continue;
                    }
                    match self.take_of(slot, is_due, &mut due) {
                        None => emptied.push(slot),
                        Some(end) if self.timers.bucket(end) == bucket => kept.push(slot),
                        Some(end) => self.schedule(slot, end),
                    }
                }
            }
            kept.append(&mut slots);
            self.timers.put_back(bucket, kept);
        }
        due
    }

    /// Takes out sessions of all keys, whatever their timers.
    pub fn take(
        &mut self,
        is_due: impl Fn(Slot, &Session) -> bool,
        emptied: &mut Vec<Slot>,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        for slot in 0..self.newest.len() as Slot {
            if !self.newest[slot as usize].is_absent()
                && self.take_of(slot, |session| is_due(slot, session), &mut due).is_none()
            {
                emptied.push(slot);
            }
        }
        due
    }

    /// Takes out sessions of one key. Returns the earliest end of those that stay.
    fn take_of(
        &mut self,
        slot: Slot,
        is_due: impl Fn(&Session) -> bool,
        due: &mut Vec<Due>,
    ) -> Option<EventTime> {
        let newest = &mut self.newest[slot as usize];
        if newest.older == NONE && !newest.is_absent() {
            if !is_due(newest) {
                return Some(newest.end);
            }
            due.push(Due::of(slot, newest));
            *newest = Session::ABSENT;
            self.sessions -= 1;
            return None;
        }
        let mut chain = std::mem::take(&mut self.chain);
        self.take_chain(slot, &mut chain);
        let timer = chain.first().map_or(0, |session| session.timer);
        chain.retain(|session| {
            let is_due = is_due(session);
            if is_due {
                due.push(Due::of(slot, session));
            }
            !is_due
        });
        self.put_chain(slot, &chain, timer);
        let earliest = chain.iter().map(|session| session.end).min();
        self.chain = chain;
        earliest
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        (self.newest.capacity() + self.older.capacity()) * size_of::<Session>()
            + self.timers.bytes()
    }
}
