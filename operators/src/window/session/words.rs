//! Slots of keys of one column of four or eight bytes. Invariant: a key is found in one place only: by
//! its distance from the first one while keys lie close together, else by its hash.

use arrow::array::{Array, ArrayData, ArrayRef, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use tidemill_core::Result;

use super::keys::{Slot, Slots};
use super::resting::NONE;

/// Places for a key, at most, where they are found by their distance from the first: a table takes as
/// much room. A shard owns one in so many of keys that lie side by side.
const SPREAD: usize = 8;

/// So many places are nothing to be spared, and so few keys not worth any.
const SMALL: usize = 256;

/// Keys by their bits, as integers.
pub(super) struct Words {
    /// Whether values take four bytes, and not eight.
    is_narrow: bool,
    index: Index,
    null: Option<Slot>,
    /// How many there are, but for null.
    known: usize,
    /// By slot.
    words: Vec<i64>,
}

enum Index {
    /// By distance from the first; [`NONE`] for keys that are not known.
    Dense { first: i64, slots: Vec<Slot> },
    Hashed {
        hasher: ahash::RandomState,
        table: HashTable<(i64, Slot)>,
        /// So many keys make it worth looking whether they lie close together.
        look_at: usize,
    },
}

impl Words {
    /// No keys.
    pub fn new(is_narrow: bool) -> Self {
        Self { is_narrow, index: hashed(SMALL), null: None, known: 0, words: Vec::new() }
    }

    /// The slots of keys; those that are not known yet get one.
    pub fn find(&mut self, keys: &dyn Array, slots: &mut Slots, found: &mut Vec<Slot>) {
        let data = keys.to_data();
        let nulls = keys.nulls().filter(|nulls| nulls.null_count() > 0);
        if self.is_narrow {
            let words = data.buffer::<i32>(0)[..keys.len()].iter().map(|word| i64::from(*word));
            self.find_words(words, nulls, slots, found);
        } else {
            let words = data.buffer::<i64>(0)[..keys.len()].iter().copied();
            self.find_words(words, nulls, slots, found);
        }
        self.look_for_density();
    }

    #[inline(always)]
    fn find_words(
        &mut self,
        words: impl Iterator<Item = i64> + Clone,
        nulls: Option<&NullBuffer>,
        slots: &mut Slots,
        found: &mut Vec<Slot>,
    ) {
        let Some(nulls) = nulls else {
            return self.find_valid(words, slots, found);
        };
        for (row, word) in words.enumerate() {
            found.push(match (nulls.is_null(row), self.null) {
                (false, _) => self.find_word(word, slots),
                (true, Some(slot)) => slot,
                (true, None) => {
                    let slot = self.name(0, slots);
                    self.null = Some(slot);
                    slot
                }
            });
        }
    }

    #[inline(always)]
    fn find_valid(
        &mut self,
        words: impl Iterator<Item = i64> + Clone,
        slots: &mut Slots,
        found: &mut Vec<Slot>,
    ) {
        let Index::Dense { first, slots: known } = &self.index else {
            return found.extend(words.map(|word| self.find_word(word, slots)));
        };
        // All that are known first: nothing hangs on what is found, so that none is waited for.
        let place = |word: i64| known.get(word.wrapping_sub(*first) as usize);
        let start = found.len();
        found.extend(words.clone().map(|word| place(word).copied().unwrap_or(NONE)));
        for (found, word) in found[start..].iter_mut().zip(words) {
            if *found == NONE {
                *found = self.find_word(word, slots);
            }
        }
    }

    #[inline(always)]
    fn find_word(&mut self, word: i64, slots: &mut Slots) -> Slot {
        let found = match &self.index {
            Index::Dense { first, slots } => {
                slots.get(word.wrapping_sub(*first) as usize).copied().filter(|slot| *slot != NONE)
            }
            Index::Hashed { hasher, table, .. } => {
                let is_same = |(known, _): &(i64, Slot)| *known == word;
                table.find(hasher.hash_one(word), is_same).map(|(_, slot)| *slot)
            }
        };
        found.unwrap_or_else(|| self.add(word, slots))
    }

    /// Takes in a key that is not known.
    #[inline(never)]
    fn add(&mut self, word: i64, slots: &mut Slots) -> Slot {
        let slot = self.name(word, slots);
        self.known += 1;
        self.make_room(word);
        self.put(word, slot);
        slot
    }

    /// Gives a key a slot.
    fn name(&mut self, word: i64, slots: &mut Slots) -> Slot {
        let slot = slots.take();
        self.words.resize(self.words.len().max(slot as usize + 1), 0);
        self.words[slot as usize] = word;
        slot
    }

    fn put(&mut self, word: i64, slot: Slot) {
        match &mut self.index {
            Index::Dense { first, slots } => slots[word.wrapping_sub(*first) as usize] = slot,
            Index::Hashed { hasher, table, .. } => {
                let rehash = |(word, _): &(i64, Slot)| hasher.hash_one(word);
                table.insert_unique(hasher.hash_one(word), (word, slot), rehash);
            }
        }
    }

    /// Lets go of keys.
    pub fn forget(&mut self, slots: &[Slot]) {
        let Self { index, null, words, .. } = self;
        let is_null = |slot: &Slot| *null == Some(*slot);
        let words = slots.iter().filter(|slot| !is_null(slot)).map(|slot| words[*slot as usize]);
        match index {
            Index::Dense { first, slots } => words.for_each(|word| {
                self.known -= 1;
                slots[word.wrapping_sub(*first) as usize] = NONE;
            }),
            Index::Hashed { hasher, table, .. } => words.for_each(|word| {
                self.known -= 1;
                if let Ok(known) = table.find_entry(hasher.hash_one(word), |(w, _)| *w == word) {
                    known.remove();
                }
            }),
        }
        if slots.iter().any(is_null) {
            self.null = None;
        }
    }

    /// The keys that have a place, with their slots.
    fn keys(&self) -> Vec<(i64, Slot)> {
        match &self.index {
            Index::Dense { first, slots } => {
                let keys = slots.iter().enumerate().filter(|(_, slot)| **slot != NONE);
                keys.map(|(at, slot)| (first.wrapping_add(at as i64), *slot)).collect()
            }
            Index::Hashed { table, .. } => table.iter().copied().collect(),
        }
    }

    /// Makes dense places reach to a key, or does without them.
    fn make_room(&mut self, word: i64) {
        let Index::Dense { first, slots } = &self.index else { return };
        if (word.wrapping_sub(*first) as usize) < slots.len() {
            return;
        }
        let keys = self.keys();
        let (low, high) = bounds(&keys, (word, word));
        self.index = match span(low, high) {
            Some(span) if span < SMALL.max(SPREAD * self.known) => {
                // Some more on the side that grows, so that it does not grow for each key.
                let more = span / 2 + 1;
                let first = if word == low { low.wrapping_sub(more as i64) } else { low };
                Index::Dense { first, slots: vec![NONE; span + 1 + more] }
            }
            _ => hashed(2 * self.known.max(SMALL)),
        };
        keys.into_iter().for_each(|(word, slot)| self.put(word, slot));
    }

    /// Makes the index dense where keys have come to lie close together.
    fn look_for_density(&mut self) {
        let Index::Hashed { look_at, .. } = &mut self.index else { return };
        if self.known < *look_at {
            return;
        }
        *look_at = 2 * self.known;
        let keys = self.keys();
        let (low, high) = bounds(&keys, (keys[0].0, keys[0].0));
        if let Some(span) = span(low, high).filter(|span| *span < SPREAD * self.known) {
            self.index = Index::Dense { first: low, slots: vec![NONE; span + 1] };
            keys.into_iter().for_each(|(word, slot)| self.put(word, slot));
        }
    }

    /// The column of keys by their slots.
    pub fn column(
        &self,
        data_type: &DataType,
        slots: impl ExactSizeIterator<Item = Slot>,
    ) -> Result<ArrayRef> {
        let slots: Vec<Slot> = slots.collect();
        let words = slots.iter().map(|slot| self.words[*slot as usize]);
        let values = match self.is_narrow {
            true => Buffer::from_vec(words.map(|word| word as i32).collect()),
            false => Buffer::from_vec(words.collect()),
        };
        let valid = |null: Slot| slots.iter().map(|slot| *slot != null).collect::<NullBuffer>();
        let data = ArrayData::builder(data_type.clone()).len(slots.len()).add_buffer(values);
        Ok(make_array(data.nulls(self.null.map(valid)).build()?))
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let index = match &self.index {
            Index::Dense { slots, .. } => slots.capacity() * size_of::<Slot>(),
            Index::Hashed { table, .. } => table.allocation_size(),
        };
        index + self.words.capacity() * size_of::<i64>()
    }
}

fn hashed(look_at: usize) -> Index {
    Index::Hashed { hasher: ahash::RandomState::new(), table: HashTable::new(), look_at }
}

/// The least and the greatest of keys and of two more.
fn bounds(keys: &[(i64, Slot)], (low, high): (i64, i64)) -> (i64, i64) {
    let widen =
        |(low, high): (i64, i64), (word, _): &(i64, Slot)| (low.min(*word), high.max(*word));
    keys.iter().fold((low, high), widen)
}

/// How far two keys lie apart, if that is a number of places.
fn span(low: i64, high: i64) -> Option<usize> {
    // Not less than zero, since `low` is not above `high`; the difference of two i64 fits into a u64.
    usize::try_from(high.wrapping_sub(low) as u64).ok()
}
