//! A fixed-point number wide enough for any sum of doubles and of their squares.
//!
//! ```text
//! limb   135 …            68            …  0
//! value  2^2144       2^0 of limb 68       2^-2176     each limb 32 bits of payload in an i64
//! ```
//!
//! Invariant: an addition is exact; carries are settled long before a limb can overflow.

use super::natural::Natural;

/// Payload bits of a limb.
const LIMB_BITS: i32 = 32;
/// Exponent of the lowest bit: below that of the square of the smallest double, 2^-2148.
const LOWEST: i32 = -2176;
/// Up to 2^2176: above 2^63 squares of the largest double, 2^2048.
const LIMBS: usize = 136;
/// The limb whose lowest bit is 1.
const LIMB_OF_ONE: usize = (-LOWEST / LIMB_BITS) as usize;
/// Additions until carries are settled; each changes a limb by less than 2^32.
const PENDING_MAX: u32 = 1 << 29;

/// An exact sum.
#[derive(Debug, Clone)]
pub(super) struct WideSum {
    limbs: [i64; LIMBS],
    pending: u32,
}

/// A signed number `± natural * 2^exponent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dyadic {
    pub negative: bool,
    pub natural: Natural,
    /// A multiple of 32.
    pub exponent: i32,
}

impl WideSum {
    pub const ZERO: Self = Self { limbs: [0; LIMBS], pending: 0 };

    /// Adds a finite double.
    pub fn add(&mut self, x: f64) {
        let (mantissa, exponent) = decode(x);
        self.add_scaled(mantissa, exponent, x.is_sign_negative());
    }

    /// Adds the square of a finite double.
    pub fn add_square(&mut self, x: f64) {
        let (mantissa, exponent) = decode(x);
        let square = u128::from(mantissa) * u128::from(mantissa);
        self.add_scaled(square as u64, 2 * exponent, false);
        self.add_scaled((square >> 64) as u64, 2 * exponent + 64, false);
    }

    /// Adds another.
    pub fn join(&mut self, other: &Self) {
        self.settle();
        self.limbs.iter_mut().zip(&other.limbs).for_each(|(limb, more)| *limb += *more);
        self.settle();
    }

    /// Adds `± natural * 2^(32 * first - 2176)`; `false`, and nothing added, where that is too large.
    #[must_use]
    pub fn add_limbs(&mut self, negative: bool, first: usize, limbs: &[u32]) -> bool {
        // The last limb is the sign's.
        if first + limbs.len() >= LIMBS {
            return false;
        }
        for (limb, more) in self.limbs[first..].iter_mut().zip(limbs) {
            *limb += if negative { -i64::from(*more) } else { i64::from(*more) };
        }
        self.settle_in_time();
        true
    }

    fn add_scaled(&mut self, mantissa: u64, exponent: i32, negative: bool) {
        let position = (exponent - LOWEST) as usize;
        let (first, shift) = (position / LIMB_BITS as usize, position % LIMB_BITS as usize);
        let wide = u128::from(mantissa) << shift;
        for (k, limb) in self.limbs[first..first + 3].iter_mut().enumerate() {
            let part = i64::from((wide >> (LIMB_BITS as usize * k)) as u32);
            *limb += if negative { -part } else { part };
        }
        self.settle_in_time();
    }

    fn settle_in_time(&mut self) {
        self.pending += 1;
        if self.pending >= PENDING_MAX {
            self.settle();
        }
    }

    /// Brings every limb but the last into `0..2^32`; the last keeps the sign.
    fn settle(&mut self) {
        let mut carry = 0;
        for limb in &mut self.limbs {
            let value = *limb + carry;
            *limb = value & i64::from(u32::MAX);
            carry = value >> LIMB_BITS;
        }
        // The number fits: what is carried out of the last limb is the sign alone.
        self.limbs[LIMBS - 1] += carry << LIMB_BITS;
        self.pending = 1;
    }

    /// Sign, index of the first limb that is not zero, and the limbs from there.
    pub fn to_limbs(&self) -> (bool, usize, Vec<u32>) {
        let mut settled = self.clone();
        settled.settle();
        let negative = settled.limbs[LIMBS - 1] < 0;
        if negative {
            settled.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            settled.settle();
        }
        let limbs = settled.limbs.map(|limb| limb as u32);
        let first = limbs.iter().position(|limb| *limb != 0).unwrap_or(LIMB_OF_ONE);
        let end = limbs.iter().rposition(|limb| *limb != 0).map_or(first, |last| last + 1);
        (negative, first, limbs[first..end].to_vec())
    }

    /// The sum as a number to compute with.
    pub fn to_dyadic(&self) -> Dyadic {
        let (negative, first, limbs) = self.to_limbs();
        let exponent = LOWEST + LIMB_BITS * first as i32;
        Dyadic { negative, natural: Natural::new(limbs), exponent }
    }
}

/// Mantissa and exponent of a finite double's absolute value.
fn decode(x: f64) -> (u64, i32) {
    let bits = x.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match ((bits >> 52) & 0x7ff) as i32 {
        0 => (fraction, -1074),
        exponent => (fraction | 1 << 52, exponent - 1075),
    }
}
