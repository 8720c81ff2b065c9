//! Exact sums against arithmetic on rational numbers.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Float64Type;
use arrow::array::{Array, ArrayRef, Float64Array};
use datafusion_expr::EmitTo;

use super::super::tests::{Rng, seeds, wild};
use super::spill::Spill;
use super::{Statistic, mean, quotients};

const VARIANCE: Statistic = Statistic::Variance { sample: true, root: false };
const VARIANCE_POP: Statistic = Statistic::Variance { sample: false, root: false };

/// Values, and their sum, mean, sample and population variance as bits: computed with Python's
/// `fractions` and rounded once, overflow giving infinity.
#[rustfmt::skip]
const RATIONALS: &[(&[u64], [u64; 4])] = &[
    (&[0x3fb999999999999a, 0x3fc999999999999a, 0x3fd3333333333333, 0x3fd999999999999a, 0x3fe0000000000000, 0x3fe3333333333333], [0x4000cccccccccccd, 0x3fd6666666666666, 0x3fa1eb851eb851eb, 0x3f9ddddddddddddd]),
    (&[0x7fe1ccf385ebc8a0, 0x7fe1ccf385ebc8a0, 0xffe1ccf385ebc8a0, 0xffe1ccf385ebc8a0, 0x01a56e1fc2f8f359], [0x01a56e1fc2f8f359, 0x018124e63593f5e1, 0x7ff0000000000000, 0x7ff0000000000000]),
    (&[0x7fefffffffffffff, 0x7fefffffffffffff], [0x7ff0000000000000, 0x7fefffffffffffff, 0x0000000000000000, 0x0000000000000000]),
    (&[0x0000000000000001, 0x0000000000000001, 0x0000000000000001], [0x0000000000000003, 0x0000000000000001, 0x0000000000000000, 0x0000000000000000]),
    (&[0x0000000000000001, 0x7e37e43c8800759c, 0xfe37e43c8800759c, 0x00002e055c9a3f6c], [0x00002e055c9a3f6d, 0x00000b8157268fdb, 0x7ff0000000000000, 0x7ff0000000000000]),
    (&[0x4341c37937e08000, 0x3ff0000000000000, 0xc341c37937e08000, 0x3ff0000000000000, 0x3c9cd2b297d889bc], [0x4000000000000000, 0x3fd999999999999a, 0x4683b8b5b5056e17, 0x467f8def8808b024]),
    (&[0x1eb67e9c127b6e74, 0x1ed0def50ddc92d7, 0x1ee3aec8902c00a6], [0x1eeeee169969b7e0, 0x1ed49eb9bb9bcfeb, 0x00000000000049cb, 0x0000000000003132]),
    (&[0x0000000000000001, 0x0007e8ebea82e681, 0x001089ed476ecab0], [0x001872d931f1b132, 0x0008264865fb3b11, 0x0000000000000000, 0x0000000000000000]),
    (&[0x40fe240c9fbe76c9, 0x40fe240c9ba5e354, 0x40fe240c978d4fdf, 0x40fe240ca7ef9db2], [0x411e240c9eb851ec, 0x40fe240c9eb851ec, 0x3ec8777e751e4879, 0x3ec2599ed7d6b65b]),
    (&[0x4197d78400666666, 0x4197d78400cccccd, 0x4197d78401333333], [0x41b1e1a30099999a, 0x4197d78400cccccd, 0x3f847ae151eb852b, 0x3f7b4e81c28f5c39]),
    (&[0xc00c000000000000, 0xc00c000000000000, 0xc00c000000000000], [0xc025000000000000, 0xc00c000000000000, 0x0000000000000000, 0x0000000000000000]),
    (&[0x4340000000000000, 0x3ff0000000000000, 0x3ff0000000000000], [0x4340000000000001, 0x4325555555555557, 0x4675555555555554, 0x466c71c71c71c71b]),
    (&[0xac3f90423b2a113f, 0xc0b64f2b22409705, 0xd5a1ecf75e4319b9, 0xbf1fa6b165f1ee3d, 0x1bcf9f35f533d183], [0xd5a1ecf75e4319b9, 0xd57cae5896d1c2c2, 0x6b30110293afcee9, 0x6b29b4d0ec4c7e41]),
    (&[0x081b9e04dbbc4c62, 0x81c499fe838f17a5, 0x1f97a1d9e57121f3, 0xbb7a8ba80046142a, 0x32f53f74485d9382], [0xbb7a8ba80046142a, 0xbb553c86669e7688, 0x36e19ddb991e9d29, 0x36dc2fc5c1ca950e]),
    (&[0xf709ed8a45a87273, 0x4119f9fd9897c62d, 0xb7607bb8a360477b, 0x9697088492dc0ec0, 0x4cbab0ae99b3ec85], [0xf709ed8a45a87273, 0xf6e4be0837b9f529, 0x7ff0000000000000, 0x7ff0000000000000]),
    (&[0x1c1b8825a95eace8, 0x083b1c6f6ca6f4ad, 0xc8ee6ed74661656b, 0x8033518c3e45bb10, 0xb3aef6d3c359f5cb], [0xc8ee6ed74661656b, 0xc8c858ac384deabc, 0x51c727760e1bc4e1, 0x51c285f80b496a4e]),
    (&[0xb5e2c5af00e42322, 0xf25a68672fb7b6b6, 0x4b6c8af6f95d6138, 0x745a6d74b29c6994, 0x656eb84f9f79d641], [0x745a6d74b282012d, 0x7435245d5b9b3424, 0x7ff0000000000000, 0x7ff0000000000000]),
    (&[0x59480107de15667f, 0xd04ba7e9b3fc6f23, 0xabc8c4dd50dbe4a6, 0x7309fe60341d8238, 0x81e37b8d8942d824], [0x7309fe60341d8238, 0x72e4cb8029b134fa, 0x7ff0000000000000, 0x7ff0000000000000]),
    (&[0x3f7481aa7e940afb, 0x42c8fa96b048dee2, 0x43cbd75607c09677, 0x4055c8e2d3a8e4f2, 0x3f91f4165e97f663, 0x3e1f8b1a94d1b46b], [0x43cbd76f025746c0, 0x43a28f9f56e4d9d5, 0x4780260105ca1d92, 0x477aea01b450dbf4]),
    (&[0xbf3d4c77c342e905, 0x42adce2d02681104, 0x4127f49f0f65d76c, 0xc39b6da71b04ad6d, 0x419bdccee43e4d53, 0x41bf3da4b954f031], [0xc39b6d6b7e11a552, 0xc37248f2540bc38c, 0x471f58c83ad44ad7, 0x471a1f51865b93b3]),
    (&[0x3dd7488930fc11d8, 0x4111fda130f32c05, 0xbc0a42e762947daa, 0x43a59e9206f07df5, 0x43e198783bb31c78, 0x3bf9cfc294192c6d], [0x43e2f2615c2224e7, 0x43b9432c7ad83134, 0x47a928f6f5272b8c, 0x47a4f77876f5f99f]),
    (&[0xc4281b2fc905f70c, 0xc2ff9eeb6523772a, 0xbd10038dba01a6d8, 0xc0e2245ceb2b6f98, 0x40f833ee8b5add4a, 0x3db3bad3c8fa1b62], [0xc4281b33bce363af, 0xc40012227deced1f, 0x4838367cc76691c8, 0x48342d67fb802427]),
    (&[0x00002ffa693ab5fb, 0x0009df8ca6db2594, 0x0008223882ec8cbd, 0x000141cd33f2199f], [0x0013738cc6f481eb, 0x0004dce331bd207b, 0x0000000000000000, 0x0000000000000000]),
    (&[0x000d4fd3d45e9808, 0x0000159462011ffe, 0x0003ca8daf4ca805, 0x000bd219c6250495], [0x001d020fabd164a0, 0x00074083eaf45928, 0x0000000000000000, 0x0000000000000000]),
    (&[0x0007f4f35c8ca9b5, 0x0008eeae7d869042, 0x0005c2c9b9cb4396, 0x000f429ee1890418], [0x0022f4853ab3c0d2, 0x00097a429d59e069, 0x0000000000000000, 0x0000000000000000]),
];

/// The statistic of values that come in two pieces, cut in the middle of a random order.
fn computed(statistic: Statistic, values: &[f64], rng: &mut Rng) -> Option<f64> {
    let mut values = values.to_vec();
    rng.shuffle(&mut values);
    let (front, back) = values.split_at(rng.below(values.len() + 1));
    let mut whole = statistic.accumulator();
    for piece in [front, back] {
        let mut accumulator = statistic.accumulator();
        let column: ArrayRef = Arc::new(Float64Array::from(piece.to_vec()));
        accumulator.update_batch(&[column], &vec![0; piece.len()], None, 1).unwrap();
        whole.merge_batch(&accumulator.state(EmitTo::All).unwrap(), &[0], 1).unwrap();
    }
    let result = whole.evaluate(EmitTo::All).unwrap();
    let result: &Float64Array = result.as_primitive::<Float64Type>();
    result.is_valid(0).then(|| result.value(0))
}

fn bits(x: Option<f64>) -> Option<u64> {
    x.map(f64::to_bits)
}

#[test]
fn results_are_those_of_rational_numbers_rounded_once() {
    let mut rng = Rng::new(1);
    for (values, expected) in RATIONALS {
        let values: Vec<_> = values.iter().map(|bits| f64::from_bits(*bits)).collect();
        let statistics = [Statistic::Sum, Statistic::Mean, VARIANCE, VARIANCE_POP];
        for (statistic, expected) in statistics.into_iter().zip(expected) {
            for _ in 0..10 {
                let result = computed(statistic, &values, &mut rng);
                assert_eq!(
                    bits(result),
                    Some(*expected),
                    "{statistic:?} of {values:?}: {result:?}"
                );
            }
        }
    }
}

/// `numerator / divisor` rounded to nearest-even.
fn quotient(numerator: i128, divisor: u128) -> f64 {
    let size = numerator.unsigned_abs();
    let shift = size.leading_zeros();
    let (shifted, inexact) = ((size << shift) / divisor, !(size << shift).is_multiple_of(divisor));
    // The quotient has far more than 54 bits, so that a last bit set stands for all that is lost.
    let rounded =
        (shifted | u128::from(inexact)) as f64 / f64::from_bits((1023 + u64::from(shift)) << 52);
    if numerator < 0 { -rounded } else { rounded }
}

/// What vectors make of sums in two parts, beside what long numbers do, which an empty spill asks for.
#[test]
fn means_by_vectors_are_exact_or_not_told() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let mut counts: Vec<i64> = (0..500).map(|_| rng.below(300) as i64).collect();
        counts.extend([1 << 40, (1 << 53) - 1, 1 << 53, i64::MAX]);
        let finite = |rng: &mut Rng| Some(wild(rng)).filter(|x| x.is_finite()).unwrap_or(0.1);
        let highs: Vec<f64> = counts.iter().map(|_| finite(&mut rng)).collect();
        let small = |high: &f64, rng: &mut Rng| high * finite(rng) * 1e-24;
        let lows: Vec<f64> = highs.iter().map(|high| small(high, &mut rng)).collect();
        let mut means = vec![0.0; counts.len()];
        quotients([&highs, &lows], &counts, &mut means);
        let mut told = 0;
        for (row, found) in means.into_iter().enumerate().filter(|(_, found)| !found.is_nan()) {
            told += 1;
            let (parts, count) = ([highs[row], lows[row]], counts[row]);
            let exact = mean(&parts, Some(&Spill::default()), count.unsigned_abs());
            let bits = [found, exact].map(|mean| (mean + 0.0).to_bits());
            assert_eq!(bits[0], bits[1], "seed {seed}: {parts:?} over {count}: {found}, {exact}");
        }
        assert!(told > 300, "seed {seed}: {told} of {} are told", counts.len());
    }
}

#[test]
fn sums_and_means_are_exact_however_much_cancels_on_the_way() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        for _ in 0..200 {
            let count = 1 + rng.below(60);
            let wide = rng.below(30);
            let integers: Vec<i128> = (0..count)
                .map(|_| i128::from(rng.next() as i64 >> 11) << rng.below(wide + 1))
                .collect();
            let sum: i128 = integers.iter().sum();
            let scale = f64::from_bits((1023 + 850 - rng.below(1700) as u64) << 52);
            let mut values: Vec<f64> = integers.iter().map(|x| *x as f64 * scale).collect();
            // Pairs that vanish, after having driven everything else out of the doubles.
            for _ in 0..rng.below(4) {
                let huge = f64::from_bits((1023 + 1020 - rng.below(2000) as u64) << 52);
                values.extend([huge, -huge]);
            }
            let counted = values.len() as u128;
            let expected = [quotient(sum, 1) * scale, quotient(sum, counted) * scale];
            for (statistic, expected) in [Statistic::Sum, Statistic::Mean].into_iter().zip(expected)
            {
                let result = computed(statistic, &values, &mut rng);
                assert_eq!(
                    bits(result),
                    bits(Some(expected + 0.0)),
                    "seed {seed}: {statistic:?} of {values:?}"
                );
            }
        }
    }
}

#[test]
fn a_mean_just_beyond_the_middle_of_two_doubles_is_rounded_away_from_it() {
    let two_to = |exponent: i32| f64::from_bits(((1023 + exponent) as u64) << 52);
    // (3 · 2^53 + 3) / 3 lies in the middle; what the last value adds is in the remainder alone.
    let middle = [3.0 * two_to(53), 3.0];
    let mut rng = Rng::new(4);
    for sign in [1.0, -1.0] {
        let mut mean = |beyond: f64| {
            let values = [sign * middle[0], sign * middle[1], sign * beyond];
            computed(Statistic::Mean, &values, &mut rng)
        };
        assert_eq!(mean(0.0), Some(sign * two_to(53)));
        assert_eq!(mean(two_to(-224)), Some(sign * (two_to(53) + 2.0)));
    }
}

#[test]
fn variances_are_exact_and_never_negative() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        for _ in 0..200 {
            let count = 2 + rng.below(40);
            let (far, near) = (rng.next() as i64 >> 16, 1 + rng.next() % (1 << 20));
            let integers: Vec<i128> =
                (0..count).map(|_| i128::from(far) + i128::from(rng.next() % near)).collect();
            let n = count as i128;
            let (sum, squares) =
                (integers.iter().sum::<i128>(), integers.iter().map(|x| x * x).sum::<i128>());
            let difference = n * squares - sum * sum;
            let values: Vec<f64> = integers.iter().map(|x| *x as f64).collect();
            for (statistic, divisor) in [(VARIANCE, n * (n - 1)), (VARIANCE_POP, n * n)] {
                let result = computed(statistic, &values, &mut rng);
                let expected = quotient(difference, divisor.unsigned_abs());
                assert_eq!(result, Some(expected), "seed {seed}: {statistic:?} of {values:?}");
            }
        }
    }
}

#[test]
fn values_that_are_no_numbers_make_what_ieee_makes_of_them() {
    let mut rng = Rng::new(2);
    let mut sum = |values: &[f64]| computed(Statistic::Sum, values, &mut rng).unwrap();
    assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
    assert_eq!(sum(&[f64::NEG_INFINITY, f64::MAX, f64::MAX]), f64::NEG_INFINITY);
    assert_eq!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).to_bits(), f64::NAN.to_bits());
    assert_eq!(sum(&[-f64::NAN, 3.0]).to_bits(), f64::NAN.to_bits());
    assert_eq!(sum(&[-0.0, -0.0]).to_bits(), 0.0f64.to_bits());
    let infinite = [1.0, f64::INFINITY];
    assert_eq!(computed(Statistic::Mean, &infinite, &mut rng), Some(f64::INFINITY));
    assert!(computed(VARIANCE, &infinite, &mut rng).unwrap().is_nan());
}

#[test]
fn a_variance_of_too_few_values_is_null() {
    let mut rng = Rng::new(3);
    assert_eq!(computed(VARIANCE, &[7.0], &mut rng), None);
    assert_eq!(computed(VARIANCE_POP, &[7.0], &mut rng), Some(0.0));
    assert_eq!(computed(VARIANCE_POP, &[], &mut rng), None);
    assert_eq!(computed(Statistic::Sum, &[], &mut rng), None);
}

#[test]
fn a_spill_that_is_torn_or_made_up_is_an_error_or_a_number_and_never_a_panic() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let mut spill = Spill::default();
        for _ in 0..5 {
            let x = wild(&mut rng);
            match x.is_finite() {
                true => {
                    spill.sum_mut().add(-x);
                    spill.squares_mut().add_square(x);
                }
                false => spill.note(x),
            }
        }
        let bytes = spill.to_bytes();
        let mut read = Spill::default();
        read.merge(&bytes).unwrap();
        assert_eq!(read.to_bytes(), bytes, "seed {seed}");
        for end in 0..bytes.len() {
            assert!(Spill::default().merge(&bytes[..end]).is_err(), "seed {seed}: cut at {end}");
        }
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << rng.below(8);
            let mut read = Spill::default();
            if read.merge(&flipped).is_ok() {
                read.sum_mut().to_dyadic();
            }
        }
    }
}
