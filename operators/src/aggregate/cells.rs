//! Count, exact sum, minimum and maximum of one column of doubles, side by side for each group: what
//! the usual aggregates of a window come from in one pass. On the data path behind a table's look-up.
//!
//! ```text
//! cell   sum: 2 × f64 | greatest | least         32 bytes; all zero means no value
//! ```
//!
//! Groups are positions that the caller gives out, and may be left empty. Invariant: a cell and its
//! spill hold exactly what [`super::exact`] and [`super::extremum`] would, and go in and out as their
//! state columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Float64Array};
use datafusion_common::Result;
use hashbrown::HashMap;
use tidemill_core::prefetch::prefetch;

use super::exact::{Expansion, Spill, mean, quotients, spill_column, sum};
use super::extremum::{order, order_of_number, value_at};
use crate::pages::{renew, zeros};

mod run;

/// The bits of a group's exact sum, and of the places of its greatest and, inverted, least value. As
/// bits, so that fresh memory need not be written to before it is used.
type Cell = [u64; 4];

/// The places of values in their order start above this.
const NO_VALUE: u64 = 0;

/// Exact sums and extremes of one column of doubles by position.
#[derive(Clone, Default)]
pub(crate) struct Cells {
    cells: Vec<Cell>,
    /// By key: what does not fit into the group's cell.
    spills: HashMap<i64, Spill, ahash::RandomState>,
    /// By position, how many rows had no value; empty where all had one.
    nulls: Vec<i64>,
}

/// A group: its position, its key and how many rows it has.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub position: usize,
    pub key: i64,
    pub rows: i64,
}

/// Adds a value, and says so; or changes nothing where that takes more than the cell.
#[inline(always)]
#[must_use]
fn add(cell: &mut Cell, x: f64) -> bool {
    let mut sum = expansion(cell);
    // Fits only if it is finite.
    let fits = sum.add(x);
    if fits {
        set_sum(cell, &sum);
        let place = order_of_number(x);
        widen(cell, place, place);
    }
    fits
}

/// Adds and counts rows, a position and a value each, up to the first that has no position, or takes more than its cell.
/// Returns how many rows came before that one. By itself, so that the loop needs no more than the processor has registers for.
#[inline(always)]
fn add_each<'a>(
    cells: &mut [Cell],
    counts: &mut [i64],
    rows: impl Iterator<Item = (usize, &'a f64)>,
) -> usize {
    let cells = &mut cells[..counts.len()];
    let mut added = 0;
    for (position, x) in rows {
        if position >= counts.len() || !add(&mut cells[position], *x) {
            break;
        }
        counts[position] += 1;
        added += 1;
    }
    added
}

/// Adds what another cell holds, and says so; or changes nothing where that takes more than the cell.
#[inline(always)]
#[must_use]
fn join(cell: &mut Cell, other: &Cell) -> bool {
    if *cell == [0; 4] {
        *cell = *other;
        return true;
    }
    let mut sum = expansion(cell);
    let fits = expansion(other).parts().iter().all(|part| sum.add(*part));
    if fits {
        set_sum(cell, &sum);
        extend(cell, other);
    }
    fits
}

/// Takes the extremes of another cell into account.
#[inline(always)]
fn extend(cell: &mut Cell, other: &Cell) {
    cell[2] = cell[2].max(other[2]);
    cell[3] = cell[3].max(other[3]);
}

#[inline(always)]
fn expansion(cell: &Cell) -> Expansion<2> {
    Expansion::of([f64::from_bits(cell[0]), f64::from_bits(cell[1])])
}

#[inline(always)]
fn set_sum(cell: &mut Cell, sum: &Expansion<2>) {
    let [high, low] = sum.parts();
    (cell[0], cell[1]) = (high.to_bits(), low.to_bits());
}

/// Takes the places of the greatest and the least of some values into account.
#[inline(always)]
fn widen(cell: &mut Cell, greatest: i64, least: i64) {
    let unsigned = |place: i64| place as u64 ^ 1 << 63;
    cell[2] = cell[2].max(unsigned(greatest));
    cell[3] = cell[3].max(!unsigned(least));
}

fn extreme(place: u64) -> Option<f64> {
    (place != NO_VALUE).then(|| value_at((place ^ 1 << 63) as i64))
}

impl Cells {
    /// Cells for `len` groups in all, the new ones empty.
    pub fn resize(&mut self, len: usize) {
        if self.cells.is_empty() {
            self.cells = zeros(len);
        } else {
            self.cells.resize(len, [0; 4]);
        }
        if !self.nulls.is_empty() {
            self.nulls.resize(len, 0);
        }
    }

    /// So many groups, all of them empty.
    pub fn empty(&mut self, len: usize) {
        renew(&mut self.cells, len);
        self.spills = HashMap::default();
        self.nulls = Vec::new();
    }

    /// Memory for no more than `len` groups in all.
    pub fn reserve_exact(&mut self, len: usize) {
        self.cells.reserve_exact(len.saturating_sub(self.cells.len()));
    }

    /// Moves all groups: each to the position that `to` gives it, of `len` in all.
    pub fn rearrange(&mut self, len: usize, moves: impl Iterator<Item = (usize, usize)> + Clone) {
        let mut cells: Vec<Cell> = zeros(len);
        moves.clone().for_each(|(from, to)| cells[to] = self.cells[from]);
        self.cells = cells;
        if !self.nulls.is_empty() {
            let mut nulls = vec![0; len];
            moves.for_each(|(from, to)| nulls[to] = self.nulls[from]);
            self.nulls = nulls;
        }
    }

    /// Counts rows and adds their values where all have one, while there are groups at their positions, up to the end
    /// of the rows or of the values. Returns how many rows that were. What a row is tells its position and its key.
    #[inline(always)]
    pub fn add_counted<R: Copy>(
        &mut self,
        counts: &mut [i64],
        rows: &[R],
        position: impl Fn(R) -> usize,
        key: impl Fn(R) -> i64,
        values: &[f64],
    ) -> usize {
        let mut added = 0;
        loop {
            let positions = rows[added..].iter().map(|row| position(*row));
            added += add_each(&mut self.cells, counts, positions.zip(&values[added..]));
            let (Some(row), Some(x)) = (rows.get(added), values.get(added)) else { return added };
            let place = position(*row);
            let Some(count) = counts.get_mut(place) else { return added };
            *count += 1;
            self.add_rest(place, key(*row), *x);
            added += 1;
        }
    }

    /// Counts rows of one group and adds their values, of which none is missing. `key` is the group's.
    #[inline(always)]
    pub fn add_run(&mut self, count: &mut i64, position: usize, key: i64, values: &[f64]) {
        *count += values.len() as i64;
        if run::add_all(&mut self.cells[position], values) {
            return;
        }
        for x in values {
            if !add(&mut self.cells[position], *x) {
                self.add_rest(position, key, *x);
            }
        }
    }

    /// Has a group's cell brought into the cache.
    #[inline(always)]
    pub fn prefetch(&self, position: usize) {
        let cell = &self.cells[position];
        // It may lie across two lines.
        prefetch(&cell[0]);
        prefetch(&cell[3]);
    }

    /// Adds the values of rows to the groups at these positions; a null only counts as one.
    /// `key` knows the rows' keys.
    pub fn update(
        &mut self,
        positions: impl Iterator<Item = usize>,
        key: impl Fn(usize) -> i64,
        values: &Float64Array,
    ) {
        let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
        if nulls.is_some() && self.nulls.is_empty() {
            self.nulls = vec![0; self.cells.len()];
        }
        for (row, (position, x)) in positions.zip(values.values()).enumerate() {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                self.nulls[position] += 1;
            } else if !add(&mut self.cells[position], *x) {
                self.add_rest(position, key(row), *x);
            }
        }
    }

    /// Adds what did not fit at once, or is not finite.
    #[cold]
    fn add_rest(&mut self, position: usize, key: i64, x: f64) {
        let place = order(x);
        widen(&mut self.cells[position], place, place);
        self.add_to_sum(position, key, x);
    }

    fn add_to_sum(&mut self, position: usize, key: i64, x: f64) {
        let cell = &mut self.cells[position];
        let mut sum = expansion(cell);
        if sum.add(x) {
            return set_sum(cell, &sum);
        }
        if !x.is_finite() {
            return self.spills.entry(key).or_default().note(x);
        }
        let rest = sum.add_fitting(x);
        set_sum(cell, &sum);
        if rest != 0.0 {
            self.spills.entry(key).or_default().add(rest);
        }
    }

    /// Adds groups of others, from one position to another. `key` knows the keys of theirs.
    #[inline(always)]
    pub fn take_in(
        &mut self,
        other: &Self,
        moves: impl Iterator<Item = (usize, usize)> + Clone,
        key: impl Fn(usize) -> i64,
    ) {
        for (from, to) in moves.clone() {
            if !join(&mut self.cells[to], &other.cells[from]) {
                self.join_rest(to, key(from), &other.cells[from]);
            }
        }
        if !other.nulls.is_empty() {
            moves.clone().for_each(|(from, to)| self.merge_nulls(to, other.nulls[from]));
        }
        if !other.spills.is_empty() {
            for (key, spill) in moves.filter_map(|(from, _)| other.spills.get_key_value(&key(from)))
            {
                self.spills.entry(*key).or_default().join(spill);
            }
        }
    }

    /// Adds a cell whose sum did not fit at once.
    #[cold]
    fn join_rest(&mut self, position: usize, key: i64, other: &Cell) {
        extend(&mut self.cells[position], other);
        self.merge_sum(position, key, *expansion(other).parts());
    }

    /// So many rows of a group have no value.
    pub fn merge_nulls(&mut self, position: usize, nulls: i64) {
        if nulls > 0 {
            if self.nulls.is_empty() {
                self.nulls = vec![0; self.cells.len()];
            }
            self.nulls[position] += nulls;
        }
    }

    /// Adds an exact sum in parts.
    pub fn merge_sum(&mut self, position: usize, key: i64, parts: [f64; 2]) {
        parts.iter().for_each(|part| self.add_to_sum(position, key, *part));
    }

    /// Adds what of an exact sum did not fit into its parts.
    pub fn merge_spill(&mut self, key: i64, bytes: &[u8]) -> Result<()> {
        self.spills.entry(key).or_default().merge(bytes)
    }

    /// Takes an extreme value into account as one of its own end.
    pub fn merge_extreme(&mut self, position: usize, x: f64, greatest: bool) {
        let cell = &mut self.cells[position];
        let place = order(x) as u64 ^ 1 << 63;
        if greatest {
            cell[2] = cell[2].max(place);
        } else {
            cell[3] = cell[3].max(!place);
        }
    }

    /// Forgets all that was added to a group.
    pub fn clear(&mut self, position: usize, key: i64) {
        self.cells[position] = [0; 4];
        if let Some(nulls) = self.nulls.get_mut(position) {
            *nulls = 0;
        }
        if !self.spills.is_empty() {
            self.spills.remove(&key);
        }
    }

    /// How many rows of a group have a value.
    pub fn count(&self, group: Group) -> i64 {
        group.rows - self.nulls.get(group.position).copied().unwrap_or(0)
    }

    /// The sum of a group's values, rounded once; `None` without values.
    pub fn sum(&self, group: Group) -> Option<f64> {
        (self.count(group) > 0).then(|| {
            sum(expansion(&self.cells[group.position]).parts(), self.spills.get(&group.key))
        })
    }

    /// The means of some groups' values, each rounded once; `None` without values.
    pub fn means(&self, groups: &[Group]) -> impl Iterator<Item = Option<f64>> + Clone {
        let cell = |group: &Group| &self.cells[group.position];
        let part = |part: usize| -> Vec<f64> {
            groups.iter().map(|group| f64::from_bits(cell(group)[part])).collect()
        };
        let counts: Vec<i64> = groups.iter().map(|group| self.count(*group)).collect();
        let mut means = vec![f64::NAN; groups.len()];
        // With a spill the cell has not all of the sum.
        if self.spills.is_empty() {
            quotients([&part(0), &part(1)], &counts, &mut means);
        }
        let told = groups.iter().zip(means);
        told.map(|(group, mean)| if mean.is_nan() { self.mean(*group) } else { Some(mean) })
    }

    /// The mean of a group's values, rounded once; `None` without values.
    fn mean(&self, group: Group) -> Option<f64> {
        let count = self.count(group);
        (count > 0).then(|| {
            let sum = expansion(&self.cells[group.position]);
            mean(sum.parts(), self.spills.get(&group.key), count.unsigned_abs())
        })
    }

    /// The greatest of a group's values; `None` without values.
    pub fn greatest(&self, group: Group) -> Option<f64> {
        extreme(self.cells[group.position][2])
    }

    /// The least of a group's values; `None` without values.
    pub fn least(&self, group: Group) -> Option<f64> {
        let place = self.cells[group.position][3];
        if place == NO_VALUE { None } else { extreme(!place) }
    }

    /// The parts of the exact sums, and what did not fit into them: state columns.
    pub fn sum_states(&self, groups: &[Group]) -> [ArrayRef; 3] {
        let part = |part: usize| -> ArrayRef {
            let bits = groups.iter().map(|group| self.cells[group.position][part]);
            Arc::new(Float64Array::from_iter_values(bits.map(f64::from_bits)))
        };
        let spills: BinaryArray =
            spill_column(groups.iter().map(|group| group.key), self.spills.len(), |key| {
                self.spills.get(key)
            });
        [part(0), part(1), Arc::new(spills)]
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let heap: usize = self.spills.values().map(Spill::heap_bytes).sum();
        self.cells.capacity() * size_of::<Cell>()
            + self.nulls.capacity() * size_of::<i64>()
            + self.spills.allocation_size()
            + heap
    }
}
