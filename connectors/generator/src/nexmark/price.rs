//! Prices: `10^x` dollars in whole cents, for an even `x` in `[0, 6)`.
//!
//! The exact power costs more than the rest of a bid. So it is approximated, and computed exactly
//! where the approximation is too near to the border between two cents to tell. Invariant: every
//! price is that of the exact power.

use std::sync::LazyLock;

use crate::random::Random;

/// Powers of two that are looked up: `2^(n / STEPS)`.
const STEPS: usize = 64;

/// How far from a border the approximation must be. Its relative error is below 1e-12, so at the
/// highest price, 1e8 cents, it is below 1e-4.
const MARGIN: f64 = 1e-3;

/// A price in cents, from the next random number.
pub(super) fn price(random: &mut Random) -> i64 {
    let unit = random.unit();
    let near = approximate(unit) + 0.5;
    let cents = near as i64;
    let above = near - cents as f64;
    if above > MARGIN && above < 1.0 - MARGIN { cents } else { exact(unit) }
}

/// The definition.
fn exact(unit: f64) -> i64 {
    (10f64.powf(unit * 6.0) * 100.0).round() as i64
}

/// `100 * 10^(6 * unit)`: the power of two by whole, by table, and by the first terms of its series.
fn approximate(unit: f64) -> f64 {
    static TABLE: LazyLock<[f64; STEPS]> =
        LazyLock::new(|| std::array::from_fn(|n| 100.0 * (n as f64 / STEPS as f64).exp2()));
    let steps = unit * (6.0 * std::f64::consts::LOG2_10 * STEPS as f64);
    let whole = steps as usize;
    let rest = (steps - whole as f64) * (std::f64::consts::LN_2 / STEPS as f64);
    let higher = 1.0 / 6.0 + rest * (1.0 / 24.0 + rest * (1.0 / 120.0));
    let series = 1.0 + rest * (1.0 + rest * (0.5 + rest * higher));
    // At most 19: a price is below 2^27 cents.
    let scale = (1u64 << (whole / STEPS)) as f64;
    TABLE[whole % STEPS] * scale * series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn prices_are_those_of_the_exact_power() {
        let stream = Stream::new(0, 34);
        for row in 0..300_000 {
            let unit = stream.at(row).unit();
            assert_eq!(price(&mut stream.at(row)), exact(unit), "row {row}");
            let (near, power) = (approximate(unit), 10f64.powf(unit * 6.0) * 100.0);
            assert!((near / power - 1.0).abs() < 1e-12, "row {row}: {near} {power}");
        }
        for unit in [0.0, 0.5, 1.0 / 6.0, 1.0 - f64::EPSILON / 2.0] {
            let (near, power) = (approximate(unit), 10f64.powf(unit * 6.0) * 100.0);
            assert!((near / power - 1.0).abs() < 1e-12, "{near} {power}");
        }
    }
}
