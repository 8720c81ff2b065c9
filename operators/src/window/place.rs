//! Decides the fate of each row at the entrance of a window: its slice, late, or a dead letter.
//! First step of combiners and fused operators. Invariant: the decision for a row depends on its
//! event time and its split's watermark alone, never on the batch that it came in.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::TimestampMicrosecondType;
use arrow::array::{Array, BooleanArray, PrimitiveArray, UInt32Array};
use arrow::compute::filter_record_batch;
use hashbrown::HashTable;
use tidemill_core::operator::{Fate, Output};
use tidemill_core::window::{AlignedWindow, Slice};
use tidemill_core::{Batch, EventTime, Result};

use super::few::{FEW, Few};
use super::plan::{Evaluated, Plan};
use crate::reject;

/// Rows with their slices.
pub(super) struct Placed {
    pub rows: Evaluated,
    pub slices: Slices,
    /// See [`Plan::counted`].
    counted: Arc<[bool]>,
    /// Whether nothing is asked of rows but how many there are of each key.
    only_counted: bool,
}

/// The slices of rows.
pub(super) enum Slices {
    /// All rows lie in one.
    One(Slice),
    /// Some in each of a few.
    Few(Few),
    /// One for each row.
    Each(Vec<Slice>),
}

/// What becomes of a row.
pub(super) enum Verdict<T> {
    /// It belongs here.
    Placed(T),
    /// It is late.
    Late,
    /// It cannot be processed.
    Rejected(String),
}

/// Which rows of a batch go together.
pub(super) enum Rows {
    /// So many from here on.
    Run { start: usize, length: usize },
    /// These.
    Picked(UInt32Array),
}

/// Tables by slice.
pub(super) trait SliceTables {
    /// Takes rows of one slice.
    fn update(&mut self, slice: Slice, rows: &Evaluated) -> Result<()>;

    /// Counts rows of a few in all their tables at once, where these have places for their keys. Returns how many, up to
    /// the first that was not counted.
    fn count_few(&mut self, few: &Few, rows: &Evaluated) -> Result<usize>;
}

/// What a map has under these keys, which are in order, and there.
pub(super) fn several_of<'a, K: Ord + 'a, V>(
    map: &'a mut BTreeMap<K, V>,
    keys: &[K],
) -> Vec<&'a mut V> {
    let ([first, ..], [.., last]) = (keys, keys) else { return Vec::new() };
    let some = map.range_mut(first..=last).filter(|(key, _)| keys.contains(key));
    let values: Vec<_> = some.map(|(_, value)| value).collect();
    debug_assert_eq!(values.len(), keys.len(), "each key is there");
    values
}

/// Evaluates a batch and puts its rows into slices; counts them. Late rows and those that cannot
/// be processed go out at the side.
pub(super) fn place(
    plan: &Plan,
    window: &AlignedWindow,
    watermark: EventTime,
    batch: Batch,
    out: &mut dyn Output,
) -> Result<Placed> {
    let (batch, rows) = plan.evaluate(batch, out)?;
    let counted = plan.counted.clone();
    let only_counted = plan.cells.as_ref().is_some_and(|cells| cells.inputs.is_empty());
    if let Some(slices) = few_slices(plan, window, watermark, &batch) {
        out.account(Fate::Counted, rows.rows);
        return Ok(Placed { rows, slices, counted, only_counted });
    }
    let (rows, slices) = judge(plan, watermark, &batch, rows, out, |time, floor| {
        match window.slice_end(time).map(|end| window.slice(end, floor)) {
            Some(Some(slice)) => Verdict::Placed(slice),
            Some(None) => Verdict::Late,
            None => Verdict::Rejected(out_of_range(time)),
        }
    })?;
    Ok(Placed { rows, slices: Slices::Each(slices), counted, only_counted })
}

/// Why a time at the ends of time is refused.
pub(super) fn out_of_range(time: EventTime) -> String {
    format!("event time {time} (microseconds since 1970) is out of range for the window")
}

fn times<'a>(plan: &Plan, batch: &'a Batch) -> &'a PrimitiveArray<TimestampMicrosecondType> {
    batch.rows.column(plan.time).as_primitive()
}

/// The slices of all rows, where these are few and no row is behind a watermark: the usual case,
/// decided by one minimum and maximum.
fn few_slices(
    plan: &Plan,
    window: &AlignedWindow,
    watermark: EventTime,
    batch: &Batch,
) -> Option<Slices> {
    let range = batch.time_range(plan.time)?;
    let (first, last) = (window.slice_end(range.min)?, window.slice_end(range.max)?);
    let floor = batch.floor.as_ref().and_then(arrow::compute::max);
    let floor = floor.map_or(watermark, |floor| floor.max(watermark));
    // Times at both ends of time are further apart than a number says.
    let steps = last.checked_sub(first)? / window.step();
    if floor >= first || steps >= FEW as i64 {
        return None;
    }
    let ends: Vec<EventTime> = (first..=last).step_by(window.step() as usize).collect();
    let slice = |end: EventTime| Slice { end, first_window_end: end };
    if let [end] = *ends {
        return Some(Slices::One(slice(end)));
    }
    let few = Few::new(ends.into_iter().map(slice).collect(), times(plan, batch).values().clone());
    Some(Slices::Few(few))
}

/// Judges rows one by one. `place` is given a row's event time and floor. Returns the rows that
/// were placed, which are counted, and where.
pub(super) fn judge<T>(
    plan: &Plan,
    watermark: EventTime,
    batch: &Batch,
    rows: Evaluated,
    out: &mut dyn Output,
    place: impl Fn(EventTime, EventTime) -> Verdict<T>,
) -> Result<(Evaluated, Vec<T>)> {
    let times = times(plan, batch);
    let mut placed = Vec::with_capacity(rows.rows);
    let mut kept = vec![true; rows.rows];
    let mut late = vec![false; rows.rows];
    for row in 0..rows.rows {
        if times.is_null(row) {
            kept[row] = false;
            reject::dead_letter(batch, row, "event time is null", out)?;
            continue;
        }
        let floor = batch.floor.as_ref().map_or(watermark, |f| f.value(row).max(watermark));
        match place(times.value(row), floor) {
            Verdict::Placed(at) => placed.push(at),
            Verdict::Late => (kept[row], late[row]) = (false, true),
            Verdict::Rejected(reason) => {
                kept[row] = false;
                reject::dead_letter(batch, row, reason, out)?;
            }
        }
    }
    out.account(Fate::Counted, placed.len());
    if placed.len() == rows.rows {
        return Ok((rows, placed));
    }
    let late = BooleanArray::from(late);
    if late.true_count() > 0 {
        out.account(Fate::Late, late.true_count());
        out.late(filter_record_batch(&batch.rows, &late)?);
    }
    Ok((rows.filter(&kept.into(), &plan.counted)?, placed))
}

impl Placed {
    /// The bounds of each row's slice: its end, and that of the first window over it.
    pub fn bounds(&self) -> [Vec<EventTime>; 2] {
        let bounds = |slice: &Slice| [slice.end, slice.first_window_end];
        let mut all = [vec![0; self.rows.rows], vec![0; self.rows.rows]];
        let mut set = |row: usize, slice: &Slice| {
            all.iter_mut().zip(bounds(slice)).for_each(|(all, bound)| all[row] = bound);
        };
        match &self.slices {
            Slices::One(slice) => (0..self.rows.rows).for_each(|row| set(row, slice)),
            Slices::Few(few) => few.slices().iter().enumerate().for_each(|(number, slice)| {
                few.rows_of(number).for_each(|row| set(row, slice));
            }),
            Slices::Each(slices) => {
                slices.iter().enumerate().for_each(|(row, slice)| set(row, slice));
            }
        }
        all
    }

    /// Puts the rows into the tables of their slices.
    pub fn go_into(self, tables: &mut impl SliceTables) -> Result<()> {
        let left = match self.slices {
            Slices::Few(few) if self.only_counted => {
                let few = few.with_rows();
                let counted = tables.count_few(&few, &self.rows)?;
                let rows = self.rows.slice(counted, self.rows.rows - counted);
                Self { rows, slices: Slices::Few(few.behind(counted)), ..self }
            }
            _ => self,
        };
        match &left.slices {
            _ if left.rows.rows == 0 => Ok(()),
            Slices::Few(few) if few.slices().len() == 2 => {
                let sides = left.rows.divide(&few.masks()[0], &left.counted)?;
                let mut sides = few.slices().iter().zip(&sides);
                sides.try_for_each(|(slice, rows)| tables.update(*slice, rows))
            }
            _ => left.go_one_by_one(tables),
        }
    }

    fn go_one_by_one(self, tables: &mut impl SliceTables) -> Result<()> {
        let mut parts = self.by_slice()?.into_iter();
        parts.try_for_each(|(slice, rows)| tables.update(slice, &rows))
    }

    /// The rows, slice by slice, in their order within each.
    fn by_slice(self) -> Result<Vec<(Slice, Evaluated)>> {
        let slices = match self.slices {
            Slices::One(slice) => return Ok(vec![(slice, self.rows)]),
            Slices::Few(few) => {
                let parts = few.slices().iter().copied().zip(few.masks());
                let parts = parts.filter(|(_, rows)| rows.has_true());
                let part = |(slice, rows)| Ok((slice, self.rows.filter(&rows, &self.counted)?));
                return parts.map(part).collect();
            }
            Slices::Each(slices) => slices,
        };
        let part = |(slice, rows)| {
            Ok((
                slice,
                match rows {
                    Rows::Run { start, length } => self.rows.slice(start, length),
                    Rows::Picked(rows) => self.rows.take(&rows, &self.counted)?,
                },
            ))
        };
        partition(&slices).into_iter().map(part).collect()
    }
}

/// Which rows have which tag: tags in the order of their first row, rows in theirs.
pub(super) fn partition<T: Copy + Eq + Hash>(tags: &[T]) -> Vec<(T, Rows)> {
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let mut index: HashTable<usize> = HashTable::new();
    let mut parts: Vec<(T, Vec<(usize, usize)>)> = Vec::new();
    let mut start = 0;
    for run in tags.chunk_by(|a, b| a == b) {
        let part = *index
            .entry(
                hasher.hash_one(run[0]),
                |part| parts[*part].0 == run[0],
                |part| hasher.hash_one(parts[*part].0),
            )
            .or_insert(parts.len())
            .get();
        if part == parts.len() {
            parts.push((run[0], Vec::new()));
        }
        parts[part].1.push((start, run.len()));
        start += run.len();
    }
    parts.into_iter().map(|(tag, runs)| (tag, Rows::of(&runs))).collect()
}

impl Rows {
    fn of(runs: &[(usize, usize)]) -> Self {
        if let [(start, length)] = *runs {
            return Self::Run { start, length };
        }
        let rows = runs.iter().flat_map(|(start, length)| *start..start + length);
        Self::Picked(rows.map(|row| row as u32).collect::<Vec<_>>().into())
    }
}
