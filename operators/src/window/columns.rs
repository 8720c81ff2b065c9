//! The usual aggregates of doubles, side by side for each group, so that a row costs one place in memory
//! and a single session can be taken out. On the data path under all tables and sessions.
//!
//! Groups are positions that the caller gives out. Invariant: one that is not given out is empty.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{Array, ArrayRef, Int64Array};
use tidemill_core::Result;
use tidemill_core::prefetch::prefetch;

use super::plan::{Call, Evaluated};
use super::results::{ResultColumn, ResultColumns};
use crate::aggregate::{CellCall, Cells, Group};
use crate::failed;
use crate::pages::{renew, zeros};

/// The aggregates of a window that cells can answer.
pub(super) struct CellPlan {
    /// Which evaluated column each of the [`Cells`] is of.
    pub inputs: Vec<usize>,
    /// What each aggregate is, and of which of the [`Cells`].
    pub calls: Vec<(CellCall, usize)>,
}

/// Cells of all columns that are aggregated, and how many rows each group has.
#[derive(Clone)]
pub(super) struct CellColumns {
    pub plan: Arc<CellPlan>,
    /// One for each of the plan's inputs.
    pub columns: Vec<Cells>,
    /// How many rows each group has.
    pub counts: Vec<i64>,
}

/// This many groups stay in the cache without help.
const CACHED: usize = 1 << 14;

/// Others are brought there so many at a time, while rows are added to those before.
const TOGETHER: usize = 128;

impl CellPlan {
    /// The plan for these aggregates; `None` where they need more than cells.
    pub fn of(calls: &[Call]) -> Option<Self> {
        let mut plan = Self { inputs: Vec::new(), calls: Vec::new() };
        for call in calls {
            let is = call.aggregate.cell().filter(|_| call.filter.is_none())?;
            let column = match (is, call.inputs.as_slice()) {
                (CellCall::Rows, _) => 0,
                (_, [input]) => plan.column(*input),
                _ => return None,
            };
            plan.calls.push((is, column));
        }
        Some(plan)
    }

    fn column(&mut self, input: usize) -> usize {
        self.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        })
    }
}

/// Has the counts and cells of groups brought into the cache: what is done with one takes so long that the next would not
/// be asked for before. Where there is no such group, nothing is.
#[inline(never)]
pub(super) fn fetch(cells: &Cells, counts: &[i64], groups: impl Iterator<Item = usize>) {
    for group in groups {
        if let Some(count) = counts.get(group) {
            prefetch(count);
            cells.prefetch(group);
        }
    }
}

impl CellColumns {
    /// No groups.
    pub fn new(plan: Arc<CellPlan>) -> Self {
        let columns = plan.inputs.iter().map(|_| Cells::default()).collect();
        Self { plan, columns, counts: Vec::new() }
    }

    /// There are at least so many groups.
    pub fn resize(&mut self, len: usize) {
        if len > self.counts.len() {
            if self.counts.is_empty() {
                self.counts = zeros(len);
            } else {
                self.counts.resize(len, 0);
            }
            self.columns.iter_mut().for_each(|cells| cells.resize(len));
        }
    }

    /// So many groups, all of them empty.
    pub fn empty(&mut self, len: usize) {
        renew(&mut self.counts, len);
        self.columns.iter_mut().for_each(|cells| cells.empty(len));
    }

    /// For how many groups there is memory.
    pub fn room(&self) -> usize {
        self.counts.capacity()
    }

    /// Memory for no more than `len` groups in all.
    pub fn reserve_exact(&mut self, len: usize) {
        self.counts.reserve_exact(len.saturating_sub(self.counts.len()));
        self.columns.iter_mut().for_each(|cells| cells.reserve_exact(len));
    }

    /// Moves groups from one position to another, of `len` in all; the others are empty then.
    pub fn rearrange(&mut self, len: usize, moves: &[(usize, usize)]) {
        let mut counts = zeros(len);
        moves.iter().for_each(|(from, to)| counts[*to] = self.counts[*from]);
        self.counts = counts;
        self.columns.iter_mut().for_each(|cells| cells.rearrange(len, moves.iter().copied()));
    }

    /// Whether cells take this one of the evaluated columns.
    pub fn takes(&self, input: usize) -> bool {
        self.plan.inputs.contains(&input)
    }

    /// Adds rows, each to its group.
    pub fn update(&mut self, rows: &Evaluated, groups: &[usize]) {
        let Self { plan, columns, counts } = self;
        let mut is_counted = false;
        for (cells, input) in columns.iter_mut().zip(&plan.inputs) {
            let values = rows.values[*input].as_primitive::<Float64Type>();
            let is_first = !is_counted && values.null_count() == 0;
            is_counted |= is_first;
            let is_far = counts.len() > CACHED;
            let together = if is_far { TOGETHER } else { groups.len().max(1) };
            let some = |n: usize| groups.iter().copied().skip(n * together).take(together);
            if is_far {
                fetch(cells, counts, some(0));
            }
            for (n, part) in groups.chunks(together).enumerate() {
                if is_far {
                    fetch(cells, counts, some(n + 1));
                }
                let values = values.slice(n * together, part.len());
                if is_first {
                    let key = |group| group as i64;
                    let added =
                        cells.add_counted(counts, part, |group| group, key, values.values());
                    debug_assert_eq!(added, part.len(), "every group has a position");
                } else {
                    cells.update(part.iter().copied(), |row| part[row] as i64, &values);
                }
            }
        }
        if !is_counted {
            groups.iter().for_each(|group| counts[*group] += 1);
        }
    }

    /// Adds states, each to its group.
    pub fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> Result<()> {
        let states = self.states_of_calls(states);
        let rows = self.rows(&states, groups.len());
        groups.iter().zip(&rows).for_each(|(group, rows)| self.counts[*group] += rows);
        self.merge_cells(&states, &rows, groups, |row| groups[row] as i64)
    }

    /// Adds groups of others, from one position to another. `key` knows the keys of theirs.
    #[inline(always)]
    pub fn take_in(
        &mut self,
        other: &Self,
        moves: impl Iterator<Item = (usize, usize)> + Clone,
        key: impl Fn(usize) -> i64,
    ) {
        moves.clone().for_each(|(from, to)| self.counts[to] += other.counts[from]);
        for (cells, others) in self.columns.iter_mut().zip(&other.columns) {
            cells.take_in(others, moves.clone(), &key);
        }
    }

    /// Adds groups of others, each to the one that lies `offset` behind it. `key` knows the keys of theirs.
    pub fn take_in_run(&mut self, other: &Self, offset: usize, key: impl Fn(usize) -> i64) {
        let counts = &mut self.counts[offset..offset + other.counts.len()];
        counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        let groups = other.counts.iter().enumerate().filter(|(_, rows)| **rows > 0);
        let moves = groups.map(|(from, _)| (from, from + offset));
        for (cells, others) in self.columns.iter_mut().zip(&other.columns) {
            cells.take_in(others, moves.clone(), &key);
        }
    }

    /// Adds the states of each aggregate to groups that have these rows counted. `key` knows by which
    /// number spills are kept.
    pub fn merge_cells(
        &mut self,
        states: &[&[ArrayRef]],
        rows: &[i64],
        groups: &[usize],
        key: impl Fn(usize) -> i64,
    ) -> Result<()> {
        let mut has_sum = vec![false; self.columns.len()];
        for ((call, column), own) in self.plan.calls.iter().zip(states) {
            let Some(cells) = self.columns.get_mut(*column) else { continue };
            match call {
                CellCall::Rows => {}
                // Several aggregates may have kept the same sum.
                CellCall::Sum | CellCall::Mean if has_sum[*column] => {}
                CellCall::Sum | CellCall::Mean => {
                    has_sum[*column] = true;
                    merge_sums(cells, own, rows, groups, &key)?;
                }
                CellCall::Min => merge_extremes(cells, &own[0], groups, false),
                CellCall::Max => merge_extremes(cells, &own[0], groups, true),
            }
        }
        Ok(())
    }

    /// The state columns of each aggregate.
    pub fn states_of_calls<'a>(&self, mut states: &'a [ArrayRef]) -> Vec<&'a [ArrayRef]> {
        let own = |(call, _): &(CellCall, usize)| {
            let width = if matches!(call, CellCall::Sum | CellCall::Mean) { 4 } else { 1 };
            let (own, others) = states.split_at(width);
            states = others;
            own
        };
        self.plan.calls.iter().map(own).collect()
    }

    /// How many rows there are behind each state. Where no aggregate says, at least as many as have a
    /// value, and one.
    pub fn rows(&self, states: &[&[ArrayRef]], len: usize) -> Vec<i64> {
        let mut rows = vec![1; len];
        for ((call, _), own) in self.plan.calls.iter().zip(states) {
            let counts = || own[0].as_primitive::<Int64Type>().values();
            match call {
                CellCall::Rows => return counts().to_vec(),
                CellCall::Sum | CellCall::Mean => {
                    rows.iter_mut().zip(counts()).for_each(|(rows, n)| *rows = (*n).max(*rows));
                }
                CellCall::Min | CellCall::Max => {}
            }
        }
        rows
    }

    /// Forgets what was added to a group.
    pub fn clear(&mut self, group: usize) {
        self.counts[group] = 0;
        self.columns.iter_mut().for_each(|cells| cells.clear(group, group as i64));
    }

    /// Groups that are called after their positions.
    pub fn groups(&self, positions: impl Iterator<Item = u32> + Clone) -> Vec<Group> {
        let group = |position: u32| Group {
            position: position as usize,
            key: i64::from(position),
            rows: self.counts[position as usize],
        };
        if self.counts.len() > CACHED {
            for cells in &self.columns {
                fetch(cells, &self.counts, positions.clone().map(|position| position as usize));
            }
        }
        positions.map(group).collect()
    }

    /// The state columns of groups.
    pub fn states(&self, groups: &[Group]) -> Vec<ArrayRef> {
        let mut sums: Vec<Option<[ArrayRef; 4]>> = vec![None; self.columns.len()];
        let mut states = Vec::new();
        for (call, column) in &self.plan.calls {
            match call {
                CellCall::Sum | CellCall::Mean => {
                    let cells = &self.columns[*column];
                    let sum = sums[*column].get_or_insert_with(|| {
                        let [high, low, spill] = cells.sum_states(groups);
                        [integers(groups.iter().map(|g| cells.count(*g))), high, low, spill]
                    });
                    states.extend(sum.iter().cloned());
                }
                _ => {
                    let mut state = ResultColumn::new(*call, groups.len());
                    state.add(self, *column, groups);
                    states.push(state.finish());
                }
            }
        }
        states
    }

    /// The results of groups.
    pub fn results(&self, groups: &[Group]) -> Vec<ArrayRef> {
        let mut results = ResultColumns::new(&self.plan, groups.len());
        results.add(self, groups);
        results.finish()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let cells: usize = self.columns.iter().map(Cells::bytes).sum();
        self.counts.capacity() * size_of::<i64>() + cells
    }
}

pub(super) fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Adds states of sums: counts of values, two parts of their sum, and what did not fit.
fn merge_sums(
    cells: &mut Cells,
    own: &[ArrayRef],
    rows: &[i64],
    groups: &[usize],
    key: impl Fn(usize) -> i64,
) -> Result<()> {
    let counts = own[0].as_primitive::<Int64Type>().values();
    let [high, low] = [1, 2].map(|part| own[part].as_primitive::<Float64Type>().values());
    for (row, group) in groups.iter().enumerate() {
        cells.merge_nulls(*group, rows[row] - counts[row]);
        cells.merge_sum(*group, key(row), [high[row], low[row]]);
    }
    let spills = own[3].as_binary::<i32>();
    if spills.null_count() < spills.len() {
        for (row, bytes) in spills.iter().enumerate() {
            if let Some(bytes) = bytes {
                cells.merge_spill(key(row), bytes).map_err(failed)?;
            }
        }
    }
    Ok(())
}

fn merge_extremes(cells: &mut Cells, states: &ArrayRef, groups: &[usize], greatest: bool) {
    for (group, extreme) in groups.iter().zip(states.as_primitive::<Float64Type>()) {
        if let Some(x) = extreme {
            cells.merge_extreme(*group, x, greatest);
        }
    }
}
