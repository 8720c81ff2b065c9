//! The results of groups that are kept in cells, on their way out: columns that grow by some hundred groups at
//! a time. On the data path where windows fire and sessions end.
//!
//! Each aggregate goes over the groups anew, so that what is done for one stays in the nearest cache until the last has
//! been there. Invariant: rows are in the order in which groups came.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, NullBufferBuilder};

use super::columns::{CellColumns, CellPlan};
use crate::aggregate::{CellCall, Cells, Group};

/// So many groups, with their cells and their results, stay in the nearest cache.
pub(super) const STRETCH: usize = 512;

/// The results of all aggregates.
pub(super) struct ResultColumns {
    columns: Vec<(ResultColumn, usize)>,
}

/// The results of one.
pub(super) enum ResultColumn {
    Counts(Vec<i64>),
    Doubles(Doubles, Fill),
}

/// Adds what one column's cells say of groups.
type Fill = fn(&Cells, &[Group], &mut Doubles);

/// Values of which usually none is missing.
pub(super) struct Doubles {
    values: Vec<f64>,
    nulls: NullBufferBuilder,
}

impl ResultColumns {
    /// None yet, and room for so many groups.
    pub fn new(plan: &CellPlan, capacity: usize) -> Self {
        let result =
            |(call, column): &(CellCall, usize)| (ResultColumn::new(*call, capacity), *column);
        Self { columns: plan.calls.iter().map(result).collect() }
    }

    /// Adds the results of groups.
    pub fn add(&mut self, cells: &CellColumns, groups: &[Group]) {
        for groups in groups.chunks(STRETCH) {
            for (result, column) in &mut self.columns {
                result.add(cells, *column, groups);
            }
        }
    }

    /// A column for each aggregate.
    pub fn finish(self) -> Vec<ArrayRef> {
        self.columns.into_iter().map(|(result, _)| result.finish()).collect()
    }
}

impl ResultColumn {
    /// None yet, and room for so many groups.
    pub fn new(call: CellCall, capacity: usize) -> Self {
        let fill: Fill = match call {
            CellCall::Rows => return Self::Counts(Vec::with_capacity(capacity)),
            CellCall::Sum => |cells, groups, into| {
                into.extend(groups.iter().map(|group| cells.sum(*group)));
            },
            CellCall::Mean => |cells, groups, into| into.extend(cells.means(groups)),
            CellCall::Min => |cells, groups, into| {
                into.extend(groups.iter().map(|group| cells.least(*group)));
            },
            CellCall::Max => |cells, groups, into| {
                into.extend(groups.iter().map(|group| cells.greatest(*group)));
            },
        };
        let nulls = NullBufferBuilder::new(capacity);
        Self::Doubles(Doubles { values: Vec::with_capacity(capacity), nulls }, fill)
    }

    /// Adds the results of groups, from one of the columns.
    pub fn add(&mut self, cells: &CellColumns, column: usize, groups: &[Group]) {
        match self {
            Self::Counts(counts) => counts.extend(groups.iter().map(|group| group.rows)),
            Self::Doubles(doubles, fill) => fill(&cells.columns[column], groups, doubles),
        }
    }

    /// The column.
    pub fn finish(self) -> ArrayRef {
        match self {
            Self::Counts(counts) => Arc::new(Int64Array::from(counts)),
            Self::Doubles(Doubles { values, mut nulls }, _) => {
                Arc::new(Float64Array::new(values.into(), nulls.finish()))
            }
        }
    }
}

impl Doubles {
    fn extend(&mut self, more: impl Iterator<Item = Option<f64>> + Clone) {
        let before = self.values.len();
        let mut all = true;
        self.values.extend(more.clone().map(|value| {
            all &= value.is_some();
            value.unwrap_or_default()
        }));
        if all {
            self.nulls.append_n_non_nulls(self.values.len() - before);
        } else {
            more.for_each(|value| self.nulls.append(value.is_some()));
        }
    }
}
