//! DataFusion's own accumulators, for the functions whose merge is associative and commutative.
//!
//! Invariant: only called for functions that [`super`] has found to be so.

use std::sync::Arc;

use arrow::array::new_empty_array;
use arrow::datatypes::{Field, FieldRef};
use datafusion_common::Result;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::GroupsAccumulatorAdapter;

use super::call::Call;

/// An accumulator of the call as DataFusion gives it.
pub(super) fn accumulator(call: &Call) -> Result<Box<dyn GroupsAccumulator>> {
    let expression = call.expression.clone();
    if expression.groups_accumulator_supported() {
        return expression.create_groups_accumulator();
    }
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || expression.create_accumulator())))
}

/// The state columns that the accumulator really emits: what a function declares may differ from
/// them in its types.
pub(super) fn state_fields(call: &Call) -> Result<Vec<FieldRef>> {
    let mut probe = accumulator(call)?;
    let types = call.args.iter().map(|arg| arg.data_type(&call.input));
    let empty: Vec<_> = types.map(|t| Ok(new_empty_array(&t?))).collect::<Result<_>>()?;
    probe.update_batch(&empty, &[], None, 1)?;
    let state = probe.state(EmitTo::All)?;
    let named = |(index, column): (usize, &arrow::array::ArrayRef)| -> FieldRef {
        let name = format!("{}[{index}]", call.name);
        Arc::new(Field::new(name, column.data_type().clone(), true))
    };
    Ok(state.iter().enumerate().map(named).collect())
}
