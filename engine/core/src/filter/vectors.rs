//! Moves the values that a mask keeps together, eight at a time where the processor can. Part of
//! [`filter`](super): on the data path. Invariant: the result is that of Arrow's filter.

use std::mem::MaybeUninit;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, TimeUnit};

use crate::prefetch::prefetch_all;

/// Values that a word of a mask is about.
const WORD: usize = u64::BITS as usize;

/// Values are asked for so many before they are looked at: the first to touch them may be this.
const AHEAD: usize = 8 * WORD;

/// Values that are moved at once.
const LANES: usize = 8;

/// The values of a column that are kept, so many; `None` where they do not have eight bytes each, or one is
/// missing.
pub(super) fn compress(column: &ArrayRef, kept: &BooleanBuffer, count: usize) -> Option<ArrayRef> {
    let values = words(column)?;
    let mut all = Vec::with_capacity(count + LANES);
    let [len, _] = copy::<false>(values, kept, [all.spare_capacity_mut(), &mut []]);
    // SAFETY: so many were written.
    unsafe { all.set_len(len) };
    Some(array(column.data_type(), all))
}

/// The same, and the values of the others.
pub(super) fn divide(
    column: &ArrayRef,
    kept: &BooleanBuffer,
    count: usize,
) -> Option<[ArrayRef; 2]> {
    let values = words(column)?;
    let counts = [count, values.len() - count];
    let mut both = counts.map(|count| Vec::with_capacity(count + LANES));
    let [all, others] = &mut both;
    let into = [all.spare_capacity_mut(), others.spare_capacity_mut()];
    let lens = copy::<true>(values, kept, into);
    for (values, len) in both.iter_mut().zip(lens) {
        // SAFETY: so many were written on this side.
        unsafe { values.set_len(len) };
    }
    Some(both.map(|values| array(column.data_type(), values)))
}

/// The values of a column; `None` where they do not have eight bytes each, or one is missing.
fn words(column: &ArrayRef) -> Option<&[u64]> {
    if column.null_count() > 0 {
        return None;
    }
    let values = match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().values().inner(),
        DataType::Float64 => column.as_primitive::<Float64Type>().values().inner(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().values().inner()
        }
        _ => return None,
    };
    Some(values.typed_data())
}

/// A column of one of those types.
fn array(of: &DataType, values: Vec<u64>) -> ArrayRef {
    fn primitive<T: ArrowPrimitiveType>(values: Vec<u64>) -> PrimitiveArray<T> {
        PrimitiveArray::new(ScalarBuffer::from(Buffer::from_vec(values)), None)
    }
    match of {
        DataType::Int64 => Arc::new(primitive::<Int64Type>(values)),
        DataType::Float64 => Arc::new(primitive::<Float64Type>(values)),
        times => {
            let values = primitive::<TimestampMicrosecondType>(values);
            Arc::new(values.with_data_type(times.clone()))
        }
    }
}

/// Copies the values that are kept to the first place, and of `BOTH` the others to the second. In each there is room
/// for [`LANES`] more, of which some are written. Returns how many there are of each, all of which were written where
/// they were asked for.
fn copy<const BOTH: bool>(
    values: &[u64],
    kept: &BooleanBuffer,
    into: [&mut [MaybeUninit<u64>]; 2],
) -> [usize; 2] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has been asked for what the function needs.
        return unsafe { wide::<BOTH>(values, kept, into) };
    }
    narrow::<BOTH>(values, kept, into)
}

/// Eight at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,popcnt")]
fn wide<const BOTH: bool>(
    values: &[u64],
    kept: &BooleanBuffer,
    [all, others]: [&mut [MaybeUninit<u64>]; 2],
) -> [usize; 2] {
    use std::arch::x86_64::{
        __m512i, _mm512_loadu_epi64, _mm512_maskz_compress_epi64, _mm512_storeu_epi64,
    };
    let put = |group: __m512i, mask: u8, place: &mut [MaybeUninit<u64>]| {
        assert!(place.len() == LANES);
        // SAFETY: the place is as long as a vector, and need not be aligned.
        unsafe {
            let some = _mm512_maskz_compress_epi64(mask, group);
            _mm512_storeu_epi64(place.as_mut_ptr().cast(), some);
        }
    };
    let (mut row, mut len) = (0, 0);
    let column = values;
    for (values, word) in values.chunks(WORD).zip(kept.bit_chunks().iter_padded()) {
        prefetch_all(column, row + AHEAD, WORD);
        let (groups, rest) = values.as_chunks::<LANES>();
        for (n, group) in groups.iter().enumerate() {
            let mask = (word >> (n * LANES)) as u8;
            // SAFETY: a group is as long as a vector, and need not be aligned.
            let group = unsafe { _mm512_loadu_epi64(group.as_ptr().cast()) };
            put(group, mask, &mut all[len..len + LANES]);
            if BOTH {
                put(group, !mask, &mut others[row - len..row - len + LANES]);
            }
            len += mask.count_ones() as usize;
            row += LANES;
        }
        let word = word >> (groups.len() * LANES % WORD);
        len = one_by_one::<BOTH>(rest, word, [all, others], [row, len]);
        row += rest.len();
    }
    [len, row - len]
}

fn narrow<const BOTH: bool>(
    values: &[u64],
    kept: &BooleanBuffer,
    [all, others]: [&mut [MaybeUninit<u64>]; 2],
) -> [usize; 2] {
    let (mut row, mut len) = (0, 0);
    for (values, word) in values.chunks(WORD).zip(kept.bit_chunks().iter_padded()) {
        len = one_by_one::<BOTH>(values, word, [all, others], [row, len]);
        row += values.len();
    }
    [len, row - len]
}

/// Goes on behind so many rows, of which so many are kept. Each value is written, and stays where it is kept: there is
/// nothing to be predicted.
#[inline(always)]
fn one_by_one<const BOTH: bool>(
    values: &[u64],
    word: u64,
    [all, others]: [&mut [MaybeUninit<u64>]; 2],
    [row, mut len]: [usize; 2],
) -> usize {
    for (bit, value) in values.iter().enumerate() {
        all[len].write(*value);
        if BOTH {
            others[row + bit - len].write(*value);
        }
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
            let place = || vec![MaybeUninit::uninit(); len + LANES];
            let (mut alone, mut all, mut others) = (place(), place(), place());
            let [first, _] = narrow::<false>(values.values(), &kept, [&mut alone, &mut []]);
            let lens = narrow::<true>(values.values(), &kept, [&mut all, &mut others]);
            let sides = [(alone, first, &kept), (all, lens[0], &kept), (others, lens[1], &!&kept)];
            for (found, len, kept) in sides {
                // SAFETY: so many were written.
                let found = found[..len].iter().map(|x| unsafe { x.assume_init() });
                let expected = filter(&values, &BooleanArray::new(kept.clone(), None)).unwrap();
                assert_eq!(&UInt64Array::from_iter_values(found) as &dyn Array, &*expected);
            }
        }
    }
}
