//! Which strategy keeps a call's result independent of how its rows were split up.
//!
//! Functions are told apart by identity, not by name: a user's own `sum` is a user's function.
//!
//! Invariant: what is not known to merge safely is ordered.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_functions_aggregate::all_default_aggregate_functions;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use tidemill_core::Result;

use super::call::Call;
use super::exact::Statistic;
use super::extremum::Extremum;
use super::ordered::{Keep, Order, OrderedRowsPlan};

/// How the promise of [`super`] is kept for one call.
#[derive(Debug, Clone)]
pub(super) enum Strategy {
    /// DataFusion's accumulator.
    Native(Arc<AggregateFunctionExpr>),
    /// Exact sums of doubles.
    Exact(Statistic),
    /// A total order of floats of this type.
    Extremum(Extremum, DataType),
    /// Rows, sorted before they are aggregated.
    Ordered(Arc<OrderedRowsPlan>),
}

impl Strategy {
    /// The strategy for `call`; its event time is column `time`.
    pub fn of(call: &Call, time: usize) -> Result<Self> {
        let built_in = all_default_aggregate_functions().contains(&call.function);
        if built_in { built_in_strategy(call, time) } else { user_strategy(call, time) }
    }
}

fn built_in_strategy(call: &Call, time: usize) -> Result<Strategy> {
    let native = || Ok(Strategy::Native(Arc::new(call.expression(false, &[])?)));
    let exact = |statistic| Ok(Strategy::Exact(statistic));
    let variance = |sample, root| Ok(Strategy::Exact(Statistic::Variance { sample, root }));
    let ordered = |order, keep| ordered(call, order, keep, time);
    let keep = if call.distinct { Keep::Distinct } else { Keep::All };
    let values = call.arg_type(0)?;
    match call.function.name() {
        "count" if call.distinct && call.args.len() == 1 => {
            Ok(Strategy::Native(Arc::new(call.expression(true, &[])?)))
        }
        "count" if !call.distinct => native(),
        // Repetitions change nothing here, nor does order.
        "min" if values.is_floating() => Ok(Strategy::Extremum(Extremum::Min, values)),
        "max" if values.is_floating() => Ok(Strategy::Extremum(Extremum::Max, values)),
        // Of structs and lists DataFusion's comparison is no total order; that of sorted rows is.
        "min" if values.is_nested() => ordered_but_nulls(call, Order::Arguments, Keep::First, time),
        "max" if values.is_nested() => ordered_but_nulls(call, Order::Arguments, Keep::Last, time),
        "min" | "max" => native(),
        "bit_and" | "bit_or" | "bool_and" | "bool_or" | "approx_distinct" => native(),
        "bit_xor" | "sum" | "avg" if !call.distinct && !values.is_floating() => native(),
        "sum" if !call.distinct => exact(Statistic::Sum),
        "avg" if !call.distinct => exact(Statistic::Mean),
        "var" if !call.distinct => variance(true, false),
        "var_pop" if !call.distinct => variance(false, false),
        "stddev" if !call.distinct => variance(true, true),
        "stddev_pop" if !call.distinct => variance(false, true),
        "first_value" => ordered(Order::Time, Keep::First),
        "last_value" => ordered(Order::Time, Keep::Last),
        "any_value" => ordered_but_nulls(call, Order::Time, Keep::First, time),
        "array_agg" | "string_agg" | "nth_value" => ordered(Order::Time, keep),
        _ => ordered(Order::Arguments, keep),
    }
}

/// A user's function is taken at its word: one that says that order means nothing to it merges its
/// own states; any other gets its rows in order and at once.
fn user_strategy(call: &Call, time: usize) -> Result<Strategy> {
    let order = match call.function.order_sensitivity() {
        AggregateOrderSensitivity::Insensitive if !call.distinct => {
            return Ok(Strategy::Native(Arc::new(call.expression(false, &[])?)));
        }
        AggregateOrderSensitivity::Insensitive => Order::Arguments,
        _ => Order::TimeSeen,
    };
    ordered(call, order, if call.distinct { Keep::Distinct } else { Keep::All }, time)
}

fn ordered(call: &Call, order: Order, keep: Keep, time: usize) -> Result<Strategy> {
    Ok(Strategy::Ordered(Arc::new(OrderedRowsPlan::new(call, order, keep, time)?)))
}

/// The same for a function that passes over nulls unasked.
fn ordered_but_nulls(call: &Call, order: Order, keep: Keep, time: usize) -> Result<Strategy> {
    ordered(&Call { ignore_nulls: true, ..call.clone() }, order, keep, time)
}
