//! Groups of a slice on their way through the exchange, as they lie in their combiner's table: every
//! owner is told which positions are its own, and takes them from there. On the data path between
//! combiners and mergers where tables are made of cells; groups of other tables travel as rows.
//!
//! Invariants: a table that is shared does not change, and each of its groups has one owner; it is there until no owner
//! needs its share any more.

use std::sync::Arc;

use tidemill_core::operator::Output;
use tidemill_core::window::Slice;
use tidemill_core::{Error, Parcel, Result};

use super::cells::{ByOwner, CellTable, Part, Parts};
use super::table::Partial;

/// A slice's groups, sorted by owner.
struct Sorted {
    slice: Slice,
    table: CellTable,
    parts: Parts,
    /// Whether the sender has no more of this slice.
    is_last: bool,
}

/// What one shard owns of a slice's groups.
#[derive(Clone)]
pub(super) struct Share {
    of: Arc<Sorted>,
    owner: usize,
    groups: usize,
}

/// Hands the groups of a slice over to the shards that own them: the last of this sender's, or some of them. Who owns
/// them is handed on in `known`.
pub(super) fn hand_over(
    slice: Slice,
    table: CellTable,
    is_last: bool,
    shards: usize,
    known: &mut Option<ByOwner>,
    out: &mut dyn Output,
) {
    let parts = table.by_owner(shards, known);
    let sorted = Arc::new(Sorted { slice, table, parts, is_last });
    for owner in 0..shards {
        let groups = sorted.table.groups_at(sorted.parts.of(owner).positions());
        if groups > 0 {
            let share = Share { of: sorted.clone(), owner, groups };
            let (bytes, content) = (share.bytes(), sorted.clone());
            out.hand_over(Parcel { owner, content, groups, bytes });
        }
    }
}

impl Share {
    /// What a parcel holds for its owner.
    ///
    /// # Errors
    /// It was packed by another operator: an internal error.
    pub fn unpack(parcel: Parcel) -> Result<Self> {
        let Parcel { owner, groups, .. } = parcel;
        match parcel.content.downcast::<Sorted>() {
            Ok(of) => Ok(Self { of, owner, groups }),
            Err(_) => Err(Error::internal("a parcel of another operator came to a merger")),
        }
    }

    pub fn slice(&self) -> Slice {
        self.of.slice
    }

    /// Whether its sender has no more of this slice.
    pub fn is_last(&self) -> bool {
        self.of.is_last
    }

    pub fn table(&self) -> &CellTable {
        &self.of.table
    }

    pub fn part(&self) -> Part<'_> {
        self.of.parts.of(self.owner)
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The groups with the states of their aggregates.
    pub fn partial(&self) -> Partial {
        self.table().partial(self.part().positions())
    }

    /// The part of the table's bytes that falls to this share.
    pub fn bytes(&self) -> usize {
        let positions = self.of.parts.positions().max(1);
        self.table().bytes() / positions * self.part().positions().len()
    }
}
