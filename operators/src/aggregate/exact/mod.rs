//! Exact sums of floats: sum, mean, variance and standard deviation of `f64`.
//!
//! Floating-point addition is not associative, so a sum merged in order of arrival would depend on
//! where batches were cut. Here a group keeps the **exact** sum of its values (and, for variances, of
//! their squares), and only the result is rounded, once, to nearest-even. It is therefore both
//! independent of order and grouping, and correctly rounded.
//!
//! ```text
//! exact sum = parts[0] + parts[1] (+ …)   an unevaluated sum of doubles: nearly always enough
//!           + spill                        a fixed-point number as wide as all doubles: what is left
//! ```
//!
//! Invariant: no addition loses a bit; where one would, the lost part goes into the spill.

mod accumulator;
mod expansion;
mod natural;
mod spill;
mod wide;

#[cfg(test)]
mod tests;

pub(super) use accumulator::{Statistic, mean, spill_column, state_fields, sum};
pub(super) use expansion::{Expansion, quotients};
pub(super) use spill::Spill;
