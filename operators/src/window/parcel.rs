//! Groups of a slice on their way through the exchange, as they lie in their combiner's table: every
//! owner is told which positions are its own, and takes them from there. On the data path between
//! combiners and mergers where tables are made of cells; groups of other tables travel as rows.
//!
//! Invariant: a table that is shared does not change, and each of its groups has one owner.

use std::sync::Arc;

use tidemill_core::operator::Output;
use tidemill_core::window::Slice;
use tidemill_core::{Error, Parcel, Result};

use super::cells::{CellTable, Owned, Positions};
use super::table::Partial;

/// A slice's groups, sorted by owner.
struct Sorted {
    slice: Slice,
    table: CellTable,
    positions: Positions,
}

/// What one shard owns of a slice's groups.
#[derive(Clone)]
pub(super) struct Share {
    of: Arc<Sorted>,
    owner: usize,
}

/// Hands the groups of a slice over to the shards that own them. Who owns them is handed on in `last`.
pub(super) fn hand_over(
    slice: Slice,
    table: CellTable,
    shards: usize,
    last: &mut Option<Owned>,
    out: &mut dyn Output,
) {
    let positions = table.positions_by_owner(shards, last);
    let sorted = Arc::new(Sorted { slice, table, positions });
    for owner in 0..shards {
        let share = Share { of: sorted.clone(), owner };
        let groups = share.positions().len();
        if groups > 0 {
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
        let owner = parcel.owner;
        match parcel.content.downcast::<Sorted>() {
            Ok(of) => Ok(Self { of, owner }),
            Err(_) => Err(Error::internal("a parcel of another operator came to a merger")),
        }
    }

    pub fn slice(&self) -> Slice {
        self.of.slice
    }

    pub fn table(&self) -> &CellTable {
        &self.of.table
    }

    pub fn positions(&self) -> &[u32] {
        &self.of.positions[self.owner]
    }

    /// The groups with the states of their aggregates.
    pub fn partial(&self) -> Partial {
        self.table().partial(self.positions())
    }

    /// The part of the table's bytes that falls to this share.
    pub fn bytes(&self) -> usize {
        let groups: usize = self.of.positions.iter().map(Vec::len).sum();
        self.table().bytes() / groups.max(1) * self.positions().len()
            + size_of_val(self.positions())
    }
}
