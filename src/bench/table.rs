//! The tables of the hand-written yardsticks: the groups of one slice of time.

use ahash::{AHashMap, RandomState};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::checksum::{Checksum, WindowResult};

/// The groups of one slice.
pub(super) trait SliceTable: Send {
    /// A table for so many groups, if not more.
    fn with_capacity(groups: usize) -> Self;

    /// How many groups there are.
    fn len(&self) -> usize;

    /// Takes in the groups of another table of the same slice.
    fn absorb(&mut self, other: &Self);

    /// Hands over the results of the window that ends at `window_end`.
    fn results(&self, window_end: i64, into: &mut Checksum);
}

/// One struct for each group, in a hash map.
pub(super) struct RowTable {
    groups: AHashMap<i64, Group>,
}

struct Group {
    count: i64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Group {
    const EMPTY: Self = Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };
}

impl RowTable {
    /// Adds one row.
    #[inline]
    pub fn add(&mut self, key: i64, value: f64) {
        let group = self.groups.entry(key).or_insert(Group::EMPTY);
        group.count += 1;
        group.sum += value;
        group.min = group.min.min(value);
        group.max = group.max.max(value);
    }
}

impl SliceTable for RowTable {
    fn with_capacity(groups: usize) -> Self {
        Self { groups: AHashMap::with_capacity(groups) }
    }

    fn len(&self) -> usize {
        self.groups.len()
    }

    fn absorb(&mut self, other: &Self) {
        for (key, theirs) in &other.groups {
            let group = self.groups.entry(*key).or_insert(Group::EMPTY);
            group.count += theirs.count;
            group.sum += theirs.sum;
            group.min = group.min.min(theirs.min);
            group.max = group.max.max(theirs.max);
        }
    }

    fn results(&self, window_end: i64, into: &mut Checksum) {
        for (key, group) in &self.groups {
            let Group { count, sum, min, max } = *group;
            let avg = sum / count as f64;
            into.add(&WindowResult { window_end, key: *key, count, sum, min, max, avg });
        }
    }
}

/// One array for each aggregate, and a hash table from key to index.
pub(super) struct ColumnTable {
    hasher: RandomState,
    index: HashTable<(i64, u32)>,
    keys: Vec<i64>,
    counts: Vec<i64>,
    sums: Vec<f64>,
    mins: Vec<f64>,
    maxs: Vec<f64>,
    /// For each row of the batch at hand its group.
    groups: Vec<u32>,
}

impl ColumnTable {
    /// Adds rows.
    pub fn update(&mut self, keys: &[i64], values: &[f64]) {
        let mut groups = std::mem::take(&mut self.groups);
        groups.clear();
        groups.extend(keys.iter().map(|key| self.group(*key)));
        groups.iter().for_each(|group| self.counts[*group as usize] += 1);
        let rows = || groups.iter().map(|group| *group as usize).zip(values);
        rows().for_each(|(group, value)| self.sums[group] += value);
        rows().for_each(|(group, value)| self.mins[group] = self.mins[group].min(*value));
        rows().for_each(|(group, value)| self.maxs[group] = self.maxs[group].max(*value));
        self.groups = groups;
    }

    /// The group of a key, which is made if need be.
    #[inline]
    fn group(&mut self, key: i64) -> u32 {
        let hash = |key: &i64| self.hasher.hash_one(key);
        match self.index.entry(hash(&key), |entry| entry.0 == key, |entry| hash(&entry.0)) {
            Entry::Occupied(entry) => entry.get().1,
            Entry::Vacant(slot) => {
                let group = self.keys.len() as u32;
                slot.insert((key, group));
                self.keys.push(key);
                self.counts.push(0);
                self.sums.push(0.0);
                self.mins.push(f64::INFINITY);
                self.maxs.push(f64::NEG_INFINITY);
                group
            }
        }
    }
}

impl SliceTable for ColumnTable {
    fn with_capacity(groups: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            index: HashTable::with_capacity(groups),
            keys: Vec::with_capacity(groups),
            counts: Vec::with_capacity(groups),
            sums: Vec::with_capacity(groups),
            mins: Vec::with_capacity(groups),
            maxs: Vec::with_capacity(groups),
            groups: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn absorb(&mut self, other: &Self) {
        for (theirs, key) in other.keys.iter().enumerate() {
            let group = self.group(*key) as usize;
            self.counts[group] += other.counts[theirs];
            self.sums[group] += other.sums[theirs];
            self.mins[group] = self.mins[group].min(other.mins[theirs]);
            self.maxs[group] = self.maxs[group].max(other.maxs[theirs]);
        }
    }

    fn results(&self, window_end: i64, into: &mut Checksum) {
        for (group, key) in self.keys.iter().enumerate() {
            let (count, sum) = (self.counts[group], self.sums[group]);
            let (min, max) = (self.mins[group], self.maxs[group]);
            let avg = sum / count as f64;
            into.add(&WindowResult { window_end, key: *key, count, sum, min, max, avg });
        }
    }
}
