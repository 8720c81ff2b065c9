//! Medians, spreads, and how far a ratio of medians can be trusted.
//!
//! Invariant: equal figures give equal intervals; the chance that resampling needs comes from a fixed
//! seed.

use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap: enough for the second digit of a quantile at 2.5 %.
const RESAMPLES: usize = 4_000;

/// The share of resamples that an interval holds.
pub const CONFIDENCE: f64 = 0.95;

/// The seed of all resampling.
const SEED: u64 = 0x7469_6465_6d69_6c6c;

/// The middle of several figures, and the least and greatest of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these figures; `None` where there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        let median = median(&mut figures)?;
        Some(Self { median, min: *figures.first()?, max: *figures.last()? })
    }
}

/// Where a figure lies, and how sure that is: [`CONFIDENCE`] of all resamples lie from `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The figure itself.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Sorts the figures and returns the middle one, or what lies between the two in the middle.
pub fn median(figures: &mut [f64]) -> Option<f64> {
    figures.sort_unstable_by(f64::total_cmp);
    let (middle, odd) = (figures.len() / 2, !figures.len().is_multiple_of(2));
    let upper = *figures.get(middle)?;
    Some(if odd { upper } else { f64::midpoint(figures[middle - 1], upper) })
}

/// The median of `over` divided by that of `under`, with its interval by a percentile bootstrap
/// (Efron 1979): both sides are drawn again from themselves, with replacement, and the quotient of
/// their medians is noted. `None` where a side is empty or holds anything but positive numbers.
pub fn ratio_of_medians(over: &[f64], under: &[f64]) -> Option<Interval> {
    let positive = |figures: &[f64]| figures.iter().all(|f| f.is_finite() && *f > 0.0);
    if !positive(over) || !positive(under) {
        return None;
    }
    let estimate = median(&mut over.to_vec())? / median(&mut under.to_vec())?;
    let mut random = Random(SEED);
    let mut quotients = Vec::with_capacity(RESAMPLES);
    let (mut above, mut below) = (Vec::new(), Vec::new());
    for _ in 0..RESAMPLES {
        random.resample(over, &mut above);
        random.resample(under, &mut below);
        quotients.push(median(&mut above)? / median(&mut below)?);
    }
    quotients.sort_unstable_by(f64::total_cmp);
    let outside = (1.0 - CONFIDENCE) / 2.0 * RESAMPLES as f64;
    let cut = outside as usize;
    Some(Interval { estimate, low: quotients[cut], high: quotients[RESAMPLES - 1 - cut] })
}

/// The mean of factors; `None` of none.
pub fn geometric_mean(factors: &[f64]) -> Option<f64> {
    let logs: f64 = factors.iter().map(|factor| factor.ln()).sum();
    (!factors.is_empty()).then(|| (logs / factors.len() as f64).exp())
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// As many figures, each drawn from all.
    fn resample(&mut self, from: &[f64], into: &mut Vec<f64>) {
        into.clear();
        let many = from.len() as u128;
        // The upper half of the product is below `many`: an index.
        let mut drawn = || from[((u128::from(self.next()) * many) >> 64) as usize];
        into.extend((0..from.len()).map(|_| drawn()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        let spread = Spread::of([4.0, 1.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn figures_without_spread_leave_no_doubt() {
        let ratio = ratio_of_medians(&[6.0; 5], &[3.0; 7]).unwrap();
        assert_eq!(ratio, Interval { estimate: 2.0, low: 2.0, high: 2.0 });
    }

    #[test]
    fn what_is_no_time_has_no_ratio() {
        for wrong in [&[][..], &[1.0, 0.0], &[1.0, f64::NAN], &[-1.0]] {
            assert_eq!(ratio_of_medians(wrong, &[1.0]), None, "{wrong:?}");
            assert_eq!(ratio_of_medians(&[1.0], wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_interval_holds_its_estimate_and_narrows_with_more_figures() {
        let noisy =
            |n: usize| (0..n).map(|i| 1.0 + (i * 7 % 10) as f64 / 100.0).collect::<Vec<_>>();
        let wide = ratio_of_medians(&noisy(10), &noisy(10)).unwrap();
        let narrow = ratio_of_medians(&noisy(200), &noisy(200)).unwrap();
        for interval in [wide, narrow] {
            assert!(interval.low <= interval.estimate && interval.estimate <= interval.high);
        }
        assert!(narrow.high - narrow.low < (wide.high - wide.low) / 2.0, "{narrow:?} {wide:?}");
        assert_eq!(ratio_of_medians(&noisy(10), &noisy(10)), Some(wide), "the seed is fixed");
    }

    /// The interval's promise itself: of many pairs of samples from one distribution, it must not
    /// see a difference in more than about one in twenty.
    #[test]
    fn of_equal_contenders_few_are_told_apart() {
        let mut random = Random(1);
        let unit = |random: &mut Random| (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let sample = |random: &mut Random| -> Vec<f64> {
            (0..11).map(|_| 1.0 + 0.1 * (unit(random) + unit(random))).collect()
        };
        let told_apart = (0..300).filter(|_| {
            let ratio = ratio_of_medians(&sample(&mut random), &sample(&mut random)).unwrap();
            ratio.low > 1.0 || ratio.high < 1.0
        });
        let told_apart = told_apart.count();
        assert!(told_apart <= 24, "{told_apart} of 300, of which 15 are to be expected");
    }

    #[test]
    fn a_mean_of_factors_undoes_their_product() {
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}
