//! Sums in fixed point: doubles as whole multiples of one power of two, of which a cell has room for many. Integers are
//! added without a look at what was lost, in half of the instructions. On the data path of tables by one integer.
//!
//! ```text
//! value   sign | exponent | 52 bits  =  ± (2^52 + bits) << (exponent - the unit's)  units
//!              the unit's <= exponent <= the unit's + RANGE; or zero
//! sum     low word | high word, two's complement; of at most MOST_ROWS values, so that two doubles tell it exactly
//! ```
//!
//! Invariant: a sum of so many rows is no more than so many times [`LIMIT`] units.

use multiversion::multiversion;

use super::super::extremum::order_of_number;
use super::cell::{Words, unsigned};

/// So many binary places lie between the first digits of the least value that fits, but for zero, and of the greatest.
const RANGE: u64 = 27;

/// Units that no value has.
const LIMIT: u128 = 1 << (f64::MANTISSA_DIGITS as u64 + RANGE);

/// The sum of no more rows is told by two doubles: it has 53 + 27 + 25 binary digits.
pub(super) const MOST_ROWS: usize = 1 << 25;

/// Units of different tables are the same, or a multiple of so many binary places apart.
const STEP: u64 = 4;

/// The greatest value that fits is so many binary places above the greatest one known, or more.
const AHEAD: u64 = 2;

/// Bits of a double behind its first.
const FRACTION: u32 = f64::MANTISSA_DIGITS - 1;

/// A power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    /// The exponent, as doubles have it, of the least values that are multiples whatever their bits are.
    exponent: u64,
}

/// Values in units, and their places in the order.
pub(crate) struct Whole {
    low: [u64; Whole::ROOM],
    high: [u64; Whole::ROOM],
    places: [u64; Whole::ROOM],
}

impl Whole {
    /// For how many there is room.
    pub const ROOM: usize = 256;

    /// None yet.
    pub fn new() -> Self {
        Self { low: [0; Self::ROOM], high: [0; Self::ROOM], places: [0; Self::ROOM] }
    }

    /// Each value in units, and its place.
    #[inline(always)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Words, u64)> {
        let words = self.low.iter().zip(&self.high).map(|(low, high)| [*low, *high]);
        words.zip(self.places.iter().copied())
    }
}

#[inline(always)]
fn exponent(x: f64) -> u64 {
    x.to_bits() >> FRACTION & 0x7ff
}

/// That of the value furthest from zero.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn greatest_exponent(values: &[f64]) -> u64 {
    values.iter().map(|x| exponent(*x)).max().unwrap_or(0)
}

/// Makes values whole, no more than there is room for, and says so: `false` where one does not fit.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn make_whole(unit: Unit, values: &[f64], into: &mut Whole) -> bool {
    assert!(values.len() <= Whole::ROOM, "there is no room for more");
    let words = into.low.iter_mut().zip(&mut into.high).zip(&mut into.places);
    let mut fit = true;
    for (x, ((low, high), place)) in values.iter().zip(words) {
        let (words, fits) = unit.words(*x);
        [*low, *high] = words;
        *place = unsigned(order_of_number(*x));
        fit &= fits;
    }
    fit
}

/// The digits of a double, if it is neither zero nor too small to have all of them.
#[inline(always)]
fn digits(x: f64) -> u64 {
    x.to_bits() & ((1 << FRACTION) - 1) | 1 << FRACTION
}

impl Unit {
    /// What values of this size are probably multiples of; `None` where it is not far from the least or the greatest double.
    pub fn of(values: &[f64]) -> Option<Self> {
        /// Exponents of the greatest value that fits. At both ends the unit and all sums are doubles with all their digits.
        const GREATEST: std::ops::RangeInclusive<u64> = 0x100..=0x700;
        let greatest = (greatest_exponent(values) + AHEAD).next_multiple_of(STEP);
        GREATEST.contains(&greatest).then(|| Self { exponent: greatest - RANGE })
    }

    fn size(self) -> f64 {
        f64::from_bits((self.exponent - u64::from(FRACTION)) << FRACTION)
    }

    /// A value in units, and whether it is a multiple that fits: otherwise it is of no use.
    #[inline(always)]
    fn words(self, x: f64) -> (Words, bool) {
        let bits = x.to_bits();
        let shift = exponent(x).wrapping_sub(self.exponent);
        let is_zero = bits << 1 == 0;
        let digits = if is_zero { 0 } else { digits(x) };
        let low = digits << (shift & 63);
        // By 64 places where there is no shift.
        let high = digits >> 1 >> (63 - (shift & 63));
        let sign = (bits as i64 >> 63) as u64;
        let carry = sign & u64::from(low == 0);
        let words = [(low ^ sign).wrapping_sub(sign), (high ^ sign).wrapping_add(carry)];
        (words, shift <= RANGE || is_zero)
    }

    /// A sum of so many values in units; `None` where it is no multiple, or more than their sum may be.
    pub fn total(self, parts: &[f64; 2], rows: usize) -> Option<i128> {
        let [high, low] = parts.map(|part| self.multiple(part));
        let units = high? + low?;
        (units.unsigned_abs() <= LIMIT * rows as u128).then_some(units)
    }

    /// A number in units; `None` where it is no multiple, or far beyond all sums.
    fn multiple(self, x: f64) -> Option<i128> {
        /// The greatest sum is shifted by 53, and all digits stay within their type.
        const MOST: i64 = 64;
        let shift = exponent(x) as i64 - self.exponent as i64;
        if x == 0.0 || !(1 - MOST..=MOST).contains(&shift) {
            return (x == 0.0).then_some(0);
        }
        let digits = i128::from(digits(x)) << MOST;
        let units = digits >> (MOST - shift);
        let is_whole = units << (MOST - shift) == digits;
        is_whole.then_some(if x < 0.0 { -units } else { units })
    }

    /// The two doubles whose sum so many units are.
    #[inline(always)]
    pub fn parts(self, [low, high]: Words) -> [f64; 2] {
        /// 2^32, and its square.
        const WORD: f64 = 4_294_967_296.0;
        let first = high as i64 as f64 * (WORD * WORD);
        let second = f64::from((low >> 32) as u32) * WORD;
        let sum = first + second;
        // The first is the larger, or zero.
        let rest = second - (sum - first);
        [sum * self.size(), (rest + f64::from(low as u32)) * self.size()]
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::cell::in_units;
    use super::*;

    fn words(units: i128) -> Words {
        [units as u64, (units >> 64) as u64]
    }

    /// A unit that values up to a thousand are multiples of, down to 2^-18.
    fn unit() -> Unit {
        Unit::of(&[3.0, 100.0, -7.5]).unwrap()
    }

    /// That one, and the least and the greatest that there are.
    fn units() -> [Unit; 3] {
        let of = |greatest: i32| Unit::of(&[2.0_f64.powi(greatest)]).unwrap();
        let [least, greatest] = [of(0x100 - 5 - 1023), of(0x700 - 2 - 1023)];
        assert_eq!((least.exponent + RANGE, greatest.exponent + RANGE), (0x100, 0x700));
        [unit(), least, greatest]
    }

    #[test]
    fn a_value_that_fits_is_so_many_units() {
        let (unit, rng) = (unit(), &mut ChaCha8Rng::seed_from_u64(1));
        let least = unit.size() * 2.0_f64.powi(FRACTION as i32);
        let most = least * 2.0_f64.powi(RANGE as i32 + 1);
        let random = |n: usize| {
            let size = rng.random_range(0.5..1.0) * 2.0_f64.powi(rng.random_range(-14..9));
            [size, -size][n % 2]
        };
        let edges =
            [0.0, -0.0, 1.0, -1.0, 64.0, -64.0, least, -least, most.next_down(), -most.next_down()];
        for x in (0..10_000).map(random).chain(edges) {
            let (words, fits) = unit.words(x);
            assert!(fits, "{x}");
            let [high, low] = unit.parts(words);
            assert_eq!((in_units(words) as f64 * unit.size(), high + low), (x, x));
            assert_eq!(unit.multiple(x), Some(in_units(words)), "{x}");
        }
        for x in [least.next_down(), most, -most, 1e300, 5e-324, f64::INFINITY, f64::NAN] {
            assert!(!unit.words(x).1, "{x}");
        }
    }

    #[test]
    fn two_doubles_tell_the_sum_of_as_many_rows_as_may_be() {
        let rng = &mut ChaCha8Rng::seed_from_u64(2);
        let most = (LIMIT * MOST_ROWS as u128) as i128;
        let random = |_| rng.random_range(-most..=most) >> rng.random_range(0..105);
        let sums: Vec<_> = (0..10_000).map(random).chain([most, -most, 0, 1, -1]).collect();
        for (unit, sum) in
            units().into_iter().flat_map(|unit| sums.iter().map(move |sum| (unit, *sum)))
        {
            let parts = unit.parts(words(sum));
            let [high, low] = parts.map(|part| (part / unit.size()) as i128);
            assert_eq!(high + low, sum);
            assert_eq!(unit.total(&parts, MOST_ROWS), Some(sum));
        }
    }

    #[test]
    fn what_is_no_multiple_or_too_much_is_no_total() {
        let unit = unit();
        let (size, limit) = (unit.size(), LIMIT as f64);
        assert_eq!(unit.total(&[limit * size, size], 1), None, "one row is no more than the limit");
        assert_eq!(unit.total(&[limit * size, size], 2), Some(LIMIT as i128 + 1));
        for part in [size / 2.0, 1e300, 1e-300, 5e-324, f64::NAN, f64::INFINITY] {
            assert_eq!(unit.total(&[size, part], MOST_ROWS), None, "{part}");
        }
    }

    #[test]
    fn values_near_the_ends_of_doubles_have_no_unit() {
        for x in [0.0, 5e-324, 1e-300, 1e300, f64::INFINITY, f64::NAN] {
            assert_eq!(Unit::of(&[1.0, x]).is_none(), x > 1e9 || x.is_nan(), "{x}");
            assert_eq!(Unit::of(&[x]), None, "{x}");
        }
        assert_eq!(Unit::of(&[]), None);
    }
}
