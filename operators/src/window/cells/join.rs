//! How a table takes the groups of others: as columns, from their own places, or those of one owner. On the
//! data path behind the exchange, and where windows are put together.
//!
//! Invariant: where two tables have the keys of a range at positions in the same order, all groups move by the same
//! distance, and no key is looked up but the outermost.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use tidemill_core::Result;
use tidemill_core::key::{hash_integer, key_group, owner};

use super::outgoing::Outgoing;
use super::owned::{ByOwner, OwnedKeys};
use super::{CellTable, Expected, Index};
use crate::window::columns::CellColumns;
use crate::window::results::STRETCH;
use crate::window::table::{Partial, Results};

/// Places for a key, at most, that a table takes over from the one before it.
const ROOM: usize = 2;

/// The groups of a table by their owners.
pub(in crate::window) enum Parts {
    /// Of a dense table that is well filled: all positions, whether there are groups or not.
    Owned(ByOwner),
    /// The positions of groups.
    Listed(Vec<Vec<u32>>),
}

/// What one owner has of a table.
pub(in crate::window) enum Part<'a> {
    Owned(&'a Arc<OwnedKeys>),
    Listed(&'a [u32]),
}

impl Parts {
    /// How many positions all have.
    pub fn positions(&self) -> usize {
        match self {
            Self::Owned(by_owner) => by_owner.iter().map(|keys| keys.len()).sum(),
            Self::Listed(by_owner) => by_owner.iter().map(Vec::len).sum(),
        }
    }

    /// What this one has.
    pub fn of(&self, owner: usize) -> Part<'_> {
        match self {
            Self::Owned(by_owner) => Part::Owned(&by_owner[owner]),
            Self::Listed(by_owner) => Part::Listed(&by_owner[owner]),
        }
    }
}

impl<'a> Part<'a> {
    /// Where the groups are, in ascending order; there may be positions without one.
    pub fn positions(&self) -> &'a [u32] {
        match self {
            Self::Owned(keys) => keys.offsets(),
            Self::Listed(positions) => positions,
        }
    }
}

/// What one owner has of several tables, whose keys lie side by side.
pub(in crate::window) struct SideBySide<'a> {
    parts: Vec<(&'a CellTable, &'a OwnedKeys)>,
    /// The keys of all of them.
    keys: Arc<OwnedKeys>,
}

impl<'a> SideBySide<'a> {
    /// The parts; `None` where there are none, or their keys do not lie side by side.
    pub fn of(parts: impl Iterator<Item = (&'a CellTable, Part<'a>)>) -> Option<Self> {
        let mut all = Vec::new();
        let mut keys: Option<Arc<OwnedKeys>> = None;
        for (table, part) in parts {
            let Part::Owned(own) = part else { return None };
            keys = Some(match keys {
                None => own.clone(),
                Some(keys) if keys.place_of(own).is_some() => keys,
                Some(keys) => Arc::new(keys.union(own)?),
            });
            all.push((table, own.as_ref()));
        }
        Some(Self { parts: all, keys: keys? })
    }

    /// The results of all groups, in batches. They are put together some hundred keys at a time, and not in a table
    /// of all: that would be memory to be touched twice, where a stretch stays in the nearest cache.
    pub fn results(self, each: impl FnMut(Results) -> Result<()>) -> Result<()> {
        let Some((first, _)) = self.parts.first() else { return Ok(()) };
        let mut outgoing = Outgoing::new(first.plan(), self.keys.len(), each);
        for start in (0..self.keys.len()).step_by(STRETCH) {
            let keys = self.keys.at(start..self.keys.len().min(start + STRETCH));
            let table = self.stretch(Arc::new(keys));
            outgoing.add(&table.cells, &table.groups())?;
        }
        outgoing.finish()
    }

    /// All groups with the states of their aggregates, in parts of no more than so many.
    pub fn partials(&self, most: usize) -> impl Iterator<Item = Partial> {
        let part = move |start: usize| {
            let keys = self.keys.at(start..self.keys.len().min(start + most));
            self.stretch(Arc::new(keys)).to_partial()
        };
        (0..self.keys.len()).step_by(most).map(part).filter(|part| part.rows > 0)
    }

    /// What all have of some of the keys.
    fn stretch(&self, keys: Arc<OwnedKeys>) -> CellTable {
        let mut cells = CellColumns::new(self.parts[0].0.plan().clone());
        cells.resize(keys.len());
        for (other, own) in &self.parts {
            let shared = keys.shared_with(own);
            let offsets = &own.offsets()[own.shared_with(&keys)];
            let positions = offsets.iter().map(|offset| *offset as usize);
            cells.take_in(&other.cells, positions.zip(shared), |position| other.key(position));
        }
        CellTable { index: Index::Owned(keys), cells, home: None }
    }
}

impl CellTable {
    /// Takes partial aggregates, `total` rows of them with those that went in before.
    pub fn merge(
        &mut self,
        partial: &Partial,
        total: usize,
        expected: &mut Expected,
    ) -> Result<()> {
        let keys = partial.keys[0].as_primitive::<Int64Type>().values();
        if self.cells.counts.is_empty() {
            self.begin(keys[0], keys.len(), expected);
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

    /// Its groups by the shard that owns them. Those of the `last` dense table are those of this one if it has the same
    /// range of keys, as those of most slices have.
    pub fn by_owner(&self, shards: usize, last: &mut Option<ByOwner>) -> Parts {
        match &self.index {
            Index::Dense { first } if self.is_compact() => {
                let len = self.cells.counts.len();
                let known = last.take().filter(|last| last[0].is_of(*first, len));
                let by_owner = known.unwrap_or_else(|| OwnedKeys::by_owner(*first, len, shards));
                *last = Some(by_owner.clone());
                Parts::Owned(by_owner)
            }
            _ => {
                let mut by_owner = vec![Vec::new(); shards];
                for group in self.groups() {
                    let owner = owner(key_group(hash_integer(group.key)), shards);
                    by_owner[owner].push(group.position as u32);
                }
                Parts::Listed(by_owner)
            }
        }
    }

    /// Takes one owner's part of another table; `total` groups with those that went in before.
    pub fn take_in(&mut self, other: &Self, part: &Part, total: usize, expected: &mut Expected) {
        let start = match part {
            Part::Owned(keys) => self.places_for(keys, expected),
            Part::Listed(_) => None,
        };
        let positions = part.positions().iter().map(|position| *position as usize);
        match start {
            Some(start) => {
                let moves = positions.zip(start..);
                self.cells.take_in(&other.cells, moves, |position| other.key(position));
            }
            None => {
                let has_rows = |position: &usize| other.cells.counts[*position] > 0;
                self.take_in_each(other, &positions.filter(has_rows).collect::<Vec<_>>(), expected);
            }
        }
        self.tell(total, expected);
    }

    /// Takes all groups of another table; `total` with those that went in before.
    pub fn take_in_all(&mut self, other: &Self, total: usize, expected: &mut Expected) {
        if self.cells.counts.is_empty() {
            *self = other.clone();
            return self.tell(total, expected);
        }
        match self.offset_of(other, expected) {
            Some(offset) => {
                self.cells.take_in_run(&other.cells, offset, |position| other.key(position));
            }
            None => {
                let positions: Vec<_> = other.groups().iter().map(|group| group.position).collect();
                self.take_in_each(other, &positions, expected);
            }
        }
        self.tell(total, expected);
    }

    /// How far all positions of another table lie before those of their keys here, where they do.
    fn offset_of(&mut self, other: &Self, expected: &mut Expected) -> Option<usize> {
        match (&self.index, &other.index) {
            (Index::Owned(_), Index::Owned(keys)) => self.places_for(keys, expected),
            (Index::Dense { first: own }, Index::Dense { first: others }) => {
                let offset = others.wrapping_sub(*own) as usize;
                let end = offset.checked_add(other.cells.counts.len())?;
                (end <= self.cells.counts.len()).then_some(offset)
            }
            _ => None,
        }
    }

    /// The place of the first of one owner's keys, where all of them can follow it.
    fn places_for(&mut self, keys: &Arc<OwnedKeys>, expected: &mut Expected) -> Option<usize> {
        if self.cells.counts.is_empty() {
            let fits = |known: &&Arc<OwnedKeys>| {
                known.place_of(keys).is_some() && known.len() <= ROOM * keys.len()
            };
            let keys = expected.owned.as_ref().filter(fits).unwrap_or(keys).clone();
            self.begin_with(Index::Owned(keys.clone()), keys.len(), expected);
        }
        let Index::Owned(own) = &self.index else { return None };
        if let Some(start) = own.place_of(keys) {
            return Some(start);
        }
        let all = own.union(keys)?;
        let (before, start) = (all.place_of(own)?, all.place_of(keys));
        if before == 0 {
            self.cells.reserve_exact(all.len());
            self.cells.resize(all.len());
        } else {
            let moves: Vec<_> = (0..own.len()).map(|from| (from, from + before)).collect();
            self.cells.rearrange(all.len(), &moves);
        }
        self.index = Index::Owned(Arc::new(all));
        start
    }

    /// Takes the groups at these positions of another table, in ascending order.
    fn take_in_each(&mut self, other: &Self, positions: &[usize], expected: &mut Expected) {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else { return };
        let key = |position: usize| other.key(position);
        if self.cells.counts.is_empty() {
            self.begin(key(*first), positions.len(), expected);
        }
        let from = positions.iter().copied();
        if let Index::Dense { first: others } = other.index {
            // Where the outermost keys have a position, all between them have.
            self.position(key(*first));
            self.position(key(*last));
            if let Index::Dense { first: own } = self.index {
                let offset = others.wrapping_sub(own) as usize;
                let moves = from.map(|from| (from, from.wrapping_add(offset)));
                return self.cells.take_in(&other.cells, moves, key);
            }
        }
        // Only when all keys have one do positions stay.
        from.clone().for_each(|from| _ = self.position(key(from)));
        let moves: Vec<_> = from.map(|from| (from, self.position(key(from)))).collect();
        self.cells.take_in(&other.cells, moves.iter().copied(), key);
        self.look_for_density();
    }
}
