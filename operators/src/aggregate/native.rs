//! DataFusion's own accumulators, for the functions whose merge is associative and commutative.
//!
//! Invariant: only used for functions that [`super::strategy`] has found to be so.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_empty_array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::Result;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::GroupsAccumulatorAdapter;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

/// An accumulator as DataFusion gives it, without groups. Its state columns are of `state_types`.
pub(super) fn accumulator(
    function: &AggregateFunctionExpr,
    state_types: Vec<DataType>,
) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let one = function.clone();
    let inner = GroupsAccumulatorAdapter::new(move || one.create_accumulator());
    let result_type = function.field().data_type().clone();
    Ok(Box::new(Adapted { inner, groups: 0, state_types, result_type }))
}

/// The state columns of the aggregate called `name`, as they are in a state that was emitted: what
/// a function declares may differ from it.
pub(super) fn state_fields(name: &str, state: &[ArrayRef]) -> Vec<FieldRef> {
    let field = |(index, column): (usize, &ArrayRef)| -> FieldRef {
        Arc::new(Field::new(format!("{name}[{index}]"), column.data_type().clone(), true))
    };
    state.iter().enumerate().map(field).collect()
}

/// DataFusion's adapter cannot tell the types of its columns where it has no groups; this one can.
struct Adapted {
    inner: GroupsAccumulatorAdapter,
    groups: usize,
    state_types: Vec<DataType>,
    result_type: DataType,
}

impl Adapted {
    /// How many groups are emitted; they are gone then.
    fn emit(&mut self, emit_to: EmitTo) -> usize {
        let emitted = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(groups) => groups,
        };
        self.groups -= emitted;
        emitted
    }

    fn empty_state(&self) -> Vec<ArrayRef> {
        self.state_types.iter().map(new_empty_array).collect()
    }
}

impl GroupsAccumulator for Adapted {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        self.inner.update_batch(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        match self.emit(emit_to) {
            0 => Ok(new_empty_array(&self.result_type)),
            _ => self.inner.evaluate(emit_to),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        match self.emit(emit_to) {
            0 => Ok(self.empty_state()),
            _ => self.inner.state(emit_to),
        }
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        self.inner.merge_batch(values, group_indices, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        match values[0].len() {
            0 => Ok(self.empty_state()),
            _ => self.inner.convert_to_state(values, opt_filter),
        }
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}
