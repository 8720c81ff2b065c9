//! Count, exact sum, minimum and maximum of one column of doubles, side by side for each group: what
//! the usual aggregates of a window come from in one pass. On the data path behind a table's look-up.
//!
//! ```text
//! cell   sum: 2 × f64 or an i128 | greatest | least         32 bytes; all zero means no value
//! ```
//!
//! Sums are integers as long as all values are multiples of one [`Unit`] and of a size, and doubles from the first on that
//! is not.
//! Groups are positions that the caller gives out, and may be left empty. Invariant: a cell and its
//! spill hold exactly what [`super::exact`] and [`super::extremum`] would, and go in and out as their
//! state columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Float64Array};
use datafusion_common::Result;
use hashbrown::HashMap;
use tidemill_core::prefetch::prefetch;

use self::cell::{
    Cell, NO_VALUE, add, add_each, add_each_whole, add_units, expansion, extend, extreme, in_units,
    join, join_sum, set_sum, unsigned, widen,
};
use self::fixed::{MOST_ROWS, make_whole};
use super::exact::{Expansion, Spill, mean, quotients, spill_column, sum};
use super::extremum::order;
use crate::pages::{renew, zeros};

pub(crate) use self::fixed::{Unit, Whole};

mod cell;
mod fixed;
mod run;
#[cfg(test)]
mod tests;

/// What the sums in cells are. Zeros are zero in any case.
#[derive(Clone, Copy, Default)]
enum Sums {
    /// There are none.
    #[default]
    None,
    /// In units, of so many rows in all.
    Fixed { unit: Unit, rows: usize },
    /// In two doubles each.
    Parts,
}

/// Exact sums and extremes of one column of doubles by position.
#[derive(Clone, Default)]
pub(crate) struct Cells {
    cells: Vec<Cell>,
    sums: Sums,
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
        self.sums = Sums::None;
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

    /// Keeps the sums in units from now on, if there are none yet and these values allow it: in the larger one of that which
    /// suits them and that which is expected.
    pub fn choose_unit(&mut self, values: &[f64], expected: Option<Unit>) {
        if matches!(self.sums, Sums::None)
            && let Some(unit) = Unit::of(values).max(expected)
        {
            self.sums = Sums::Fixed { unit, rows: 0 };
        }
    }

    /// What the sums are kept in, if not in doubles.
    pub fn unit(&self) -> Option<Unit> {
        match self.sums {
            Sums::Fixed { unit, .. } => Some(unit),
            Sums::None | Sums::Parts => None,
        }
    }

    /// Counts rows, no more than there is room for in `whole`, and adds their values, none of which is missing, while there
    /// are groups at their positions. Returns how many rows that were. What a row is tells its position and its key.
    #[inline(always)]
    pub fn add_rows<R: Copy>(
        &mut self,
        counts: &mut [i64],
        rows: &[R],
        position: impl Fn(R) -> usize,
        key: impl Fn(R) -> i64,
        values: &[f64],
        whole: &mut Whole,
    ) -> usize {
        if let Sums::Fixed { unit, rows: before } = &mut self.sums
            && *before + rows.len() <= MOST_ROWS
            && make_whole(*unit, values, whole)
        {
            let positions = rows.iter().map(|row| position(*row));
            let added = add_each_whole(&mut self.cells, counts, positions.zip(whole.iter()));
            *before += added;
            return added;
        }
        self.add_counted(counts, rows, position, key, values)
    }

    /// Keeps the sums in doubles from now on.
    #[inline(always)]
    fn use_parts(&mut self) {
        if !matches!(self.sums, Sums::Parts) {
            self.turn_into_parts();
        }
    }

    #[cold]
    fn turn_into_parts(&mut self) {
        if let Sums::Fixed { unit, rows: 1.. } = self.sums {
            for cell in &mut self.cells {
                set_sum(cell, &Expansion::of(unit.parts([cell[0], cell[1]])));
            }
        }
        self.sums = Sums::Parts;
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
        self.use_parts();
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
        if let Some((sum, extremes)) = run::total(values)
            && self.add_total(position, &sum, values.len())
        {
            return extend(&mut self.cells[position], &extremes);
        }
        self.use_parts();
        for x in values {
            if !add(&mut self.cells[position], *x) {
                self.add_rest(position, key, *x);
            }
        }
    }

    /// Adds the sum of so many values of one group, and says so; or changes nothing where that takes more than the cell.
    #[inline(always)]
    fn add_total(&mut self, position: usize, sum: &Expansion<2>, len: usize) -> bool {
        let cell = &mut self.cells[position];
        match &mut self.sums {
            Sums::Fixed { unit, rows } => {
                if *rows + len > MOST_ROWS {
                    return false;
                }
                let Some(units) = unit.total(sum.parts(), len) else { return false };
                *rows += len;
                add_units(cell, units);
                true
            }
            sums @ (Sums::None | Sums::Parts) => {
                *sums = Sums::Parts;
                join_sum(cell, sum)
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
        self.use_parts();
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
        let place = unsigned(order(x));
        widen(&mut self.cells[position], place, !place);
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
        match self.adapt_to(other) {
            Sums::Fixed { .. } => {
                for (from, to) in moves.clone() {
                    let (cell, more) = (&mut self.cells[to], &other.cells[from]);
                    add_units(cell, in_units([more[0], more[1]]));
                    extend(cell, more);
                }
            }
            Sums::None | Sums::Parts => {
                for (from, to) in moves.clone() {
                    let more = other.cell_in_parts(from);
                    if !join(&mut self.cells[to], &more) {
                        self.join_rest(to, key(from), &more);
                    }
                }
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

    /// Keeps sums as others do, whose groups are then added, or in doubles. Returns how.
    fn adapt_to(&mut self, other: &Self) -> Sums {
        let adapted = match (self.sums, other.sums) {
            (sums, Sums::None) | (Sums::None, sums) => sums,
            (Sums::Fixed { unit, rows }, Sums::Fixed { unit: others, rows: more })
                if unit == others && rows + more <= MOST_ROWS =>
            {
                Sums::Fixed { unit, rows: rows + more }
            }
            _ => Sums::Parts,
        };
        if matches!(adapted, Sums::Parts) {
            self.use_parts();
        }
        self.sums = adapted;
        adapted
    }

    /// A cell whose sum is in doubles, wherever it is kept.
    #[inline(always)]
    fn cell_in_parts(&self, position: usize) -> Cell {
        let mut cell = self.cells[position];
        set_sum(&mut cell, &self.sum_at(position));
        cell
    }

    /// What of a group's sum is in its cell.
    #[inline(always)]
    fn sum_at(&self, position: usize) -> Expansion<2> {
        let cell = &self.cells[position];
        match self.sums {
            Sums::Fixed { unit, .. } => Expansion::of(unit.parts([cell[0], cell[1]])),
            Sums::None | Sums::Parts => expansion(cell),
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
        self.use_parts();
        parts.iter().for_each(|part| self.add_to_sum(position, key, *part));
    }

    /// Adds what of an exact sum did not fit into its parts.
    pub fn merge_spill(&mut self, key: i64, bytes: &[u8]) -> Result<()> {
        self.spills.entry(key).or_default().merge(bytes)
    }

    /// Takes an extreme value into account as one of its own end.
    pub fn merge_extreme(&mut self, position: usize, x: f64, greatest: bool) {
        let place = unsigned(order(x));
        let (greatest, least) = if greatest { (place, 0) } else { (0, !place) };
        widen(&mut self.cells[position], greatest, least);
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
        (self.count(group) > 0)
            .then(|| sum(self.sum_at(group.position).parts(), self.spills.get(&group.key)))
    }

    /// The means of some groups' values, each rounded once; `None` without values.
    pub fn means(&self, groups: &[Group]) -> impl Iterator<Item = Option<f64>> + Clone {
        let counts: Vec<i64> = groups.iter().map(|group| self.count(*group)).collect();
        let mut means = vec![f64::NAN; groups.len()];
        // With a spill the cell has not all of the sum.
        if self.spills.is_empty() {
            let [high, low] = self.parts(groups);
            quotients([&high, &low], &counts, &mut means);
        }
        let told = groups.iter().zip(means);
        told.map(|(group, mean)| if mean.is_nan() { self.mean(*group) } else { Some(mean) })
    }

    /// The mean of a group's values, rounded once; `None` without values.
    fn mean(&self, group: Group) -> Option<f64> {
        let count = self.count(group);
        (count > 0).then(|| {
            let sum = self.sum_at(group.position);
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
        let [high, low] = self.parts(groups).map(|part| Arc::new(Float64Array::from(part)) as _);
        let spills: BinaryArray =
            spill_column(groups.iter().map(|group| group.key), self.spills.len(), |key| {
                self.spills.get(key)
            });
        [high, low, Arc::new(spills)]
    }

    /// The first and the second doubles of the sums.
    fn parts(&self, groups: &[Group]) -> [Vec<f64>; 2] {
        let sums = groups.iter().map(|group| *self.sum_at(group.position).parts());
        let (high, low) = sums.map(|[high, low]| (high, low)).unzip();
        [high, low]
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
