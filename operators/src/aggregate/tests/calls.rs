//! The calls that are tried: every function, over every kind of value that it takes.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion_common::ScalarValue;
use datafusion_expr::AggregateUDF;
use datafusion_functions_aggregate as functions;
use datafusion_functions_aggregate::all_default_aggregate_functions;
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::super::AggregateSpec;
use super::user;

pub fn column(schema: &SchemaRef, name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new_with_schema(name, schema).unwrap())
}

pub fn literal(value: impl Into<ScalarValue>) -> Arc<dyn PhysicalExpr> {
    Arc::new(Literal::new(value.into()))
}

/// A plain call, named after its function and arguments.
pub fn call(function: Arc<AggregateUDF>, args: Vec<Arc<dyn PhysicalExpr>>) -> AggregateSpec {
    let names: Vec<_> = args.iter().map(ToString::to_string).collect();
    let name = format!("{}({})", function.name(), names.join(","));
    let (filter, order_by) = (None, vec![]);
    AggregateSpec { function, args, distinct: false, filter, order_by, ignore_nulls: false, name }
}

/// DataFusion refuses these, gives them in the order of a hash table, or compares values with null
/// fields in more than one way.
pub fn is_unlike_datafusion(spec: &AggregateSpec, schema: &SchemaRef) -> bool {
    let other = ["array_agg", "string_agg", "nth_value", "rolling", "sum_of_squares", "stddev"];
    let extremum = ["min", "max"].contains(&spec.function.name());
    let nested = |arg: &Arc<dyn PhysicalExpr>| arg.data_type(schema).unwrap().is_nested();
    spec.distinct && (spec.args.len() > 1 || other.contains(&spec.function.name()))
        || extremum && nested(&spec.args[0])
}

/// Every call.
pub fn calls(schema: &SchemaRef) -> Vec<AggregateSpec> {
    let mut calls = vec![call(functions::count::count_udaf(), vec![])];
    for function in all_default_aggregate_functions() {
        for args in arguments(function.name(), schema) {
            calls.push(call(function.clone(), args));
        }
    }
    // Nothing but constants.
    for function in ["array_agg", "first_value", "median", "rolling"] {
        let is_it = |f: &Arc<AggregateUDF>| f.name() == function;
        let built_in = all_default_aggregate_functions().into_iter().find(is_it);
        calls.push(call(built_in.unwrap_or_else(user::rolling), vec![literal(7i64)]));
    }
    for function in [user::rolling(), user::sum_of_squares()] {
        calls.push(call(function, vec![column(schema, "i64")]));
    }
    let with_variations: Vec<_> =
        calls.into_iter().flat_map(|call| variations(call, schema)).collect();
    with_variations
}

/// The argument lists that a function is tried with.
fn arguments(function: &str, schema: &SchemaRef) -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
    let columns = |names: &[&str]| names.iter().map(|name| column(schema, name)).collect();
    let each = |names: &[&str]| names.iter().map(|name| vec![column(schema, name)]).collect();
    let numbers: &[&str] = &["i8", "i64", "u32", "f32", "f64", "decimal"];
    let all: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    match function {
        "grouping" => vec![],
        "sum" | "avg" => each(numbers),
        "min" | "max" => each(&all),
        "var" | "var_pop" | "stddev" | "stddev_pop" => each(&["i64", "f32", "f64"]),
        "count" => {
            let mut lists: Vec<_> = each(&all);
            lists.push(columns(&["i8", "text"]));
            lists
        }
        "approx_distinct" => each(&["i8", "i64", "text", "utf8", "flag", "time"]),
        "bit_and" | "bit_or" | "bit_xor" => each(&["i8", "i64", "u32"]),
        "bool_and" | "bool_or" => each(&["flag"]),
        "array_agg" | "first_value" | "last_value" | "any_value" => each(&all),
        "nth_value" => vec![vec![column(schema, "text"), literal(2i64)]],
        "string_agg" => vec![vec![column(schema, "text"), literal("; ")]],
        "median" => each(&["i64", "f64", "decimal"]),
        "approx_median" => each(&["i64", "f64"]),
        "percentile_cont" | "approx_percentile_cont" => {
            vec![vec![column(schema, "f64"), literal(0.9)]]
        }
        "approx_percentile_cont_with_weight" => {
            vec![vec![column(schema, "f64"), column(schema, "weight"), literal(0.9)]]
        }
        // Correlation, covariance and regression.
        _ => vec![columns(&["f64", "f32"])],
    }
}

/// The call as it is, and with the clauses that it takes.
fn variations(call: AggregateSpec, schema: &SchemaRef) -> Vec<AggregateSpec> {
    let named = |suffix: &str| format!("{} {suffix}", call.name);
    let options = SortOptions { descending: true, nulls_first: false };
    let filtered = AggregateSpec {
        filter: Some(column(schema, "flag")),
        name: named("filter"),
        ..call.clone()
    };
    let mut variations = vec![call.clone(), filtered];
    let function = call.function.name();
    if takes_distinct(function) {
        let name = named("distinct");
        variations.push(AggregateSpec { distinct: true, name, ..call.clone() });
    }
    if ["array_agg", "first_value", "last_value", "string_agg", "nth_value"].contains(&function) {
        let order_by = vec![PhysicalSortExpr { expr: column(schema, "u32"), options }];
        let name = named("ordered");
        variations.push(AggregateSpec { order_by, name, ..call.clone() });
    }
    if function.contains("percentile_cont") {
        let order_by = vec![PhysicalSortExpr { expr: column(schema, "f64"), options }];
        let name = named("within group");
        variations.push(AggregateSpec { order_by, name, ..call.clone() });
    }
    if ["array_agg", "first_value", "last_value", "nth_value"].contains(&function) {
        let name = named("ignore nulls");
        variations.push(AggregateSpec { ignore_nulls: true, name, ..call });
    }
    variations
}

fn takes_distinct(function: &str) -> bool {
    let functions = [
        "count",
        "sum",
        "avg",
        "min",
        "max",
        "var",
        "var_pop",
        "stddev",
        "bit_xor",
        "array_agg",
        "string_agg",
        "median",
        "first_value",
        "sum_of_squares",
        "rolling",
    ];
    functions.contains(&function)
}
