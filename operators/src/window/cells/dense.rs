//! Rows on their way into dense tables: the innermost loops of windows. On the data path of all workloads whose keys lie
//! close together. Invariant: rows are taken from the first on, and none behind one whose key has no position.

use std::hint::select_unpredictable;

use multiversion::multiversion;
use tidemill_core::EventTime;
use tidemill_core::prefetch::prefetch_all;

use crate::aggregate::{Cells, Whole};
use crate::window::columns::fetch;
use crate::window::few::{FEW, Few};

/// Rows that are looked at together: they may all have the same key.
const RUN: usize = Whole::ROOM;

/// More groups than this do not stay in the nearer caches.
const NEAR: usize = 1 << 15;

/// Rows whose groups are asked for, where they are far away, while those before are added.
const ASKED: usize = 32;

/// Rows whose slices are told together.
const WORD: usize = 64;

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
    let mut whole = Whole::new();
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
            let some = cells.add_rows(counts, keys, position, |key| key, values, &mut whole);
            taken += some;
            if some < keys.len() {
                return taken;
            }
        }
    }
    taken
}

/// Counts rows of a few slices in their tables, which begin with these keys. Returns how many went into each.
pub(super) fn count_few(mut tables: Vec<(i64, &mut [i64])>, keys: &[i64], few: &Few) -> Vec<usize> {
    // The keys that all have.
    let low = tables.iter().map(|(first, _)| *first).max().unwrap_or_default();
    for (first, counts) in &mut tables {
        let from = low.wrapping_sub(*first) as usize;
        *counts = std::mem::take(counts).get_mut(from..).unwrap_or_default();
    }
    let len = tables.iter().map(|(_, counts)| counts.len()).min().unwrap_or_default();
    let mut counts: Vec<_> = tables.into_iter().map(|(_, counts)| &mut counts[..len]).collect();
    let (times, bounds) = (few.times(), few.bounds());
    if let ([first, last], [bound]) = (counts.as_mut_slice(), bounds.as_slice()) {
        return count_two(low, [first, last], keys, times, *bound).to_vec();
    }
    let mut all: [&mut [i64]; FEW] = Default::default();
    all.iter_mut().zip(counts).for_each(|(table, counts)| *table = counts);
    let rows = count_several(low, &mut all, keys, times, &bounds);
    rows[..=bounds.len()].to_vec()
}

/// Counts rows of two slices, of which the first ends at `bound`, in tables that begin with the key `low` and are of one length.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn count_two(
    low: i64,
    [counts, others]: [&mut [i64]; 2],
    keys: &[i64],
    times: &[EventTime],
    bound: EventTime,
) -> [usize; 2] {
    let others = &mut others[..counts.len()];
    let position = |key: i64| key.wrapping_sub(low) as usize;
    let before = |times: &[EventTime]| times.iter().filter(|time| **time < bound).count();
    let mut rows = [0; 2];
    for (part, times) in keys.chunks(WORD).zip(times.chunks(WORD)) {
        prefetch_all(keys, rows[0] + rows[1] + 2 * RUN, WORD);
        let first = position(part[0]);
        let mut taken = part.len();
        let mut firsts = before(times);
        if are_alike(part) && first < counts.len() {
            counts[first] += firsts as i64;
            others[first] += (taken - firsts) as i64;
        } else {
            for (row, (key, time)) in part.iter().zip(times).enumerate() {
                let position = position(*key);
                if position >= counts.len() {
                    (taken, firsts) = (row, before(&times[..row]));
                    break;
                }
                // Which table it is cannot be predicted.
                let (count, other) = (&mut counts[position], &mut others[position]);
                *select_unpredictable(*time < bound, count, other) += 1;
            }
        }
        rows = [rows[0] + firsts, rows[1] + taken - firsts];
        if taken < part.len() {
            break;
        }
    }
    rows
}

/// Counts rows of several slices, of which all but the last end at these bounds, in tables that begin with the key `low` and are
/// of one length.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn count_several(
    low: i64,
    tables: &mut [&mut [i64]; FEW],
    keys: &[i64],
    times: &[EventTime],
    bounds: &[EventTime],
) -> [usize; FEW] {
    let position = |key: i64| key.wrapping_sub(low) as usize;
    let mut rows = [0; FEW];
    for (part, times) in keys.chunks(WORD).zip(times.chunks(WORD)) {
        prefetch_all(keys, rows.iter().sum::<usize>() + 2 * RUN, WORD);
        let slices = slices_of(times, bounds);
        let mut taken = part.len();
        let is_alike = are_alike(part) && position(part[0]) < tables[0].len();
        if !is_alike {
            for (row, (key, slice)) in part.iter().zip(slices).enumerate() {
                match tables[usize::from(slice) % FEW].get_mut(position(*key)) {
                    Some(count) => *count += 1,
                    None => {
                        taken = row;
                        break;
                    }
                }
            }
        }
        for (slice, rows) in rows.iter_mut().enumerate().take(bounds.len() + 1) {
            let own = slices[..taken].iter().filter(|of| usize::from(**of) == slice).count();
            *rows += own;
            if is_alike {
                tables[slice][position(part[0])] += own as i64;
            }
        }
        if taken < part.len() {
            break;
        }
    }
    rows
}

/// The number of each row's slice: how many bounds its time has reached.
#[inline(always)]
fn slices_of(times: &[EventTime], bounds: &[EventTime]) -> [u8; WORD] {
    // So many are compared by vectors; what lies behind the last row is nobody's.
    let mut all = [0; WORD];
    all[..times.len()].copy_from_slice(times);
    let mut slices = [0; WORD];
    for bound in bounds {
        for (slice, time) in slices.iter_mut().zip(&all) {
            *slice += u8::from(time >= bound);
        }
    }
    slices
}

/// Whether all rows have the same key.
#[inline(always)]
fn are_alike(keys: &[i64]) -> bool {
    keys[0] == keys[keys.len() - 1] && keys.iter().all(|key| *key == keys[0])
}
