//! The aggregates of groups that are numbered by somebody else: on the data path behind every look-up
//! of a key that is not one integer in a tumbling, hopping or cumulating window. Invariant: states and
//! results come out by group, in the order of their numbers.

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use tidemill_core::Result;

use super::columns::CellColumns;
use super::plan::{Call, Evaluated, Plan};
use crate::failed;

/// All aggregates, in the form that is fastest for them.
pub(super) enum Aggregates {
    /// Those that cells can answer.
    Cells(CellColumns),
    /// Of any kind.
    Accumulators(Accumulators),
}

/// The accumulators of all aggregates, for groups that are numbered elsewhere.
pub(super) struct Accumulators(Vec<Box<dyn GroupsAccumulator>>);

impl Aggregates {
    /// Aggregates without groups.
    pub fn new(plan: &Plan) -> Result<Self> {
        Ok(match &plan.cells {
            Some(cells) => Self::Cells(CellColumns::new(cells.clone())),
            None => Self::Accumulators(Accumulators::new(plan)?),
        })
    }

    /// Takes rows, each into its group of so many in all.
    pub fn update(
        &mut self,
        plan: &Plan,
        rows: &Evaluated,
        groups: &[usize],
        total: usize,
    ) -> Result<()> {
        match self {
            Self::Cells(cells) => {
                cells.resize(total);
                cells.update(rows, groups);
                Ok(())
            }
            Self::Accumulators(accumulators) => accumulators.update(plan, rows, groups, total),
        }
    }

    /// Takes partial aggregates, each into its group of so many in all.
    pub fn merge(
        &mut self,
        plan: &Plan,
        states: &[ArrayRef],
        groups: &[usize],
        total: usize,
    ) -> Result<()> {
        match self {
            Self::Cells(cells) => {
                cells.resize(total);
                cells.merge(states, groups)
            }
            Self::Accumulators(accumulators) => accumulators.merge(plan, states, groups, total),
        }
    }

    /// The states of the first so many groups, which are all, and are gone then.
    pub fn take_states(&mut self, total: usize) -> Result<Vec<ArrayRef>> {
        match self {
            Self::Cells(cells) => {
                let states = cells.states(&cells.groups(0..total as u32));
                (0..total).for_each(|group| cells.clear(group));
                Ok(states)
            }
            Self::Accumulators(accumulators) => accumulators.take_states(),
        }
    }

    /// The results of the first so many groups, which are all.
    pub fn into_results(self, total: usize) -> Result<Vec<ArrayRef>> {
        match self {
            Self::Cells(cells) => Ok(cells.results(&cells.groups(0..total as u32))),
            Self::Accumulators(accumulators) => accumulators.into_results(),
        }
    }

    /// Whether aggregates take this one of the evaluated columns.
    pub fn takes(&self, column: usize) -> bool {
        match self {
            Self::Cells(cells) => cells.takes(column),
            Self::Accumulators(_) => true,
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Cells(cells) => cells.bytes(),
            Self::Accumulators(accumulators) => accumulators.bytes(),
        }
    }
}

impl Accumulators {
    /// Accumulators without groups.
    pub fn new(plan: &Plan) -> Result<Self> {
        let accumulators = plan.calls.iter().map(|call| call.aggregate.accumulator());
        Ok(Self(accumulators.collect::<Result<_>>()?))
    }

    /// Takes rows, each into its group of so many in all.
    pub fn update(
        &mut self,
        plan: &Plan,
        rows: &Evaluated,
        groups: &[usize],
        total: usize,
    ) -> Result<()> {
        for (call, accumulator) in plan.calls.iter().zip(&mut self.0) {
            let (values, filter) = arguments(call, rows);
            accumulator.update_batch(&values, groups, filter, total).map_err(failed)?;
        }
        Ok(())
    }

    /// Takes partial aggregates, each into its group of so many in all.
    pub fn merge(
        &mut self,
        plan: &Plan,
        mut states: &[ArrayRef],
        groups: &[usize],
        total: usize,
    ) -> Result<()> {
        for (call, accumulator) in plan.calls.iter().zip(&mut self.0) {
            let (own, others) = states.split_at(call.aggregate.state_fields().len());
            accumulator.merge_batch(own, groups, total).map_err(failed)?;
            states = others;
        }
        Ok(())
    }

    /// The states of all groups, which are gone then.
    pub fn take_states(&mut self) -> Result<Vec<ArrayRef>> {
        let mut states = Vec::new();
        for accumulator in &mut self.0 {
            states.extend(accumulator.state(EmitTo::All).map_err(failed)?);
        }
        Ok(states)
    }

    /// The results of all groups.
    pub fn into_results(mut self) -> Result<Vec<ArrayRef>> {
        self.0.iter_mut().map(|a| a.evaluate(EmitTo::All).map_err(failed)).collect()
    }

    /// The states that rows would have, each as a group of its own.
    pub fn convert(&self, plan: &Plan, rows: &Evaluated) -> Result<Vec<ArrayRef>> {
        let mut states = Vec::new();
        for (call, accumulator) in plan.calls.iter().zip(&self.0) {
            let (values, filter) = arguments(call, rows);
            states.extend(accumulator.convert_to_state(&values, filter).map_err(failed)?);
        }
        Ok(states)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|accumulator| accumulator.size()).sum()
    }
}

/// What one aggregate takes of the rows.
fn arguments<'a>(call: &Call, rows: &'a Evaluated) -> (Vec<ArrayRef>, Option<&'a BooleanArray>) {
    let values = call.inputs.iter().map(|column| rows.values[*column].clone()).collect();
    (values, call.filter.map(|column| rows.values[column].as_boolean()))
}
