//! Every aggregate, over every way of cutting its rows up.

mod calls;
mod harness;
mod user;

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use datafusion_expr::EmitTo;
use datafusion_functions_aggregate as functions;
use datafusion_physical_expr::PhysicalSortExpr;
use tidemill_core::ErrorKind;

use calls::{call, calls, column};
pub(super) use harness::{Rng, wild};
use harness::{at_once, datafusion, groups, in_pieces, same_but_for_rounding, table, update};

use super::*;

const TIME: usize = 0;

/// How many seeds the property tests try; more by the variable.
pub(super) fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("TIDEMILL_SEED_COUNT").ok().and_then(|n| n.parse().ok());
    0..count.unwrap_or(6)
}

#[test]
fn no_cut_changes_a_bit_of_any_result() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let rows = table(&mut rng, 500, true);
        let groups = groups(&mut rng, rows.num_rows(), 9);
        for spec in calls(&rows.schema()) {
            let aggregate = Aggregate::plan(&spec, &rows.schema(), TIME).unwrap();
            let whole = at_once(&aggregate, &rows, &groups, 9);
            for _ in 0..2 {
                let pieces = in_pieces(&aggregate, &rows, &groups, 9, &mut rng);
                assert_eq!(&pieces, &whole, "seed {seed}: {}", aggregate.describe());
            }
            assert_eq!(whole.data_type(), aggregate.result_field().data_type());
        }
    }
}

#[test]
fn results_are_datafusions_own() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let rows = table(&mut rng, 300, false);
        let groups = groups(&mut rng, rows.num_rows(), 5);
        for spec in calls(&rows.schema()) {
            if calls::is_unlike_datafusion(&spec, &rows.schema()) {
                continue;
            }
            let aggregate = Aggregate::plan(&spec, &rows.schema(), TIME).unwrap();
            let ours = at_once(&aggregate, &rows, &groups, 5);
            let theirs = datafusion(&spec, &aggregate, &rows, &groups, 5);
            let what = format!("seed {seed}: {}", aggregate.describe());
            same_but_for_rounding(&ours, &theirs, &what);
        }
    }
}

#[test]
fn a_state_has_the_declared_columns_with_names_of_its_own() {
    let rows = table(&mut Rng::new(1), 20, true);
    let mut names = std::collections::HashSet::new();
    for spec in calls(&rows.schema()) {
        let aggregate = Aggregate::plan(&spec, &rows.schema(), TIME).unwrap();
        for field in aggregate.state_fields() {
            assert!(field.name().starts_with(&spec.name), "{field}");
            assert!(names.insert(field.name().clone()), "{field} is there twice");
        }
        assert_eq!(aggregate.result_field().name(), &spec.name);
    }
}

#[test]
fn an_aggregate_without_rows_is_what_sql_says() {
    let rows = table(&mut Rng::new(1), 2, true);
    for spec in calls(&rows.schema()) {
        let nothing = Arc::new(datafusion_physical_expr::expressions::Literal::new(false.into()));
        let spec = AggregateSpec { filter: Some(nothing), ..spec };
        let aggregate = Aggregate::plan(&spec, &rows.schema(), TIME).unwrap();
        let result = at_once(&aggregate, &rows, &[0, 1], 2);
        let counts = ["count", "approx_distinct", "regr_count", "sum_of_squares", "rolling"];
        let counts = counts.contains(&spec.function.name());
        assert_eq!(result.is_null(0), !counts, "{}: {result:?}", aggregate.describe());
    }
}

#[test]
fn the_first_value_is_that_of_the_earliest_row() {
    let rows = table(&mut Rng::new(3), 200, false);
    let times = rows.column(TIME).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    let numbers: &Int64Array = rows.column_by_name("i64").unwrap().as_primitive();
    let first = (0..200)
        .min_by_key(|row| (times.value(*row), numbers.is_valid(*row).then(|| numbers.value(*row))));
    let spec = call(functions::first_last::first_value_udaf(), vec![column(&rows.schema(), "i64")]);
    let aggregate = Aggregate::plan(&spec, &rows.schema(), TIME).unwrap();
    let result = at_once(&aggregate, &rows, &[0; 200], 1);
    assert_eq!(&*result, &*(Arc::new(numbers.slice(first.unwrap(), 1)) as ArrayRef));
}

#[test]
fn a_users_function_sees_its_rows_in_the_order_it_asked_for() {
    let rows = table(&mut Rng::new(4), 100, false);
    let schema = rows.schema();
    let i64s = column(&schema, "i64");
    let numbers: &Int64Array = rows.column_by_name("i64").unwrap().as_primitive();
    let mut sorted: Vec<i64> = numbers.iter().flatten().collect();
    sorted.sort_by(|a, b| b.cmp(a));
    let expected = sorted.iter().fold(0i64, |h, x| user::roll(h, *x));
    let options = SortOptions { descending: true, nulls_first: false };
    let order_by = vec![PhysicalSortExpr { expr: i64s.clone(), options }];
    let spec = AggregateSpec { order_by, ..call(user::rolling(), vec![i64s]) };
    let aggregate = Aggregate::plan(&spec, &schema, TIME).unwrap();
    let groups = vec![0; rows.num_rows()];
    let result = in_pieces(&aggregate, &rows, &groups, 1, &mut Rng::new(5));
    assert_eq!(result.as_primitive::<Int64Type>().value(0), expected);
}

#[test]
fn arguments_are_coerced_as_sql_coerces_them() {
    let rows = table(&mut Rng::new(6), 50, false);
    let schema = rows.schema();
    for (function, argument, result) in [
        (functions::sum::sum_udaf(), "i8", DataType::Int64),
        (functions::sum::sum_udaf(), "f32", DataType::Float64),
        (functions::average::avg_udaf(), "i64", DataType::Float64),
        (functions::min_max::max_udaf(), "f32", DataType::Float32),
    ] {
        let spec = call(function, vec![column(&schema, argument)]);
        let aggregate = Aggregate::plan(&spec, &schema, TIME).unwrap();
        assert_eq!(aggregate.result_field().data_type(), &result);
    }
}

#[test]
fn what_cannot_be_computed_is_refused_by_name_when_planned() {
    let rows = table(&mut Rng::new(7), 1, false);
    let schema = rows.schema();
    let refused = |spec: AggregateSpec| {
        let error = Aggregate::plan(&spec, &schema, TIME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    };
    let sum_of_text = call(functions::sum::sum_udaf(), vec![column(&schema, "text")]);
    let reason = refused(AggregateSpec { name: "total".into(), ..sum_of_text });
    assert!(reason.contains("aggregate total (sum)"), "{reason}");
    let grouping = call(functions::grouping::grouping_udaf(), vec![column(&schema, "i64")]);
    let reason = refused(grouping);
    assert!(reason.contains("grouping"), "{reason}");
    let reason = refused(call(user::misdeclared(), vec![column(&schema, "i64")]));
    assert!(reason.contains("declares a result of type"), "{reason}");
}

#[test]
fn extrema_of_floats_are_those_of_the_total_order() {
    let schema = table(&mut Rng::new(0), 0, false).schema();
    let float = |name| vec![column(&schema, name)];
    let min = call(functions::min_max::min_udaf(), float("f64"));
    let max = call(functions::min_max::max_udaf(), float("f64"));
    let extremum = |spec: &AggregateSpec, values: &[f64]| {
        let aggregate = Aggregate::plan(spec, &schema, TIME).unwrap();
        let mut accumulator = aggregate.accumulator().unwrap();
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let groups = vec![0; values.len()];
        accumulator.update_batch(&[values], &groups, None, 1).unwrap();
        let result = accumulator.evaluate(EmitTo::All).unwrap();
        result.as_primitive::<Float64Type>().value(0)
    };
    let nan = -f64::NAN;
    assert_eq!(extremum(&min, &[f64::INFINITY]), f64::INFINITY);
    assert_eq!(extremum(&min, &[nan, 1.0, nan, 2.0]), 1.0);
    assert_eq!(extremum(&max, &[1.0, nan, 2.0]).to_bits(), f64::NAN.to_bits());
    assert_eq!(extremum(&min, &[0.0, -0.0, 0.0]).to_bits(), (-0.0f64).to_bits());
    assert_eq!(extremum(&max, &[-0.0, 0.0, -0.0]).to_bits(), 0.0f64.to_bits());
    assert_eq!(extremum(&max, &[f64::NEG_INFINITY]), f64::NEG_INFINITY);
}

#[test]
fn rows_that_a_result_does_not_need_are_not_kept() {
    let mut rng = Rng::new(8);
    let schema = table(&mut rng, 0, false).schema();
    let state_rows = |spec: &AggregateSpec, rng: &mut Rng| {
        let aggregate = Aggregate::plan(spec, &schema, TIME).unwrap();
        let mut accumulator = aggregate.accumulator().unwrap();
        for _ in 0..40 {
            let rows: RecordBatch = table(rng, 1000, false);
            update(&aggregate, accumulator.as_mut(), &rows, &vec![0; 1000], 1);
        }
        accumulator.size() / 40_000
    };
    let i64s = || vec![column(&schema, "i8")];
    let first = call(functions::first_last::first_value_udaf(), i64s());
    assert!(state_rows(&first, &mut rng) < 8, "a first value keeps all rows");
    let distinct = AggregateSpec { distinct: true, ..call(functions::sum::sum_udaf(), i64s()) };
    assert!(state_rows(&distinct, &mut rng) < 8, "a distinct sum keeps repetitions");
}
