//! Which key a row has: equally frequent keys, or a few that most rows have.

use crate::random::Random;

/// Draws keys in `0..keys`; key 0 is the most frequent where they differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    keys: u64,
    skew: f64,
}

impl Keys {
    pub(super) fn new(keys: u64, skew: f64) -> Self {
        Self { keys, skew }
    }

    /// A key. Skewed keys follow Zipf's law, drawn by inverting the distribution function of its
    /// continuous form, which needs no table however many keys there are.
    pub(super) fn draw(&self, mut random: Random) -> u64 {
        if self.skew == 0.0 {
            return random.below(self.keys);
        }
        let (unit, end) = (random.unit(), self.keys as f64 + 1.0);
        let exponent = 1.0 - self.skew;
        let place = if exponent.abs() < 1e-9 {
            end.powf(unit)
        } else {
            ((end.powf(exponent) - 1.0) * unit + 1.0).powf(1.0 / exponent)
        };
        // The cast saturates, and rounding can reach the end itself.
        (place as u64).saturating_sub(1).min(self.keys - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn counts(skew: f64) -> Vec<u64> {
        let (keys, stream) = (Keys::new(100, skew), Stream::new(7, 0));
        let mut counts = vec![0; 100];
        (0..100_000).for_each(|row| counts[keys.draw(stream.at(row)) as usize] += 1);
        counts
    }

    #[test]
    fn keys_are_even_without_skew_and_fall_off_with_it() {
        let even = counts(0.0);
        assert!(even.iter().all(|n| (800..1_200).contains(n)), "{even:?}");
        for skew in [0.5, 1.0, 1.5] {
            let counts = counts(skew);
            assert!(counts.iter().all(|n| *n > 0), "every key occurs: {counts:?}");
            // From the 20th to the 80th key, four times as far down the ranks.
            let around = |key: usize| counts[key - 5..key + 5].iter().sum::<u64>() as f64;
            let ratio = around(20) / around(80);
            let law = 4f64.powf(skew);
            assert!((0.75 * law..1.3 * law).contains(&ratio), "skew {skew}: {ratio}, law {law}");
        }
    }
}
