//! The keys that have a session, each with a number of its own: its slot. First step of a row into its
//! session. Invariant: keys with equal values have one slot, and a slot stays its key's until the key
//! is forgotten; then it is given out again.
//!
//! Unlike DataFusion's table of groups, this one lets go of single keys, which sessions do all the time.

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use tidemill_core::Result;

use super::words::Words;

/// Number of a key.
pub(super) type Slot = u32;

/// Keys and their slots.
pub(super) struct Keys {
    schema: SchemaRef,
    index: Index,
    slots: Slots,
}

/// Which slots are taken.
#[derive(Default)]
pub(super) struct Slots {
    free: Vec<Slot>,
    /// How many were ever given out at once.
    len: u32,
}

/// Finds a key's slot.
enum Index {
    /// There are no key columns: all rows have slot 0.
    Single,
    Words(Words),
    Rows(Rows),
}

/// Any other keys, in Arrow's row format.
struct Rows {
    converter: RowConverter,
    hasher: ahash::RandomState,
    table: HashTable<(u64, Slot)>,
    /// By slot.
    rows: Vec<Box<[u8]>>,
}

impl Slots {
    /// A slot that nobody has.
    pub fn take(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        })
    }
}

impl Keys {
    /// No keys yet of these columns.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
        let index = match types.as_slice() {
            [] => Index::Single,
            [one] if one.primitive_width() == Some(8) => Index::Words(Words::new(false)),
            [one] if one.primitive_width() == Some(4) => Index::Words(Words::new(true)),
            types => Index::Rows(Rows::new(types)?),
        };
        Ok(Self { schema, index, slots: Slots::default() })
    }

    /// All slots lie below this.
    pub fn slots(&self) -> usize {
        match self.index {
            Index::Single => 1,
            _ => self.slots.len as usize,
        }
    }

    /// The slot of each of so many rows; keys that are not known yet get one.
    pub fn find(&mut self, keys: &[ArrayRef], rows: usize, found: &mut Vec<Slot>) -> Result<()> {
        found.clear();
        found.reserve(rows);
        match &mut self.index {
            Index::Single => found.resize(rows, 0),
            Index::Words(words) => words.find(keys[0].as_ref(), &mut self.slots, found),
            Index::Rows(rows) => rows.find(keys, &mut self.slots, found)?,
        }
        Ok(())
    }

    /// Lets go of keys; their slots may become others'.
    pub fn forget(&mut self, slots: &[Slot]) {
        match &mut self.index {
            Index::Single => return,
            Index::Words(words) => words.forget(slots),
            Index::Rows(rows) => slots.iter().for_each(|slot| rows.forget(*slot)),
        }
        self.slots.free.extend(slots);
    }

    /// The columns of keys by their slots.
    pub fn columns(&self, slots: impl ExactSizeIterator<Item = Slot>) -> Result<Vec<ArrayRef>> {
        let columns = match &self.index {
            Index::Single => Vec::new(),
            Index::Words(words) => vec![words.column(self.schema.field(0).data_type(), slots)?],
            Index::Rows(rows) => rows.columns(slots)?,
        };
        // The row format knows no dictionaries inside of lists and structs.
        let as_declared = |(column, field): (ArrayRef, &FieldRef)| {
            let is_declared = column.data_type() == field.data_type();
            if is_declared { Ok(column) } else { Ok(cast(&column, field.data_type())?) }
        };
        columns.into_iter().zip(self.schema.fields()).map(as_declared).collect()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let index = match &self.index {
            Index::Single => 0,
            Index::Words(words) => words.bytes(),
            Index::Rows(rows) => {
                let bytes: usize = rows.rows.iter().map(|row| row.len()).sum();
                rows.table.allocation_size() + rows.rows.capacity() * size_of::<&[u8]>() + bytes
            }
        };
        index + self.slots.free.capacity() * size_of::<Slot>()
    }
}

impl Rows {
    fn new(types: &[&DataType]) -> Result<Self> {
        let fields = types.iter().map(|data_type| SortField::new((*data_type).clone()));
        Ok(Self {
            converter: RowConverter::new(fields.collect())?,
            hasher: ahash::RandomState::new(),
            table: HashTable::new(),
            rows: Vec::new(),
        })
    }

    fn find(&mut self, keys: &[ArrayRef], slots: &mut Slots, found: &mut Vec<Slot>) -> Result<()> {
        let Self { converter, hasher, table, rows } = self;
        for key in converter.convert_columns(keys)?.iter() {
            let bytes: &[u8] = key.as_ref();
            let hash = hasher.hash_one(bytes);
            let is_same =
                |known: &(u64, Slot)| known.0 == hash && *rows[known.1 as usize] == *bytes;
            found.push(match table.find(hash, is_same) {
                Some((_, slot)) => *slot,
                None => {
                    let slot = slots.take();
                    rows.resize_with(rows.len().max(slot as usize + 1), Box::default);
                    rows[slot as usize] = bytes.into();
                    table.insert_unique(hash, (hash, slot), |(hash, _)| *hash);
                    slot
                }
            });
        }
        Ok(())
    }

    fn forget(&mut self, slot: Slot) {
        let row = std::mem::take(&mut self.rows[slot as usize]);
        let hash = self.hasher.hash_one(&*row);
        if let Ok(known) = self.table.find_entry(hash, |(_, known)| *known == slot) {
            known.remove();
        }
    }

    fn columns(&self, slots: impl Iterator<Item = Slot>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let rows = slots.map(|slot| parser.parse(&self.rows[slot as usize]));
        Ok(self.converter.convert_rows(rows)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use arrow::array::{Date32Array, Int64Array, StringViewArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    /// Finds keys, forgets some, finds others: columns come back as they went in.
    fn check(first: ArrayRef, second: ArrayRef) {
        let field = Field::new("k", first.data_type().clone(), true);
        let mut keys = Keys::new(Arc::new(Schema::new(vec![field]))).unwrap();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        keys.find(std::slice::from_ref(&first), first.len(), &mut one).unwrap();
        assert_eq!(&keys.columns(one.iter().copied()).unwrap()[0], &first);
        let known = keys.slots();
        keys.find(std::slice::from_ref(&first), first.len(), &mut two).unwrap();
        assert_eq!((&one, known), (&two, keys.slots()), "known keys keep their slots");
        one.sort_unstable();
        one.dedup();
        keys.forget(&one);
        keys.find(std::slice::from_ref(&second), second.len(), &mut two).unwrap();
        assert_eq!(&keys.columns(two.iter().copied()).unwrap()[0], &second);
        assert_eq!(keys.slots(), known, "slots of forgotten keys are given out again");
    }

    #[test]
    fn integers_are_found_however_far_apart_they_come_to_lie() {
        let far = [i64::MIN, i64::MAX, -1, 1 << 40];
        // Close together, then far apart, then close together again.
        let rounds: [Vec<i64>; 5] = [
            (-300..300).collect(),
            (200..5000).rev().collect(),
            far.into_iter().chain(0..50).collect(),
            (i64::MAX - 2000..=i64::MAX).collect(),
            (0..9000).collect(),
        ];
        let field = Field::new("k", DataType::Int64, true);
        let mut keys = Keys::new(Arc::new(Schema::new(vec![field]))).unwrap();
        let (mut found, mut known) = (Vec::new(), BTreeMap::new());
        for round in rounds.iter().chain(&rounds) {
            let column: ArrayRef = Arc::new(Int64Array::from(round.clone()));
            keys.find(std::slice::from_ref(&column), round.len(), &mut found).unwrap();
            for (word, slot) in round.iter().zip(&found) {
                assert_eq!(known.entry(*word).or_insert(*slot), slot, "{word}");
            }
            let taken: BTreeSet<_> = known.values().collect();
            assert_eq!(taken.len(), known.len(), "each key has a slot of its own");
            let odd: Vec<_> = round.iter().filter(|word| **word % 2 != 0).collect();
            for word in odd {
                keys.forget(&[known.remove(word).unwrap()]);
            }
        }
        let slots: Vec<_> = known.values().copied().collect();
        let words = Int64Array::from_iter_values(known.keys().copied());
        assert_eq!(keys.columns(slots.into_iter()).unwrap()[0].as_ref(), &words as &dyn Array);
    }

    #[test]
    fn keys_of_every_form_come_back_as_they_went_in() {
        check(
            Arc::new(Int64Array::from(vec![Some(7), None, Some(-1), Some(0), Some(7), None])),
            Arc::new(Int64Array::from(vec![None, Some(0), Some(5), Some(i64::MIN)])),
        );
        check(
            Arc::new(Date32Array::from(vec![Some(7), None, Some(-1), Some(0)])),
            Arc::new(Date32Array::from(vec![Some(8), Some(0), None])),
        );
        let text = |keys: Vec<Option<&str>>| Arc::new(StringViewArray::from(keys));
        check(
            text(vec![Some("a"), None, Some(""), Some("a key of more than twelve bytes")]),
            text(vec![None, Some("b"), Some("a"), Some("")]),
        );
    }
}
