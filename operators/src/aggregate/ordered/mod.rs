//! Aggregates whose result depends on the order of their rows, or on how they were split up.
//!
//! Their partial aggregate is the rows themselves. For the result, a group's rows are sorted by what
//! the call is ordered by, then (where the order matters at all) by event time, then by all its
//! arguments; `DISTINCT` drops repetitions; and one DataFusion accumulator gets them in one go.
//! What is computed is thus a pure function of the set of rows.
//!
//! ```text
//! update ─▶ chunks of (group, columns) ─▶ sort by (group, columns) ─▶ accumulator of each group ─▶ result
//! merge  ─▶    └─ state: one list of structs a group ─▶ …
//! ```
//!
//! Of a first or last value only the first or last row is kept, of `DISTINCT` only one row of each.
//!
//! Invariant: rows that compare equal are equal in every column, so that their order means nothing.

mod accumulator;
mod chunks;

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result as DataFusionResult, ScalarValue};
use datafusion_expr::{Accumulator, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use tidemill_core::{Error, Result};

use super::call::Call;
use crate::failed;
use accumulator::OrderedRows;

/// Which of a group's rows its result needs, and so its state keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// All.
    All,
    /// The first of those with the same arguments.
    Distinct,
    /// The first alone.
    First,
    /// The last alone.
    Last,
}

/// What the result depends on beside the set of rows' arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing.
    Arguments,
    /// `ORDER BY`, then event time.
    Time,
    /// The same, and the function wants to see the columns of `ORDER BY`.
    TimeSeen,
}

/// A call planned to keep rows.
#[derive(Debug)]
pub(super) struct OrderedRowsPlan {
    keep: Keep,
    /// `IGNORE NULLS` where it is about [`Keep::First`] and [`Keep::Last`].
    ignore_nulls: bool,
    /// What is kept of a row, in the order in which rows are compared.
    columns: Vec<Kept>,
    /// What the function's accumulator takes.
    values: Vec<Value>,
    /// How many of `values` are the call's arguments.
    args: usize,
    function: AggregateFunctionExpr,
    row_fields: Fields,
    state: FieldRef,
}

/// A column that is kept.
#[derive(Debug)]
struct Kept {
    expression: Arc<dyn PhysicalExpr>,
    options: SortOptions,
}

/// A column that the function's accumulator takes.
#[derive(Debug)]
enum Value {
    /// Of the kept ones.
    Kept(usize),
    /// The same in all rows.
    Constant(ScalarValue),
}

impl OrderedRowsPlan {
    /// Plans a call. `time` is the event-time column.
    pub fn new(call: &Call, order: Order, keep: Keep, time: usize) -> Result<Self> {
        let time: Arc<dyn PhysicalExpr> =
            Arc::new(Column::new(call.input.field(time).name(), time));
        let mut columns = Vec::new();
        if order != Order::Arguments {
            for by in &call.order_by {
                kept(&mut columns, &by.expr, by.options);
            }
            kept(&mut columns, &time, SortOptions::default());
        }
        // A percentile's direction is that of its `WITHIN GROUP (ORDER BY …)`.
        let seen = order == Order::TimeSeen || call.function.supports_within_group_clause();
        let order_by: &[PhysicalSortExpr] = if seen { &call.order_by } else { &[] };
        let seen = call.args.iter().chain(order_by.iter().map(|by| &by.expr));
        let values: Vec<_> =
            seen.map(|value| kept(&mut columns, value, SortOptions::default())).collect();
        if columns.is_empty() {
            // A state without columns could not say how many rows there are.
            kept(&mut columns, &time, SortOptions::default());
        }
        let row_fields = row_fields(&columns, call).map_err(failed)?;
        let rows = DataType::List(Arc::new(item_field(&row_fields)));
        let state = Arc::new(Field::new(format!("{}[rows]", call.name), rows, false));
        let function = call.expression(false, order_by)?;
        let args = call.args.len();
        let ignore_nulls = call.ignore_nulls;
        let plan = Self { keep, ignore_nulls, columns, values, args, function, row_fields, state };
        plan.check()?;
        Ok(plan)
    }

    /// Finds out now rather than at the first result what cannot work.
    fn check(&self) -> Result<()> {
        let fields = self.sort_fields();
        if let Some(field) =
            self.row_fields.iter().find(|f| !can_be_sorted(f.data_type(), SortOptions::default()))
        {
            return Err(Error::configuration(format!(
                "its result depends on the order of rows, and values of type {} have none",
                field.data_type()
            )));
        }
        RowConverter::new(fields)?;
        self.function_accumulator().map_err(failed)?;
        Ok(())
    }

    /// The expressions of the columns that are kept.
    pub fn inputs(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.columns.iter().map(|column| column.expression.clone()).collect()
    }

    /// The state's column.
    pub fn state_field(&self) -> FieldRef {
        self.state.clone()
    }

    /// An accumulator without groups.
    pub fn accumulator(self: &Arc<Self>) -> Box<dyn GroupsAccumulator> {
        Box::new(OrderedRows::new(self.clone()))
    }

    /// How rows compare, column by column.
    fn sort_fields(&self) -> Vec<SortField> {
        let fields = self.row_fields.iter().zip(&self.columns);
        fields
            .map(|(f, column)| SortField::new_with_options(f.data_type().clone(), column.options))
            .collect()
    }

    /// The kept columns that are arguments: what `DISTINCT` is about.
    fn arg_columns(&self) -> impl Iterator<Item = usize> {
        self.values[..self.args].iter().filter_map(|value| match value {
            Value::Kept(column) => Some(*column),
            Value::Constant(_) => None,
        })
    }

    /// The only argument of a first or last value.
    fn only_arg(&self, columns: &[ArrayRef], rows: usize) -> DataFusionResult<ArrayRef> {
        self.values[0].of(columns, rows)
    }

    fn function_accumulator(&self) -> DataFusionResult<Box<dyn Accumulator>> {
        self.function.create_accumulator()
    }
}

impl Value {
    /// The column of `rows` rows whose kept columns are `columns`.
    fn of(&self, columns: &[ArrayRef], rows: usize) -> DataFusionResult<ArrayRef> {
        match self {
            Self::Kept(column) => Ok(columns[*column].clone()),
            Self::Constant(ScalarValue::Null) => Ok(new_null_array(&DataType::Null, rows)),
            Self::Constant(value) => value.to_array_of_size(rows),
        }
    }
}

/// Keeps what `expression` gives, unless it is kept already or a constant.
fn kept(
    columns: &mut Vec<Kept>,
    expression: &Arc<dyn PhysicalExpr>,
    options: SortOptions,
) -> Value {
    if let Some(literal) = expression.downcast_ref::<Literal>() {
        return Value::Constant(literal.value().clone());
    }
    if let Some(column) =
        columns.iter().position(|kept| kept.expression.as_ref() == expression.as_ref())
    {
        return Value::Kept(column);
    }
    columns.push(Kept { expression: expression.clone(), options });
    Value::Kept(columns.len() - 1)
}

fn row_fields(columns: &[Kept], call: &Call) -> DataFusionResult<Fields> {
    let field = |(index, column): (usize, &Kept)| {
        let data_type = column.expression.data_type(&call.input)?;
        Ok(Field::new(index.to_string(), data_type, true))
    };
    columns.iter().enumerate().map(field).collect()
}

fn item_field(row_fields: &Fields) -> Field {
    Field::new_list_field(DataType::Struct(row_fields.clone()), false)
}

fn can_be_sorted(data_type: &DataType, options: SortOptions) -> bool {
    RowConverter::supports_fields(&[SortField::new_with_options(data_type.clone(), options)])
}
