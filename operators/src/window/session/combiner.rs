//! Aggregates a shard's own rows into runs, before the exchange: rows of one key of which each is at
//! most a gap from another. Invariants: it is empty at every barrier; a run is out before the watermark
//! passes the end of a session that it touches.
//!
//! The owner may have a session that a run touches, of another combiner's rows, and that session ends
//! at or after the run's start. So a run would have to be out when the watermark comes to its start,
//! which is soon. But where a run starts within one that went out before, the owner has a session over
//! that one, which ends no earlier: the run has time until then, a gap more or less.
//!
//! ```text
//! went out before  ├───────────────┤ end           another session of the key, if it touches the run,
//! run now                 ├──────────────┤         touches this one too, or ends behind it
//!                         start    ▲ goes out by now
//! ```
//!
//! Where there are so many keys that runs stay short, rows pass as they are.

use std::sync::Arc;

use tidemill_core::operator::{Barrier, Operator, Output, Progress, StateChange, StateFragment};
use tidemill_core::time::BEGINNING;
use tidemill_core::{Batch, EventTime, Result};

use super::admit::admit;
use super::keys::{Keys, Slot};
use super::passing::{Gain, pack};
use super::resting::NONE;
use crate::stateless::stateless;
use crate::window::aggregates::Aggregates;
use crate::window::combiner::{BYTES_MAX, ROWS_BETWEEN_LOOKS};
use crate::window::emit;
use crate::window::plan::{Evaluated, Plan};
use crate::window::table::{Partial, Scratch};

/// Session windows: the operator before the exchange.
pub(in crate::window) struct Combiner {
    plan: Arc<Plan>,
    gap: i64,
    watermark: EventTime,
    keys: Keys,
    /// By slot.
    known: Vec<Known>,
    runs: Vec<Run>,
    /// How many rows are in runs.
    rows: usize,
    /// By the run's number.
    aggregates: Aggregates,
    gain: Gain,
    /// All runs must be out before the watermark passes this.
    deadline: EventTime,
    /// The watermark when keys were last forgotten.
    swept_at: EventTime,
    rows_since_look: usize,
    /// Bytes in use when they were last looked at.
    bytes: usize,
    slots: Vec<Slot>,
    groups: Scratch,
}

/// Rows of one key, each at most a gap from another: `[start, end)`. While rows are added to it, only
/// [`Known`] has its bounds.
#[derive(Clone, Copy)]
struct Run {
    start: EventTime,
    end: EventTime,
    slot: Slot,
}

/// What is known of a key.
#[derive(Clone, Copy)]
struct Known {
    /// The run that rows are added to; [`NONE`] for none.
    run: u32,
    /// Its bounds.
    start: EventTime,
    end: EventTime,
    /// What the owner has a session over.
    sent_start: EventTime,
    sent_end: EventTime,
}

impl Known {
    const NOTHING: Self = Self {
        run: NONE,
        start: EventTime::MAX,
        end: EventTime::MIN,
        sent_start: EventTime::MAX,
        sent_end: EventTime::MIN,
    };

    /// When a run that starts here must be out.
    #[inline(always)]
    fn deadline(&self, start: EventTime) -> EventTime {
        if self.sent_start <= start && start <= self.sent_end { self.sent_end } else { start }
    }

    /// A run has gone out.
    fn sent(&mut self, run: &Run) {
        (self.run, self.start, self.end) = (NONE, EventTime::MAX, EventTime::MIN);
        if run.start <= self.sent_end && self.sent_start <= run.end {
            self.sent_start = self.sent_start.min(run.start);
            self.sent_end = self.sent_end.max(run.end);
        } else if run.end > self.sent_end {
            (self.sent_start, self.sent_end) = (run.start, run.end);
        }
    }
}

impl Combiner {
    pub fn new(plan: Arc<Plan>, gap: i64) -> Result<Self> {
        Ok(Self {
            keys: Keys::new(plan.keys.clone())?,
            known: Vec::new(),
            runs: Vec::new(),
            rows: 0,
            aggregates: Aggregates::new(&plan)?,
            gain: Gain::default(),
            plan,
            gap,
            watermark: BEGINNING,
            deadline: EventTime::MAX,
            swept_at: BEGINNING,
            rows_since_look: 0,
            bytes: 0,
            slots: Vec::new(),
            groups: Scratch::new(),
        })
    }

    fn combine(&mut self, rows: &Evaluated, times: &[EventTime]) -> Result<()> {
        let Self { keys, known, runs, gap, deadline, slots, groups, .. } = self;
        self.rows += rows.rows;
        keys.find(&rows.keys, rows.rows, slots)?;
        known.resize(keys.slots(), Known::NOTHING);
        groups.clear();
        groups.extend(slots.iter().zip(times).map(|(slot, time)| {
            let known = &mut known[*slot as usize];
            let (start, end) = (*time, *time + *gap);
            if start <= known.end && known.start <= end {
                known.end = known.end.max(end);
                if start < known.start {
                    known.start = start;
                    *deadline = (*deadline).min(known.deadline(start));
                }
            } else {
                if let Some(run) = runs.get_mut(known.run as usize) {
                    (run.start, run.end) = (known.start, known.end);
                }
                (known.run, known.start, known.end) = (runs.len() as u32, start, end);
                *deadline = (*deadline).min(known.deadline(start));
                runs.push(Run { start, end, slot: *slot });
            }
            known.run as usize
        }));
        self.aggregates.update(&self.plan, rows, &self.groups, self.runs.len())
    }

    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let mut runs = std::mem::take(&mut self.runs);
        for (number, run) in runs.iter_mut().enumerate() {
            let known = &self.known[run.slot as usize];
            if known.run == number as u32 {
                (run.start, run.end) = (known.start, known.end);
            }
        }
        runs.iter().for_each(|run| self.known[run.slot as usize].sent(run));
        let bound = |of: fn(&Run) -> EventTime| runs.iter().map(of).collect::<Vec<_>>().into();
        let bounds = [bound(|run| run.start), bound(|run| run.end)];
        let keys = self.keys.columns(runs.iter().map(|run| run.slot))?;
        let states = self.aggregates.take_states(runs.len())?;
        let partial = Partial { rows: runs.len(), keys, states };
        self.deadline = EventTime::MAX;
        if self.gain.combined(std::mem::take(&mut self.rows), runs.len()) {
            self.forget()?;
            self.aggregates = Aggregates::new(&self.plan)?;
        }
        self.sweep();
        self.measure();
        emit::batches(vec![partial.into_batch(&self.plan, bounds)?], out)
    }

    /// Forgets keys that the owner has no session of any more, once in a gap. There are no runs.
    fn sweep(&mut self) {
        if self.watermark < self.swept_at.saturating_add(self.gap) {
            return;
        }
        self.swept_at = self.watermark;
        for (slot, known) in self.known.iter_mut().enumerate() {
            if known.sent_end < self.watermark && known.sent_end != Known::NOTHING.sent_end {
                *known = Known::NOTHING;
                self.keys.forget(&[slot as Slot]);
            }
        }
    }

    /// Forgets all keys. To know nothing of them is always right.
    fn forget(&mut self) -> Result<()> {
        self.keys = Keys::new(self.plan.keys.clone())?;
        self.known = Vec::new();
        Ok(())
    }

    fn measure(&mut self) {
        let runs = self.runs.capacity() * size_of::<Run>();
        let known = self.known.capacity() * size_of::<Known>();
        self.bytes = runs + known + self.keys.bytes() + self.aggregates.bytes();
    }
}

impl Operator for Combiner {
    fn process(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let (rows, times) = admit(&self.plan, self.gap, self.watermark, batch, out)?;
        if times.is_empty() {
            return Ok(());
        }
        if self.gain.passes(rows.rows) {
            let rows = pack(&self.plan, rows, times, |column| self.aggregates.takes(column))?;
            return emit::batches(vec![rows], out);
        }
        self.combine(&rows, &times)?;
        self.rows_since_look += times.len();
        if self.rows_since_look >= ROWS_BETWEEN_LOOKS {
            self.rows_since_look = 0;
            self.measure();
            if self.bytes > BYTES_MAX {
                self.flush(out)?;
            }
            if self.bytes > BYTES_MAX / 2 && self.runs.is_empty() {
                // It is the keys that take the room.
                self.forget()?;
                self.measure();
            }
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        if self.deadline < self.watermark {
            self.flush(out)?;
        }
        Ok(Progress::Done)
    }

    fn barrier(&mut self, _: Barrier, out: &mut dyn Output) -> Result<StateChange> {
        self.flush(out)?;
        Ok(StateChange::default())
    }

    fn restore(&mut self, _: StateFragment) -> Result<()> {
        Err(stateless("a combiner"))
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }
}
