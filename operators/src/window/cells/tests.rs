//! Cells beside accumulators: whatever goes in, in whatever cut, the same comes out of both.

use std::collections::BTreeSet;
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
use tidemill_core::Result;
use tidemill_core::key::{hash_integer, key_group, owner as key_owner};
use tidemill_core::testing::Collected;
use tidemill_core::window::{AlignedWindow, Slice, WindowSpec};

use super::{CellTable, Expected, Parts, SideBySide};
use crate::AggregateSpec;
use crate::window::WindowAggregateSpec;
use crate::window::few::{FEW, Few};
use crate::window::parcel::{self, Share};
use crate::window::plan::{Evaluated, Plan};
use crate::window::table::{Handover, Leaving, Resting, Results, Table};

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
                    parcel::hand_over(slice, cells, false, owners, &mut None, &mut between);
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
        [fast, slow].map(|table| collected(|each| table.into_results(each)))
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

/// What values are like.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    /// All there and of one size, but for very few.
    Alike,
    /// Some are not there.
    Sparse,
    /// Of all sizes, and some are no numbers.
    Wild,
}

use Values::{Alike, Sparse, Wild};

fn value(rng: &mut ChaCha8Rng, values: Values) -> Option<f64> {
    let wild = values == Wild;
    let kinds = match values {
        Alike => 4000,
        Sparse => 40,
        Wild => 12,
    };
    match rng.random_range(0..kinds) {
        0 => None,
        1 if wild => Some([f64::NAN, f64::INFINITY, f64::NEG_INFINITY][rng.random_range(0..3)]),
        2 if wild => Some([1e308, -1e308, 5e-324, -5e-324][rng.random_range(0..4)]),
        3 => Some([0.0, -0.0][rng.random_range(0..2)]),
        4 if wild => Some(1e17 * (rng.random::<f64>() - 0.5)),
        5 if values == Alike => Some([1e-9, -1e9, f64::NAN][rng.random_range(0..3)]),
        _ => Some(rng.random::<f64>() * 100.0 - 20.0),
    }
}

fn rows(rng: &mut ChaCha8Rng, (first, width, step): (i64, i64, i64), are: Values) -> Evaluated {
    let len = rng.random_range(1..300);
    let key =
        |rng: &mut ChaCha8Rng| first.wrapping_add(rng.random_range(0..width).wrapping_mul(step));
    let nulls = are == Wild && rng.random_range(0..20) == 0;
    let keys = (0..len).map(|row| (!nulls || row % 7 > 0).then(|| key(rng)));
    let keys: Int64Array = keys.collect();
    // Tables of other shards, or this one's later rows, may be of another size.
    let size = if are == Alike && rng.random_range(0..8) == 0 { 4096.0 } else { 1.0 };
    let mut floats =
        || (0..len).map(|_| value(rng, are).map(|x| x * size)).collect::<Float64Array>();
    let (a, b) = (Arc::new(floats()) as ArrayRef, Arc::new(floats()) as ArrayRef);
    let ones = Arc::new(Int64Array::from(vec![1; len])) as ArrayRef;
    Evaluated { rows: len, keys: vec![Arc::new(keys)], values: vec![ones, a, b] }
}

#[test]
fn results_leave_in_full_batches_in_the_order_of_their_keys() {
    let mut both = Both::new(&[("count", 1), ("avg", 2)]);
    let keys: Vec<i64> = (0..20_000).collect();
    let column = |of: fn(i64) -> f64| -> ArrayRef {
        Arc::new(keys.iter().map(|key| Some(of(*key))).collect::<Float64Array>())
    };
    let values = vec![
        Arc::new(Int64Array::from(vec![1; keys.len()])) as ArrayRef,
        column(|key| key as f64 / 3.0),
    ];
    let column: ArrayRef = Arc::new(Int64Array::from(keys.clone()));
    both.update(&Evaluated { rows: keys.len(), keys: vec![column], values });
    let [fast, _] = both.tables;
    let (mut sizes, mut all) = (Vec::new(), Vec::new());
    let each = |part: Results| {
        sizes.push(part.rows);
        assert!(part.values.iter().all(|column| column.len() == part.rows));
        all.extend_from_slice(part.keys[0].as_primitive::<Int64Type>().values());
        Ok(())
    };
    fast.into_results(each).unwrap();
    assert_eq!((sizes, all), (vec![8192, 8192, 3616], keys));
}

#[test]
fn cells_and_accumulators_give_the_same_bits_for_all_rows_in_all_cuts() {
    let aggregates =
        [("count", 0), ("sum", 2), ("min", 2), ("max", 2), ("avg", 2), ("sum", 3), ("max", 3)];
    for seed in 0..240 {
        println!("seed {seed}");
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut both = Both::new(&aggregates);
        let are = [Wild, Sparse, Alike][seed as usize % 3];
        let shapes: Vec<_> =
            (0..rng.random_range(1..3)).map(|_| SHAPES[rng.random_range(0..7)]).collect();
        for step in 0..rng.random_range(1..30) {
            let shape = shapes[step % shapes.len()];
            both.update(&rows(rng, shape, are));
            let nothing = rows(rng, shape, are).slice(0, 0);
            let meanwhile = if rng.random_bool(0.5) { rows(rng, shape, are) } else { nothing };
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

/// More groups than are added to without being asked for, runs of one key among them, and keys that have no place yet.
#[test]
fn groups_that_are_far_away_get_the_rows_of_their_keys() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut both = Both::new(&[("count", 2), ("sum", 2), ("max", 2), ("min", 3)]);
        for pass in 0..3 {
            let reach = 40_000 + pass * 15_000;
            let mut keys: Vec<i64> = (0..60_000).map(|_| rng.random_range(0..reach)).collect();
            let start = rng.random_range(0..1000);
            keys[start..start + 700].fill(17);
            // In the middle of what is asked for together.
            keys[5_000 + start] = reach + 5;
            let mut value = || -> ArrayRef {
                Arc::new(keys.iter().map(|_| Some(rng.random::<f64>())).collect::<Float64Array>())
            };
            let values =
                vec![Arc::new(Int64Array::from(vec![1; keys.len()])) as _, value(), value()];
            let keys = Arc::new(Int64Array::from(keys.clone())) as _;
            both.update(&Evaluated { rows: 60_000, keys: vec![keys], values });
        }
        let [fast, slow] = both.results();
        assert_eq!(fast, slow);
    }
}

/// A table of the sum of a one for each of these keys, as a shard makes it that has seen none before.
fn ones(plan: &Plan, keys: &[i64]) -> CellTable {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0; keys.len()]));
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let rows = Evaluated { rows: keys.len(), keys: vec![keys], values: vec![values] };
    table_of(plan, &[rows])
}

fn table_of(plan: &Plan, rows: &[Evaluated]) -> CellTable {
    let (mut table, mut handover) = (Table::new(plan).unwrap(), Handover::default());
    rows.iter().for_each(|rows| table.update(plan, rows, &mut handover).unwrap());
    match table.leave().unwrap() {
        Leaving::Cells(cells) => cells,
        Leaving::Columns(_) => panic!("one integer key has cells"),
    }
}

#[test]
fn owners_of_a_table_are_those_of_the_last_where_it_has_the_same_range() {
    let plan = plan(&[("sum", 2)]);
    let mut last = None;
    let mut known = Vec::new();
    let with_gap: Vec<_> = (0..500).filter(|key| *key != 7).collect();
    for keys in [(0..500).collect(), with_gap, (-20..500).rev().collect(), (0..5000).collect()] {
        let cells = ones(&plan, &keys);
        let Parts::Owned(parts) = cells.by_owner(3, &mut last) else { panic!("keys lie together") };
        let Parts::Owned(anew) = cells.by_owner(3, &mut None) else { panic!("keys lie together") };
        assert_eq!(parts, anew);
        let groups: usize = parts.iter().map(|part| cells.groups_at(part.offsets())).sum();
        assert_eq!(groups, keys.len());
        known.push(parts);
    }
    let is_known = |one: usize, other: usize| Arc::ptr_eq(&known[one], &known[other]);
    assert!(is_known(0, 1) && !is_known(1, 2) && !is_known(2, 3));
}

#[test]
fn a_table_with_few_groups_lists_them() {
    let plan = plan(&[("sum", 2)]);
    let mut handover = Handover::default();
    let mut few = Table::new(&plan).unwrap();
    let rows = |keys: Vec<i64>| {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0; keys.len()]));
        let keys: ArrayRef = Arc::new(Int64Array::from(keys));
        Evaluated { rows: keys.len(), keys: vec![keys], values: vec![values] }
    };
    Table::new(&plan).unwrap().update(&plan, &rows((0..10_000).collect()), &mut handover).unwrap();
    few.update(&plan, &rows(vec![3, 9_000, 17]), &mut handover).unwrap();
    let Leaving::Cells(few) = few.leave().unwrap() else { panic!("one integer key has cells") };
    let Parts::Listed(parts) = few.by_owner(2, &mut None) else { panic!("most places are empty") };
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 3);
}

/// What two shards send to one of two owners takes memory for that one's keys alone, whatever the ranges are in which
/// the shards saw their keys.
#[test]
fn an_owner_has_places_for_its_own_keys_alone() {
    let plan = plan(&[("sum", 2)]);
    for (ranges, most) in [
        ([0..10_000, 0..10_000], 5_500),
        ([0..10_000, 0..8_000], 5_500),
        ([3_000..10_000, 0..8_000], 6_500),
        ([0..5_000, 5_000..10_000], 6_500),
        ([0..100, 50_000..50_100], 400),
    ] {
        let mut table = CellTable::new(plan.cells.clone().unwrap());
        let mut expected = Expected::default();
        for keys in ranges.clone() {
            let other = ones(&plan, &keys.collect::<Vec<_>>());
            table.take_in(&other, &other.by_owner(2, &mut None).of(1), 0, &mut expected);
        }
        assert!(table.cells.counts.len() < most, "{ranges:?}: {}", table.cells.counts.len());
        let of_both = ranges.iter().cloned().flatten().collect::<BTreeSet<i64>>();
        let is_own = |key: &&i64| key_owner(key_group(hash_integer(**key)), 2) == 1;
        assert_eq!(table.len(), of_both.iter().filter(is_own).count(), "{ranges:?}");
    }
}

#[test]
fn places_of_the_table_before_are_taken_over_unless_they_are_far_too_many() {
    let plan = plan(&[("sum", 2)]);
    let mut expected = Expected::default();
    for (keys, places) in [(10_000, 4_000..7_000), (8_000, 4_000..7_000), (1_000, 0..700)] {
        let other = ones(&plan, &(0..keys).collect::<Vec<_>>());
        let mut table = CellTable::new(plan.cells.clone().unwrap());
        table.take_in(&other, &other.by_owner(2, &mut None).of(0), 0, &mut expected);
        let len = table.cells.counts.len();
        assert!(places.contains(&len), "{keys} keys, {len} places");
    }
}

#[test]
fn a_table_expects_values_of_the_size_that_the_one_before_it_had() {
    let plan = plan(&[("sum", 2)]);
    let mut expected = Expected::default();
    // The first rows of a slice may be few, and small.
    let mut is_whole = |parts: &[&[f64]]| {
        let mut table = CellTable::new(plan.cells.clone().unwrap());
        for part in parts {
            let values: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(part.to_vec()))];
            let keys: ArrayRef = Arc::new(Int64Array::from(vec![1; part.len()]));
            let rows = Evaluated { rows: part.len(), keys: vec![keys], values };
            table.update(&rows, part.len(), &mut expected);
        }
        table.cells.columns[0].unit().is_some()
    };
    assert!(!is_whole(&[&[0.01], &[99.0, 0.01]]), "who knows");
    for _ in 0..2 {
        assert!(is_whole(&[&[0.01], &[99.0, 0.01]]), "as the rows before");
    }
    assert!(!is_whole(&[&[5.0], &[1e9]]), "larger than all before");
    assert!(!is_whole(&[&[5.0], &[1e-3]]), "small beside what came last");
    assert!(is_whole(&[&[5.0], &[1e-3]]), "that is forgotten");
}

/// What is given out in parts, in the order of keys.
fn collected(
    all: impl FnOnce(&mut dyn FnMut(Results) -> Result<()>) -> Result<()>,
) -> Vec<ArrayRef> {
    let mut parts = Vec::new();
    let mut part = |part: Results| {
        parts.push(part.keys.into_iter().chain(part.values).collect::<Vec<_>>());
        Ok(())
    };
    all(&mut part).unwrap();
    let column = |column: usize| {
        concat(&parts.iter().map(|part| part[column].as_ref()).collect::<Vec<_>>()).unwrap()
    };
    let order = sort_to_indices(&column(0), None, None).unwrap();
    (0..parts[0].len()).map(|index| in_order(&column(index), &order)).collect()
}

/// A row for each of many keys, more than results have in one part, from a random one on.
fn many_rows(rng: &mut ChaCha8Rng, are: Values) -> Evaluated {
    let first = rng.random_range(0..10_000);
    let len = 30_000;
    let keys: ArrayRef = Arc::new((first..first + len).map(Some).collect::<Int64Array>());
    let mut floats =
        || -> ArrayRef { Arc::new((0..len).map(|_| value(rng, are)).collect::<Float64Array>()) };
    let (a, b) = (floats(), floats());
    let ones = Arc::new(Int64Array::from(vec![1; len as usize])) as ArrayRef;
    Evaluated { rows: len as usize, keys: vec![keys], values: vec![ones, a, b] }
}

/// An owner's parts of the tables of several shards: side by side, one after the other in a table, in tables that are
/// put together, and as rows in accumulators.
#[test]
fn an_owners_parts_give_the_same_bits_however_they_are_put_together() {
    let aggregates = [("count", 0), ("sum", 2), ("min", 2), ("max", 2), ("avg", 2), ("sum", 3)];
    let mut plans = [plan(&aggregates), plan(&aggregates)];
    plans[1].cells = None;
    let fast = &plans[0];
    let mut side_by_side = 0;
    for seed in 0..120 {
        println!("seed {seed}");
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let base = SHAPES[rng.random_range(0..7)];
        let beside = (base.0.wrapping_add(base.1 / 2), base.1, base.2);
        let are = [Wild, Sparse, Alike][seed as usize % 3];
        let mut sender = || {
            let rows: Vec<_> = match rng.random_range(0..4) {
                0 => vec![many_rows(rng, are)],
                1 => (0..12).map(|_| rows(rng, beside, are)).collect(),
                _ => (0..12).map(|_| rows(rng, base, are)).collect(),
            };
            let has_all_keys = |rows: &Evaluated| rows.keys[0].null_count() == 0;
            table_of(fast, &rows.into_iter().filter(has_all_keys).collect::<Vec<_>>())
        };
        let senders: Vec<_> = (0..1 + seed % 4).map(|_| sender()).collect();
        let owners = 1 + seed as usize % 3;
        for owner in 0..owners {
            let parts: Vec<_> =
                senders.iter().map(|table| table.by_owner(owners, &mut None)).collect();
            let shares = || senders.iter().zip(parts.iter().map(|parts| parts.of(owner)));
            if shares().all(|(table, part)| table.groups_at(part.positions()) == 0) {
                continue;
            }
            let mut tables = [&plans[0], &plans[1]].map(|plan| Table::new(plan).unwrap());
            let mut handovers: [Handover; 2] = Default::default();
            for (table, part) in shares() {
                if table.groups_at(part.positions()) == 0 {
                    continue;
                }
                let partial = table.partial(part.positions());
                tables[1].merge(&plans[1], &partial, &mut handovers[1]).unwrap();
                let mut resting = CellTable::new(fast.cells.clone().unwrap());
                resting.take_in(table, &part, 1, &mut handovers[0].expected);
                let resting = Resting::Cells(Arc::new(resting), 1);
                tables[0].add(fast, &resting, &mut handovers[0]).unwrap();
            }
            let mut one = CellTable::new(fast.cells.clone().unwrap());
            let mut expected = Expected::default();
            shares().for_each(|(table, part)| one.take_in(table, &part, 1, &mut expected));
            let [added, slow] = tables;
            let slow = collected(|each| slow.into_results(each));
            assert_eq!(collected(|each| added.into_results(each)), slow, "owner {owner}");
            assert_eq!(collected(|each| one.into_results(each)), slow, "owner {owner}");
            if let Some(all) = SideBySide::of(shares()) {
                side_by_side += 1;
                assert_eq!(collected(|each| all.results(each)), slow, "owner {owner}");
                let all = SideBySide::of(shares()).unwrap();
                let parts: Vec<_> = all.partials(1000).collect();
                let groups: usize = parts.iter().map(|part| part.rows).sum();
                assert_eq!(groups, slow[0].len(), "each group is there once, owner {owner}");
                let mut restored = Table::new(&plans[1]).unwrap();
                for part in &parts {
                    restored.merge(&plans[1], part, &mut handovers[1]).unwrap();
                }
                let restored = collected(|each| restored.into_results(each));
                assert_eq!(restored, slow, "owner {owner}");
            }
        }
    }
    assert!(side_by_side > 50, "{side_by_side}");
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

fn counted_rows(keys: Vec<i64>) -> Evaluated {
    let ones = Arc::new(Int64Array::from(vec![1; keys.len()])) as ArrayRef;
    let keys = Arc::new(Int64Array::from(keys)) as ArrayRef;
    Evaluated { rows: keys.len(), keys: vec![keys], values: vec![ones] }
}

/// Slices of ten from 0 on, and the times of rows that lie in them.
fn few(slices: usize, times: Vec<i64>) -> Few {
    let slice = |n: usize| Slice { end: 10 * n as i64, first_window_end: 10 * n as i64 };
    Few::new((1..=slices).map(slice).collect(), times.into()).with_rows()
}

/// Rows of a few slices: counted in all tables at once as far as that goes, and told apart from there on.
#[test]
fn rows_of_a_few_slices_that_are_counted_together_give_what_they_give_when_they_are_told_apart() {
    let plan = plan(&[("count", 0)]);
    let (mut whole, mut parts) = ([0; FEW + 1], [0; FEW + 1]);
    for seed in 0..400 {
        println!("seed {seed}");
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let (first, width, step) = SHAPES[rng.random_range(0..7)];
        let slices = rng.random_range(2..=FEW);
        let mut tables = [(); FEW].map(|_| [0; 2].map(|_| Table::new(&plan).unwrap()));
        let mut handovers: [Handover; 2] = Default::default();
        for _ in 0..rng.random_range(1..8) {
            let len = rng.random_range(2..400);
            let width = if rng.random_bool(0.2) { 1 } else { width };
            let key = |rng: &mut ChaCha8Rng| {
                step.wrapping_mul(rng.random_range(0..width)).wrapping_add(first)
            };
            let rows = counted_rows((0..len).map(|_| key(rng)).collect());
            // Most rows lie in the first slices, or all but evenly in all; the first and the last have some.
            let most = rng.random_range(1..=10 * slices as i64);
            let time = |_| {
                let end = if rng.random_bool(0.9) { most } else { 10 * slices as i64 };
                rng.random_range(0..end)
            };
            let mut times: Vec<i64> = (0..len).map(time).collect();
            (times[0], times[len - 1]) = (3, 10 * slices as i64 - 3);
            let few = few(slices, times);
            let apart = |rows: &Evaluated, few: &Few| -> Vec<(usize, Evaluated)> {
                let number = |slice: &Slice| (slice.end / 10 - 1) as usize;
                let numbers = few.slices().iter().map(number);
                let part = |mask| rows.filter(&mask, &plan.counted).unwrap();
                numbers.zip(few.masks().into_iter().map(part)).collect()
            };
            for (number, rows) in apart(&rows, &few) {
                tables[number][1].update(&plan, &rows, &mut handovers[1]).unwrap();
            }
            let together = tables.iter_mut().enumerate().filter(|(number, _)| {
                few.slices().iter().any(|slice| slice.end == 10 * (*number as i64 + 1))
            });
            let together = together.map(|(_, [table, _])| table).collect();
            let count = few.slices().len();
            let taken = Table::count_few(together, &few, &rows, &mut handovers[0]);
            let left = rows.rows - taken;
            whole[count] += usize::from(left == 0);
            parts[count] += usize::from(left > 0);
            for (number, rows) in apart(&rows.slice(taken, left), &few.behind(taken)) {
                tables[number][0].update(&plan, &rows, &mut handovers[0]).unwrap();
            }
        }
        for [together, apart] in tables {
            assert_eq!(together.rows(), apart.rows());
            if apart.rows() > 0 {
                let apart = collected(|each| apart.into_results(each));
                assert_eq!(collected(|each| together.into_results(each)), apart);
            }
        }
    }
    for slices in 2..=FEW {
        let counts = (whole[slices], parts[slices]);
        assert!(counts.0 > 10 && counts.1 > 10, "of {slices} slices: whole, in part: {counts:?}");
    }
}

#[test]
fn tables_that_are_counted_in_together_begin_where_the_one_before_lay_if_their_own_keys_do() {
    let plan = plan(&[("count", 0)]);
    let counted = |slices: usize, keys: Vec<i64>| {
        let mut handover = Handover::default();
        let mut before = Table::new(&plan).unwrap();
        before.update(&plan, &counted_rows((0..1000).collect()), &mut handover).unwrap();
        let mut tables: Vec<_> = (0..slices).map(|_| Table::new(&plan).unwrap()).collect();
        let few = few(slices, (0..keys.len()).map(|row| (row % slices) as i64 * 10).collect());
        let rows = counted_rows(keys);
        let taken = Table::count_few(tables.iter_mut().collect(), &few, &rows, &mut handover);
        (taken, tables.iter().map(Table::rows).collect::<Vec<_>>())
    };
    for slices in [2, 4] {
        let rows = (0..1000).rev().collect();
        assert_eq!(counted(slices, rows), (1000, vec![1000 / slices; slices]));
        let rows = (0..1000).map(|row| row % slices as i64 * 5000 + row).collect();
        assert_eq!(counted(slices, rows), (0, vec![0; slices]));
    }
}
