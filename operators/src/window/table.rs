//! Partial aggregates of a set of groups: growing in a [`Table`], or at rest in a [`Partial`].
//! On the data path in all three operators; a partial at rest is also what goes through the
//! exchange and into checkpoints. Invariant: the groups of a table are distinct.

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;
use tidemill_core::Result;

use super::plan::{BOUNDS, Evaluated, Plan};
use crate::failed;

/// Groups and their accumulators.
pub(super) struct Table {
    /// `None` where there are no keys: then all rows are group 0.
    groups: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// How many groups there are.
    len: usize,
    /// How many rows went in.
    rows: usize,
}

/// Partial aggregates at rest: for each row its key and the states of its aggregates. Several rows
/// may have the same key.
#[derive(Clone)]
pub(super) struct Partial {
    pub rows: usize,
    pub keys: Vec<ArrayRef>,
    pub states: Vec<ArrayRef>,
}

/// Groups with their results.
pub(super) struct Results {
    pub keys: Vec<ArrayRef>,
    pub values: Vec<ArrayRef>,
    pub rows: usize,
}

/// Group of each row of the batch at hand; kept only for its memory.
pub(super) type Scratch = Vec<usize>;

impl Table {
    pub fn new(plan: &Plan) -> Result<Self> {
        let groups = if plan.keys.fields().is_empty() {
            None
        } else {
            Some(new_group_values(plan.keys.clone(), &GroupOrdering::None).map_err(failed)?)
        };
        let accumulators =
            plan.calls.iter().map(|call| call.aggregate.accumulator()).collect::<Result<_>>()?;
        Ok(Self { groups, accumulators, len: 0, rows: 0 })
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many rows, or rows of partial aggregates, went in.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes rows.
    pub fn update(&mut self, plan: &Plan, rows: &Evaluated, scratch: &mut Scratch) -> Result<()> {
        if rows.rows == 0 {
            return Ok(());
        }
        self.intern(&rows.keys, rows.rows, scratch)?;
        for (call, accumulator) in plan.calls.iter().zip(&mut self.accumulators) {
            let filter = call.filter.map(|column| rows.values[column].as_boolean());
            let values: Vec<_> = call.inputs.iter().map(|i| rows.values[*i].clone()).collect();
            accumulator.update_batch(&values, scratch, filter, self.len).map_err(failed)?;
        }
        Ok(())
    }

    /// Takes partial aggregates.
    pub fn merge(&mut self, plan: &Plan, partial: &Partial, scratch: &mut Scratch) -> Result<()> {
        if partial.rows == 0 {
            return Ok(());
        }
        self.intern(&partial.keys, partial.rows, scratch)?;
        let mut states = partial.states.as_slice();
        for (call, accumulator) in plan.calls.iter().zip(&mut self.accumulators) {
            let (own, others) = states.split_at(call.aggregate.state_fields().len());
            accumulator.merge_batch(own, scratch, self.len).map_err(failed)?;
            states = others;
        }
        Ok(())
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize, scratch: &mut Scratch) -> Result<()> {
        self.rows += rows;
        match &mut self.groups {
            Some(groups) => {
                groups.intern(keys, scratch).map_err(failed)?;
                self.len = groups.len();
            }
            None => {
                scratch.clear();
                scratch.resize(rows, 0);
                self.len = 1;
            }
        }
        Ok(())
    }

    /// The groups with the states of their aggregates.
    pub fn into_partial(mut self) -> Result<Partial> {
        let mut states = Vec::new();
        for accumulator in &mut self.accumulators {
            states.extend(accumulator.state(EmitTo::All).map_err(failed)?);
        }
        Ok(Partial { rows: self.len, keys: self.take_keys()?, states })
    }

    /// The groups with the results of their aggregates.
    pub fn into_results(mut self) -> Result<Results> {
        let mut values = Vec::with_capacity(self.accumulators.len());
        for accumulator in &mut self.accumulators {
            values.push(accumulator.evaluate(EmitTo::All).map_err(failed)?);
        }
        Ok(Results { rows: self.len, keys: self.take_keys()?, values })
    }

    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        match &mut self.groups {
            Some(groups) => groups.emit(EmitTo::All).map_err(failed),
            None => Ok(Vec::new()),
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let groups = self.groups.as_ref().map_or(0, |groups| groups.size());
        groups + self.accumulators.iter().map(|a| a.size()).sum::<usize>()
    }
}

impl Partial {
    /// The keys and states of rows of [`Plan::partial`].
    pub fn of(plan: &Plan, rows: &RecordBatch) -> Self {
        let keys = plan.key_columns();
        Self {
            rows: rows.num_rows(),
            keys: rows.columns()[keys.clone()].to_vec(),
            states: rows.columns()[keys.end..].to_vec(),
        }
    }

    /// Each row as a group of its own.
    pub fn convert(
        plan: &Plan,
        accumulators: &[Box<dyn GroupsAccumulator>],
        rows: &Evaluated,
    ) -> Result<Self> {
        let mut states = Vec::new();
        for (call, accumulator) in plan.calls.iter().zip(accumulators) {
            let filter = call.filter.map(|column| rows.values[column].as_boolean());
            let values: Vec<_> = call.inputs.iter().map(|i| rows.values[*i].clone()).collect();
            states.extend(accumulator.convert_to_state(&values, filter).map_err(failed)?);
        }
        Ok(Self { rows: rows.rows, keys: rows.keys.clone(), states })
    }

    /// Rows of [`Plan::partial`] with these bounds.
    pub fn into_batch(self, plan: &Plan, bounds: [Int64Array; BOUNDS]) -> Result<RecordBatch> {
        let bounds = bounds.map(|bound| std::sync::Arc::new(bound) as ArrayRef);
        let columns = bounds.into_iter().chain(self.keys).chain(self.states).collect();
        Ok(RecordBatch::try_new(plan.partial.clone(), columns)?)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.states).map(|column| column.get_array_memory_size()).sum()
    }
}
