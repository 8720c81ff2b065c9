//! What does not fit into a group's few doubles, and its byte form in checkpoints.
//!
//! ```text
//! flags u8 | sums, in this order where its flag is set:  first limb u8 | limbs u8 | limbs, u32 LE each
//! ```
//!
//! Invariant: reading what was written gives the same value; anything else is an error, not a value.

use datafusion_common::{Result, exec_err};

use super::wide::WideSum;

const NAN: u8 = 1;
const PLUS_INFINITY: u8 = 2;
const MINUS_INFINITY: u8 = 4;
const SUM: u8 = 8;
const SUM_NEGATIVE: u8 = 16;
const SQUARES: u8 = 32;
const SQUARES_NEGATIVE: u8 = 64;
const ALL: u8 = 127;

/// The rest of a group's exact sums.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Spill {
    /// Which values that are no numbers have been added.
    special: u8,
    sum: Option<Box<WideSum>>,
    squares: Option<Box<WideSum>>,
}

impl Spill {
    /// Takes note of a value that is not finite.
    pub fn note(&mut self, x: f64) {
        self.special |= match x {
            x if x.is_nan() => NAN,
            x if x > 0.0 => PLUS_INFINITY,
            _ => MINUS_INFINITY,
        };
    }

    /// What the values that are not finite add up to; `None` where there are none.
    pub fn special_sum(&self) -> Option<f64> {
        match self.special {
            0 => None,
            PLUS_INFINITY => Some(f64::INFINITY),
            MINUS_INFINITY => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    pub(super) fn sum(&self) -> Option<&WideSum> {
        self.sum.as_deref()
    }

    pub(super) fn squares(&self) -> Option<&WideSum> {
        self.squares.as_deref()
    }

    pub(super) fn sum_mut(&mut self) -> &mut WideSum {
        self.sum.get_or_insert_with(|| Box::new(WideSum::ZERO))
    }

    pub(super) fn squares_mut(&mut self) -> &mut WideSum {
        self.squares.get_or_insert_with(|| Box::new(WideSum::ZERO))
    }

    /// Adds a finite value to the sum.
    pub fn add(&mut self, x: f64) {
        self.sum_mut().add(x);
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let sums = usize::from(self.sum.is_some()) + usize::from(self.squares.is_some());
        sums * size_of::<WideSum>()
    }

    /// Adds another.
    pub fn join(&mut self, other: &Self) {
        self.special |= other.special;
        if let Some(sum) = other.sum() {
            self.sum_mut().join(sum);
        }
        if let Some(squares) = other.squares() {
            self.squares_mut().join(squares);
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.special];
        if let Some(sum) = &self.sum {
            let negative = write(sum, &mut bytes);
            bytes[0] |= SUM | if negative { SUM_NEGATIVE } else { 0 };
        }
        if let Some(squares) = &self.squares {
            // Squares are not negative, but what did not fit of their sum may be.
            let negative = write(squares, &mut bytes);
            bytes[0] |= SQUARES | if negative { SQUARES_NEGATIVE } else { 0 };
        }
        bytes
    }

    /// Adds what [`Spill::to_bytes`] wrote.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        match self.merged(bytes) {
            Some(()) => Ok(()),
            None => exec_err!("the state of an exact sum is not what was written: {bytes:02x?}"),
        }
    }

    fn merged(&mut self, bytes: &[u8]) -> Option<()> {
        let (flags, mut rest) = bytes.split_first()?;
        if flags & !ALL != 0 {
            return None;
        }
        self.special |= flags & (NAN | PLUS_INFINITY | MINUS_INFINITY);
        if flags & SUM != 0 {
            let (first, limbs) = read(&mut rest)?;
            let negative = flags & SUM_NEGATIVE != 0;
            self.sum_mut().add_limbs(negative, first, &limbs).then_some(())?;
        }
        if flags & SQUARES != 0 {
            let (first, limbs) = read(&mut rest)?;
            let negative = flags & SQUARES_NEGATIVE != 0;
            self.squares_mut().add_limbs(negative, first, &limbs).then_some(())?;
        }
        rest.is_empty().then_some(())
    }
}

/// Appends a sum; whether it is negative.
fn write(sum: &WideSum, bytes: &mut Vec<u8>) -> bool {
    let (negative, first, limbs) = sum.to_limbs();
    bytes.push(first as u8);
    bytes.push(limbs.len() as u8);
    limbs.iter().for_each(|limb| bytes.extend_from_slice(&limb.to_le_bytes()));
    negative
}

/// First limb's index and the limbs.
fn read(bytes: &mut &[u8]) -> Option<(usize, Vec<u32>)> {
    let first = usize::from(*bytes.split_off_first()?);
    let count = usize::from(*bytes.split_off_first()?);
    let payload = bytes.split_off(..4 * count)?;
    let (limbs, _) = payload.as_chunks::<4>();
    Some((first, limbs.iter().map(|limb| u32::from_le_bytes(*limb)).collect()))
}
