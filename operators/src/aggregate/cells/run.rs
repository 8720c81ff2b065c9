//! Adds many values to one cell. On the data path where rows of one key follow each other: one after the
//! other they would wait for each other, so they are added in lanes, and the lanes then to the cell.
//! Invariant: sums are exact, so the cell's results are the same.

use super::super::exact::Expansion;
use super::super::extremum::order_of_number;
use super::{Cell, expansion, set_sum, widen};

/// Values that are added side by side, so that the processor's vectors are full.
const LANES: usize = 8;

/// What the values of each lane add up to, as columns.
struct Lanes {
    high: [f64; LANES],
    low: [f64; LANES],
    /// Bits that are set where something did not fit, or a value is not finite.
    lost: [u64; LANES],
    /// The places of the greatest and of the least.
    greatest: [i64; LANES],
    least: [i64; LANES],
}

impl Lanes {
    const EMPTY: Self = Self {
        high: [0.0; LANES],
        low: [0.0; LANES],
        lost: [0; LANES],
        greatest: [i64::MIN; LANES],
        least: [i64::MAX; LANES],
    };

    #[inline(always)]
    fn add(&mut self, values: &[f64; LANES]) {
        for (n, x) in values.iter().enumerate() {
            let ([high, low], rest) = Expansion::of([self.high[n], self.low[n]]).added(*x);
            (self.high[n], self.low[n]) = (high, low);
            // No sign: zero may have one.
            self.lost[n] |= rest.to_bits() << 1;
            let place = order_of_number(*x);
            self.greatest[n] = self.greatest[n].max(place);
            self.least[n] = self.least[n].min(place);
        }
    }
}

/// Adds values, and says so; or changes nothing where that takes more than the cell.
#[inline(always)]
#[must_use]
pub(super) fn add_all(cell: &mut Cell, values: &[f64]) -> bool {
    let (groups, rest) = values.as_chunks();
    let mut lanes = Lanes::EMPTY;
    groups.iter().for_each(|group| lanes.add(group));
    let (mut sum, mut all) = (expansion(cell), *cell);
    let parts = lanes.high.iter().chain(&lanes.low).chain(rest);
    if lanes.lost != [0; LANES] || !parts.into_iter().all(|part| sum.add(*part)) {
        return false;
    }
    for (greatest, least) in lanes.greatest.iter().zip(lanes.least) {
        widen(&mut all, *greatest, least);
    }
    for x in rest {
        let place = order_of_number(*x);
        widen(&mut all, place, place);
    }
    set_sum(&mut all, &sum);
    *cell = all;
    true
}
