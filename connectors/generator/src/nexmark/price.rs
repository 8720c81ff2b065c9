//! Prices: `10^x` dollars in whole cents, for an even `x` in `[0, 6)`.
//!
//! The exact power costs more than the rest of a bid. So it is approximated, and computed exactly
//! where the approximation is too near to the border between two cents to tell. Invariant: every
//! price is that of the exact power.

use std::f64::consts::{LN_2, LOG2_10};
use std::sync::LazyLock;

use crate::random::Draw;

/// Powers of two that are looked up, from one to the next power: `2^(n / STEPS)`.
const STEPS: usize = 16;

/// How many such steps there are up to the highest price, which is below 2^20 dollars.
const POWERS: usize = 20 * STEPS;

/// How far from a border the approximation must be. Its relative error is below 1e-12, so at the
/// highest price, 1e8 cents, it is below 1e-4.
const MARGIN: f64 = 2e-4;

/// What random numbers are turned into prices with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prices(&'static [f64; POWERS]);

impl Prices {
    /// The only ones there are.
    pub(super) fn get() -> Self {
        static TABLE: LazyLock<[f64; POWERS]> =
            LazyLock::new(|| std::array::from_fn(|n| 100.0 * (n as f64 / STEPS as f64).exp2()));
        Self(&TABLE)
    }

    /// A price in cents, of all that is left of a draw.
    #[inline]
    pub(super) fn price(self, draw: Draw) -> i64 {
        let unit = draw.unit();
        let near = self.approximate(unit);
        let (cents, whole) = nearest(near);
        if (near - whole).abs() < 0.5 - MARGIN { cents } else { exact(unit) }
    }

    /// `100 * 10^(6 * unit)`: the nearest power in the table, and the first terms of the series of the rest.
    fn approximate(self, unit: f64) -> f64 {
        let steps = unit * (6.0 * LOG2_10 * STEPS as f64);
        let (step, whole) = nearest(steps);
        let rest = (steps - whole) * (LN_2 / STEPS as f64);
        let higher = 1.0 / 6.0 + rest * (1.0 / 24.0 + rest * (1.0 / 120.0));
        let series = 1.0 + rest * (1.0 + rest * (0.5 + rest * higher));
        self.0[step as usize] * series
    }
}

/// The nearest whole number to one below 2^51, of either kind.
///
/// A sum beyond 2^52 has no room for a fraction, and its last bits are the whole number: that takes less
/// than a conversion, which must mind numbers that do not fit.
#[inline]
fn nearest(number: f64) -> (i64, f64) {
    const BEYOND: f64 = (1u64 << 52) as f64 * 1.5;
    let sum = number + BEYOND;
    (sum.to_bits() as i64 - BEYOND.to_bits() as i64, sum - BEYOND)
}

/// The definition.
#[cold]
fn exact(unit: f64) -> i64 {
    (10f64.powf(unit * 6.0) * 100.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn prices_are_those_of_the_exact_power() {
        let (prices, stream) = (Prices::get(), Stream::new(0, 34));
        for row in 0..300_000 {
            let unit = stream.draw(row).unit();
            assert_eq!(prices.price(stream.draw(row)), exact(unit), "row {row}");
            let (near, power) = (prices.approximate(unit), 10f64.powf(unit * 6.0) * 100.0);
            assert!((near / power - 1.0).abs() < 1e-12, "row {row}: {near} {power}");
        }
        for unit in [0.0, 0.5, 1.0 / 6.0, 1.0 - f64::EPSILON / 2.0] {
            let (near, power) = (prices.approximate(unit), 10f64.powf(unit * 6.0) * 100.0);
            assert!((near / power - 1.0).abs() < 1e-12, "{near} {power}");
        }
    }
}
