//! What results add up to, whatever the order they come in: the same in every peer (`../../batch/results.py`).
//!
//! Invariant: all but the sums agree bit by bit; the sums are weighted by their groups, so that they
//! cannot change places unnoticed.

/// The aggregates of one key in one window. Where only rows are counted, the others are zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct Aggregates {
    /// Rows.
    pub count: i64,
    /// Sum of their values.
    pub sum: f64,
    /// Their smallest value.
    pub min: f64,
    /// Their largest value.
    pub max: f64,
}

/// A set of results, as a few numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checksum {
    results: u64,
    exact: u64,
    sums: f64,
    means: f64,
}

impl Checksum {
    /// Adds the result of a key in the window that ends at `end` (microseconds).
    pub fn add(&mut self, end: i64, key: i64, result: &Aggregates) {
        let Aggregates { count, sum, min, max } = *result;
        // Independent products, so that a processor can do them all at once.
        let parts = [end as u64, key as u64, count as u64, min.to_bits(), max.to_bits()];
        let parts = parts.into_iter().zip(POWERS);
        let hash = mix(parts.fold(0, |sum: u64, (part, by)| sum.wrapping_add(part.wrapping_mul(by))));
        let weight = 0.5 + (hash >> 11) as f64 / (1u64 << 53) as f64;
        self.results += 1;
        self.exact = self.exact.wrapping_add(hash);
        self.sums += weight * sum;
        self.means += weight * (sum / count as f64);
    }

    /// Adds all that `other` is made of.
    pub fn merge(&mut self, other: &Self) {
        self.results += other.results;
        self.exact = self.exact.wrapping_add(other.exact);
        self.sums += other.sums;
        self.means += other.means;
    }

    /// How it is told to `run`. The exact part is a string: not every reader of JSON keeps 64 bits.
    pub fn json(&self) -> String {
        let Self { results, exact, sums, means } = self;
        format!(
            "{{\"results\": {results}, \"exact\": \"{exact:016x}\", \"sums\": {sums}, \"means\": {means}}}"
        )
    }
}

/// What the parts of a result are multiplied by: the powers of this number, the last part by 1.
const FACTOR: u64 = 0xbf71_5880_9cf4_f3c7;

const POWERS: [u64; 5] = {
    let mut powers = [1; 5];
    let mut part = 4;
    while part > 0 {
        powers[part - 1] = u64::wrapping_mul(powers[part], FACTOR);
        part -= 1;
    }
    powers
};

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
