//! The keys of a dense table that one shard owns: what its share of the table is, and where they lie in the
//! owner's own table. On the data path of the exchange.
//!
//! ```text
//! keys of a range     100  101  102  103  104  105  106 …
//! owned by shard 0     ×         ×    ×              ×
//! offsets              0         2    3              6
//! place                0         1    2              3
//! ```
//!
//! Invariant: who owns a key follows from the key alone, so what two lists of one owner hold of the keys that are in
//! both their ranges is the same.

use std::ops::Range;
use std::sync::Arc;

use tidemill_core::key::{hash_integer, key_group, owner};

/// The keys of a range that one shard owns, in ascending order, with groups or without.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::window) struct OwnedKeys {
    /// Who owns them, of how many shards.
    owner: (usize, usize),
    /// The first key of the range, whoever owns it.
    first: i64,
    /// The last one.
    last: i64,
    /// How far behind the first the keys lie: their positions in a dense table of the range.
    offsets: Vec<u32>,
}

/// The keys of a range by their owners.
pub(in crate::window) type ByOwner = Arc<[Arc<OwnedKeys>]>;

impl OwnedKeys {
    /// Those of `len` keys that each shard owns.
    pub fn by_owner(first: i64, len: usize, shards: usize) -> ByOwner {
        let last = first + (len as i64 - 1);
        let mut offsets: Vec<_> = (0..shards).map(|_| Vec::with_capacity(len / shards)).collect();
        for offset in 0..len {
            let hash = hash_integer(first + offset as i64);
            offsets[owner(key_group(hash), shards)].push(offset as u32);
        }
        let owned =
            |(owner, offsets)| Arc::new(Self { owner: (owner, shards), first, last, offsets });
        offsets.into_iter().enumerate().map(owned).collect()
    }

    /// Whether they are those of this range.
    pub fn is_of(&self, first: i64, len: usize) -> bool {
        self.first == first && self.last == first + (len as i64 - 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Their positions in a dense table of the range.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The key at this place.
    pub fn key(&self, place: usize) -> i64 {
        self.first + i64::from(self.offsets[place])
    }

    /// The place of a key, if it is one of them.
    pub fn place(&self, key: i64) -> Option<usize> {
        let offset = u32::try_from(key.wrapping_sub(self.first) as u64).ok()?;
        self.offsets.binary_search(&offset).ok()
    }

    /// The place of the first of some other keys, if they have the same owner and their range lies in this one.
    pub fn place_of(&self, others: &Self) -> Option<usize> {
        let is_inside = self.first <= others.first && others.last <= self.last;
        let before = |offset: &u32| self.first + i64::from(*offset) < others.first;
        (is_inside && self.owner == others.owner).then(|| self.offsets.partition_point(before))
    }

    /// Those at some of the places, of which there is one at least.
    pub fn at(&self, places: Range<usize>) -> Self {
        let (first, last) = (self.key(places.start), self.key(places.end - 1));
        let before = self.offsets[places.start];
        let offsets = self.offsets[places].iter().map(|offset| offset - before).collect();
        Self { owner: self.owner, first, last, offsets }
    }

    /// The places of the keys that others have, too, who have the same owner.
    pub fn shared_with(&self, others: &Self) -> Range<usize> {
        let key = |offset: &u32| self.first + i64::from(*offset);
        let start = self.offsets.partition_point(|offset| key(offset) < others.first);
        let end = self.offsets.partition_point(|offset| key(offset) <= others.last);
        start..end
    }

    /// The keys of both ranges together; `None` where there are keys between them, or they have other owners.
    pub fn union(&self, others: &Self) -> Option<Self> {
        let [low, high] = if self.first <= others.first { [self, others] } else { [others, self] };
        if self.owner != others.owner || low.last.saturating_add(1) < high.first {
            return None;
        }
        let (first, last) = (low.first, low.last.max(high.last));
        let more = u32::try_from(high.first.wrapping_sub(first) as u64).ok()?;
        u32::try_from(last.wrapping_sub(first) as u64).ok()?;
        let mut offsets = low.offsets.clone();
        let known = offsets.last().copied();
        let behind = high.offsets.iter().map(|offset| offset + more);
        offsets.extend(behind.filter(|offset| Some(*offset) > known));
        Some(Self { owner: self.owner, first, last, offsets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of shard 1 of 3 in a range.
    fn keys(first: i64, len: usize) -> Arc<OwnedKeys> {
        OwnedKeys::by_owner(first, len, 3)[1].clone()
    }

    #[test]
    fn every_key_of_a_range_has_one_owner_and_a_place_there() {
        let by_owner = OwnedKeys::by_owner(-50, 1000, 3);
        for key in -60..960 {
            let owners = by_owner.iter().filter_map(|owned| Some((owned, owned.place(key)?)));
            let owners: Vec<_> = owners.collect();
            assert_eq!(owners.len(), usize::from((-50..950).contains(&key)), "{key}");
            assert!(owners.iter().all(|(owned, place)| owned.key(*place) == key), "{key}");
        }
        assert!(by_owner[0].is_of(-50, 1000) && !by_owner[0].is_of(-50, 999));
    }

    #[test]
    fn the_union_of_ranges_is_what_their_owner_has_of_both() {
        let own = keys(100, 200);
        for (first, len, of_both) in [
            (50, 100, Some((50, 250))),
            (250, 100, Some((100, 250))),
            (300, 10, Some((100, 210))),
            (301, 10, None),
            (0, 99, None),
            (0, 100, Some((0, 300))),
            (0, 1000, Some((0, 1000))),
            (150, 20, Some((100, 200))),
        ] {
            let others = keys(first, len);
            let expected = of_both.map(|(first, len)| keys(first, len));
            assert_eq!(own.union(&others).map(Arc::new), expected, "{first}, {len}");
            assert_eq!(others.union(&own).map(Arc::new), expected, "{first}, {len}");
        }
    }

    #[test]
    fn keys_of_a_range_inside_follow_each_other() {
        let own = keys(100, 200);
        let others = keys(150, 60);
        let start = own.place_of(&others).unwrap();
        for place in 0..others.len() {
            assert_eq!(own.key(start + place), others.key(place));
        }
        assert_eq!((own.place_of(&keys(99, 10)), own.place_of(&keys(290, 11))), (None, None));
    }

    #[test]
    fn some_of_the_keys_are_shared_with_those_that_have_them_too() {
        let own = keys(100, 200);
        let some = own.at(10..30);
        assert_eq!((own.place_of(&some), own.shared_with(&some)), (Some(10), 10..30));
        assert!((0..20).all(|place| some.key(place) == own.key(10 + place)));
        let others = keys(own.key(20), 1000);
        assert_eq!((some.shared_with(&others), others.shared_with(&some)), (10..20, 0..10));
        assert!(own.shared_with(&keys(300, 10)).is_empty());
    }

    #[test]
    fn keys_of_others_have_no_place_here() {
        let by_owner = OwnedKeys::by_owner(0, 100, 3);
        let of_two = &OwnedKeys::by_owner(0, 100, 2)[1];
        for others in [&by_owner[0], of_two] {
            assert_eq!((by_owner[1].place_of(others), by_owner[1].union(others)), (None, None));
        }
    }

    #[test]
    fn keys_at_the_ends_of_their_type_have_places() {
        let low = keys(i64::MIN, 100);
        let high = keys(i64::MAX - 99, 100);
        assert_eq!((low.union(&high), high.union(&low)), (None, None));
        for owned in [low, high] {
            assert_eq!(owned.place(owned.key(3)), Some(3));
            assert_eq!((owned.place(0), owned.place_of(&owned)), (None, Some(0)));
        }
    }
}
