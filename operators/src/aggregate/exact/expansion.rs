//! A number as the unevaluated sum of a few doubles: the fast path of exact sums.
//!
//! The error-free transformations are Knuth's TwoSum and Dekker's product.
//!
//! Invariant: an addition either is exact or changes nothing.

use multiversion::multiversion;

/// `a + b` rounded, and the rounding error: together they are `a + b`. The error is not finite where
/// the sum overflows.
#[inline(always)]
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    (sum, error)
}

/// `a + b` rounded, and whether that is exact. The difference of a sum and its larger addend is exact (Dekker), so one of
/// the comparisons tells, whichever addend that is; and if the sum is exact, both hold.
#[inline(always)]
fn sum_if_exact(a: f64, b: f64) -> (f64, bool) {
    let sum = a + b;
    (sum, sum - a == b && sum - b == a)
}

/// Whether [`square`] of `x` is exact: neither it nor its rounding error leaves the normal doubles.
#[inline(always)]
pub(super) fn is_square_exact(x: f64) -> bool {
    /// 2^480 and its inverse: the square of a 53-bit number there has its last bit above 2^-1066.
    const MOST: f64 = f64::from_bits((1023 + 480) << 52);
    const LEAST: f64 = f64::from_bits((1023 - 480) << 52);
    let size = x.abs();
    (LEAST..=MOST).contains(&size) || size == 0.0
}

/// `x * x` rounded, and the rounding error: together they are `x * x` if [`is_square_exact`].
#[inline(always)]
pub(super) fn square(x: f64) -> (f64, f64) {
    product(x, x)
}

/// `a * b` rounded, and the rounding error: together they are `a * b`, unless one of the numbers that
/// come up on the way is too large or too small to be a normal double.
#[inline(always)]
fn product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    let ((a_high, a_low), (b_high, b_low)) = (split(a), split(b));
    let error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
    (product, error)
}

/// Two halves whose products are exact.
#[inline(always)]
fn split(x: f64) -> (f64, f64) {
    /// 2^27 + 1 splits 53 bits.
    const SPLIT: f64 = 134_217_729.0;
    let scaled = SPLIT * x;
    let high = scaled - (scaled - x);
    (high, x - high)
}

/// The sum of both parts over a count, rounded once; not a number where that takes more than doubles to
/// tell, or there is nothing to count. Without a branch, so that several fit into a vector.
#[inline(always)]
pub(super) fn quotient(parts: [f64; 2], count: i64) -> f64 {
    /// Far from numbers that are too large or too small, whatever is done to them here.
    const SIZES: std::ops::RangeInclusive<f64> = 1e-200..=1e200;
    let divisor = count as f64;
    let (high, low) = two_sum(parts[0], parts[1]);
    let first = high / divisor;
    let (back, error) = product(first, divisor);
    // `high - back` is exact, since the two are nearly the same; what is left has a relative error of
    // a few times 2^-53, and so has its quotient.
    let correction = (((high - back) - error) + low) / divisor;
    let doubt = correction.abs() * 2e-15 + (low / divisor).abs() * 2e-15;
    let (least, most) = (first + (correction - doubt), first + (correction + doubt));
    // Rounding keeps order: where both ends give the same, so does what lies between.
    let is_told = SIZES.contains(&high.abs()) & SIZES.contains(&low.abs()) & (least == most);
    // `high` is the sum rounded, and halving changes no digit of one that is not small. (Such means often lie right
    // between two doubles, where the above cannot tell.)
    let is_halved = (count & count.wrapping_sub(1) == 0) & SIZES.contains(&high.abs());
    let is_simple = (low == 0.0) | is_halved;
    let is_counted = (count > 0) & (count < 1 << 53);
    let quotient = if is_simple { first } else { least };
    if is_counted & (is_simple | is_told) { quotient } else { f64::NAN }
}

/// The same of many.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(in super::super) fn quotients(parts: [&[f64]; 2], counts: &[i64], quotients: &mut [f64]) {
    let parts = parts[0].iter().zip(parts[1]);
    for (((high, low), count), into) in parts.zip(counts).zip(quotients) {
        *into = quotient([*high, *low], *count);
    }
}

/// The exact value of a sum of `N` doubles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Expansion<const N: usize>([f64; N]);

impl<const N: usize> Expansion<N> {
    pub const ZERO: Self = Self([0.0; N]);

    /// What is the sum of these.
    #[inline(always)]
    pub fn of(parts: [f64; N]) -> Self {
        Self(parts)
    }

    pub fn parts(&self) -> &[f64; N] {
        &self.0
    }

    /// Adds `x` and says so, or changes nothing where the result does not fit into `N` doubles or
    /// is not finite.
    #[inline(always)]
    #[must_use]
    pub fn add(&mut self, x: f64) -> bool {
        let (mut parts, mut rest) = (self.0, x);
        for part in &mut parts[..N - 1] {
            (*part, rest) = two_sum(*part, rest);
        }
        let (last, exact) = sum_if_exact(parts[N - 1], rest);
        parts[N - 1] = last;
        if exact {
            self.0 = parts;
        }
        exact
    }

    /// Adds a finite `x` as far as it fits, and returns what does not.
    #[cold]
    pub fn add_fitting(&mut self, x: f64) -> f64 {
        self.normalize();
        let (parts, rest) = self.added(x);
        if !rest.is_finite() || parts.iter().any(|part| !part.is_finite()) {
            return x;
        }
        self.0 = parts;
        rest
    }

    /// The sum with `x`, and what does not fit: not a number where the result or `x` is not finite.
    #[inline(always)]
    pub fn added(&self, x: f64) -> ([f64; N], f64) {
        let (mut parts, mut rest) = (self.0, x);
        for part in &mut parts {
            (*part, rest) = two_sum(*part, rest);
        }
        (parts, rest)
    }

    /// Makes the first part the rounded value and the others as small as they can be, so that more
    /// fits beside them.
    fn normalize(&mut self) {
        let mut parts = self.0;
        for low in (1..N).rev() {
            (parts[low - 1], parts[low]) = two_sum(parts[low - 1], parts[low]);
        }
        if parts.iter().all(|part| part.is_finite()) {
            self.0 = parts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_exact_if_both_addends_are_what_is_left_of_it() {
        let huge = 2.0_f64.powi(60);
        for (a, b, exact) in [
            (1.0, 2.0, true),
            (0.0, -0.0, true),
            (huge, -huge, true),
            (1.0, huge, false),
            (huge, 1.0, false),
            (0.1, 0.2, false),
            (5e-324, 5e-324, true),
            (f64::MAX, f64::MAX, false),
            (f64::MAX, f64::INFINITY, false),
            (f64::INFINITY, 1.0, false),
            (f64::INFINITY, f64::NEG_INFINITY, false),
            (f64::NAN, 1.0, false),
        ] {
            assert_eq!(sum_if_exact(a, b).1, exact, "{a} + {b}");
        }
    }
}
