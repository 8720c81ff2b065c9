//! Moves the rows of a column that a mask keeps together. On the data path where the rows of a batch go
//! different ways. Invariant: the result is that of Arrow's `filter`, which does what is not done here.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow::compute::filter;
use arrow::datatypes::{DataType, TimeUnit};
use multiversion::multiversion;
use tidemill_core::{EventTime, Result};

/// Values that a word of a mask is about.
const WORD: usize = u64::BITS as usize;

/// Values that are moved at once.
const LANES: usize = 8;

/// The rows of a column that are kept.
pub(crate) fn compress(column: &ArrayRef, kept: &BooleanArray) -> Result<ArrayRef> {
    let is_plain = column.null_count() == 0 && kept.null_count() == 0 && kept.len() == column.len();
    Ok(match column.data_type() {
        DataType::Int64 if is_plain => primitive::<Int64Type>(column, kept.values()),
        DataType::Float64 if is_plain => primitive::<Float64Type>(column, kept.values()),
        DataType::Timestamp(TimeUnit::Microsecond, _) if is_plain => {
            primitive::<TimestampMicrosecondType>(column, kept.values())
        }
        _ => filter(column, kept)?,
    })
}

/// The same for values of eight bytes, of which none is missing.
fn primitive<T: ArrowPrimitiveType>(column: &ArrayRef, kept: &BooleanBuffer) -> ArrayRef {
    let values = column.as_primitive::<T>().values().inner().typed_data();
    let values = ScalarBuffer::from(Buffer::from_vec(kept_values(values, kept)));
    let array = PrimitiveArray::<T>::new(values, None);
    Arc::new(array.with_data_type(column.data_type().clone()))
}

/// Which times lie before an end.
pub(crate) fn before(times: &[EventTime], end: EventTime) -> BooleanBuffer {
    BooleanBuffer::new(Buffer::from_vec(words_before(times, end)), 0, times.len())
}

/// The same as words, from the least bit on; with the widest vectors that the processor has.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2",
    "aarch64+neon"
))]
fn words_before(times: &[EventTime], end: EventTime) -> Vec<u64> {
    let word = |times: &[EventTime]| {
        let bits = times.iter().enumerate().map(|(bit, time)| u64::from(*time < end) << bit);
        bits.fold(0, |word, bit| word | bit)
    };
    times.chunks(WORD).map(word).collect()
}

fn kept_values(values: &[u64], kept: &BooleanBuffer) -> Vec<u64> {
    let len = kept.count_set_bits();
    // Behind the last, some are written that are not kept.
    let mut all = vec![0; len + LANES];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has been asked for what the function needs.
        unsafe { wide(values, kept, &mut all) };
        all.truncate(len);
        return all;
    }
    narrow(values, kept, &mut all);
    all.truncate(len);
    all
}

/// Eight at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,popcnt")]
fn wide(values: &[u64], kept: &BooleanBuffer, all: &mut [u64]) {
    use std::arch::x86_64::{_mm512_loadu_epi64, _mm512_maskz_compress_epi64, _mm512_storeu_epi64};
    let mut len = 0;
    for (values, word) in values.chunks(WORD).zip(kept.bit_chunks().iter_padded()) {
        let (groups, rest) = values.as_chunks::<LANES>();
        for (n, group) in groups.iter().enumerate() {
            let mask = (word >> (n * LANES)) as u8;
            let place = &mut all[len..len + LANES];
            // SAFETY: a group and its place are as long as a vector, and need not be aligned.
            unsafe {
                let group = _mm512_loadu_epi64(group.as_ptr().cast());
                let kept = _mm512_maskz_compress_epi64(mask, group);
                _mm512_storeu_epi64(place.as_mut_ptr().cast(), kept);
            }
            len += mask.count_ones() as usize;
        }
        len = one_by_one(rest, word >> (groups.len() * LANES % WORD), all, len);
    }
}

fn narrow(values: &[u64], kept: &BooleanBuffer, all: &mut [u64]) {
    let mut len = 0;
    for (values, word) in values.chunks(WORD).zip(kept.bit_chunks().iter_padded()) {
        len = one_by_one(values, word, all, len);
    }
}

/// Each value is written, and stays where it is kept: there is nothing to be predicted.
#[inline(always)]
fn one_by_one(values: &[u64], word: u64, all: &mut [u64], mut len: usize) -> usize {
    for (bit, value) in values.iter().enumerate() {
        all[len] = *value;
        len += (word >> bit & 1) as usize;
    }
    len
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::buffer::NullBuffer;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn what_is_kept_is_what_arrow_keeps() {
        for seed in 0..300 {
            println!("seed {seed}");
            let rng = &mut ChaCha8Rng::seed_from_u64(seed);
            let len = rng.random_range(0..300);
            let share = [0.0, 0.1, 0.5, 0.99, 1.0][rng.random_range(0..5)];
            let kept: BooleanArray = (0..len).map(|_| Some(rng.random_bool(share))).collect();
            let nulls: Int64Array = (0..len).map(|n| (n % 7 > 0).then_some(n)).collect();
            let valid = Int64Array::new(
                (0..len).collect::<Vec<_>>().into(),
                Some(NullBuffer::new_valid(len as usize)),
            );
            let times = TimestampMicrosecondArray::from_iter_values(0..len).with_timezone("UTC");
            let columns: [ArrayRef; 8] = [
                Arc::new(UInt64Array::from_iter_values((0..len).map(|n| u64::MAX - n as u64))),
                Arc::new(times),
                Arc::new(valid),
                Arc::new(Int64Array::from_iter_values((0..len).map(|n| n * 1_000_000_007))),
                Arc::new(Float64Array::from_iter_values((0..len).map(|n| n as f64 / 3.0))),
                Arc::new(Int32Array::from_iter_values((0..len).map(|n| n as i32))),
                Arc::new(StringArray::from_iter_values((0..len).map(|n| n.to_string()))),
                Arc::new(nulls),
            ];
            let first = rng.random_range(0..=len as usize);
            let rest = len as usize - first;
            for column in columns {
                let expected = filter(&column, &kept).unwrap();
                assert_eq!(&compress(&column, &kept).unwrap(), &expected);
                let (column, kept) = (column.slice(first, rest), kept.slice(first, rest));
                let expected = filter(&column, &kept).unwrap();
                assert_eq!(&compress(&column, &kept).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn processors_without_wide_vectors_keep_the_same() {
        for len in [0, 7, 64, 65, 1000] {
            let kept = BooleanBuffer::collect_bool(len, |row| row * row % 5 < 2);
            let values = UInt64Array::from_iter_values((0..len as u64).map(|n| n * 3));
            let mut all = vec![0; kept.count_set_bits() + LANES];
            narrow(values.values(), &kept, &mut all);
            all.truncate(kept.count_set_bits());
            let expected = filter(&values, &BooleanArray::new(kept, None)).unwrap();
            assert_eq!(&UInt64Array::from(all) as &dyn Array, &*expected);
        }
    }

    #[test]
    fn times_before_an_end_are_those_below_it() {
        for len in [0, 1, 63, 64, 65, 200] {
            let times: Vec<EventTime> = (0..len).map(|n| n * 37 % 71 - 20).collect();
            for end in [EventTime::MIN, -20, 0, 13, EventTime::MAX] {
                let expected: BooleanBuffer = times.iter().map(|time| *time < end).collect();
                assert_eq!(before(&times, end), expected, "{len} times, end {end}");
            }
        }
    }
}
