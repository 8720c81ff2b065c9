//! Groups by one integer key whose aggregates all come from [`CellColumns`]: the fast form of a
//! [`Table`](super::table::Table), without a virtual call or a hash for the usual row.
//!
//! ```text
//! dense    position = key - first                   keys that lie close together
//! owned    position = place among the owner's keys   what one shard owns of them
//! sparse   key -> position, in order of appearance   others, and few of them
//! ```
//!
//! Invariants: at a position without rows nothing has been added; dense positions are at most
//! [`SPREAD`] times the groups, but for small tables and for those that are known to fill up; owned ones are as well filled
//! as the tables that they came from.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{Array, ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use tidemill_core::Result;

use super::columns::{CellColumns, CellPlan, integers};
use super::few::Few;
use super::plan::Evaluated;
use super::results::STRETCH;
use super::table::{Partial, Results};
use crate::aggregate::{Cells, Group, Unit, Whole};

mod dense;
mod join;
mod outgoing;
mod owned;
mod spare;

use self::dense::{add_dense, count_dense, count_few};
pub(super) use self::join::{Part, Parts, SideBySide};
use self::outgoing::Outgoing;
pub(super) use self::owned::ByOwner;
use self::owned::OwnedKeys;
use self::spare::{Home, Spare};

/// Positions for a group, at most, where keys do not lie close together.
const SPREAD: usize = 4;

/// So many positions are nothing to be spared.
const SMALL: usize = 256;

/// Positions for a row of a table's first batch, at most, where the table before it was dense but
/// is not known to have filled up.
const AHEAD: usize = 128;

/// Where keys lay in the tables before, and of what size values were, as in the next slice's they probably will be; and the
/// memory of one of them.
#[derive(Default)]
pub(super) struct Expected {
    range: Option<KeyRange>,
    owned: Option<Arc<OwnedKeys>>,
    /// What the values before were multiples of.
    unit: Option<Unit>,
    spare: Spare,
}

impl Expected {
    /// Gives back what is kept for the next tables, now and when it comes.
    pub fn release(&mut self) {
        self.spare.release();
    }

    /// Bytes that are kept for the next tables.
    pub fn bytes(&self) -> usize {
        self.spare.bytes()
    }
}

/// Where a dense table's keys lay.
#[derive(Clone, Copy)]
struct KeyRange {
    first: i64,
    len: usize,
    /// How many rows went into the table that had it.
    rows: usize,
}

/// Groups of one slice.
pub(super) struct CellTable {
    index: Index,
    /// By position; a group without rows is none.
    cells: CellColumns,
    /// Where its memory goes in the end.
    home: Option<Home>,
}

impl Clone for CellTable {
    /// The copy has memory of its own, which nobody waits for.
    fn clone(&self) -> Self {
        Self { index: self.index.clone(), cells: self.cells.clone(), home: None }
    }
}

impl Drop for CellTable {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let none = CellColumns::new(self.plan().clone());
            home.give(std::mem::replace(&mut self.cells, none));
        }
    }
}

#[derive(Clone)]
enum Index {
    /// All keys from here on have a position.
    Dense {
        first: i64,
    },
    /// All of these keys have a position, and no others: groups that have come through the exchange.
    Owned(Arc<OwnedKeys>),
    Sparse(Sparse),
}

#[derive(Clone, Default)]
struct Sparse {
    /// With their keys, so that a look-up goes to one place.
    positions: HashTable<(i64, u32)>,
    hasher: ahash::RandomState,
    keys: Vec<i64>,
    /// So many groups make it worth looking whether they are dense now.
    look_at: usize,
}

impl Sparse {
    fn position(&mut self, key: i64) -> usize {
        let Self { positions, hasher, keys, .. } = self;
        let hash = |key: i64| hasher.hash_one(key);
        let next = keys.len() as u32;
        let entry = positions.entry(hash(key), |(of, _)| *of == key, |(of, _)| hash(*of));
        let (_, position) = *entry.or_insert((key, next)).get();
        if position == next {
            keys.push(key);
        }
        position as usize
    }
}

impl CellTable {
    pub fn new(plan: Arc<CellPlan>) -> Self {
        Self { index: Index::Dense { first: 0 }, cells: CellColumns::new(plan), home: None }
    }

    pub fn plan(&self) -> &Arc<CellPlan> {
        &self.cells.plan
    }

    /// Whether the keys of a batch can be groups here: one integer, but no null.
    pub fn takes(keys: &[ArrayRef]) -> bool {
        matches!(keys, [key] if *key.data_type() == DataType::Int64 && key.null_count() == 0)
    }

    /// Takes rows, `total` with those that went in before. What is known of the keys is handed on in
    /// `expected`.
    pub fn update(&mut self, rows: &Evaluated, total: usize, expected: &mut Expected) {
        let keys = rows.keys[0].as_primitive::<Int64Type>().values();
        let column = |input: &usize| rows.values[*input].as_primitive::<Float64Type>();
        let plan = self.cells.plan.clone();
        let values: Vec<&Float64Array> = plan.inputs.iter().map(column).collect();
        if self.cells.counts.is_empty() {
            self.begin(keys[0], keys.len(), expected);
        }
        let unit = self.choose_unit(&values, expected);
        let mut row = 0;
        while row < keys.len() {
            let rest = keys.len() - row;
            let values: Vec<Float64Array> =
                values.iter().map(|v| Float64Array::slice(v, row, rest)).collect();
            row += match self.index {
                Index::Dense { first } => self.update_dense(first, &keys[row..], &values),
                Index::Sparse(_) => self.update_sparse(&keys[row..], &values),
                Index::Owned(_) => {
                    self.scatter();
                    0
                }
            };
            if let Some(key) = keys.get(row) {
                self.make_room(*key);
            }
        }
        self.tell_unit(unit, &values, expected);
        self.tell(total, expected);
    }

    /// Chooses what the sums of the first column are kept in, if there is a choice. Returns it; `None` where these are doubles.
    fn choose_unit(&mut self, values: &[&Float64Array], expected: &Expected) -> Option<Unit> {
        let (cells, values) = (self.cells.columns.first_mut()?, values.first()?);
        if values.null_count() == 0 {
            cells.choose_unit(values.values(), expected.unit);
        }
        cells.unit()
    }

    /// Hands on what the sums of the first column are kept in; or, where these values did not fit, what they would.
    fn tell_unit(&self, before: Option<Unit>, values: &[&Float64Array], expected: &mut Expected) {
        if before.is_some() {
            let now = self.cells.columns[0].unit();
            expected.unit = now.or_else(|| Unit::of(values[0].values()));
        }
    }

    /// Counts rows of a few slices in their tables, where keys have a place in all of these: to tell the rows apart first
    /// takes longer than to count them. Returns how many went into each; no row was counted behind one that was not.
    pub fn count_few(
        tables: &mut [&mut Self],
        few: &Few,
        rows: &Evaluated,
        expected: &mut Expected,
    ) -> Vec<usize> {
        let keys = rows.keys[0].as_primitive::<Int64Type>().values();
        for (number, table) in tables.iter_mut().enumerate() {
            if table.cells.counts.is_empty() {
                let first = few.rows_of(number).next().map(|row| keys[row]);
                if !first.is_some_and(|key| table.begin_as(expected, key, few.count(number))) {
                    return Vec::new();
                }
            }
        }
        let counts = tables.iter_mut().map(|table| match table.index {
            Index::Dense { first } => Some((first, table.cells.counts.as_mut_slice())),
            _ => None,
        });
        match counts.collect::<Option<Vec<_>>>() {
            Some(counts) => count_few(counts, keys, few),
            None => Vec::new(),
        }
    }

    /// Hands on where keys lie, of a table that `total` rows went into.
    pub fn tell(&self, total: usize, expected: &mut Expected) {
        match &self.index {
            Index::Dense { first } => {
                let len = self.cells.counts.len();
                expected.range = Some(KeyRange { first: *first, len, rows: total });
            }
            Index::Owned(keys) => expected.owned = Some(keys.clone()),
            Index::Sparse(_) => {}
        }
    }

    /// Takes rows until the first whose key has no position. Returns how many.
    fn update_dense(&mut self, first: i64, keys: &[i64], values: &[Float64Array]) -> usize {
        let CellColumns { columns, counts, .. } = &mut self.cells;
        // Counted together with the first column's values where all rows have one.
        let together = usize::from(values.first().is_some_and(|v| v.null_count() == 0));
        let taken = match columns.first_mut().filter(|_| together == 1) {
            Some(cells) => add_dense(first, cells, counts, keys, values[0].values()),
            None => count_dense(first, counts, keys),
        };
        let keys = &keys[..taken];
        for (cells, values) in columns.iter_mut().zip(values).skip(together) {
            let positions = keys.iter().map(|key| key.wrapping_sub(first) as usize);
            cells.update(positions, |row| keys[row], values);
        }
        taken
    }

    fn update_sparse(&mut self, keys: &[i64], values: &[Float64Array]) -> usize {
        let Index::Sparse(sparse) = &mut self.index else { return 0 };
        let rows: Vec<_> = keys.iter().map(|key| (sparse.position(*key), *key)).collect();
        let groups = sparse.keys.len();
        self.cells.resize(groups);
        let CellColumns { columns, counts, .. } = &mut self.cells;
        let together = usize::from(values.first().is_some_and(|v| v.null_count() == 0));
        match columns.first_mut().filter(|_| together == 1) {
            Some(cells) => add_sparse(cells, counts, &rows, values[0].values()),
            None => rows.iter().for_each(|(position, _)| counts[*position] += 1),
        }
        for (cells, values) in columns.iter_mut().zip(values).skip(together) {
            cells.update(rows.iter().map(|(position, _)| *position), |row| keys[row], values);
        }
        self.look_for_density();
        keys.len()
    }

    /// Positions for the first batch, of so many rows.
    fn begin(&mut self, key: i64, rows: usize, expected: &mut Expected) {
        if !self.begin_as(expected, key, rows) {
            expected.release();
            self.index = Index::Dense { first: key };
            self.cells.resize(1);
        }
    }

    /// Positions where the table before had them, if there is reason to think that they will be filled.
    fn begin_as(&mut self, expected: &mut Expected, key: i64, rows: usize) -> bool {
        let likely = |range: &KeyRange| {
            (key.wrapping_sub(range.first) as usize) < range.len
                && range.len <= (AHEAD * rows).max(SPREAD * range.rows)
        };
        let range = expected.range.filter(likely);
        if let Some(range) = range {
            self.begin_with(Index::Dense { first: range.first }, range.len, expected);
        }
        range.is_some()
    }

    /// So many positions without groups, in the memory of a table before.
    fn begin_with(&mut self, index: Index, len: usize, expected: &mut Expected) {
        let (cells, home) = expected.spare.take(self.plan(), len);
        (self.index, self.cells, self.home) = (index, cells, Some(home));
    }

    /// Gives a key a position: beside the others while they lie close together.
    fn make_room(&mut self, key: i64) {
        let Index::Dense { first } = self.index else { return };
        let last = first + (self.cells.counts.len() as i64 - 1);
        let (low, high) = (first.min(key), last.max(key));
        let room = SMALL.max(SPREAD * self.len());
        match usize::try_from(high.wrapping_sub(low)) {
            Ok(span) if span < room => {
                // Some more on the side that grows, so that it does not grow for each key.
                let more = (span / 8).min(room - 1 - span) as i64;
                let (low, high) = if key < first {
                    (low.saturating_sub(more), high)
                } else {
                    (low, high.saturating_add(more))
                };
                self.span(low, high);
            }
            _ => self.scatter(),
        }
    }

    /// Dense positions for all keys from `low` to `high`.
    fn span(&mut self, low: i64, high: i64) {
        let len = (high - low) as usize + 1;
        match self.index {
            Index::Dense { first } if first == low => {
                // There is some room in that already.
                self.cells.reserve_exact(len);
                self.cells.resize(len);
            }
            _ => {
                let moves: Vec<_> = self
                    .groups()
                    .iter()
                    .map(|group| (group.position, (group.key - low) as usize))
                    .collect();
                self.cells.rearrange(len, &moves);
                self.index = Index::Dense { first: low };
            }
        }
    }

    /// Positions in order of appearance.
    fn scatter(&mut self) {
        let mut sparse = Sparse::default();
        let groups = self.groups();
        let position = |group: &Group| (group.position, sparse.position(group.key));
        let moves: Vec<_> = groups.iter().map(position).collect();
        self.cells.rearrange(moves.len(), &moves);
        sparse.look_at = (2 * moves.len()).max(SMALL);
        self.index = Index::Sparse(sparse);
    }

    /// Makes a table dense whose keys have come to lie close together.
    fn look_for_density(&mut self) {
        let Index::Sparse(sparse) = &mut self.index else { return };
        let groups = sparse.keys.len();
        if groups < sparse.look_at {
            return;
        }
        sparse.look_at = groups + groups / 2;
        let (low, high) = sparse
            .keys
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), key| (low.min(*key), high.max(*key)));
        if usize::try_from(high.wrapping_sub(low)).is_ok_and(|span| span < SPREAD * groups) {
            self.span(low, high);
        }
    }

    /// The key whose position this is.
    fn key(&self, position: usize) -> i64 {
        match &self.index {
            Index::Dense { first } => first + position as i64,
            Index::Owned(keys) => keys.key(position),
            Index::Sparse(sparse) => sparse.keys[position],
        }
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        match &self.index {
            Index::Sparse(sparse) => sparse.keys.len(),
            _ => self.cells.counts.iter().filter(|count| **count > 0).count(),
        }
    }

    /// The groups, in the order of their keys but for sparse ones.
    fn groups(&self) -> Vec<Group> {
        let mut groups = vec![NONE; self.len()];
        let some = self.groups_from(&mut 0, &mut groups);
        groups.truncate(some);
        groups
    }

    /// Lists the groups at a position or behind it, which is then that behind them: as many as there are, or as there is
    /// room for. Returns how many.
    fn groups_from(&self, position: &mut usize, groups: &mut [Group]) -> usize {
        let counts = &self.cells.counts;
        match &self.index {
            Index::Dense { first } => list(counts, position, groups, |at| first + at as i64),
            Index::Owned(keys) => list(counts, position, groups, |at| keys.key(at)),
            Index::Sparse(sparse) => list(counts, position, groups, |at| sparse.keys[at]),
        }
    }

    /// Whether it takes about as much memory as its groups.
    pub fn is_compact(&self) -> bool {
        let positions = self.cells.counts.len();
        positions <= SMALL || positions <= SPREAD * self.len()
    }

    /// The position of a key, which is given one if need be.
    #[inline(always)]
    fn position(&mut self, key: i64) -> usize {
        match self.index {
            Index::Dense { first }
                if (key.wrapping_sub(first) as usize) < self.cells.counts.len() =>
            {
                key.wrapping_sub(first) as usize
            }
            _ => self.find_position(key),
        }
    }

    /// The same where keys are looked up, or there is no room yet.
    #[inline(never)]
    fn find_position(&mut self, key: i64) -> usize {
        match &mut self.index {
            Index::Dense { .. } => self.make_room(key),
            Index::Owned(keys) => match keys.place(key) {
                Some(position) => return position,
                None => self.scatter(),
            },
            Index::Sparse(sparse) => {
                let position = sparse.position(key);
                if position == self.cells.counts.len() {
                    self.cells.resize(position + 1);
                }
                return position;
            }
        }
        self.position(key)
    }

    /// How many groups there are at these positions.
    pub fn groups_at(&self, positions: &[u32]) -> usize {
        let has_rows = |position: &&u32| self.cells.counts[**position as usize] > 0;
        positions.iter().filter(has_rows).count()
    }

    /// The groups at these positions with the states of their aggregates.
    pub fn partial(&self, positions: &[u32]) -> Partial {
        let group = |position: &u32| {
            let position = *position as usize;
            let rows = self.cells.counts[position];
            (rows > 0).then(|| Group { position, key: self.key(position), rows })
        };
        self.partial_of(&positions.iter().filter_map(group).collect::<Vec<_>>())
    }

    fn partial_of(&self, groups: &[Group]) -> Partial {
        let states = self.cells.states(groups);
        Partial { rows: groups.len(), keys: vec![keys(groups)], states }
    }

    /// The groups with the states of their aggregates.
    pub fn to_partial(&self) -> Partial {
        self.partial_of(&self.groups())
    }

    /// The groups with the results of their aggregates, in batches.
    pub fn into_results(self, each: impl FnMut(Results) -> Result<()>) -> Result<()> {
        let mut outgoing = Outgoing::new(self.plan(), self.cells.counts.len(), each);
        let (mut position, mut groups) = (0, [NONE; STRETCH]);
        loop {
            match self.groups_from(&mut position, &mut groups) {
                0 => return outgoing.finish(),
                some => outgoing.add(&self.cells, &groups[..some])?,
            }
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let index = match &self.index {
            // Lists of keys are shared with other slices.
            Index::Dense { .. } | Index::Owned(_) => 0,
            Index::Sparse(sparse) => {
                sparse.positions.allocation_size() + sparse.keys.capacity() * size_of::<i64>()
            }
        };
        index + self.cells.bytes()
    }
}

/// Counts rows, by the positions of their keys, which all have one, and adds their values.
fn add_sparse(cells: &mut Cells, counts: &mut [i64], rows: &[(usize, i64)], values: &[f64]) {
    let mut whole = Whole::new();
    for (rows, values) in rows.chunks(Whole::ROOM).zip(values.chunks(Whole::ROOM)) {
        cells.add_rows(counts, rows, |row| row.0, |row| row.1, values, &mut whole);
    }
}

/// The place of a group that is not listed yet.
const NONE: Group = Group { position: 0, key: 0, rows: 0 };

/// Lists the groups at a position or behind it: those of these `counts` that are not zero. See [`CellTable::groups_from`].
#[inline(always)]
fn list(
    counts: &[i64],
    position: &mut usize,
    groups: &mut [Group],
    key: impl Fn(usize) -> i64,
) -> usize {
    let first = *position;
    let mut len = 0;
    *position = counts.len();
    for (rows, at) in counts[first..].iter().zip(first..) {
        let Some(group) = groups.get_mut(len) else {
            *position = at;
            break;
        };
        // Overwritten by the next where there are no rows: whether there are cannot be predicted.
        *group = Group { position: at, key: key(at), rows: *rows };
        len += usize::from(*rows > 0);
    }
    len
}

fn keys(groups: &[Group]) -> ArrayRef {
    integers(groups.iter().map(|group| group.key))
}

#[cfg(test)]
mod tests;
