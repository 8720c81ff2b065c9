//! The tables of the hand-written yardsticks: the groups of one slice of time.

use ahash::RandomState;
use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use tidemill_core::Result;

use super::checksum::{Checksum, WindowResult, text_code};

/// What a key is for a yardstick: a number, or the bytes of a text.
pub(super) trait GroupKey: Send + Sync + 'static {
    /// A key as it stands in a row.
    type Ref<'a>: Copy;
    /// A column of keys.
    type Column<'a>: Copy;

    /// The keys of a batch.
    fn column(keys: &ArrayRef) -> Self::Column<'_>;

    /// The key of one row.
    fn at(column: Self::Column<'_>, row: usize) -> Self::Ref<'_>;

    /// A key that a table keeps.
    fn keep(key: Self::Ref<'_>) -> Self;

    /// A kept key again.
    fn get(&self) -> Self::Ref<'_>;

    /// Whether both are the same.
    fn is(&self, key: Self::Ref<'_>) -> bool;

    /// Its hash.
    fn hash(key: Self::Ref<'_>, hasher: &RandomState) -> u64;

    /// What stands for it in a [`WindowResult`].
    fn code(key: Self::Ref<'_>) -> u64;
}

impl GroupKey for i64 {
    type Ref<'a> = i64;
    type Column<'a> = &'a [i64];

    #[inline]
    fn column(keys: &ArrayRef) -> &[i64] {
        keys.as_primitive::<Int64Type>().values()
    }

    #[inline]
    fn at(column: Self::Column<'_>, row: usize) -> Self::Ref<'_> {
        column[row]
    }

    #[inline]
    fn keep(key: i64) -> i64 {
        key
    }

    #[inline]
    fn get(&self) -> i64 {
        *self
    }

    #[inline]
    fn is(&self, key: i64) -> bool {
        *self == key
    }

    #[inline]
    fn hash(key: i64, hasher: &RandomState) -> u64 {
        hasher.hash_one(key)
    }

    #[inline]
    fn code(key: i64) -> u64 {
        key as u64
    }
}

impl GroupKey for Box<[u8]> {
    type Ref<'a> = &'a [u8];
    type Column<'a> = &'a StringViewArray;

    #[inline]
    fn column(keys: &ArrayRef) -> &StringViewArray {
        keys.as_string_view()
    }

    #[inline]
    fn at(column: Self::Column<'_>, row: usize) -> Self::Ref<'_> {
        column.value(row).as_bytes()
    }

    #[inline]
    fn keep(key: &[u8]) -> Self {
        key.into()
    }

    #[inline]
    fn get(&self) -> &[u8] {
        self
    }

    #[inline]
    fn is(&self, key: &[u8]) -> bool {
        **self == *key
    }

    #[inline]
    fn hash(key: &[u8], hasher: &RandomState) -> u64 {
        hasher.hash_one(key)
    }

    #[inline]
    fn code(key: &[u8]) -> u64 {
        text_code(key)
    }
}

/// What is known of one group.
pub(super) trait Group: Copy + Send + Sync + 'static {
    /// Of no rows.
    const EMPTY: Self;

    /// Adds a row.
    fn add(&mut self, value: f64);

    /// Adds the rows of another.
    fn merge(&mut self, other: &Self);

    /// Adds its aggregates to a checksum, as the result of a key in a window.
    fn add_to(&self, checksum: &mut Checksum, window: [i64; 2], key: u64);
}

/// Count, sum, minimum and maximum.
#[derive(Clone, Copy)]
pub(super) struct Totals {
    count: i64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Totals {
    /// Its aggregates; whose they are is for the caller to say.
    #[inline]
    pub fn result(&self) -> WindowResult {
        let Self { count, sum, min, max } = *self;
        WindowResult { count, sum, min, max, avg: sum / count as f64, ..WindowResult::default() }
    }
}

impl Group for Totals {
    const EMPTY: Self = Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    #[inline]
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    #[inline]
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    #[inline]
    fn add_to(&self, checksum: &mut Checksum, [window_start, window_end]: [i64; 2], key: u64) {
        checksum.add(&WindowResult { window_start, window_end, key, ..self.result() });
    }
}

/// How many rows.
#[derive(Clone, Copy)]
pub(super) struct Count(i64);

impl Group for Count {
    const EMPTY: Self = Self(0);

    #[inline]
    fn add(&mut self, _: f64) {
        self.0 += 1;
    }

    #[inline]
    fn merge(&mut self, other: &Self) {
        self.0 += other.0;
    }

    #[inline]
    fn add_to(&self, checksum: &mut Checksum, window: [i64; 2], key: u64) {
        checksum.add_count(window, key, self.0);
    }
}

/// The groups of one slice, or of one window.
pub(super) trait SliceTable: Send + Sized {
    /// What all tables of a run share.
    type Shared: Sync;

    /// A table for so many groups, if not more.
    fn with_capacity(groups: usize, shared: &Self::Shared) -> Self;

    /// How many groups there are.
    fn len(&self) -> usize;

    /// Takes in the groups of another table.
    ///
    /// # Errors
    /// Whatever the library reports that keeps the groups.
    fn absorb(&mut self, other: &mut Self) -> Result<()>;

    /// Adds its groups' results, each of the window `[start, end)`.
    ///
    /// # Errors
    /// Whatever the library reports that keeps the groups.
    fn results(self, start: i64, end: i64, into: &mut Checksum) -> Result<()>;
}

/// A table that takes rows a batch at a time.
pub(super) trait BatchTable: SliceTable {
    /// Adds rows.
    ///
    /// # Errors
    /// Whatever the library reports that keeps the groups.
    fn update(&mut self, rows: &RecordBatch) -> Result<()>;
}

/// One struct for each group, in a hash table.
pub(super) struct RowTable<K, G> {
    hasher: RandomState,
    groups: HashTable<(K, G)>,
}

impl<K: GroupKey, G: Group> RowTable<K, G> {
    /// Adds one row.
    #[inline]
    pub fn add(&mut self, key: K::Ref<'_>, value: f64) {
        self.group(key).add(value);
    }

    /// The group of a key, which is made if need be.
    #[inline]
    fn group(&mut self, key: K::Ref<'_>) -> &mut G {
        let Self { hasher, groups } = self;
        let hash = K::hash(key, hasher);
        let rehash = |entry: &(K, G)| K::hash(entry.0.get(), hasher);
        match groups.entry(hash, |entry| entry.0.is(key), rehash) {
            Entry::Occupied(entry) => &mut entry.into_mut().1,
            Entry::Vacant(slot) => &mut slot.insert((K::keep(key), G::EMPTY)).into_mut().1,
        }
    }
}

impl<K: GroupKey, G: Group> SliceTable for RowTable<K, G> {
    type Shared = ();

    fn with_capacity(groups: usize, (): &()) -> Self {
        Self { hasher: RandomState::new(), groups: HashTable::with_capacity(groups) }
    }

    fn len(&self) -> usize {
        self.groups.len()
    }

    fn absorb(&mut self, other: &mut Self) -> Result<()> {
        for (key, theirs) in &other.groups {
            self.group(key.get()).merge(theirs);
        }
        Ok(())
    }

    fn results(self, start: i64, end: i64, into: &mut Checksum) -> Result<()> {
        for (key, group) in &self.groups {
            group.add_to(into, [start, end], K::code(key.get()));
        }
        Ok(())
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

impl BatchTable for ColumnTable {
    fn update(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = i64::column(rows.column(0));
        let values = rows.column(2).as_primitive::<Float64Type>().values();
        let mut groups = std::mem::take(&mut self.groups);
        groups.clear();
        groups.extend(keys.iter().map(|key| self.group(*key)));
        groups.iter().for_each(|group| self.counts[*group as usize] += 1);
        let rows = || groups.iter().map(|group| *group as usize).zip(values);
        rows().for_each(|(group, value)| self.sums[group] += value);
        rows().for_each(|(group, value)| self.mins[group] = self.mins[group].min(*value));
        rows().for_each(|(group, value)| self.maxs[group] = self.maxs[group].max(*value));
        self.groups = groups;
        Ok(())
    }
}

impl SliceTable for ColumnTable {
    type Shared = ();

    fn with_capacity(groups: usize, (): &()) -> Self {
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

    fn absorb(&mut self, other: &mut Self) -> Result<()> {
        for (theirs, key) in other.keys.iter().enumerate() {
            let group = self.group(*key) as usize;
            self.counts[group] += other.counts[theirs];
            self.sums[group] += other.sums[theirs];
            self.mins[group] = self.mins[group].min(other.mins[theirs]);
            self.maxs[group] = self.maxs[group].max(other.maxs[theirs]);
        }
        Ok(())
    }

    fn results(self, start: i64, end: i64, into: &mut Checksum) -> Result<()> {
        for (group, key) in self.keys.iter().enumerate() {
            let (count, sum) = (self.counts[group], self.sums[group]);
            into.add(&WindowResult {
                window_start: start,
                window_end: end,
                key: i64::code(*key),
                count,
                sum,
                min: self.mins[group],
                max: self.maxs[group],
                avg: sum / count as f64,
            });
        }
        Ok(())
    }
}
