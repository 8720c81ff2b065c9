//! What a contender's results add up to, whatever the order they come in.
//!
//! Windows, keys, counts, minima and maxima must agree bit by bit. Sums of floats differ in their
//! last bits with the order of addition, so they agree within a tolerance: each is weighted by its
//! group, so that sums cannot change places unnoticed.

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use multiversion::multiversion;
use tidemill_core::{Error, Result};

/// Largest relative difference between sums that are the same but for the order of addition.
const TOLERANCE: f64 = 1e-9;

/// The aggregates of one key in one window. Where only rows are counted, the others are zero.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WindowResult {
    /// The window's start, in microseconds.
    pub window_start: i64,
    /// The window's end, in microseconds.
    pub window_end: i64,
    /// The key's code: the number itself, or [`text_code`] of a text.
    pub key: u64,
    /// Rows.
    pub count: i64,
    /// Sum of their values.
    pub sum: f64,
    /// Their smallest value.
    pub min: f64,
    /// Their largest value.
    pub max: f64,
    /// Their mean.
    pub avg: f64,
}

impl WindowResult {
    /// Over all of it that is exact.
    #[inline]
    fn hash(&self) -> u64 {
        // Independent products, so that a processor can do them all at once.
        let parts = [
            self.window_start as u64,
            self.window_end as u64,
            self.key,
            self.count as u64,
            self.min.to_bits(),
            self.max.to_bits(),
        ];
        let parts = parts.into_iter().zip(FACTORS);
        mix(parts.fold(0, |sum: u64, (part, by)| sum.wrapping_add(part.wrapping_mul(by))))
    }
}

/// A set of results, as a few numbers. The default is that of no results.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Checksum {
    /// How many results.
    pub results: u64,
    /// Over all that is exact.
    pub exact: u64,
    /// Over the sums.
    pub sums: f64,
    /// Over the means.
    pub means: f64,
}

impl Checksum {
    /// Adds a result.
    #[inline]
    pub fn add(&mut self, result: &WindowResult) {
        let hash = result.hash();
        let weight = 0.5 + (hash >> 11) as f64 / (1u64 << 53) as f64;
        self.results += 1;
        self.exact = self.exact.wrapping_add(hash);
        self.sums += weight * result.sum;
        self.means += weight * result.avg;
    }

    /// Adds a result of which rows alone are counted: as [`Self::add`] does, but for the zeros.
    #[inline]
    pub fn add_count(&mut self, window: [i64; 2], key: u64, count: i64) {
        let [window_start, window_end] = window;
        let result =
            WindowResult { window_start, window_end, key, count, ..WindowResult::default() };
        self.results += 1;
        self.exact = self.exact.wrapping_add(result.hash());
    }

    /// Adds results of which rows alone are counted, each with the start and the end of its window, which are so much
    /// earlier than they are said to be.
    pub fn add_counts(
        &mut self,
        [starts, ends]: [&[i64]; 2],
        later: i64,
        keys: &[u64],
        counts: &[i64],
    ) {
        self.results += counts.len() as u64;
        self.exact = self.exact.wrapping_add(sum_of_hashes([starts, ends], later, keys, counts));
    }

    /// Adds all results that `other` is made of.
    pub fn merge(&mut self, other: &Self) {
        self.results += other.results;
        self.exact = self.exact.wrapping_add(other.exact);
        self.sums += other.sums;
        self.means += other.means;
    }

    /// Whether both are of the same results, but for the order in which floats were added.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.results == other.results
            && self.exact == other.exact
            && near(self.sums, other.sums)
            && near(self.means, other.means)
    }
}

/// The hashes of such results, added up; with the widest vectors that the processor has, since it is added to what the
/// engine takes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn sum_of_hashes([starts, ends]: [&[i64]; 2], later: i64, keys: &[u64], counts: &[i64]) -> u64 {
    let rows = counts.iter().zip(keys).zip(starts.iter().zip(ends));
    rows.fold(0, |sum: u64, ((count, key), (start, end))| {
        let (window_start, window_end) = (start - later, end - later);
        let (key, count) = (*key, *count);
        let result =
            WindowResult { window_start, window_end, key, count, ..WindowResult::default() };
        sum.wrapping_add(result.hash())
    })
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

/// Odd numbers without a pattern: the digits of e after the point, in hexadecimal.
const FACTORS: [u64; 6] = [
    0xb7e1_5162_8aed_2a6b,
    0xbf71_5880_9cf4_f3c7,
    0x62e7_160f_38b4_da57,
    0xa784_d904_5190_cfef,
    0x324e_7738_926c_fbe5,
    0xf4bf_8d8d_8c31_d763,
];

/// What stands for a text in a [`WindowResult`].
#[inline]
pub fn text_code(text: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text)
}

/// The codes of a column of keys.
///
/// # Errors
/// Keys that are neither integers nor text.
pub fn key_codes(keys: &ArrayRef) -> Result<Vec<u64>> {
    Ok(match keys.data_type() {
        DataType::Int64 => {
            keys.as_primitive::<Int64Type>().values().iter().map(|key| *key as u64).collect()
        }
        DataType::Utf8View => {
            let keys = keys.as_string_view();
            (0..keys.len()).map(|row| text_code(keys.value(row).as_bytes())).collect()
        }
        other => return Err(Error::internal(format!("keys of type {other} have no code"))),
    })
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
#[inline]
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(key: u64, sum: f64) -> WindowResult {
        let (window_start, window_end) = (5, 10);
        let avg = sum / 3.0;
        WindowResult { window_start, window_end, key, count: 3, sum, min: 1.0, max: 2.0, avg }
    }

    fn of(results: &[WindowResult]) -> Checksum {
        let mut checksum = Checksum::default();
        results.iter().for_each(|result| checksum.add(result));
        checksum
    }

    #[test]
    fn a_count_alone_adds_up_to_the_same_as_with_zeros() {
        let zeros = WindowResult { sum: 0.0, min: 0.0, max: 0.0, avg: 0.0, ..result(7, 0.0) };
        let [mut counted, mut together, mut added] = [of(&[result(1, 4.0)]); 3];
        counted.add_count([5, 10], 7, 3);
        together.add_counts([&[105], &[110]], 100, &[7], &[3]);
        added.add(&zeros);
        assert_eq!([counted, together], [added; 2]);
    }

    #[test]
    fn order_means_nothing_and_the_last_bits_of_sums_do_not_either() {
        let one = of(&[result(1, 0.1 + 0.2 + 4.0), result(2, 5.0), result(3, 6.0)]);
        let mut other = of(&[result(3, 6.0)]);
        other.merge(&of(&[result(2, 5.0), result(1, 0.3 + 4.0)]));
        assert!(one.agrees_with(&other));
    }

    #[test]
    fn a_wrong_result_is_noticed_wherever_it_is_wrong() {
        let right = [result(1, 4.0), result(2, 5.0)];
        let wrong = |change: fn(&mut WindowResult)| {
            let mut results = right;
            change(&mut results[1]);
            !of(&right).agrees_with(&of(&results))
        };
        assert!(wrong(|r| r.window_start += 1));
        assert!(wrong(|r| r.window_end += 1));
        assert!(wrong(|r| r.key += 1));
        assert!(wrong(|r| r.count += 1));
        assert!(wrong(|r| r.min = 1.0000001));
        assert!(wrong(|r| r.max = 2.0000001));
        assert!(wrong(|r| r.sum += 0.0001));
        assert!(wrong(|r| r.avg += 0.0001));
        let swapped = [result(1, 5.0), result(2, 4.0)];
        assert!(!of(&right).agrees_with(&of(&swapped)), "sums that changed places");
        assert!(!of(&right).agrees_with(&of(&right[..1])), "a result is missing");
        assert!(!of(&right).agrees_with(&of(&[right[0], right[0]])), "a result came twice");
    }
}
