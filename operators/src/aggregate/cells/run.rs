//! Adds many values to one cell. On the data path where rows of one key follow each other: one after the
//! other they would wait for each other, so they are added in lanes, and the lanes then to the cell.
//! Invariant: sums are exact, so the cell's results are the same.

use super::super::exact::Expansion;
use super::super::extremum::order;
use super::{Cell, expansion, extend, set_sum, widen};

/// Values that are added side by side.
const LANES: usize = 4;

/// What the values of one lane add up to.
struct Lane {
    sum: Expansion<2>,
    /// The places of the greatest and of the least.
    extremes: Cell,
    exact: bool,
}

impl Lane {
    const EMPTY: Self = Self { sum: Expansion::ZERO, extremes: [0; 4], exact: true };

    #[inline(always)]
    fn add(&mut self, x: f64) {
        let (sum, rest) = self.sum.added(x);
        self.sum = Expansion::of(sum);
        self.exact &= rest == 0.0;
        widen(&mut self.extremes, order(x));
    }
}

/// Adds values, and says so; or changes nothing where that takes more than the cell.
#[inline(always)]
#[must_use]
pub(super) fn add_all(cell: &mut Cell, values: &[f64]) -> bool {
    let mut lanes = [Lane::EMPTY; LANES];
    let (groups, rest) = values.as_chunks::<LANES>();
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, x)| lane.add(*x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| lane.add(*x));
    let (mut sum, mut all) = (expansion(cell), *cell);
    for lane in &lanes {
        if !lane.exact || !lane.sum.parts().iter().all(|part| sum.add(*part)) {
            return false;
        }
        extend(&mut all, &lane.extremes);
    }
    set_sum(&mut all, &sum);
    *cell = all;
    true
}
