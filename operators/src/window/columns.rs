//! The usual aggregates of doubles, side by side for each group, so that a row costs one place in memory
//! and a single session can be taken out. Invariant: a group that is not given out is empty.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array};
use tidemill_core::Result;

use super::plan::{Call, Evaluated};
use crate::aggregate::{CellCall, Cells, Group};
use crate::failed;

/// The aggregates of a window that cells can answer.
pub(super) struct CellPlan {
    /// Which evaluated column each of the [`Cells`] is of.
    pub inputs: Vec<usize>,
    /// What each aggregate is, and of which of the [`Cells`].
    pub calls: Vec<(CellCall, usize)>,
}

/// Cells of all columns that are aggregated, and how many rows each group has.
pub(super) struct CellColumns {
    plan: Arc<CellPlan>,
    /// One for each of the plan's inputs.
    columns: Vec<Cells>,
    counts: Vec<i64>,
}

/// This many groups stay in the cache without help.
const CACHED: usize = 1 << 14;

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

/// Has the cells of groups brought into the cache, many at a time: what is added to one takes so
/// long that the next would not be asked for before.
#[inline(never)]
fn fetch(cells: &Cells, groups: &[usize]) {
    let group = |position: &usize| Group { position: *position, key: 0, rows: 0 };
    let greatest = groups.iter().map(|position| cells.greatest(group(position)));
    std::hint::black_box(greatest.fold(0, |all, x| all ^ x.unwrap_or(0.0).to_bits()));
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
            self.counts.resize(len, 0);
            self.columns.iter_mut().for_each(|cells| cells.resize(len));
        }
    }

    /// Whether cells take this one of the evaluated columns.
    pub fn takes(&self, input: usize) -> bool {
        self.plan.inputs.contains(&input)
    }

    /// Adds rows, each to its group.
    pub fn update(&mut self, rows: &Evaluated, groups: &[usize]) {
        let Self { plan, columns, counts } = self;
        let key = |row: usize| groups[row] as i64;
        let mut is_counted = false;
        for (cells, input) in columns.iter_mut().zip(&plan.inputs) {
            if counts.len() > CACHED {
                fetch(cells, groups);
            }
            let values = rows.values[*input].as_primitive::<Float64Type>();
            let groups = groups.iter().copied();
            if is_counted || values.null_count() > 0 {
                cells.update(groups, key, values);
            } else {
                cells.add_counted(counts, groups, key, values.values());
                is_counted = true;
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
        let mut has_sum = vec![false; self.columns.len()];
        for ((call, column), own) in self.plan.calls.iter().zip(states) {
            let Some(cells) = self.columns.get_mut(*column) else { continue };
            match call {
                CellCall::Rows => {}
                // Several aggregates may have kept the same sum.
                CellCall::Sum | CellCall::Mean if has_sum[*column] => {}
                CellCall::Sum | CellCall::Mean => {
                    has_sum[*column] = true;
                    merge_sums(cells, own, groups, &rows)?;
                }
                CellCall::Min => merge_extremes(cells, &own[0], groups, false),
                CellCall::Max => merge_extremes(cells, &own[0], groups, true),
            }
        }
        Ok(())
    }

    /// The state columns of each aggregate.
    fn states_of_calls<'a>(&self, mut states: &'a [ArrayRef]) -> Vec<&'a [ArrayRef]> {
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
    fn rows(&self, states: &[&[ArrayRef]], len: usize) -> Vec<i64> {
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

    /// The state columns of groups.
    pub fn states(&self, groups: impl Iterator<Item = u32>) -> Vec<ArrayRef> {
        let groups = self.groups(groups);
        let mut sums: Vec<Option<[ArrayRef; 4]>> = vec![None; self.columns.len()];
        let mut states = Vec::new();
        for (call, column) in &self.plan.calls {
            match call {
                CellCall::Sum | CellCall::Mean => {
                    let cells = &self.columns[*column];
                    let sum = sums[*column].get_or_insert_with(|| {
                        let [high, low, spill] = cells.sum_states(&groups);
                        [integers(groups.iter().map(|g| cells.count(*g))), high, low, spill]
                    });
                    states.extend(sum.iter().cloned());
                }
                _ => states.push(self.result(*call, *column, &groups)),
            }
        }
        states
    }

    /// The results of groups.
    pub fn results(&self, groups: impl Iterator<Item = u32>) -> Vec<ArrayRef> {
        let groups = self.groups(groups);
        self.plan.calls.iter().map(|(call, column)| self.result(*call, *column, &groups)).collect()
    }

    fn groups(&self, groups: impl Iterator<Item = u32>) -> Vec<Group> {
        let group = |group: u32| Group {
            position: group as usize,
            key: i64::from(group),
            rows: self.counts[group as usize],
        };
        groups.map(group).collect()
    }

    fn result(&self, call: CellCall, column: usize, groups: &[Group]) -> ArrayRef {
        let floats = |of: fn(&Cells, Group) -> Option<f64>| -> ArrayRef {
            let cells = &self.columns[column];
            Arc::new(groups.iter().map(|group| of(cells, *group)).collect::<Float64Array>())
        };
        match call {
            CellCall::Rows => integers(groups.iter().map(|group| group.rows)),
            CellCall::Sum => floats(Cells::sum),
            CellCall::Mean => floats(Cells::mean),
            CellCall::Min => floats(Cells::least),
            CellCall::Max => floats(Cells::greatest),
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let cells: usize = self.columns.iter().map(Cells::bytes).sum();
        self.counts.capacity() * size_of::<i64>() + cells
    }
}

fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Adds states of sums: counts of values, two parts of their sum, and what did not fit.
fn merge_sums(cells: &mut Cells, own: &[ArrayRef], groups: &[usize], rows: &[i64]) -> Result<()> {
    let counts = own[0].as_primitive::<Int64Type>().values();
    let [high, low] = [1, 2].map(|part| own[part].as_primitive::<Float64Type>().values());
    for (row, group) in groups.iter().enumerate() {
        cells.merge_nulls(*group, rows[row] - counts[row]);
        cells.merge_sum(*group, *group as i64, [high[row], low[row]]);
    }
    let spills = own[3].as_binary::<i32>();
    if spills.null_count() < spills.len() {
        for (group, bytes) in groups.iter().zip(spills) {
            if let Some(bytes) = bytes {
                cells.merge_spill(*group as i64, bytes).map_err(failed)?;
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
