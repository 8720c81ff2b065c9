//! Yardstick: sessions as one writes them by hand.
//!
//! A hash table from key to its newest session; others of the same key, which rows out of order make
//! for a while, lie in a list beside it. A session whose end the watermark has passed is handed over
//! when its key begins another, or when the table is swept, twice in a gap.
//!
//! On several threads each reads all rows and takes those of its own keys.
//!
//! Invariant: no two open sessions of a key touch each other.

use ahash::RandomState;
use arrow::array::RecordBatch;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use tidemill_core::Result;

use super::checksum::{Checksum, WindowResult};
use super::hand::{on_threads, times_and_values};
use super::scan::Scan;
use super::table::{Group, GroupKey, Totals};

/// Sessions of this gap, watermarks so far behind the newest row, one thread for each split.
pub(super) fn rows<K: GroupKey>(scans: &[Scan], gap: i64, disorder: i64) -> Result<Checksum> {
    let threads: Vec<u64> = (0..scans.len() as u64).collect();
    on_threads(&threads, |thread| {
        let mut sessions = Sessions::<K>::new(gap, disorder);
        let mine =
            |key: K::Ref<'_>| threads.len() == 1 || K::code(key) % threads.len() as u64 == *thread;
        // Batches were dealt out in turn: so they are in the order of time again.
        let mut scans: Vec<_> = scans.iter().map(Scan::batches).collect::<Result<_, _>>()?;
        let mut ended = 0;
        for turn in (0..scans.len()).cycle() {
            match scans[turn].next() {
                Some(batch) => {
                    sessions.update(&batch?, mine);
                    ended = 0;
                }
                None => ended += 1,
            }
            if ended == scans.len() {
                break;
            }
        }
        Ok(sessions.finish())
    })
}

/// Rows of one key that follow one another within the gap.
#[derive(Clone, Copy)]
struct Session {
    first: i64,
    last: i64,
    totals: Totals,
}

impl Session {
    #[inline]
    fn touches(&self, other: &Self, gap: i64) -> bool {
        other.first <= self.last + gap && self.first <= other.last + gap
    }

    #[inline]
    fn join(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.totals.merge(&other.totals);
    }

    /// Joins those of `others` that it touches; none of them touches another.
    #[inline]
    fn join_all(&mut self, others: &mut Vec<Self>, gap: i64) {
        if others.is_empty() {
            return;
        }
        others.retain(|other| {
            let touches = self.touches(other, gap);
            if touches {
                self.join(other);
            }
            !touches
        });
    }

    fn result(&self, key: u64, gap: i64) -> WindowResult {
        let (window_start, window_end) = (self.first, self.last + gap);
        WindowResult { window_start, window_end, key, ..self.totals.result() }
    }
}

/// The open sessions of one key.
struct Open {
    newest: Session,
    others: Vec<Session>,
}

/// The open sessions of one thread's keys.
struct Sessions<K> {
    gap: i64,
    disorder: i64,
    hasher: RandomState,
    by_key: HashTable<(K, Open)>,
    watermark: i64,
    sweep_at: i64,
    results: Checksum,
}

impl<K: GroupKey> Sessions<K> {
    fn new(gap: i64, disorder: i64) -> Self {
        Self {
            gap,
            disorder,
            hasher: RandomState::new(),
            by_key: HashTable::new(),
            watermark: i64::MIN,
            sweep_at: i64::MIN,
            results: Checksum::default(),
        }
    }

    fn update(&mut self, batch: &RecordBatch, mine: impl Fn(K::Ref<'_>) -> bool) {
        let keys = K::column(batch.column(0));
        let (times, values) = times_and_values(batch);
        for (row, (time, value)) in times.iter().zip(values).enumerate() {
            let key = K::at(keys, row);
            if mine(key) {
                self.add(key, *time, *value);
            }
            self.watermark = self.watermark.max(*time - self.disorder);
            if self.watermark >= self.sweep_at {
                self.sweep_at = self.watermark + self.gap / 2 + 1;
                self.sweep(self.watermark);
            }
        }
    }

    #[inline]
    fn add(&mut self, key: K::Ref<'_>, time: i64, value: f64) {
        let mut row = Session { first: time, last: time, totals: Totals::EMPTY };
        row.totals.add(value);
        let rehash = |entry: &(K, Open)| K::hash(entry.0.get(), &self.hasher);
        let hash = K::hash(key, &self.hasher);
        let open = match self.by_key.entry(hash, |entry| entry.0.is(key), rehash) {
            Entry::Vacant(slot) => {
                slot.insert((K::keep(key), Open { newest: row, others: Vec::new() }));
                return;
            }
            Entry::Occupied(entry) => &mut entry.into_mut().1,
        };
        if open.newest.touches(&row, self.gap) {
            open.newest.join(&row);
            open.newest.join_all(&mut open.others, self.gap);
        } else if time > open.newest.last {
            let before = std::mem::replace(&mut open.newest, row);
            if before.last + self.gap <= self.watermark {
                self.results.add(&before.result(K::code(key), self.gap));
            } else {
                open.others.push(before);
            }
        } else {
            row.join_all(&mut open.others, self.gap);
            open.others.push(row);
        }
    }

    /// Hands over the sessions whose end the watermark has passed.
    fn sweep(&mut self, watermark: i64) {
        let Self { gap, by_key, results, .. } = self;
        let is_over = |session: &Session| session.last + *gap <= watermark;
        by_key.retain(|(key, open)| {
            open.others.retain(|session| {
                if is_over(session) {
                    results.add(&session.result(K::code(key.get()), *gap));
                }
                !is_over(session)
            });
            // Others are older, and so over before the newest is.
            if is_over(&open.newest) {
                results.add(&open.newest.result(K::code(key.get()), *gap));
            }
            !is_over(&open.newest)
        });
    }

    fn finish(mut self) -> Checksum {
        self.sweep(i64::MAX);
        self.results
    }
}
