//! Results of tables by one integer key on their way out, in batches. On the data path where windows fire.
//! Invariant: they leave in the order in which they come, and none is left behind.

use std::sync::Arc;

use arrow::array::Int64Array;
use tidemill_core::Result;

use crate::aggregate::Group;
use crate::window::columns::{CellColumns, CellPlan};
use crate::window::emit::BATCH_ROWS;
use crate::window::results::ResultColumns;
use crate::window::table::Results;

/// What has not left yet, and where it goes.
pub(super) struct Outgoing<'a, F> {
    plan: &'a CellPlan,
    keys: Vec<i64>,
    columns: ResultColumns,
    /// How many groups there may still be, with those that are here.
    left: usize,
    each: F,
}

impl<'a, F: FnMut(Results) -> Result<()>> Outgoing<'a, F> {
    /// Nothing yet, and so many groups to come at most.
    pub fn new(plan: &'a CellPlan, groups: usize, each: F) -> Self {
        let room = groups.min(BATCH_ROWS);
        let (keys, columns) = (Vec::with_capacity(room), ResultColumns::new(plan, room));
        Self { plan, keys, columns, left: groups, each }
    }

    /// The results of some more groups.
    pub fn add(&mut self, cells: &CellColumns, groups: &[Group]) -> Result<()> {
        if self.keys.len() + groups.len() > BATCH_ROWS {
            self.left = self.left.saturating_sub(self.keys.len());
            let room = self.left.min(BATCH_ROWS);
            let keys = std::mem::replace(&mut self.keys, Vec::with_capacity(room));
            let columns = std::mem::replace(&mut self.columns, ResultColumns::new(self.plan, room));
            (self.each)(results(keys, columns))?;
        }
        self.keys.extend(groups.iter().map(|group| group.key));
        self.columns.add(cells, groups);
        Ok(())
    }

    /// The rest.
    pub fn finish(mut self) -> Result<()> {
        if self.keys.is_empty() { Ok(()) } else { (self.each)(results(self.keys, self.columns)) }
    }
}

fn results(keys: Vec<i64>, columns: ResultColumns) -> Results {
    let (rows, keys) = (keys.len(), vec![Arc::new(Int64Array::from(keys)) as _]);
    Results { rows, keys, values: columns.finish() }
}
