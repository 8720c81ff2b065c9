//! Rows on their way into dense tables: the innermost loops of windows. On the data path of all workloads whose keys lie
//! close together. Invariant: rows are taken from the first on, and none behind one whose key has no position.

use std::hint::select_unpredictable;

use arrow::buffer::BooleanBuffer;
use multiversion::multiversion;
use tidemill_core::prefetch::prefetch_all;

use crate::aggregate::Cells;
use crate::window::columns::fetch;

/// Rows that are looked at together: they may all have the same key.
const RUN: usize = 256;

/// More groups than this do not stay in the nearer caches.
const NEAR: usize = 1 << 15;

/// Rows whose groups are asked for, where they are far away, while those before are added.
const ASKED: usize = 32;

/// Rows that a word of a mask is about.
const WORD: usize = u64::BITS as usize;

/// Counts rows while their keys have a position. Returns how many did.
pub(super) fn count_dense(first: i64, counts: &mut [i64], keys: &[i64]) -> usize {
    let mut taken = 0;
    let all = keys;
    for keys in keys.chunks(RUN) {
        prefetch_all(all, taken + 2 * RUN, RUN);
        let count = counts.get_mut(keys[0].wrapping_sub(first) as usize);
        if let Some(count) = count.filter(|_| are_alike(keys)) {
            *count += keys.len() as i64;
            taken += keys.len();
            continue;
        }
        for (row, key) in keys.iter().enumerate() {
            match counts.get_mut(key.wrapping_sub(first) as usize) {
                Some(count) => *count += 1,
                None => return taken + row,
            }
        }
        taken += keys.len();
    }
    taken
}

/// The same, and adds their values.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_dense(
    first: i64,
    cells: &mut Cells,
    counts: &mut [i64],
    keys: &[i64],
    values: &[f64],
) -> usize {
    let mut taken = 0;
    let (all, all_values) = (keys, values);
    let position = |key: i64| key.wrapping_sub(first) as usize;
    let is_far = counts.len() > NEAR;
    let ask = |cells: &Cells, counts: &[i64], from: usize| {
        fetch(cells, counts, all.iter().skip(from).take(ASKED).map(|key| position(*key)));
    };
    if is_far {
        ask(cells, counts, 0);
    }
    for (keys, values) in keys.chunks(RUN).zip(values.chunks(RUN)) {
        prefetch_all(all, taken + 2 * RUN, RUN);
        prefetch_all(all_values, taken + 2 * RUN, RUN);
        let count = counts.get_mut(position(keys[0]));
        if let Some(count) = count.filter(|_| are_alike(keys)) {
            cells.add_run(count, position(keys[0]), keys[0], values);
            taken += keys.len();
            continue;
        }
        let part = if is_far { ASKED } else { RUN };
        for (keys, values) in keys.chunks(part).zip(values.chunks(part)) {
            if is_far {
                ask(cells, counts, taken + ASKED);
            }
            let keys = &keys[..values.len()];
            let place = |row: usize| position(keys[row]);
            let some = cells.add_counted(counts, place, |row| keys[row], values);
            taken += some;
            if some < keys.len() {
                return taken;
            }
        }
    }
    taken
}

/// Counts rows of two tables, which begin with these keys: those that are set in the `first`, and the others.
pub(super) fn count_both(
    [(one, counts), (other, others)]: [(i64, &mut [i64]); 2],
    keys: &[i64],
    first: &BooleanBuffer,
) -> usize {
    // The keys that both have.
    let low = one.max(other);
    let [counts, others] = [(one, counts), (other, others)].map(|(from, counts)| {
        counts.get_mut(low.wrapping_sub(from) as usize..).unwrap_or_default()
    });
    let len = counts.len().min(others.len());
    let (counts, others) = (&mut counts[..len], &mut others[..len]);
    let mut taken = 0;
    for (part, mut word) in keys.chunks(WORD).zip(first.bit_chunks().iter_padded()) {
        prefetch_all(keys, taken + 2 * RUN, WORD);
        let position = |key: i64| key.wrapping_sub(low) as usize;
        if are_alike(part) && position(part[0]) < len {
            let firsts = i64::from(word.count_ones());
            counts[position(part[0])] += firsts;
            others[position(part[0])] += part.len() as i64 - firsts;
            taken += part.len();
            continue;
        }
        for (row, key) in part.iter().enumerate() {
            let position = position(*key);
            if position >= len {
                return taken + row;
            }
            // Which table it is cannot be predicted.
            let (count, other) = (&mut counts[position], &mut others[position]);
            *select_unpredictable(word & 1 == 1, count, other) += 1;
            word >>= 1;
        }
        taken += part.len();
    }
    taken
}

/// Whether all rows have the same key.
#[inline(always)]
fn are_alike(keys: &[i64]) -> bool {
    keys[0] == keys[keys.len() - 1] && keys.iter().all(|key| *key == keys[0])
}
