//! The accumulator of exact sums: a few doubles and a count for each group.
//!
//! ```text
//! state   count i64 | sum: 2 × f64 | squares, for variances: 3 × f64 | spill, binary or null
//! ```

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, Float64Array, Int64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::Result;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use hashbrown::HashMap;

use super::super::selection::selected;
use super::expansion::{Expansion, is_square_exact, quotient, square};
use super::spill::Spill;
use super::wide::WideSum;

/// What is made of a group's exact sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Statistic {
    /// The sum.
    Sum,
    /// The arithmetic mean.
    Mean,
    /// The variance, over one less than the count if `sample`; or its square root.
    Variance { sample: bool, root: bool },
}

impl Statistic {
    /// An accumulator for it, without groups.
    pub fn accumulator(self) -> Box<dyn GroupsAccumulator> {
        match self {
            Self::Sum | Self::Mean => Box::new(ExactAccumulator::<0>::new(self)),
            Self::Variance { .. } => Box::new(ExactAccumulator::<3>::new(self)),
        }
    }
}

/// The state columns of the aggregate called `name`.
pub(in super::super) fn state_fields(statistic: Statistic, name: &str) -> Vec<FieldRef> {
    let parts: &[&str] = match statistic {
        Statistic::Sum | Statistic::Mean => &["sum 0", "sum 1"],
        Statistic::Variance { .. } => &["sum 0", "sum 1", "squares 0", "squares 1", "squares 2"],
    };
    let field = |part: &str, data_type, nullable| -> FieldRef {
        Arc::new(Field::new(format!("{name}[{part}]"), data_type, nullable))
    };
    let mut fields = vec![field("count", DataType::Int64, false)];
    fields.extend(parts.iter().map(|part| field(part, DataType::Float64, false)));
    fields.push(field("spill", DataType::Binary, true));
    fields
}

/// What each group keeps at hand. `SQUARES` is 3 where squares are summed too (a square has twice
/// the bits), else 0.
#[derive(Debug, Clone, Copy)]
struct Cell<const SQUARES: usize> {
    count: i64,
    sum: Expansion<2>,
    squares: Expansion<SQUARES>,
}

impl<const SQUARES: usize> Cell<SQUARES> {
    const EMPTY: Self = Self { count: 0, sum: Expansion::ZERO, squares: Expansion::ZERO };
}

/// Exact sums by group.
#[derive(Debug)]
pub(in super::super) struct ExactAccumulator<const SQUARES: usize> {
    statistic: Statistic,
    cells: Vec<Cell<SQUARES>>,
    /// Groups that need more than their cell.
    spills: HashMap<usize, Spill, ahash::RandomState>,
}

impl<const SQUARES: usize> ExactAccumulator<SQUARES> {
    fn new(statistic: Statistic) -> Self {
        Self { statistic, cells: Vec::new(), spills: HashMap::default() }
    }

    #[inline(always)]
    fn add(&mut self, group: usize, x: f64) {
        let cell = &mut self.cells[group];
        cell.count += 1;
        if SQUARES == 0 {
            if !cell.sum.add(x) {
                self.add_rest(group, x);
            }
            return;
        }
        if !is_square_exact(x) {
            return self.add_extreme(group, x);
        }
        let (product, error) = square(x);
        let fits = cell.sum.add(x);
        let product_fits = cell.squares.add(product);
        let error_fits = error == 0.0 || cell.squares.add(error);
        if !fits {
            self.add_rest(group, x);
        }
        if !product_fits {
            self.add_square_rest(group, product);
        }
        if !error_fits {
            self.add_square_rest(group, error);
        }
    }

    /// Adds to a group's sum what did not fit at once, or is not finite.
    #[cold]
    fn add_rest(&mut self, group: usize, x: f64) {
        if !x.is_finite() {
            return self.spills.entry(group).or_default().note(x);
        }
        let rest = self.cells[group].sum.add_fitting(x);
        if rest != 0.0 {
            self.spills.entry(group).or_default().sum_mut().add(rest);
        }
    }

    /// Adds to a group's sum of squares what did not fit at once.
    #[cold]
    fn add_square_rest(&mut self, group: usize, square: f64) {
        let rest = self.cells[group].squares.add_fitting(square);
        if rest != 0.0 {
            self.spills.entry(group).or_default().squares_mut().add(rest);
        }
    }

    /// Adds a value whose square is no sum of two doubles.
    #[cold]
    fn add_extreme(&mut self, group: usize, x: f64) {
        self.add_rest(group, x);
        if x.is_finite() {
            self.spills.entry(group).or_default().squares_mut().add_square(x);
        }
    }

    /// Cells and spills of the groups that are emitted; the others move to the front.
    fn take(
        &mut self,
        emit_to: EmitTo,
    ) -> (Vec<Cell<SQUARES>>, HashMap<usize, Spill, ahash::RandomState>) {
        let cells = emit_to.take_needed(&mut self.cells);
        let mut spills = std::mem::take(&mut self.spills);
        if !self.cells.is_empty() {
            let kept = spills.extract_if(|group, _| *group >= cells.len());
            self.spills = kept.map(|(group, spill)| (group - cells.len(), spill)).collect();
        }
        (cells, spills)
    }

    fn result(&self, cell: &Cell<SQUARES>, spill: Option<&Spill>) -> Option<f64> {
        let count = cell.count.unsigned_abs();
        match self.statistic {
            Statistic::Sum | Statistic::Mean if count == 0 => None,
            Statistic::Sum => Some(sum(cell.sum.parts(), spill)),
            Statistic::Mean => Some(mean(cell.sum.parts(), spill, count)),
            Statistic::Variance { sample, .. } if count == 0 || sample && count == 1 => None,
            Statistic::Variance { sample, root } => {
                let variance = variance(cell, spill, count, sample);
                Some(if root { variance.sqrt() } else { variance })
            }
        }
    }
}

/// An exact sum, rounded once.
pub(in super::super) fn sum(parts: &[f64; 2], spill: Option<&Spill>) -> f64 {
    match spill {
        None => parts[0] + parts[1],
        Some(_) => mean(parts, spill, 1),
    }
}

/// An exact sum over a count, rounded once.
pub(in super::super) fn mean(parts: &[f64; 2], spill: Option<&Spill>, count: u64) -> f64 {
    if let Some(special) = spill.and_then(Spill::special_sum) {
        return special;
    }
    if spill.is_none() {
        let mean = quotient(*parts, i64::try_from(count).unwrap_or_default());
        if !mean.is_nan() {
            return mean;
        }
    }
    let sum = exact(parts, spill.and_then(Spill::sum)).to_dyadic();
    let size = sum.natural.quotient(sum.exponent, &[count]);
    if sum.negative { -size } else { size }
}

/// (count · Σx² − (Σx)²) / (count · (count − 1)), or over count² unless `sample`: rounded once.
fn variance<const SQUARES: usize>(
    cell: &Cell<SQUARES>,
    spill: Option<&Spill>,
    count: u64,
    sample: bool,
) -> f64 {
    if spill.is_some_and(|spill| spill.special_sum().is_some()) {
        return f64::NAN;
    }
    let sum = exact(cell.sum.parts(), spill.and_then(Spill::sum)).to_dyadic();
    let squares = exact(cell.squares.parts(), spill.and_then(Spill::squares)).to_dyadic();
    let counted = squares.natural.times(&count.into());
    let squared = sum.natural.times(&sum.natural);
    let exponent = squares.exponent.min(2 * sum.exponent);
    let aligned = |exponent_above: i32| (exponent_above - exponent) as usize / 32;
    let counted = counted.shifted(aligned(squares.exponent));
    let squared = squared.shifted(aligned(2 * sum.exponent));
    // By Cauchy and Schwarz the difference of the exact numbers is not negative.
    let difference = counted.minus(&squared);
    difference.quotient(exponent, &[count, if sample { count - 1 } else { count }])
}

/// Parts and spill in one number.
fn exact(parts: &[f64], spill: Option<&WideSum>) -> WideSum {
    let mut sum = spill.cloned().unwrap_or(WideSum::ZERO);
    parts.iter().for_each(|part| sum.add(*part));
    sum
}

impl<const SQUARES: usize> GroupsAccumulator for ExactAccumulator<SQUARES> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.cells.resize(total_num_groups, Cell::EMPTY);
        let values: &Float64Array = values[0].as_primitive();
        match selected(values.nulls(), opt_filter) {
            None => {
                for (group, x) in group_indices.iter().zip(values.values()) {
                    self.add(*group, *x);
                }
            }
            Some(rows) => {
                for row in rows.set_indices() {
                    self.add(group_indices[row], values.value(row));
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (cells, spills) = self.take(emit_to);
        let result = |(group, cell)| self.result(cell, spills.get(&group));
        Ok(Arc::new(cells.iter().enumerate().map(result).collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (cells, spills) = self.take(emit_to);
        let column = |value: &dyn Fn(&Cell<SQUARES>) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(cells.iter().map(value)))
        };
        let counts = Int64Array::from_iter_values(cells.iter().map(|cell| cell.count));
        let mut state: Vec<ArrayRef> = vec![Arc::new(counts)];
        state.extend((0..2).map(|part| column(&|cell| cell.sum.parts()[part])));
        state.extend((0..SQUARES).map(|part| column(&|cell| cell.squares.parts()[part])));
        state.push(Arc::new(spill_column(0..cells.len(), spills.len(), |group| spills.get(group))));
        Ok(state)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.cells.resize(total_num_groups, Cell::EMPTY);
        let counts = values[0].as_primitive::<Int64Type>().values();
        for (group, count) in group_indices.iter().zip(counts) {
            self.cells[*group].count += count;
        }
        let (sums, squares) = values[1..values.len() - 1].split_at(2);
        for part in sums {
            for (group, x) in group_indices.iter().zip(part.as_primitive::<Float64Type>().values())
            {
                if !self.cells[*group].sum.add(*x) {
                    self.add_rest(*group, *x);
                }
            }
        }
        for part in squares {
            for (group, x) in group_indices.iter().zip(part.as_primitive::<Float64Type>().values())
            {
                if !self.cells[*group].squares.add(*x) {
                    self.add_square_rest(*group, *x);
                }
            }
        }
        let spills: &BinaryArray = values[values.len() - 1].as_binary();
        if spills.null_count() < spills.len() {
            for (group, bytes) in group_indices.iter().zip(spills) {
                if let Some(bytes) = bytes {
                    self.spills.entry(*group).or_default().merge(bytes)?;
                }
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let mut each = Self::new(self.statistic);
        let rows: Vec<_> = (0..values[0].len()).collect();
        each.update_batch(values, &rows, opt_filter, rows.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        let heap: usize = self.spills.values().map(Spill::heap_bytes).sum();
        self.cells.capacity() * size_of::<Cell<SQUARES>>() + self.spills.allocation_size() + heap
    }
}

/// The state column of what did not fit, for these groups, of which so many have something.
pub(in super::super) fn spill_column<'a, K>(
    groups: impl ExactSizeIterator<Item = K>,
    spilled: usize,
    spill: impl Fn(&K) -> Option<&'a Spill>,
) -> BinaryArray {
    if spilled == 0 {
        return BinaryArray::new_null(groups.len());
    }
    let mut column = BinaryBuilder::with_capacity(groups.len(), 0);
    groups.for_each(|group| column.append_option(spill(&group).map(Spill::to_bytes)));
    column.finish()
}
