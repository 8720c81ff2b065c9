//! Natural numbers of any size, as far as rounding the quotient of exact sums needs them.
//!
//! Invariant: the highest limb is not zero; zero has no limbs.

/// A natural number: 32-bit limbs, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Natural(Vec<u32>);

impl Natural {
    /// The number with these limbs.
    pub fn new(limbs: Vec<u32>) -> Self {
        let mut number = Self(limbs);
        number.trim();
        number
    }

    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Bits up to the highest that is set.
    fn bits(&self) -> i32 {
        self.0.last().map_or(0, |top| 32 * self.0.len() as i32 - top.leading_zeros() as i32)
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub fn times(&self, other: &Self) -> Self {
        let mut product = vec![0u32; self.0.len() + other.0.len()];
        for (i, a) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (slot, b) in product[i..].iter_mut().zip(&other.0) {
                let sum = u64::from(*a) * u64::from(*b) + u64::from(*slot) + carry;
                *slot = sum as u32;
                carry = sum >> 32;
            }
            product[i + other.0.len()] = carry as u32;
        }
        Self::new(product)
    }

    /// The number times 2^(32 * limbs).
    #[must_use]
    pub fn shifted(mut self, limbs: usize) -> Self {
        if !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, limbs));
        }
        self
    }

    /// `self - other`, which must not be greater.
    #[must_use]
    pub fn minus(mut self, other: &Self) -> Self {
        let mut borrow = 0i64;
        for (i, limb) in self.0.iter_mut().enumerate() {
            let less = i64::from(other.0.get(i).copied().unwrap_or(0));
            let difference = i64::from(*limb) - less + borrow;
            *limb = difference as u32;
            borrow = difference >> 32;
        }
        debug_assert!(borrow == 0 && other.0.len() <= self.0.len(), "subtrahend is greater");
        self.trim();
        self
    }

    /// Divides by a positive number in place; whether anything remained.
    fn divide(&mut self, divisor: u64) -> bool {
        let mut remainder = 0u64;
        for limb in self.0.iter_mut().rev() {
            let value = u128::from(remainder) << 32 | u128::from(*limb);
            // The remainder is below the divisor, so the quotient fits a limb.
            *limb = (value / u128::from(divisor)) as u32;
            remainder = (value % u128::from(divisor)) as u64;
        }
        self.trim();
        remainder != 0
    }

    /// `self * 2^exponent / (divisors multiplied)`, rounded once to nearest-even.
    pub fn quotient(self, exponent: i32, divisors: &[u64]) -> f64 {
        if self.is_zero() {
            return 0.0;
        }
        // 66 bits of quotient: 53, the half bit, and some to spare; the rest is in the remainder.
        let divisor_bits: i32 = divisors.iter().map(|d| 64 - d.leading_zeros() as i32).sum();
        let limbs = (66 + divisor_bits - self.bits()).max(0).unsigned_abs().div_ceil(32);
        let mut quotient = self.shifted(limbs as usize);
        // Flooring twice is flooring once by the product.
        let mut inexact = false;
        for divisor in divisors {
            inexact |= quotient.divide(*divisor);
        }
        quotient.rounded(exponent - 32 * limbs as i32, inexact)
    }

    /// `self * 2^exponent`, rounded to nearest-even; `inexact` says that the true value is a little
    /// greater. There are more than 54 bits, so that this can be told apart.
    fn rounded(&self, exponent: i32, inexact: bool) -> f64 {
        let bits = self.bits();
        let top = bits - 1 + exponent;
        if top > 1023 {
            return f64::INFINITY;
        }
        // Subnormal results keep fewer bits, down to none.
        let kept = if top >= -1022 { 53 } else { 53 + 1022 + top };
        let dropped = (bits - kept) as usize;
        let mut mantissa = self.above(dropped);
        let half = self.above(dropped - 1) & 1 == 1;
        if half && (inexact || self.any_below(dropped - 1) || mantissa & 1 == 1) {
            mantissa += 1;
        }
        // The mantissa's leading bit adds 1 to the exponent's field, and so does a carry.
        let field = if top >= -1022 { (top + 1022) as u64 } else { 0 };
        f64::from_bits((field << 52) + mantissa)
    }

    /// The low 64 bits of `self / 2^position`.
    fn above(&self, position: usize) -> u64 {
        let (first, shift) = (position / 32, position % 32);
        let limb = |i: usize| u128::from(self.0.get(first + i).copied().unwrap_or(0));
        ((limb(0) | limb(1) << 32 | limb(2) << 64) >> shift) as u64
    }

    fn any_below(&self, position: usize) -> bool {
        let (whole, rest) = (position / 32, position % 32);
        let below = self.0.iter().take(whole).any(|limb| *limb != 0);
        below || self.0.get(whole).is_some_and(|limb| limb & ((1 << rest) - 1) != 0)
    }
}

impl From<u64> for Natural {
    fn from(number: u64) -> Self {
        Self::new(vec![number as u32, (number >> 32) as u32])
    }
}
