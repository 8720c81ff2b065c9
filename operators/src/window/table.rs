//! Partial aggregates of a set of groups: growing in a [`Table`], or at rest in a [`Partial`].
//! On the data path in all three operators; a partial at rest is also what goes through the
//! exchange and into checkpoints. Invariant: the groups of a table are distinct.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use datafusion_expr::EmitTo;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;
use tidemill_core::Result;

use super::aggregates::Aggregates;
use super::cells::{CellTable, Expected};
use super::few::Few;
use super::parcel::Share;
use super::plan::{BOUNDS, Evaluated, Plan};
use crate::failed;

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

/// Partial aggregates at rest: for each row its key and the states of its aggregates. Several rows
/// may have the same key.
#[derive(Clone)]
pub(super) struct Partial {
    pub rows: usize,
    pub keys: Vec<ArrayRef>,
    pub states: Vec<ArrayRef>,
}

/// What goes to the owners of its groups.
pub(super) enum Leaving {
    /// The table, from which they take theirs.
    Cells(CellTable),
    /// Columns, in which each row goes to its owner.
    Columns(Partial),
}

/// A table that does not change any more.
#[derive(Clone)]
pub(super) enum Resting {
    /// As it was, and how many rows went in: others take its groups from where they are.
    Cells(Arc<CellTable>, usize),
    /// As columns.
    Columns(Partial),
}

/// Groups with their results.
#[derive(Clone)]
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
    /// Where keys will probably lie, and memory for them.
    pub expected: Expected,
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
        let total = self.rows;
        match self.form_for(plan, &rows.keys, handover)? {
            Form::General(table) => table.update(plan, rows, &mut handover.groups),
            Form::Cells(table) => {
                table.update(rows, total, &mut handover.expected);
                Ok(())
            }
        }
    }

    /// Counts rows of a few slices in their tables; see [`CellTable::count_few`].
    pub fn count_few(
        mut tables: Vec<&mut Self>,
        few: &Few,
        rows: &Evaluated,
        handover: &mut Handover,
    ) -> usize {
        let cells = tables.iter_mut().map(|table| match &mut table.form {
            Form::Cells(cells) => Some(cells),
            Form::General(_) => None,
        });
        let Some(mut cells) = cells.collect::<Option<Vec<_>>>() else { return 0 };
        if !CellTable::takes(&rows.keys) {
            return 0;
        }
        let counted = CellTable::count_few(&mut cells, few, rows, &mut handover.expected);
        for (table, rows) in tables.into_iter().zip(&counted) {
            table.rows += rows;
            if let Form::Cells(cells) = &table.form
                && *rows > 0
            {
                cells.tell(table.rows, &mut handover.expected);
            }
        }
        counted.into_iter().sum()
    }

    /// Takes partial aggregates.
    pub fn merge(&mut self, plan: &Plan, partial: &Partial, handover: &mut Handover) -> Result<()> {
        if partial.rows == 0 {
            return Ok(());
        }
        self.rows += partial.rows;
        let total = self.rows;
        match self.form_for(plan, &partial.keys, handover)? {
            Form::General(table) => table.merge(plan, partial, &mut handover.groups),
            Form::Cells(table) => table.merge(partial, total, &mut handover.expected),
        }
    }

    /// Takes a share of another shard's groups.
    pub fn take_in(&mut self, plan: &Plan, share: &Share, handover: &mut Handover) -> Result<()> {
        self.rows += share.groups();
        match &mut self.form {
            Form::General(table) => table.merge(plan, &share.partial(), &mut handover.groups),
            Form::Cells(table) => {
                table.take_in(share.table(), &share.part(), self.rows, &mut handover.expected);
                Ok(())
            }
        }
    }

    /// Lets its groups go to where they are owned.
    pub fn leave(self) -> Result<Leaving> {
        Ok(match self.form {
            Form::Cells(table) => Leaving::Cells(table),
            Form::General(table) => Leaving::Columns(table.into_partial()?),
        })
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
            general.merge(plan, &cells.to_partial(), &mut handover.groups)?;
            self.form = Form::General(general);
        }
        Ok(&mut self.form)
    }

    /// The groups with the states of their aggregates.
    pub fn into_partial(self) -> Result<Partial> {
        match self.form {
            Form::General(table) => table.into_partial(),
            Form::Cells(table) => Ok(table.to_partial()),
        }
    }

    /// Puts it to rest.
    pub fn rest(self) -> Result<Resting> {
        Ok(match self.form {
            Form::Cells(table) if table.is_compact() => Resting::Cells(Arc::new(table), self.rows),
            form => Resting::Columns(Self { form, ..self }.into_partial()?),
        })
    }

    /// Takes all groups of a table at rest.
    pub fn add(&mut self, plan: &Plan, part: &Resting, handover: &mut Handover) -> Result<()> {
        match (part, &mut self.form) {
            (Resting::Cells(cells, rows), Form::Cells(table)) => {
                self.rows += rows;
                table.take_in_all(cells, self.rows, &mut handover.expected);
                Ok(())
            }
            (Resting::Cells(cells, _), _) => self.merge(plan, &cells.to_partial(), handover),
            (Resting::Columns(partial), _) => self.merge(plan, partial, handover),
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
        Ok(Self { groups: new_groups(plan)?, aggregates: Aggregates::new(plan)?, len: 0 })
    }

    fn update(&mut self, plan: &Plan, rows: &Evaluated, groups: &mut Vec<usize>) -> Result<()> {
        self.intern(&rows.keys, rows.rows, groups)?;
        self.aggregates.update(plan, rows, groups, self.len)
    }

    fn merge(&mut self, plan: &Plan, partial: &Partial, groups: &mut Vec<usize>) -> Result<()> {
        self.intern(&partial.keys, partial.rows, groups)?;
        self.aggregates.merge(plan, &partial.states, groups, self.len)
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
        let states = self.aggregates.take_states(self.len)?;
        Ok(Partial { rows: self.len, keys: take_keys(&mut self.groups)?, states })
    }

    fn into_results(mut self) -> Result<Results> {
        let keys = take_keys(&mut self.groups)?;
        Ok(Results { rows: self.len, keys, values: self.aggregates.into_results(self.len)? })
    }

    fn bytes(&self) -> usize {
        self.groups.as_ref().map_or(0, |groups| groups.size()) + self.aggregates.bytes()
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

impl Resting {
    /// As columns.
    pub fn into_partial(self) -> Partial {
        match self {
            Self::Cells(table, _) => table.to_partial(),
            Self::Columns(partial) => partial,
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Cells(table, _) => table.bytes(),
            Self::Columns(partial) => partial.bytes(),
        }
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

impl Results {
    /// The same groups in this order; nothing of nothing.
    pub fn concat(mut parts: Vec<Self>) -> Result<Option<Self>> {
        if parts.len() < 2 {
            return Ok(parts.pop());
        }
        Ok(Some(Self {
            rows: parts.iter().map(|part| part.rows).sum(),
            keys: concat_columns(parts.iter().map(|part| &part.keys))?,
            values: concat_columns(parts.iter().map(|part| &part.values))?,
        }))
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.values).map(|column| column.get_array_memory_size()).sum()
    }
}

/// The columns of some parts, each with the rows of all.
fn concat_columns<'a>(
    parts: impl Iterator<Item = &'a Vec<ArrayRef>> + Clone,
) -> Result<Vec<ArrayRef>> {
    let columns = parts.clone().next().map_or(0, Vec::len);
    let column = |number: usize| {
        let column: Vec<&dyn Array> = parts.clone().map(|part| part[number].as_ref()).collect();
        Ok(concat(&column)?)
    };
    (0..columns).map(column).collect()
}
