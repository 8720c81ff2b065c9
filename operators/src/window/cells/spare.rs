//! Memory of tables that are gone, for those that come. On the data path where slices begin: fresh memory is cleared and
//! entered page by page by the system, with all other processors interrupted when it is given back, and lies in no cache.
//!
//! Invariants: what is given out is empty; what nobody takes is no more than [`MOST`] tables.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::window::columns::{CellColumns, CellPlan};

/// So many tables lie here at most: slices end as often as others begin.
const MOST: usize = 2;

/// Memory for as many groups as are asked for, at most, for each of them.
const ROOM: usize = 2;

/// Memory that goes from table to table of one operator, wherever they end.
#[derive(Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<CellColumns>>>);

impl Spare {
    /// Columns of so many positions without groups.
    pub fn take(&self, plan: &Arc<CellPlan>, len: usize) -> CellColumns {
        // Of another size it would only lie here.
        let fits = |columns: &CellColumns| (len..=ROOM * len).contains(&columns.room());
        let spare = self.0.lock().pop().filter(fits);
        let mut columns = spare.unwrap_or_else(|| CellColumns::new(plan.clone()));
        columns.empty(len);
        columns
    }

    /// Bytes that nobody uses.
    pub fn bytes(&self) -> usize {
        self.0.lock().iter().map(CellColumns::bytes).sum()
    }

    /// Takes a table's memory.
    pub fn give(&self, columns: CellColumns) {
        let mut all = self.0.lock();
        if all.len() < MOST {
            all.push(columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_fits_is_taken_again_and_no_more_is_kept_than_slices_need() {
        let plan = Arc::new(CellPlan { inputs: vec![0], calls: vec![] });
        let spare = Spare::default();
        let table = |len: usize| CellColumns { counts: vec![1; len], ..spare.take(&plan, len) };
        let given = table(1000);
        let at = given.counts.as_ptr();
        spare.give(given);
        let again = spare.take(&plan, 600);
        assert_eq!((again.counts.as_ptr(), &*again.counts), (at, &[0; 600][..]));
        for len in [499, 1001] {
            spare.give(table(1000));
            assert!(spare.take(&plan, len).room() < 2 * len, "{len}");
            assert!(spare.0.lock().is_empty());
        }
        let many: Vec<_> = (0..5).map(|_| table(10)).collect();
        many.into_iter().for_each(|table| spare.give(table));
        assert_eq!(spare.0.lock().len(), MOST);
    }
}
