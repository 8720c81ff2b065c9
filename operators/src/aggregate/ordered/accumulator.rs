//! The accumulator that keeps rows.
//!
//! Invariant: what is emitted is sorted or listed by group; what is kept has only groups not emitted.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BooleanArray, ListArray, StructArray, UInt32Array, new_empty_array,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::compute::{is_not_null, not, take};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};

use super::super::selection::selected;
use super::chunks::{Chunk, Chunks};
use super::{Keep, OrderedRowsPlan, item_field};

/// Rows beyond twice those that were needed last time, before the others are dropped.
const SURPLUS_ROWS: usize = 8192;

/// Rows by group, until a result is wanted.
#[derive(Debug)]
pub(super) struct OrderedRows {
    plan: Arc<OrderedRowsPlan>,
    chunks: Chunks,
    groups: usize,
    /// How many rows were needed when the others were dropped last.
    needed_rows: usize,
}

impl OrderedRows {
    pub fn new(plan: Arc<OrderedRowsPlan>) -> Self {
        Self { plan, chunks: Chunks::default(), groups: 0, needed_rows: 0 }
    }

    /// The rows that a first or last value takes: with `IGNORE NULLS` its argument is not null.
    fn wanted(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        filter: Option<&BooleanArray>,
    ) -> Result<Option<BooleanBuffer>> {
        let one = matches!(self.plan.keep, Keep::First | Keep::Last);
        if !(one && self.plan.ignore_nulls) {
            return Ok(selected(None, filter));
        }
        let value = is_not_null(&self.plan.only_arg(columns, rows)?)?;
        Ok(selected(Some(&value.values().clone().into()), filter))
    }

    fn push(&mut self, chunk: Chunk) -> Result<()> {
        self.chunks.push(chunk)?;
        let surplus = self.chunks.rows() > 2 * self.needed_rows + SURPLUS_ROWS;
        if surplus && self.plan.keep != Keep::All {
            let rows =
                self.chunks.take()?.map_or_else(|| Ok(self.no_rows()), |r| self.needed(&r))?;
            self.needed_rows = rows.len();
            self.chunks.push(rows)?;
        }
        Ok(())
    }

    /// The rows sorted by group and then as they compare, less those that are not needed.
    fn needed(&self, rows: &Chunk) -> Result<Chunk> {
        let compared = converted(&self.plan.sort_fields(), &rows.columns)?;
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by(|a, b| {
            let (a, b) = (*a as usize, *b as usize);
            rows.groups[a].cmp(&rows.groups[b]).then_with(|| compared.row(a).cmp(&compared.row(b)))
        });
        let group = |row: &mut u32| rows.groups[*row as usize];
        match self.plan.keep {
            Keep::All => {}
            Keep::First => order.dedup_by_key(group),
            Keep::Last => {
                order.reverse();
                order.dedup_by_key(group);
                order.reverse();
            }
            Keep::Distinct => self.drop_repetitions(rows, &mut order)?,
        }
        rows.take(order)
    }

    /// Keeps the first of a group's rows that have the same arguments.
    fn drop_repetitions(&self, rows: &Chunk, order: &mut Vec<u32>) -> Result<()> {
        let all_fields = self.plan.sort_fields();
        let args = self.plan.arg_columns();
        let (fields, columns): (Vec<_>, Vec<_>) =
            args.map(|arg| (all_fields[arg].clone(), rows.columns[arg].clone())).unzip();
        if columns.is_empty() {
            // Constants alone: all rows of a group are the same.
            order.dedup_by_key(|row| rows.groups[*row as usize]);
            return Ok(());
        }
        let args = converted(&fields, &columns)?;
        let mut seen: HashSet<_, ahash::RandomState> = HashSet::default();
        order.retain(|row| seen.insert((rows.groups[*row as usize], args.row(*row as usize))));
        Ok(())
    }

    /// The rows of the groups that are emitted, and how many groups these are. The others move to
    /// the front.
    fn emit(&mut self, emit_to: EmitTo) -> Result<(Chunk, usize)> {
        let emitted = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(groups) => groups,
        };
        self.groups -= emitted;
        self.needed_rows = 0;
        let Some(rows) = self.chunks.take()? else { return Ok((self.no_rows(), emitted)) };
        if self.groups == 0 {
            return Ok((rows, emitted));
        }
        let later = |group: &u32| Some(*group as usize >= emitted);
        let later: BooleanArray = rows.groups.iter().map(later).collect();
        let mut kept = rows.filter(&later)?;
        kept.groups.iter_mut().for_each(|group| *group -= emitted as u32);
        self.chunks.push(kept)?;
        Ok((rows.filter(&not(&later)?)?, emitted))
    }

    fn no_rows(&self) -> Chunk {
        let fields = self.plan.row_fields.iter();
        Chunk { columns: fields.map(|f| new_empty_array(f.data_type())).collect(), groups: vec![] }
    }

    /// The argument of the one row of each group.
    fn only_values(&self, rows: &Chunk, groups: usize) -> Result<ArrayRef> {
        let values = self.plan.only_arg(&rows.columns, rows.len())?;
        let mut row_of = vec![None; groups];
        for (row, group) in rows.groups.iter().enumerate() {
            row_of[*group as usize] = Some(row as u32);
        }
        Ok(take(&values, &UInt32Array::from(row_of), None)?)
    }

    /// What the function makes of each group's rows, which are sorted.
    fn results(&self, rows: &Chunk, groups: usize) -> Result<ArrayRef> {
        let values = self.plan.values.iter().map(|value| value.of(&rows.columns, rows.len()));
        let values = values.collect::<Result<Vec<_>>>()?;
        let result = |range: Range<usize>| {
            let mut accumulator = self.plan.function_accumulator()?;
            let of_group: Vec<_> =
                values.iter().map(|v| v.slice(range.start, range.len())).collect();
            accumulator.update_batch(&of_group)?;
            accumulator.evaluate()
        };
        let results = ranges(&rows.groups, groups).map(result);
        let results: Vec<ScalarValue> = results.collect::<Result<_>>()?;
        if results.is_empty() {
            return Ok(new_empty_array(self.plan.function.field().data_type()));
        }
        ScalarValue::iter_to_array(results)
    }

    /// The rows of each group as a list; rows are sorted by group.
    fn lists(&self, rows: Chunk, groups: usize) -> Result<ArrayRef> {
        if i32::try_from(rows.len()).is_err() {
            return exec_err!("{} rows are too many for one column of lists", rows.len());
        }
        let offsets = OffsetBuffer::from_lengths(ranges(&rows.groups, groups).map(|r| r.len()));
        let item = Arc::new(item_field(&self.plan.row_fields));
        let structs = StructArray::try_new(self.plan.row_fields.clone(), rows.columns, None)?;
        Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(structs), None)?))
    }
}

impl GroupsAccumulator for OrderedRows {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        let groups = group_indices.iter().map(|group| *group as u32).collect();
        let chunk = Chunk { columns: values.to_vec(), groups };
        match self.wanted(values, group_indices.len(), opt_filter)? {
            None => self.push(chunk),
            Some(rows) => self.push(chunk.filter(&BooleanArray::new(rows, None))?),
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (rows, groups) = self.emit(emit_to)?;
        let rows = self.needed(&rows)?;
        match self.plan.keep {
            Keep::First | Keep::Last => self.only_values(&rows, groups),
            Keep::All | Keep::Distinct => self.results(&rows, groups),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (rows, groups) = self.emit(emit_to)?;
        let rows = match self.plan.keep {
            Keep::All => rows.by_group(groups)?,
            Keep::Distinct | Keep::First | Keep::Last => self.needed(&rows)?,
        };
        Ok(vec![self.lists(rows, groups)?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        let lists: &ListArray = values[0].as_list();
        if lists.null_count() > 0 {
            return exec_err!("a partial aggregate has no rows where it must have a list of them");
        }
        let offsets = lists.value_offsets();
        let (start, end) = (offsets[0] as usize, offsets[lists.len()] as usize);
        let rows = lists.values().slice(start, end - start);
        let lengths = lists.offsets().lengths();
        let groups = group_indices.iter().zip(lengths);
        let groups = groups.flat_map(|(group, rows)| std::iter::repeat_n(*group as u32, rows));
        let columns = rows.as_struct().columns().to_vec();
        self.push(Chunk { columns, groups: groups.collect() })
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let chunk = Chunk { columns: values.to_vec(), groups: (0..rows as u32).collect() };
        let chunk = match self.wanted(values, rows, opt_filter)? {
            None => chunk,
            Some(wanted) => chunk.filter(&BooleanArray::new(wanted, None))?,
        };
        Ok(vec![self.lists(chunk, rows)?])
    }

    fn size(&self) -> usize {
        self.chunks.bytes()
    }
}

fn converted(fields: &[SortField], columns: &[ArrayRef]) -> Result<Rows> {
    Ok(RowConverter::new(fields.to_vec())?.convert_columns(columns)?)
}

/// Where the rows of each group lie; rows are sorted by group.
fn ranges(groups_of_rows: &[u32], groups: usize) -> impl Iterator<Item = Range<usize>> {
    let mut end = 0;
    (0..groups).map(move |group| {
        let start = end;
        while groups_of_rows.get(end).is_some_and(|g| *g as usize == group) {
            end += 1;
        }
        start..end
    })
}
