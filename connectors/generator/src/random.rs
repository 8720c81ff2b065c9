//! Random numbers that are a function of (seed, stream, row number).
//!
//! The generator is SplitMix64 (Steele, Lea and Flood: "Fast Splittable Pseudorandom Number
//! Generators", OOPSLA 2014). Each row of each stream has a generator of its own, so rows can be
//! made in any order and columns can be left out without changing the others.

/// The odd constant nearest to 2^64 / golden ratio, which the states of a generator are apart.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The random numbers of one column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream(u64);

impl Stream {
    /// Stream `number` of a seed.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self(mix(mix(seed).wrapping_add(number.wrapping_mul(GAMMA))))
    }

    /// The generator of a row.
    pub(crate) fn at(self, row: u64) -> Random {
        Random(self.number(row))
    }

    /// The one number of a row that needs no more.
    pub(crate) fn draw(self, row: u64) -> Draw {
        Draw(self.number(row))
    }

    fn number(self, row: u64) -> u64 {
        mix(self.0.wrapping_add(row.wrapping_mul(GAMMA)))
    }
}

/// One random number, from which several choices are made: each takes the part that it needs, and leaves
/// the rest to those after it. Good for choices among less than 2^40 together; then the least likely is off
/// by less than one in 2^24.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw(u64);

impl Draw {
    /// A number in `0..n`; `n` is at least 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        let product = u128::from(self.0) * u128::from(n);
        // Where within its n-th the number lay is again spread over all 64 bits.
        self.0 = product as u64;
        (product >> 64) as u64
    }

    /// A number in `[0, 1)`, of all that is left.
    pub(crate) fn unit(self) -> f64 {
        // Below 2^53, so the sign says nothing, and signed numbers convert faster.
        (self.0 >> 11) as i64 as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number in `0..n`; `n` is at least 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        // Reference values of the published algorithm for the state 1234567.
        let mut random = Random(1_234_567);
        let first = [random.bits(), random.bits(), random.bits()];
        let reference =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(first, reference);
    }

    #[test]
    fn streams_are_uniform_and_independent_of_each_other() {
        let (a, b) = (Stream::new(7, 0), Stream::new(7, 1));
        let mut counts = [[0; 4]; 4];
        for row in 0..16_000 {
            counts[a.at(row).below(4) as usize][b.at(row).below(4) as usize] += 1;
        }
        for count in counts.iter().flatten() {
            assert!((900..1_100).contains(count), "{counts:?}");
        }
        let mut counts = [[0; 4]; 4];
        for row in 0..16_000 {
            let mut draw = a.draw(row);
            counts[draw.below(4) as usize][draw.below(4) as usize] += 1;
        }
        for count in counts.iter().flatten() {
            assert!((900..1_100).contains(count), "choices by one number: {counts:?}");
        }
        let mean: f64 = (0..10_000).map(|row| a.at(row).unit()).sum::<f64>() / 10_000.0;
        assert!((0.49..0.51).contains(&mean), "{mean}");
    }
}
