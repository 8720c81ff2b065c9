//! How a table takes the groups of others: as columns, from their own places, or those of one owner. On the
//! data path behind the exchange, and where windows are put together.
//!
//! Invariant: where two tables are dense, all groups move by the same distance, and no key is looked up but the
//! outermost.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use tidemill_core::Result;
use tidemill_core::key::{hash_integer, key_group, owner};

use super::{CellTable, Index, KeyRange, SMALL};
use crate::window::table::Partial;

/// Positions for a group, at most, in a table that holds one owner's groups of a table that is dense: as
/// many as it has there, and those of the other owners between them.
const SHARED_SPREAD: usize = 8;

/// By shard: the positions of the groups that it owns, in ascending order.
pub(in crate::window) type Positions = Arc<[Vec<u32>]>;

/// Who owns the groups of a dense table that has no gaps: of many slices it is the same.
pub(in crate::window) struct Owned {
    /// The key of the first position, and where its groups lie.
    run: (i64, Range<usize>),
    positions: Positions,
}

impl CellTable {
    /// Takes partial aggregates, `total` rows of them with those that went in before.
    pub fn merge(
        &mut self,
        partial: &Partial,
        total: usize,
        expected: &mut Option<KeyRange>,
    ) -> Result<()> {
        let keys = partial.keys[0].as_primitive::<Int64Type>().values();
        if self.cells.counts.is_empty() {
            self.begin(keys[0], keys.len(), *expected);
        }
        let states = self.cells.states_of_calls(&partial.states);
        let rows = self.cells.rows(&states, keys.len());
        for (key, rows) in keys.iter().zip(&rows) {
            let position = self.position(*key);
            self.cells.counts[position] += rows;
        }
        // Only now that all keys have one do positions stay.
        let positions: Vec<usize> = keys.iter().map(|key| self.position(*key)).collect();
        self.cells.merge_cells(&states, &rows, &positions, |row| keys[row])?;
        self.look_for_density();
        self.tell(total, expected);
        Ok(())
    }

    /// The key of a dense table's first position, and the positions of its groups where there is no gap between them.
    fn run(&self) -> Option<(i64, Range<usize>)> {
        let Index::Dense { first } = self.index else { return None };
        let has_rows = |rows: &i64| *rows > 0;
        let counts = &self.cells.counts;
        let run = counts.iter().position(has_rows)?..counts.iter().rposition(has_rows)? + 1;
        counts[run.clone()].iter().all(has_rows).then_some((first, run))
    }

    /// The positions of the groups by the shard that owns them. Those of the `last` table without gaps are those of
    /// this one, if it has none either and its keys lie where those did.
    pub fn positions_by_owner(&self, shards: usize, last: &mut Option<Owned>) -> Positions {
        let counts = &self.cells.counts;
        let run = self.run();
        if let (Some(run), Some(last)) = (&run, &last)
            && last.run == *run
        {
            return last.positions.clone();
        }
        let share = counts.len() / shards + SMALL;
        // The last one gets what has no rows: whether there are any cannot be predicted.
        let mut by_owner: Vec<_> = (0..=shards).map(|_| Vec::with_capacity(share)).collect();
        for (position, rows) in counts.iter().enumerate() {
            let owner = owner(key_group(hash_integer(self.key(position))), shards);
            by_owner[if *rows > 0 { owner } else { shards }].push(position as u32);
        }
        by_owner.truncate(shards);
        let positions = Positions::from(by_owner);
        *last = run.map(|run| Owned { run, positions: positions.clone() });
        positions
    }

    /// Takes groups of another table: those at these positions, in ascending order; `total` with those
    /// that went in before.
    pub fn take_in(
        &mut self,
        other: &Self,
        positions: &[u32],
        total: usize,
        expected: &mut Option<KeyRange>,
    ) {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else { return };
        let key = |position: usize| other.key(position);
        let from = positions.iter().map(|position| *position as usize);
        if self.cells.counts.is_empty() {
            self.begin_beside(other, positions, *expected);
        }
        if let Index::Dense { first: others } = other.index {
            // Where the outermost keys have a position, all between them have.
            self.position(key(*first as usize));
            self.position(key(*last as usize));
            if let Index::Dense { first: own } = self.index {
                let offset = others.wrapping_sub(own) as usize;
                let moves = from.map(|from| (from, from.wrapping_add(offset)));
                self.cells.take_in(&other.cells, moves, key);
                return self.tell(total, expected);
            }
        }
        // Only when all keys have one do positions stay.
        from.clone().for_each(|from| _ = self.position(key(from)));
        let moves: Vec<_> = from.map(|from| (from, self.position(key(from)))).collect();
        self.cells.take_in(&other.cells, moves.iter().copied(), key);
        self.look_for_density();
        self.tell(total, expected);
    }

    /// Takes all groups of another table; `total` with those that went in before.
    pub fn take_in_all(&mut self, other: &Self, total: usize, expected: &mut Option<KeyRange>) {
        if self.cells.counts.is_empty() {
            *self = other.clone();
            return self.tell(total, expected);
        }
        if let (Index::Dense { first: own }, Index::Dense { first: others }) =
            (&self.index, &other.index)
        {
            let offset = others.wrapping_sub(*own) as usize;
            let end = offset.checked_add(other.cells.counts.len());
            if end.is_some_and(|end| end <= self.cells.counts.len()) {
                self.cells.take_in_run(&other.cells, offset, |position| other.key(position));
                return self.tell(total, expected);
            }
        }
        let positions: Vec<u32> =
            other.groups().iter().map(|group| group.position as u32).collect();
        self.take_in(other, &positions, total, expected);
    }

    /// Positions where another table has them, if its groups at these positions fill them well enough.
    fn begin_beside(&mut self, other: &Self, positions: &[u32], expected: Option<KeyRange>) {
        match other.index {
            Index::Dense { first }
                if other.cells.counts.len() <= SHARED_SPREAD * positions.len() =>
            {
                self.index = Index::Dense { first };
                self.cells.resize(other.cells.counts.len());
            }
            _ => self.begin(other.key(positions[0] as usize), positions.len(), expected),
        }
    }
}
