//! Partial aggregates of a set of groups: growing in a [`Table`], or at rest in a [`Partial`].
//! On the data path in all three operators; a partial at rest is also what goes through the
//! exchange and into checkpoints. Invariant: the groups of a table are distinct.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::DataType;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;
use tidemill_core::Result;

use super::cells::{CellTable, Range};
use super::plan::{BOUNDS, Call, Evaluated, Plan};
use super::session::CellColumns;
use crate::failed;

/// The accumulators of all aggregates, for groups that are numbered elsewhere.
pub(super) struct Accumulators(Vec<Box<dyn GroupsAccumulator>>);

/// Groups by key with their aggregates.
pub(super) struct Table {
    form: Form,
    /// How many rows went in.
    rows: usize,
}

enum Form {
    /// For keys and aggregates of any kind.
    General(GeneralTable),
    /// For one integer key, and aggregates that cells can answer.
    Cells(CellTable),
}

/// Groups by keys of any kind, with their aggregates by number.
struct GeneralTable {
    /// `None` where there are no keys: then all rows are group 0.
    groups: Option<Box<dyn GroupValues>>,
    aggregates: Aggregates,
    /// How many groups there are.
    len: usize,
}

/// The aggregates of groups that are numbered elsewhere.
enum Aggregates {
    /// Of any kind.
    Accumulators(Accumulators),
    /// Those that cells can answer.
    Cells(CellColumns),
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

/// What tables hand on to each other.
#[derive(Default)]
pub(super) struct Handover {
    groups: Scratch,
    /// Where keys have lain close together.
    range: Option<Range>,
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

impl Table {
    pub fn new(plan: &Plan) -> Result<Self> {
        let is_integer =
            matches!(plan.keys.fields().as_ref(), [key] if *key.data_type() == DataType::Int64);
        let form = match &plan.cells {
            Some(cells) if is_integer => Form::Cells(CellTable::new(cells.clone())),
            _ => Form::General(GeneralTable::new(plan)?),
        };
        Ok(Self { form, rows: 0 })
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::General(table) => table.len,
            Form::Cells(table) => table.len(),
        }
    }

    /// How many rows, or rows of partial aggregates, went in.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes rows.
    pub fn update(&mut self, plan: &Plan, rows: &Evaluated, handover: &mut Handover) -> Result<()> {
        if rows.rows == 0 {
            return Ok(());
        }
        self.rows += rows.rows;
        match self.form_for(plan, &rows.keys, handover)? {
            Form::General(table) => table.update(plan, rows, &mut handover.groups),
            Form::Cells(table) => {
                table.update(rows, &mut handover.range);
                Ok(())
            }
        }
    }

    /// Takes partial aggregates.
    pub fn merge(&mut self, plan: &Plan, partial: &Partial, handover: &mut Handover) -> Result<()> {
        if partial.rows == 0 {
            return Ok(());
        }
        self.rows += partial.rows;
        match self.form_for(plan, &partial.keys, handover)? {
            Form::General(table) => table.merge(plan, partial, &mut handover.groups),
            Form::Cells(table) => table.merge(partial, &mut handover.range),
        }
    }

    /// The table in a form that takes these keys.
    fn form_for(
        &mut self,
        plan: &Plan,
        keys: &[ArrayRef],
        handover: &mut Handover,
    ) -> Result<&mut Form> {
        if let Form::Cells(table) = &mut self.form
            && !CellTable::takes(keys)
        {
            let mut general = GeneralTable::new(plan)?;
            let cells = std::mem::replace(table, CellTable::new(table.plan().clone()));
            general.merge(plan, &cells.into_partial(), &mut handover.groups)?;
            self.form = Form::General(general);
        }
        Ok(&mut self.form)
    }

    /// The groups with the states of their aggregates.
    pub fn into_partial(self) -> Result<Partial> {
        match self.form {
            Form::General(table) => table.into_partial(),
            Form::Cells(table) => Ok(table.into_partial()),
        }
    }

    /// The groups with the results of their aggregates, in one part or several.
    pub fn into_results(self, mut each: impl FnMut(Results) -> Result<()>) -> Result<()> {
        match self.form {
            Form::General(table) => each(table.into_results()?),
            Form::Cells(table) => table.into_results(each),
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Form::General(table) => table.bytes(),
            Form::Cells(table) => table.bytes(),
        }
    }
}

impl GeneralTable {
    fn new(plan: &Plan) -> Result<Self> {
        let cells = plan.cells.as_ref().and_then(|_| CellColumns::new(plan));
        let aggregates = match cells {
            Some(cells) => Aggregates::Cells(cells),
            None => Aggregates::Accumulators(Accumulators::new(plan)?),
        };
        Ok(Self { groups: new_groups(plan)?, aggregates, len: 0 })
    }

    fn update(&mut self, plan: &Plan, rows: &Evaluated, groups: &mut Vec<usize>) -> Result<()> {
        self.intern(&rows.keys, rows.rows, groups)?;
        match &mut self.aggregates {
            Aggregates::Accumulators(all) => all.update(plan, rows, groups, self.len),
            Aggregates::Cells(cells) => {
                cells.resize(self.len);
                cells.update(rows, groups);
                Ok(())
            }
        }
    }

    fn merge(&mut self, plan: &Plan, partial: &Partial, groups: &mut Vec<usize>) -> Result<()> {
        self.intern(&partial.keys, partial.rows, groups)?;
        match &mut self.aggregates {
            Aggregates::Accumulators(all) => all.merge(plan, &partial.states, groups, self.len),
            Aggregates::Cells(cells) => {
                cells.resize(self.len);
                cells.merge(&partial.states, groups)
            }
        }
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize, group: &mut Vec<usize>) -> Result<()> {
        match &mut self.groups {
            Some(groups) => {
                groups.intern(keys, group).map_err(failed)?;
                self.len = groups.len();
            }
            None => {
                group.clear();
                group.resize(rows, 0);
                self.len = 1;
            }
        }
        Ok(())
    }

    fn into_partial(mut self) -> Result<Partial> {
        let states = match &mut self.aggregates {
            Aggregates::Accumulators(all) => all.take_states()?,
            Aggregates::Cells(cells) => cells.states(0..self.len as u32),
        };
        Ok(Partial { rows: self.len, keys: take_keys(&mut self.groups)?, states })
    }

    fn into_results(mut self) -> Result<Results> {
        let keys = take_keys(&mut self.groups)?;
        let values = match self.aggregates {
            Aggregates::Accumulators(all) => all.into_results()?,
            Aggregates::Cells(cells) => cells.results(0..self.len as u32),
        };
        Ok(Results { rows: self.len, keys, values })
    }

    fn bytes(&self) -> usize {
        let aggregates = match &self.aggregates {
            Aggregates::Accumulators(all) => all.bytes(),
            Aggregates::Cells(cells) => cells.bytes(),
        };
        self.groups.as_ref().map_or(0, |groups| groups.size()) + aggregates
    }
}

/// No keys yet; `None` where rows have none.
pub(super) fn new_groups(plan: &Plan) -> Result<Option<Box<dyn GroupValues>>> {
    if plan.keys.fields().is_empty() {
        return Ok(None);
    }
    new_group_values(plan.keys.clone(), &GroupOrdering::None).map(Some).map_err(failed)
}

/// All keys, which are gone then.
pub(super) fn take_keys(groups: &mut Option<Box<dyn GroupValues>>) -> Result<Vec<ArrayRef>> {
    match groups {
        Some(groups) => groups.emit(EmitTo::All).map_err(failed),
        None => Ok(Vec::new()),
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

    /// Rows of [`Plan::partial`] with these bounds.
    pub fn into_batch(self, plan: &Plan, bounds: [Int64Array; BOUNDS]) -> Result<RecordBatch> {
        let bounds = bounds.map(|bound| Arc::new(bound) as ArrayRef);
        let columns = bounds.into_iter().chain(self.keys).chain(self.states).collect();
        Ok(RecordBatch::try_new(plan.partial.clone(), columns)?)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.states).map(|column| column.get_array_memory_size()).sum()
    }
}
