//! Aggregates a shard's own rows into runs, before the exchange: rows of one key of which each is at
//! most a gap from the next. Invariants: it is empty at every barrier; a run is out before the
//! watermark goes beyond its start, for a session that it touches may fire then.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use datafusion_physical_plan::aggregates::group_values::GroupValues;
use tidemill_core::operator::{Barrier, Operator, Output, Progress, StateChange, StateFragment};
use tidemill_core::time::BEGINNING;
use tidemill_core::{Batch, EventTime, Result};

use crate::failed;
use crate::stateless::stateless;
use crate::window::combiner::{BYTES_MAX, ROWS_BETWEEN_LOOKS};
use crate::window::emit;
use crate::window::place::{Verdict, judge, out_of_range};
use crate::window::plan::{Evaluated, Plan};
use crate::window::table::{Accumulators, Partial, Scratch, new_groups, take_keys};

/// Event times keep this much more than the gap from the ends of time (microseconds).
const MARGIN: i64 = 1_000;

/// Session windows: the operator before the exchange.
pub(in crate::window) struct Combiner {
    plan: Arc<Plan>,
    gap: i64,
    watermark: EventTime,
    keys: Option<Box<dyn GroupValues>>,
    /// The runs of each key, by start; none overlaps another.
    by_key: Vec<Vec<Run>>,
    /// Key of each run.
    run_keys: Vec<u32>,
    accumulators: Accumulators,
    earliest: EventTime,
    rows_since_look: usize,
    /// Bytes in use when they were last looked at.
    bytes: usize,
    scratch: Scratch,
}

/// Rows of one key, each at most a gap from the next.
#[derive(Clone, Copy)]
struct Run {
    first: EventTime,
    last: EventTime,
    /// Its number among all runs.
    number: usize,
}

impl Combiner {
    pub fn new(plan: Arc<Plan>, gap: i64) -> Result<Self> {
        Ok(Self {
            keys: new_groups(&plan)?,
            accumulators: Accumulators::new(&plan)?,
            plan,
            gap,
            watermark: BEGINNING,
            by_key: Vec::new(),
            run_keys: Vec::new(),
            earliest: EventTime::MAX,
            rows_since_look: 0,
            bytes: 0,
            scratch: Scratch::new(),
        })
    }

    fn combine(&mut self, rows: &Evaluated, times: &[EventTime]) -> Result<()> {
        match &mut self.keys {
            Some(keys) => {
                keys.intern(&rows.keys, &mut self.scratch).map_err(failed)?;
                self.by_key.resize_with(keys.len(), Vec::new);
            }
            None => {
                self.scratch.clear();
                self.scratch.resize(rows.rows, 0);
                self.by_key.resize_with(1, Vec::new);
            }
        }
        for (group, time) in self.scratch.iter_mut().zip(times) {
            let key = *group;
            *group = join(&mut self.by_key[key], *time, self.gap, self.run_keys.len());
            if *group == self.run_keys.len() {
                self.run_keys.push(key as u32);
            }
            self.earliest = self.earliest.min(*time);
        }
        self.accumulators.update(&self.plan, rows, &self.scratch, self.run_keys.len())
    }

    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        if self.run_keys.is_empty() {
            return Ok(());
        }
        let runs = self.run_keys.len();
        let (mut firsts, mut ends) = (vec![0; runs], vec![0; runs]);
        for run in self.by_key.drain(..).flatten() {
            firsts[run.number] = run.first;
            ends[run.number] = run.last + self.gap;
        }
        let key_of_run = UInt32Array::from(std::mem::take(&mut self.run_keys));
        // Keys that were emitted do not serve again.
        let keys = take_keys(&mut std::mem::replace(&mut self.keys, new_groups(&self.plan)?))?;
        let keys = keys.iter().map(|key| Ok(take(key, &key_of_run, None)?));
        let keys = keys.collect::<Result<Vec<ArrayRef>>>()?;
        let partial = Partial { rows: runs, keys, states: self.accumulators.take_states()? };
        self.earliest = EventTime::MAX;
        self.bytes = 0;
        emit::batches(vec![partial.into_batch(&self.plan, [firsts.into(), ends.into()])?], out)
    }
}

/// The run that a row goes into, by number; `new` where it starts one.
fn join(runs: &mut Vec<Run>, time: EventTime, gap: i64, new: usize) -> usize {
    let after = match runs.last() {
        Some(last) if last.first <= time => runs.len(),
        _ => runs.partition_point(|run| run.first <= time),
    };
    if let Some(before) = after.checked_sub(1).map(|before| &mut runs[before])
        && time - gap <= before.last
    {
        before.last = before.last.max(time);
        return before.number;
    }
    if let Some(next) = runs.get_mut(after)
        && next.first - gap <= time
    {
        next.first = time;
        return next.number;
    }
    runs.insert(after, Run { first: time, last: time, number: new });
    new
}

impl Operator for Combiner {
    fn process(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let (batch, rows) = self.plan.evaluate(batch, out)?;
        let margin = self.gap.saturating_add(MARGIN);
        let in_range = i64::MIN + margin..=i64::MAX - margin;
        let (rows, times) = judge(&self.plan, self.watermark, &batch, rows, out, |time, floor| {
            if !in_range.contains(&time) {
                Verdict::Rejected(out_of_range(time))
            } else if time < floor {
                Verdict::Late
            } else {
                Verdict::Placed(time)
            }
        })?;
        if times.is_empty() {
            return Ok(());
        }
        self.combine(&rows, &times)?;
        self.rows_since_look += times.len();
        if self.rows_since_look >= ROWS_BETWEEN_LOOKS {
            self.rows_since_look = 0;
            let runs = self.run_keys.len() * size_of::<(Run, u32)>();
            let keys = self.keys.as_ref().map_or(0, |keys| keys.size());
            self.bytes = runs + keys + self.accumulators.bytes();
            if self.bytes > BYTES_MAX {
                self.flush(out)?;
            }
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        if self.earliest < self.watermark {
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
