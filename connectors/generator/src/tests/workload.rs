//! The rows that windows are measured with.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};

use crate::workload::{Keys, tumbling_rows, tumbling_rows_by_text};

fn keys(batches: &[RecordBatch]) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for batch in batches {
        for key in batch.column(0).as_primitive::<Int64Type>().values() {
            *counts.entry(*key).or_default() += 1;
        }
    }
    counts
}

#[test]
fn rows_are_no_further_out_of_order_than_asked() {
    for (disorder, exact) in [(0, true), (1_000_000, false)] {
        let batches = tumbling_rows(20_000, Keys::Single, disorder, 3);
        assert_eq!(
            batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(),
            [8192, 8192, 3616]
        );
        let mut newest = i64::MIN;
        let mut behind_most = 0;
        for time in batches
            .iter()
            .flat_map(|b| b.column(1).as_primitive::<TimestampMicrosecondType>().values().to_vec())
        {
            newest = newest.max(time);
            behind_most = behind_most.max(newest - time);
        }
        assert!(behind_most < disorder.max(1));
        assert_eq!(behind_most == 0, exact);
    }
}

#[test]
fn keys_are_spread_as_asked() {
    let rows = 100_000;
    assert_eq!(keys(&tumbling_rows(rows, Keys::Single, 0, 1)).len(), 1);
    let uniform = keys(&tumbling_rows(rows, Keys::Uniform(10), 0, 1));
    assert!(uniform.len() == 10 && uniform.values().all(|n| (9_500..10_500).contains(n)));
    let zipf = keys(&tumbling_rows(rows, Keys::Zipf { keys: 1_000, exponent: 1.1 }, 0, 1));
    // The weight of rank 1 over all: 1 / sum of k^-1.1.
    let first = 1.0 / (1..=1_000).map(|k| f64::from(k).powf(-1.1)).sum::<f64>();
    let share = |key: i64| zipf[&key] as f64 / rows as f64;
    assert!((share(0) - first).abs() < 0.01, "{} {first}", share(0));
    assert!((share(1) - first / 2f64.powf(1.1)).abs() < 0.01, "{}", share(1));
}

#[test]
fn equal_arguments_give_equal_rows_with_either_key() {
    let keys = Keys::Uniform(100);
    let numbers = tumbling_rows(10_000, keys, 1_000, 5);
    assert_eq!(numbers, tumbling_rows(10_000, keys, 1_000, 5));
    assert_ne!(numbers, tumbling_rows(10_000, keys, 1_000, 6));
    let texts = tumbling_rows_by_text(10_000, keys, 1_000, 5);
    for (number, text) in numbers.iter().zip(&texts) {
        assert_eq!(number.column(1), text.column(1));
        assert_eq!(
            number.column(2).as_primitive::<Float64Type>(),
            text.column(2).as_primitive::<Float64Type>()
        );
        let (number, text) = (number.column(0), text.column(0));
        for (number, text) in
            number.as_primitive::<Int64Type>().values().iter().zip(text.as_string_view())
        {
            assert_eq!(text.unwrap(), format!("customer{number:08}"));
            assert_eq!(text.unwrap().len(), 16);
        }
    }
}
