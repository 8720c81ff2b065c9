//! Puts many values of one cell together. On the data path where rows of one key follow each other: one after the
//! other they would wait for each other, so they are added in lanes, and the lanes then to the cell.
//! Invariant: sums are exact, so the cell's results are the same.

use super::super::exact::Expansion;
use super::super::extremum::order_of_number;
use super::cell::{Cell, unsigned, widen};

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

/// Puts values together: what they add up to, and a cell of no value but for the extremes of these. `None` where something
/// of the sum is lost.
#[inline(always)]
pub(super) fn total(values: &[f64]) -> Option<(Expansion<2>, Cell)> {
    let (groups, rest) = values.as_chunks();
    let mut lanes = Lanes::EMPTY;
    groups.iter().for_each(|group| lanes.add(group));
    let mut sum = Expansion::ZERO;
    let parts = lanes.high.iter().chain(&lanes.low).chain(rest);
    if lanes.lost != [0; LANES] || !parts.into_iter().all(|part| sum.add(*part)) {
        return None;
    }
    let mut extremes = [0; 4];
    for (greatest, least) in lanes.greatest.iter().zip(lanes.least) {
        widen(&mut extremes, unsigned(*greatest), !unsigned(least));
    }
    for x in rest {
        let place = unsigned(order_of_number(*x));
        widen(&mut extremes, place, !place);
    }
    Some((sum, extremes))
}
