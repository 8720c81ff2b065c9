//! One group's cell: its bits, and what is done with them. The innermost loops of the data path. Invariant: what does not
//! fit into a cell leaves it as it was.

use super::super::exact::Expansion;
use super::super::extremum::{order_of_number, value_at};

/// The bits of a group's exact sum, and of the places of its greatest and, inverted, least value. As
/// bits, so that fresh memory need not be written to before it is used.
pub(super) type Cell = [u64; 4];

/// A number of units, two's complement: the low word and the high one.
pub(super) type Words = [u64; 2];

/// The places of values in their order start above this.
pub(super) const NO_VALUE: u64 = 0;

/// Adds a value, and says so; or changes nothing where that takes more than the cell.
#[inline(always)]
#[must_use]
pub(super) fn add(cell: &mut Cell, x: f64) -> bool {
    let mut sum = expansion(cell);
    // Fits only if it is finite.
    let fits = sum.add(x);
    if fits {
        set_sum(cell, &sum);
        let place = unsigned(order_of_number(x));
        widen(cell, place, !place);
    }
    fits
}

/// Adds and counts rows, a position and a value each, up to the first that has no position, or takes more than its cell.
/// Returns how many rows came before that one. By itself, so that the loop needs no more than the processor has registers for.
#[inline(always)]
pub(super) fn add_each<'a>(
    cells: &mut [Cell],
    counts: &mut [i64],
    rows: impl Iterator<Item = (usize, &'a f64)>,
) -> usize {
    let cells = &mut cells[..counts.len()];
    let mut added = 0;
    for (position, x) in rows {
        if position >= counts.len() || !add(&mut cells[position], *x) {
            break;
        }
        counts[position] += 1;
        added += 1;
    }
    added
}

/// The same of rows whose values are in units, of which a cell takes all, up to the first that has no position.
#[inline(always)]
pub(super) fn add_each_whole(
    cells: &mut [Cell],
    counts: &mut [i64],
    rows: impl Iterator<Item = (usize, (Words, u64))>,
) -> usize {
    let cells = &mut cells[..counts.len()];
    let mut added = 0;
    for (position, (units, place)) in rows {
        if position >= counts.len() {
            break;
        }
        let cell = &mut cells[position];
        add_units(cell, in_units(units));
        widen(cell, place, !place);
        counts[position] += 1;
        added += 1;
    }
    added
}

/// Adds what another cell holds, and says so; or changes nothing where that takes more than the cell.
#[inline(always)]
#[must_use]
pub(super) fn join(cell: &mut Cell, other: &Cell) -> bool {
    if *cell == [0; 4] {
        *cell = *other;
        return true;
    }
    let fits = join_sum(cell, &expansion(other));
    if fits {
        extend(cell, other);
    }
    fits
}

/// Adds a sum, and says so; or changes nothing where that takes more than the cell.
#[inline(always)]
#[must_use]
pub(super) fn join_sum(cell: &mut Cell, other: &Expansion<2>) -> bool {
    let mut sum = expansion(cell);
    let fits = other.parts().iter().all(|part| sum.add(*part));
    if fits {
        set_sum(cell, &sum);
    }
    fits
}

/// Takes the extremes of another cell into account.
#[inline(always)]
pub(super) fn extend(cell: &mut Cell, other: &Cell) {
    widen(cell, other[2], other[3]);
}

/// A number of units.
#[inline(always)]
pub(super) fn in_units([low, high]: Words) -> i128 {
    (i128::from(high as i64) << 64) | i128::from(low)
}

/// Adds so many units to a sum that is in units.
#[inline(always)]
pub(super) fn add_units(cell: &mut Cell, units: i128) {
    let sum = in_units([cell[0], cell[1]]) + units;
    (cell[0], cell[1]) = (sum as u64, (sum >> 64) as u64);
}

/// A sum that is in doubles.
#[inline(always)]
pub(super) fn expansion(cell: &Cell) -> Expansion<2> {
    Expansion::of([f64::from_bits(cell[0]), f64::from_bits(cell[1])])
}

#[inline(always)]
pub(super) fn set_sum(cell: &mut Cell, sum: &Expansion<2>) {
    let [high, low] = sum.parts();
    (cell[0], cell[1]) = (high.to_bits(), low.to_bits());
}

/// Takes the places of the greatest and, inverted, the least of some values into account.
#[inline(always)]
pub(super) fn widen(cell: &mut Cell, greatest: u64, least: u64) {
    cell[2] = cell[2].max(greatest);
    cell[3] = cell[3].max(least);
}

/// A place in the order, in that of numbers without a sign.
#[inline(always)]
pub(super) fn unsigned(place: i64) -> u64 {
    place as u64 ^ 1 << 63
}

/// The value that has an unsigned place; `None` where there is none.
pub(super) fn extreme(place: u64) -> Option<f64> {
    (place != NO_VALUE).then(|| value_at((place ^ 1 << 63) as i64))
}
