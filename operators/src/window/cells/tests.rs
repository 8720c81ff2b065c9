//! Cells beside accumulators: whatever goes in, in whatever cut, the same comes out of both.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, UInt32Array};
use arrow::compute::{concat, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::AggregateUDF;
use datafusion_functions_aggregate::{average, count, min_max, sum};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{Column, Literal};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemill_core::key::{hash_integer, key_group, owner as key_owner};
use tidemill_core::testing::Collected;
use tidemill_core::window::{AlignedWindow, Slice, WindowSpec};

use super::{CellTable, Parts};
use crate::AggregateSpec;
use crate::window::WindowAggregateSpec;
use crate::window::parcel::{self, Share};
use crate::window::plan::{Evaluated, Plan};
use crate::window::table::{Handover, Leaving, Results, Table};

fn plan(aggregates: &[(&str, usize)]) -> Plan {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let input = Schema::new(vec![
        Field::new("ts", time, false),
        Field::new("key", DataType::Int64, true),
        Field::new("a", DataType::Float64, true),
        Field::new("b", DataType::Float64, true),
    ]);
    let column = |index: usize| -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(input.field(index).name(), index))
    };
    let function = |name: &str| -> Arc<AggregateUDF> {
        match name {
            "count" => count::count_udaf(),
            "sum" => sum::sum_udaf(),
            "avg" => average::avg_udaf(),
            "min" => min_max::min_udaf(),
            _ => min_max::max_udaf(),
        }
    };
    let spec = |(name, index): &(&str, usize)| AggregateSpec {
        function: function(name),
        args: match *name {
            "count" => vec![Arc::new(Literal::new(ScalarValue::Int64(Some(1))))],
            _ => vec![column(*index)],
        },
        distinct: false,
        filter: None,
        order_by: vec![],
        ignore_nulls: false,
        name: format!("{name}_{index}"),
    };
    let spec = WindowAggregateSpec {
        input: Arc::new(input.clone()),
        window: WindowSpec::Aligned(AlignedWindow::tumbling(10, 0).unwrap()),
        time: 0,
        keys: vec![(column(1), "key".to_owned())],
        aggregates: aggregates.iter().map(spec).collect(),
    };
    Plan::new(spec).unwrap()
}

/// Both forms of a table, fed with the same.
struct Both {
    fast: Plan,
    slow: Plan,
    tables: [Table; 2],
    handovers: [Handover; 2],
}

impl Both {
    fn new(aggregates: &[(&str, usize)]) -> Self {
        let fast = plan(aggregates);
        assert!(fast.cells.is_some(), "cells can answer {aggregates:?}");
        let mut slow = plan(aggregates);
        slow.cells = None;
        let tables = [Table::new(&fast).unwrap(), Table::new(&slow).unwrap()];
        Self { fast, slow, tables, handovers: Default::default() }
    }

    fn each(&mut self, mut f: impl FnMut(&mut Table, &Plan, &mut Handover)) {
        let plans = [&self.fast, &self.slow];
        let tables = self.tables.iter_mut().zip(&mut self.handovers);
        for (plan, (table, handover)) in plans.into_iter().zip(tables) {
            f(table, plan, handover);
        }
    }

    fn update(&mut self, rows: &Evaluated) {
        self.each(|table, plan, handover| table.update(plan, rows, handover).unwrap());
    }

    /// Takes what is there out and puts it in again: cells get what accumulators held, and the other
    /// way round.
    fn exchange(&mut self) {
        let [fast, slow] = &mut self.tables;
        let fast = std::mem::replace(fast, Table::new(&self.fast).unwrap());
        let slow = std::mem::replace(slow, Table::new(&self.slow).unwrap());
        let partials = [slow.into_partial().unwrap(), fast.into_partial().unwrap()];
        assert_eq!(self.fast.partial, self.slow.partial);
        let mut partials = partials.iter();
        self.each(|table, plan, handover| {
            table.merge(plan, partials.next().unwrap(), handover).unwrap();
        });
    }

    /// Puts what is there to rest, and adds it to what comes meanwhile.
    fn rest(&mut self, meanwhile: &Evaluated) {
        self.each(|table, plan, handover| {
            let before = std::mem::replace(table, Table::new(plan).unwrap()).rest().unwrap();
            table.update(plan, meanwhile, handover).unwrap();
            table.add(plan, &before, handover).unwrap();
        });
    }

    /// Hands what is there over to so many owners, who all put it with what has come meanwhile.
    fn hand_over(&mut self, owners: usize, meanwhile: &Evaluated) {
        self.each(|table, plan, handover| {
            let before = std::mem::replace(table, Table::new(plan).unwrap());
            table.update(plan, meanwhile, handover).unwrap();
            let mut between = Collected::default();
            match before.leave().unwrap() {
                Leaving::Columns(partial) => table.merge(plan, &partial, handover).unwrap(),
                Leaving::Cells(cells) => {
                    let slice = Slice { end: 10, first_window_end: 10 };
                    parcel::hand_over(slice, cells, owners, &mut None, &mut between);
                }
            }
            for parcel in between.parcels {
                assert!(parcel.groups > 0 && parcel.owner < owners);
                table.take_in(plan, &Share::unpack(parcel).unwrap(), handover).unwrap();
            }
        });
    }

    fn results(self) -> [Vec<ArrayRef>; 2] {
        let [fast, slow] = self.tables;
        [fast, slow].map(|table| {
            let mut parts = Vec::new();
            let mut part = |part: Results| {
                parts.push(part.keys.into_iter().chain(part.values).collect::<Vec<_>>());
                Ok(())
            };
            table.into_results(&mut part).unwrap();
            let column = |column: usize| {
                concat(&parts.iter().map(|part| part[column].as_ref()).collect::<Vec<_>>()).unwrap()
            };
            let order = sort_to_indices(&column(0), None, None).unwrap();
            (0..parts[0].len()).map(|index| in_order(&column(index), &order)).collect()
        })
    }
}

/// Doubles as their bits: NaNs, and both zeros, are told apart.
fn in_order(column: &ArrayRef, order: &UInt32Array) -> ArrayRef {
    let column = take(column, order, None).unwrap();
    match column.as_primitive_opt::<Float64Type>() {
        Some(floats) => Arc::new(floats.unary::<_, Int64Type>(|x| x.to_bits() as i64)),
        None => column,
    }
}

/// How keys of one run lie: width, and distance of one to the next.
const SHAPES: [(i64, i64, i64); 7] = [
    (0, 1, 1),
    (-20, 40, 1),
    (1_000_000, 3000, 1),
    (5, 2000, 1000),
    (i64::MAX - 50, 50, 1),
    (i64::MIN, 50, 1),
    (i64::MIN, 4, i64::MAX / 2),
];

fn value(rng: &mut ChaCha8Rng, wild: bool) -> Option<f64> {
    match rng.random_range(0..if wild { 12 } else { 40 }) {
        0 => None,
        1 if wild => Some([f64::NAN, f64::INFINITY, f64::NEG_INFINITY][rng.random_range(0..3)]),
        2 if wild => Some([1e308, -1e308, 5e-324, -5e-324][rng.random_range(0..4)]),
        3 => Some([0.0, -0.0][rng.random_range(0..2)]),
        4 if wild => Some(1e17 * (rng.random::<f64>() - 0.5)),
        _ => Some(rng.random::<f64>() * 100.0 - 20.0),
    }
}

fn rows(rng: &mut ChaCha8Rng, (first, width, step): (i64, i64, i64), wild: bool) -> Evaluated {
    let len = rng.random_range(1..300);
    let key =
        |rng: &mut ChaCha8Rng| first.wrapping_add(rng.random_range(0..width).wrapping_mul(step));
    let nulls = wild && rng.random_range(0..20) == 0;
    let keys = (0..len).map(|row| (!nulls || row % 7 > 0).then(|| key(rng)));
    let keys: Int64Array = keys.collect();
    let mut floats = || (0..len).map(|_| value(rng, wild)).collect::<Float64Array>();
    let (a, b) = (Arc::new(floats()) as ArrayRef, Arc::new(floats()) as ArrayRef);
    let ones = Arc::new(Int64Array::from(vec![1; len])) as ArrayRef;
    Evaluated { rows: len, keys: vec![Arc::new(keys)], values: vec![ones, a, b] }
}

#[test]
fn cells_and_accumulators_give_the_same_bits_for_all_rows_in_all_cuts() {
    let aggregates =
        [("count", 0), ("sum", 2), ("min", 2), ("max", 2), ("avg", 2), ("sum", 3), ("max", 3)];
    for seed in 0..240 {
        println!("seed {seed}");
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut both = Both::new(&aggregates);
        let wild = seed % 3 == 0;
        let shapes: Vec<_> =
            (0..rng.random_range(1..3)).map(|_| SHAPES[rng.random_range(0..7)]).collect();
        for step in 0..rng.random_range(1..30) {
            let shape = shapes[step % shapes.len()];
            both.update(&rows(rng, shape, wild));
            let nothing = rows(rng, shape, wild).slice(0, 0);
            let meanwhile = if rng.random_bool(0.5) { rows(rng, shape, wild) } else { nothing };
            match rng.random_range(0..18) {
                0..3 => both.exchange(),
                3 => both.rest(&meanwhile),
                4 => both.hand_over(rng.random_range(1..5), &meanwhile),
                _ => {}
            }
        }
        let [fast, slow] = both.results();
        assert_eq!(fast, slow);
    }
}

#[test]
fn without_a_count_of_rows_groups_without_values_are_there_and_null() {
    let mut both = Both::new(&[("sum", 2), ("min", 2)]);
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 7]));
    let values: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(2.0), None]));
    both.update(&Evaluated { rows: 3, keys: vec![keys], values: vec![values] });
    both.exchange();
    let [fast, slow] = both.results();
    assert_eq!(fast, slow);
    assert_eq!(fast[1].null_count(), 1);
}

/// A table of the sum of a one for each of these keys.
fn cells(plan: &Plan, keys: &[i64], handover: &mut Handover) -> CellTable {
    let mut table = Table::new(plan).unwrap();
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0; keys.len()]));
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let rows = Evaluated { rows: keys.len(), keys: vec![keys], values: vec![values] };
    table.update(plan, &rows, handover).unwrap();
    match table.leave().unwrap() {
        Leaving::Cells(cells) => cells,
        Leaving::Columns(_) => panic!("one integer key has cells"),
    }
}

#[test]
fn owners_of_a_table_are_those_of_the_last_where_it_has_the_same_range() {
    let plan = plan(&[("sum", 2)]);
    let mut handover = Handover::default();
    let mut last = None;
    let mut known = Vec::new();
    let with_gap = (0..500).filter(|key| *key != 7).collect();
    for keys in [(0..500).collect(), with_gap, (0..5000).collect::<Vec<_>>()] {
        let cells = cells(&plan, &keys, &mut handover);
        let Parts::Owned(parts) = cells.by_owner(3, &mut last) else { panic!("keys lie together") };
        let Parts::Owned(anew) = cells.by_owner(3, &mut None) else { panic!("keys lie together") };
        assert_eq!(parts, anew);
        let groups: usize = parts.iter().map(|part| cells.groups_at(part.offsets())).sum();
        assert_eq!(groups, keys.len());
        known.push(parts);
    }
    let is_known = |one: usize, other: usize| Arc::ptr_eq(&known[one], &known[other]);
    assert!(is_known(0, 1) && !is_known(1, 2));
}

/// What two shards send to one of two owners takes memory for that one's keys alone, whatever the ranges are in which
/// the shards saw their keys, and is the same as if they had sent rows.
#[test]
fn an_owner_has_places_for_its_own_keys_alone() {
    let plan = plan(&[("sum", 2)]);
    let [mut sender, mut owner] = [Handover::default(), Handover::default()];
    for (ranges, most) in [
        ([0..10_000, 0..10_000], 5_500),
        ([0..10_000, 0..8_000], 5_500),
        ([3_000..10_000, 0..8_000], 5_500),
        ([0..5_000, 5_000..10_000], 5_500),
        ([0..100, 50_000..50_100], 400),
    ] {
        let mut table = CellTable::new(plan.cells.clone().unwrap());
        let mut expected = BTreeMap::new();
        for keys in ranges.clone() {
            let keys: Vec<_> = keys.collect();
            let other = cells(&plan, &keys, &mut sender);
            let parts = other.by_owner(2, &mut None);
            table.take_in(&other, &parts.of(1), 0, &mut owner.expected);
            let is_own = |key: &&i64| key_owner(key_group(hash_integer(**key)), 2) == 1;
            keys.iter().filter(is_own).for_each(|key| *expected.entry(*key).or_insert(0.0) += 1.0);
        }
        assert!(table.cells.counts.len() < most, "{ranges:?}: {}", table.cells.counts.len());
        let mut sums = BTreeMap::new();
        let each = |results: Results| {
            let keys = results.keys[0].as_primitive::<Int64Type>().values().iter().copied();
            let values = results.values[0].as_primitive::<Float64Type>().values().iter().copied();
            sums.extend(keys.zip(values));
            Ok(())
        };
        table.into_results(each).unwrap();
        assert_eq!(sums, expected, "{ranges:?}");
    }
}

#[test]
fn a_table_takes_the_range_of_the_one_before_it_and_stays_small_where_keys_are_few() {
    let plan = plan(&[("count", 0), ("sum", 2)]);
    let mut handover = Handover::default();
    let batch = |keys: Vec<i64>| {
        let len = keys.len();
        let values: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1; len])),
            Arc::new(Float64Array::from(vec![1.0; len])),
        ];
        Evaluated { rows: len, keys: vec![Arc::new(Int64Array::from(keys))], values }
    };
    let mut dense = Table::new(&plan).unwrap();
    dense.update(&plan, &batch((0..10_000).collect()), &mut handover).unwrap();
    // 40 bytes a group, and some room for more.
    assert!(dense.bytes() <= 40 * 17_000, "{} bytes", dense.bytes());
    let few = |handover: &mut Handover| {
        let mut few = Table::new(&plan).unwrap();
        few.update(&plan, &batch(vec![3, 9_000]), handover).unwrap();
        let bytes = few.bytes();
        assert_eq!(few.into_partial().unwrap().rows, 2);
        bytes
    };
    // The first is expected to fill up as the one before it did, the second is not.
    assert!(few(&mut handover) >= 40 * 10_000);
    let bytes = few(&mut handover);
    assert!(bytes < 20_000, "{bytes} bytes");
}

/// Rows without nulls, long enough that rows of one key are added together.
#[test]
fn rows_of_one_key_that_follow_each_other_give_the_same_bits_as_any_others() {
    let ordinary = |n: usize| (n as f64 - 300.0) * 0.1;
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, -0.0, 5e-324];
    let keys: [fn(usize) -> i64; 5] = [
        |_| 7,
        |row| if row < 256 { 7 } else { 8 },
        |row| if row == 130 { 1 << 40 } else { 7 },
        |row| (row / 300) as i64,
        |row| (row % 3) as i64,
    ];
    for len in [255, 256, 257, 512, 1000] {
        for key in keys {
            for (at, odd) in
                odd.iter().flat_map(|odd| [(0, odd), (1, odd), (254, odd), (9999, odd)])
            {
                let values = |twice: bool| -> ArrayRef {
                    let is_odd = |row: usize| row == at || (twice && row == at + 5);
                    let value = |row| if is_odd(row) { *odd } else { ordinary(row) };
                    Arc::new(Float64Array::from_iter_values((0..len).map(value)))
                };
                let rows = Evaluated {
                    rows: len,
                    keys: vec![Arc::new(Int64Array::from_iter_values((0..len).map(key)))],
                    values: vec![
                        Arc::new(Int64Array::from(vec![1; len])),
                        values(true),
                        values(false),
                    ],
                };
                let mut both = Both::new(&[
                    ("count", 0),
                    ("sum", 2),
                    ("min", 2),
                    ("max", 2),
                    ("avg", 2),
                    ("sum", 3),
                    ("max", 3),
                ]);
                both.update(&rows);
                both.update(&rows);
                let [fast, slow] = both.results();
                assert_eq!(fast, slow, "{len} rows, {odd} at {at}");
            }
        }
    }
}

#[test]
fn rows_of_one_key_are_counted_together() {
    let mut both = Both::new(&[("count", 0)]);
    for len in [255, 256, 257, 1000] {
        let keys = (0..len).map(|row| if row == 600 { -5 } else { 3 });
        let rows = Evaluated {
            rows: len,
            keys: vec![Arc::new(Int64Array::from_iter_values(keys))],
            values: vec![Arc::new(Int64Array::from(vec![1; len]))],
        };
        both.update(&rows);
    }
    let [fast, slow] = both.results();
    assert_eq!(fast, slow);
}
