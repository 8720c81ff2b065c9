//! Random and sequential rows.

use std::collections::BTreeSet;

use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, Int64Array};
use arrow::datatypes::{DataType, TimeUnit};

use super::*;
use crate::DatagenFactory;

fn source(columns: Vec<Field>, options: &[(&str, &str)]) -> Arc<dyn Source> {
    DatagenFactory.source(&table(columns, options)).unwrap()
}

fn column(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn every_type() -> Vec<Field> {
    let utc = Some("UTC".into());
    let types = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(10, 2),
        DataType::Decimal128(38, 0),
        DataType::Utf8View,
        DataType::BinaryView,
        DataType::Date32,
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, utc),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
    ];
    types.into_iter().enumerate().map(|(n, t)| column(&format!("c{n}"), t)).collect()
}

#[test]
fn every_scalar_type_is_generated_and_replays_exactly() {
    let options =
        [("number-of-rows", "101"), ("splits", "3"), ("fields.c4.null-rate", "0.5"), ("seed", "7")];
    let source = source(every_type(), &options);
    assert_replays(source.as_ref());
    let all = (0..3).map(|split| rows(source.as_ref(), split, 8_192)).collect::<Vec<_>>();
    assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), 101);
    let nulls: usize = all.iter().map(|rows| rows.column(4).null_count()).sum();
    assert!((30..70).contains(&nulls), "{nulls} of 101 are null");
    for number in (0..all[0].num_columns()).filter(|number| ![4, 11].contains(number)) {
        let distinct: BTreeSet<String> = all
            .iter()
            .flat_map(|rows| {
                let text = arrow::util::display::array_value_to_string;
                (0..rows.num_rows()).map(move |row| text(rows.column(number), row).unwrap())
            })
            .collect();
        assert!(distinct.len() > 1, "column {number} always is {distinct:?}");
        assert_eq!(all[0].column(number).null_count(), 0, "column {number}");
    }
}

#[test]
fn another_seed_gives_other_rows_and_the_same_seed_the_same() {
    let columns = || vec![column("a", DataType::Int64)];
    let with =
        |seed| rows(source(columns(), &[("number-of-rows", "50"), ("seed", seed)]).as_ref(), 0, 50);
    assert_eq!(with("1"), with("1"));
    assert_ne!(with("1"), with("2"));
}

#[test]
fn ranges_and_lengths_hold() {
    let columns = vec![
        column("i", DataType::Int32),
        column("f", DataType::Float64),
        column("d", DataType::Decimal128(6, 2)),
        column("s", DataType::Utf8View),
    ];
    let options = [
        ("number-of-rows", "1000"),
        ("fields.i.min", "-2"),
        ("fields.i.max", "2"),
        ("fields.f.min", "1.5"),
        ("fields.f.max", "2.5"),
        ("fields.d.min", "0.10"),
        ("fields.d.max", "0.12"),
        ("fields.s.length", "5"),
    ];
    let rows = rows(source(columns, &options).as_ref(), 0, 8_192);
    let integers: BTreeSet<i32> =
        rows.column(0).as_primitive::<Int32Type>().values().iter().copied().collect();
    assert_eq!(Vec::from_iter(integers), [-2, -1, 0, 1, 2]);
    assert!(
        rows.column(1)
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .all(|f| (1.5..2.5).contains(f))
    );
    let decimals: BTreeSet<i128> =
        rows.column(2).as_primitive::<Decimal128Type>().values().iter().copied().collect();
    assert_eq!(Vec::from_iter(decimals), [10, 11, 12]);
    assert!(rows.column(3).as_string_view().iter().all(|s| s.unwrap().len() == 5));
}

#[test]
fn a_sequence_counts_over_all_splits_and_ends_the_source() {
    let columns = vec![column("n", DataType::Int64), column("s", DataType::Utf8View)];
    let options = [
        ("fields.n.kind", "sequence"),
        ("fields.n.start", "5"),
        ("fields.n.end", "11"),
        ("fields.s.kind", "sequence"),
        ("fields.s.start", "-1"),
        ("fields.s.end", "100"),
        ("scan.parallelism", "2"),
    ];
    let source = source(columns, &options);
    assert!(source.is_bounded());
    let (even, odd) = (rows(source.as_ref(), 0, 2), rows(source.as_ref(), 1, 2));
    assert_eq!(even.column(0).as_primitive::<Int64Type>(), &Int64Array::from(vec![5, 7, 9, 11]));
    assert_eq!(odd.column(0).as_primitive::<Int64Type>(), &Int64Array::from(vec![6, 8, 10]));
    assert_eq!(odd.column(1).as_string_view().value(1), "2");
}

#[test]
fn rows_come_at_the_rate_asked_for_and_a_long_pause_is_not_made_up_for() {
    let source = source(vec![column("n", DataType::Int64)], &[("rows-per-second", "1000")]);
    assert!(!source.is_bounded());
    let clock = Arc::new(VirtualClock::default());
    let mut reader = open(source.as_ref(), &SplitId::new("datagen/0"), None, &clock);
    let mut come = || {
        let mut rows = 0;
        while let Read::Batch(read) = reader.read(100).unwrap() {
            rows += read.rows.num_rows();
        }
        rows
    };
    assert_eq!((come(), come()), (1, 0));
    clock.advance(Duration::from_millis(250));
    assert_eq!(come(), 250);
    clock.advance(Duration::from_secs(60));
    assert_eq!(come(), 1_000);
    clock.advance(Duration::from_millis(10));
    assert_eq!(come(), 10);
    assert!(!reader.is_at_hand(), "it waits for the clock");
}

#[test]
fn timestamps_follow_the_clock_of_the_first_start_or_the_given_one() {
    let columns = || vec![column("ts", DataType::Timestamp(TimeUnit::Microsecond, None))];
    let times = |options: &[(&str, &str)]| {
        let rows = rows(source(columns(), options).as_ref(), 0, 10);
        rows.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec()
    };
    let options = [("number-of-rows", "3"), ("rows-per-second", "2")];
    assert_eq!(times(&options), [1_000_000_000, 1_000_500_000, 1_001_000_000]);
    let base = ("base-time", "1970-01-02 00:00:00");
    assert_eq!(times(&[options[0], base]), [86_400_000_000, 86_400_000_100, 86_400_000_200]);
    let past = times(&[options[0], base, ("fields.ts.max-past", "1 s")]);
    assert!(past.iter().all(|t| (86_399_000_000..=86_400_000_200).contains(t)), "{past:?}");
}

#[test]
fn wrong_options_are_named() {
    let wrong = |data_type: DataType, options: &[(&str, &str)]| {
        refused(&DatagenFactory, vec![column("c", data_type)], options)
    };
    type Case<'a> = (DataType, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (DataType::Int8, &[("fields.c.max", "200")], "fields.c.max"),
        (DataType::Int8, &[("fields.c.length", "2")], "fields.c.length"),
        (DataType::Int8, &[("fields.x.min", "2")], "fields.x.min"),
        (DataType::Int8, &[("fields.c.kind", "seq")], "fields.c.kind"),
        (DataType::Int8, &[("fields.c.kind", "sequence")], "fields.c.start"),
        (DataType::Utf8View, &[("fields.c.length", "99999999999")], "fields.c.length"),
        (DataType::Float64, &[("fields.c.null-rate", "1.5")], "fields.c.null-rate"),
        (DataType::Decimal128(3, 0), &[("fields.c.min", "x")], "fields.c.min"),
        (DataType::Int64, &[("rows-per-second", "0")], "rows-per-second"),
        (DataType::Int64, &[("base-time", "yesterday")], "base-time"),
    ];
    for (data_type, options, option) in cases {
        let error = wrong(data_type.clone(), options);
        assert_eq!(error.wrong_option(), Some(*option), "{error}");
    }
    let list = DataType::new_list(DataType::Int64, true);
    assert!(wrong(list, &[]).to_string().contains("column 'c'"));
}
