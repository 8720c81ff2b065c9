//! The memory of a table that is gone, for one that comes. On the data path where slices begin: fresh memory is cleared and
//! entered page by page by the system, with all other processors interrupted when it is given back.
//!
//! Invariants: what is given out is empty; there is one such table for each operator at most, and none that it has
//! not been told of.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::window::columns::{CellColumns, CellPlan};

/// A table may lie in memory for so many times the groups that it has room for.
const LARGER: usize = 2;

/// The last table of an operator that is gone. Nothing where none is asked for.
#[derive(Default)]
pub(super) struct Spare(Option<Arc<Mutex<Option<CellColumns>>>>);

/// Where a table's memory goes in the end: to the operator that it began in, if that still wants it.
pub(super) struct Home(Weak<Mutex<Option<CellColumns>>>);

impl Spare {
    /// Columns of so many positions without groups, and where they go.
    pub fn take(&mut self, plan: &Arc<CellPlan>, len: usize) -> (CellColumns, Home) {
        let place = self.0.get_or_insert_default();
        let spare = place.lock().take();
        let fits = |columns: &CellColumns| (len..=LARGER * len).contains(&columns.room());
        let mut columns = spare.filter(fits).unwrap_or_else(|| CellColumns::new(plan.clone()));
        columns.empty(len);
        (columns, Home(Arc::downgrade(place)))
    }

    /// Frees what is there, and what would still come.
    pub fn release(&mut self) {
        self.0 = None;
    }

    /// Bytes that nobody uses.
    pub fn bytes(&self) -> usize {
        let spare = self.0.as_ref().map(|place| place.lock());
        spare.and_then(|spare| spare.as_ref().map(CellColumns::bytes)).unwrap_or(0)
    }
}

impl Home {
    /// Takes a table's memory, in place of that of the one before.
    pub fn give(&self, mut columns: CellColumns) {
        let Some(place) = self.0.upgrade() else { return };
        columns.empty(0);
        let before = place.lock().replace(columns);
        // Not while the other shards wait.
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{CellCall, Cells};

    fn plan() -> Arc<CellPlan> {
        Arc::new(CellPlan { inputs: vec![0, 1], calls: vec![(CellCall::Rows, 0)] })
    }

    /// Columns of so many groups, that all have sums, nulls and a spill.
    fn full(spare: &mut Spare, len: usize) -> (CellColumns, Home) {
        let (mut columns, home) = spare.take(&plan(), len);
        columns.counts.fill(3);
        let values = [Some(1e300), Some(1e-300), Some(1.5), None];
        let values = values.into_iter().collect();
        columns.columns.iter_mut().for_each(|cells: &mut Cells| {
            (0..len).for_each(|group| cells.update([group; 4].into_iter(), |_| 7, &values));
        });
        (columns, home)
    }

    #[test]
    fn memory_is_taken_again_and_nothing_of_what_it_held() {
        let mut spare = Spare::default();
        let (given, home) = full(&mut spare, 1000);
        let at = given.counts.as_ptr();
        home.give(given);
        let (mut again, _) = spare.take(&plan(), 600);
        assert_eq!((again.counts.as_ptr(), spare.bytes()), (at, 0));
        again.resize(900);
        let mut fresh = CellColumns::new(plan());
        fresh.resize(900);
        let groups = |columns: &mut CellColumns| {
            assert!(columns.counts.iter().all(|count| *count == 0));
            columns.counts.fill(1);
            columns.groups(0..900)
        };
        let (found, expected) = (groups(&mut again), groups(&mut fresh));
        for (cells, others) in again.columns.iter().zip(&fresh.columns) {
            assert_eq!(cells.sum_states(&found), others.sum_states(&expected));
            for (one, other) in found.iter().zip(&expected) {
                assert_eq!(cells.count(*one), others.count(*other));
                assert_eq!(cells.greatest(*one), others.greatest(*other));
                assert_eq!(cells.least(*one), others.least(*other));
            }
        }
    }

    #[test]
    fn the_last_table_lies_there_alone_while_it_is_wanted() {
        let mut spare = Spare::default();
        let tables = [full(&mut spare, 10), full(&mut spare, 1000), full(&mut spare, 1000)];
        let [small, large, late] = tables;
        small.1.give(small.0);
        let least = spare.bytes();
        large.1.give(large.0);
        assert!(least > 0 && spare.bytes() > 90 * least, "{} is not {least}", spare.bytes());
        // Of another size: it is let go.
        assert!(spare.take(&plan(), 499).0.room() < 1000);
        assert_eq!(spare.bytes(), 0);
        spare.release();
        late.1.give(late.0);
        let (_, home) = full(&mut spare, 10);
        assert_eq!(spare.bytes(), 0, "what comes after it was released goes nowhere");
        drop(spare);
        home.give(CellColumns::new(plan()));
    }
}
