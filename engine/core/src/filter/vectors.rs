//! Moves the values that a mask keeps together, eight at a time where the processor can. Part of
//! [`filter`](super): on the data path. Invariant: the result is that of Arrow's filter.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, TimeUnit};

/// Values that a word of a mask is about.
const WORD: usize = u64::BITS as usize;

/// Values that are moved at once.
const LANES: usize = 8;

/// The values of a column that are kept, so many; `None` where they do not have eight bytes each, or one is
/// missing.
pub(super) fn compress(column: &ArrayRef, kept: &BooleanBuffer, count: usize) -> Option<ArrayRef> {
    if column.null_count() > 0 {
        return None;
    }
    match column.data_type() {
        DataType::Int64 => Some(primitive::<Int64Type>(column, kept, count)),
        DataType::Float64 => Some(primitive::<Float64Type>(column, kept, count)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(primitive::<TimestampMicrosecondType>(column, kept, count))
        }
        _ => None,
    }
}

fn primitive<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    kept: &BooleanBuffer,
    count: usize,
) -> ArrayRef {
    let values = column.as_primitive::<T>().values().inner().typed_data();
    let values = ScalarBuffer::from(Buffer::from_vec(kept_values(values, kept, count)));
    let array = PrimitiveArray::<T>::new(values, None);
    Arc::new(array.with_data_type(column.data_type().clone()))
}

fn kept_values(values: &[u64], kept: &BooleanBuffer, count: usize) -> Vec<u64> {
    // Behind the last, some are written that are not kept.
    let mut all = vec![0; count + LANES];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has been asked for what the function needs.
        unsafe { wide(values, kept, &mut all) };
        all.truncate(count);
        return all;
    }
    narrow(values, kept, &mut all);
    all.truncate(count);
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
    use arrow::array::{BooleanArray, UInt64Array};
    use arrow::compute::filter;

    use super::*;

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
}
