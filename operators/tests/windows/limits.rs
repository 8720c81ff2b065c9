//! What random scenarios do not reach: volumes, bad rows, and times far apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Int64Type, TimestampMicrosecondType};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_functions_aggregate::count::count_udaf;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{Column, cast};
use tidemill_core::Batch;
use tidemill_core::element::Origin;
use tidemill_core::operator::{
    Barrier, Fate, KeyedFactory, OperatorContext, Progress, StateChange,
};
use tidemill_core::record::{Records, SourceRecord};
use tidemill_core::source::SplitId;
use tidemill_core::testing::{Collected, advance, barrier, context};
use tidemill_core::time::END_OF_TIME;
use tidemill_core::window::{AlignedWindow, WindowSpec};
use tidemill_operators::{AggregateSpec, WindowAggregate, WindowAggregateSpec};

/// Counts rows of `(ts, k)` by `CAST(k AS BIGINT)`.
fn count_by_number(window: WindowSpec, key: DataType) -> WindowAggregate {
    count_by(window, key, DataType::Int64)
}

/// Counts rows of `(ts, k)` by `k` as a number of this type.
fn count_by(window: WindowSpec, key: DataType, number: DataType) -> WindowAggregate {
    let input = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("k", key, true),
    ]));
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 1));
    let number = cast(column, &input, number).unwrap();
    let count = AggregateSpec {
        function: count_udaf(),
        args: vec![],
        distinct: false,
        filter: None,
        order_by: vec![],
        ignore_nulls: false,
        name: "n".to_owned(),
    };
    let keys = vec![(number, "k".to_owned())];
    let spec = WindowAggregateSpec { input, window, time: 0, keys, aggregates: vec![count] };
    WindowAggregate::new(spec).unwrap()
}

fn tumbling(size: i64) -> WindowSpec {
    WindowSpec::Aligned(AlignedWindow::tumbling(size, 0).unwrap())
}

fn rows(times: Vec<Option<i64>>, keys: ArrayRef) -> RecordBatch {
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
    RecordBatch::try_from_iter_with_nullable([("ts", times, true), ("k", keys, true)]).unwrap()
}

fn numbered(time: i64, keys: std::ops::Range<i64>) -> Batch {
    let times = keys.clone().map(|_| Some(time)).collect();
    Batch::new(rows(times, Arc::new(Int64Array::from_iter_values(keys))))
}

/// Counts of all results.
fn counts(out: &Collected) -> Vec<i64> {
    let of = |batch: &Batch| batch.rows.column(4).as_primitive::<Int64Type>().values().to_vec();
    out.batches.iter().flat_map(of).collect()
}

#[derive(Debug)]
struct Lines;

impl Records for Lines {
    fn record(&self, index: usize) -> SourceRecord {
        SourceRecord::new(format!("line {}", index + 1), format!("record {index}"))
    }
}

#[test]
fn rows_that_cannot_be_processed_are_dead_letters_with_their_record() {
    let aggregate = count_by_number(tumbling(10), DataType::Utf8);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["1", "two", "3", "4", "5"]));
    let batch = rows(vec![Some(1), Some(2), None, Some(i64::MAX), Some(3)], keys);
    let split = SplitId::new("a.csv");
    let origin = Origin { split: split.clone(), records: Some(Arc::new(Lines)), rows: None };
    for with_origin in [true, false] {
        let mut operator = aggregate.fused(&context(0, 1)).unwrap();
        let mut out = Collected::default();
        let origin = with_origin.then(|| origin.clone());
        let batch = Batch { origin, ..Batch::new(batch.clone()) };
        operator.process(0, batch, &mut out).unwrap();
        assert_eq!((out.fate(Fate::Counted), out.fate(Fate::DeadLettered)), (2, 3));
        let letters = &out.dead_letters;
        assert!(letters[0].reason.contains("two"), "{}", letters[0].reason);
        assert_eq!(letters[1].reason, "event time is null");
        assert!(letters[2].reason.contains("out of range"), "{}", letters[2].reason);
        if with_origin {
            assert_eq!(letters[2].record.position, "line 4");
            assert_eq!(letters[2].record.payload.as_deref().unwrap(), b"record 3");
            assert_eq!(letters[2].split, split);
        } else {
            let row = String::from_utf8(letters[1].record.payload.clone().unwrap()).unwrap();
            assert_eq!(row, r#"{"k":"3"}"#);
        }
        advance(operator.as_mut(), END_OF_TIME, &mut out).unwrap();
        assert_eq!(counts(&out), [1, 1]);
    }
}

#[test]
fn times_at_both_ends_of_time_are_counted_in_their_windows() {
    let aggregate = count_by_number(tumbling(10), DataType::Int64);
    let keys = || Arc::new(Int64Array::from(vec![1, 1, 1])) as ArrayRef;
    let times = vec![Some(-5_000_000_000_000_000_000), Some(0), Some(5_000_000_000_000_000_000)];
    for operator in [aggregate.fused(&context(0, 1)), aggregate.combiner(&context(0, 1))] {
        let (mut operator, mut out) = (operator.unwrap(), Collected::default());
        operator.process(0, Batch::new(rows(times.clone(), keys())), &mut out).unwrap();
        advance(operator.as_mut(), END_OF_TIME, &mut out).unwrap();
        assert_eq!(out.fate(Fate::Counted), 3);
        assert_eq!(out.rows(), 3);
    }
}

/// Rows of slices between which there are others, and keys that the tables have no place for.
#[test]
fn rows_of_a_few_slices_leave_those_between_them_alone() {
    let aggregate = count_by_number(tumbling(10), DataType::Int64);
    let batches: [Vec<(i64, i64)>; 3] = [
        (0..100).map(|key| (15, key)).collect(),
        (0..100).map(|key| (35, key)).collect(),
        (0..300)
            .map(|row| ([5, 25, 45][row % 3], if row == 200 { 1 << 40 } else { row as i64 % 100 }))
            .collect(),
    ];
    let mut expected = BTreeMap::new();
    for (time, key) in batches.iter().flatten() {
        *expected.entry((time / 10 * 10, *key)).or_insert(0) += 1;
    }
    let batch = |rows_of: &Vec<(i64, i64)>| {
        let times = rows_of.iter().map(|(time, _)| Some(*time)).collect();
        let keys = Int64Array::from_iter_values(rows_of.iter().map(|(_, key)| *key));
        Batch::new(rows(times, Arc::new(keys)))
    };
    let mut fused = aggregate.fused(&context(0, 1)).unwrap();
    let mut combiner = aggregate.combiner(&context(0, 1)).unwrap();
    let mut merger = aggregate.merger(&context(0, 1)).unwrap();
    let [mut between, mut direct, mut exchanged] = [0; 3].map(|_| Collected::default());
    for rows in &batches {
        fused.process(0, batch(rows), &mut direct).unwrap();
        combiner.process(0, batch(rows), &mut between).unwrap();
    }
    advance(combiner.as_mut(), END_OF_TIME, &mut between).unwrap();
    for parcel in between.parcels {
        merger.receive(parcel, &mut exchanged).unwrap();
    }
    for (operator, out) in [(&mut fused, &mut direct), (&mut merger, &mut exchanged)] {
        advance(operator.as_mut(), END_OF_TIME, out).unwrap();
        let of = |batch: &Batch| {
            let column = |number: usize| batch.rows.column(number);
            let starts = column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
            let keys = column(3).as_primitive::<Int64Type>().values().to_vec();
            starts.into_iter().zip(keys).collect::<Vec<_>>()
        };
        let groups: Vec<_> = out.batches.iter().flat_map(of).collect();
        let found: BTreeMap<_, _> = groups.into_iter().zip(counts(out)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn what_a_combiner_holds_is_told_whatever_the_watermark_does() {
    let aggregate = count_by_number(tumbling(1000), DataType::Int64);
    let mut combiner = aggregate.combiner(&context(0, 1)).unwrap();
    let mut out = Collected::default();
    for part in 0..5 {
        combiner.process(0, numbered(part, part * 8000..(part + 1) * 8000), &mut out).unwrap();
        advance(combiner.as_mut(), part, &mut out).unwrap();
    }
    assert!(combiner.state_bytes() > 5 * 8000 * 8, "{} bytes", combiner.state_bytes());
    advance(combiner.as_mut(), 1000, &mut out).unwrap();
    assert_eq!((combiner.state_bytes(), out.rows()), (0, 40_000));
}

#[test]
fn nearly_unique_keys_pass_through_and_still_meet_in_the_merger() {
    // Groups by numbers of 64 bits are handed over instead.
    let aggregate = count_by(tumbling(10), DataType::Int64, DataType::Int32);
    let mut combiner = aggregate.combiner(&context(0, 1)).unwrap();
    let mut merger = aggregate.merger(&context(0, 1)).unwrap();
    let mut between = Collected::default();
    for part in 0..15 {
        let keys = part * 8000..(part + 1) * 8000;
        combiner.process(0, numbered(1, keys), &mut between).unwrap();
    }
    assert!(between.batches.is_empty(), "rows are combined at first");
    advance(combiner.as_mut(), 10, &mut between).unwrap();
    assert_eq!(between.rows(), 120_000);
    for _ in 0..2 {
        let before = between.rows();
        combiner.process(0, numbered(11, 0..8000), &mut between).unwrap();
        assert_eq!(between.rows(), before + 8000, "rows pass through");
    }
    let mut out = Collected::default();
    for batch in between.batches {
        assert!(batch.len() <= 8192);
        merger.process(0, batch, &mut out).unwrap();
    }
    advance(merger.as_mut(), END_OF_TIME, &mut out).unwrap();
    let counts = counts(&out);
    assert_eq!(counts.len(), 128_000);
    assert_eq!(counts.iter().filter(|count| **count == 2).count(), 8000);
}

/// Groups that a combiner sends before they are its last go to those before; its last wait for those of others, and
/// nothing goes missing where more comes after all.
#[test]
fn what_shards_send_weighs_what_its_groups_do_however_often_they_send() {
    const KEYS: i64 = 50_000;
    let aggregate = count_by_number(tumbling(1000), DataType::Int64);
    let new_combiner = |shard| aggregate.combiner(&context(shard, 1)).unwrap();
    let mut combiners = [new_combiner(0), new_combiner(1), new_combiner(2)];
    // Without checkpoints, for which it would keep all that comes.
    let unchecked = OperatorContext { checkpointed: false, ..context(0, 1) };
    let mut merger = aggregate.merger(&unchecked).unwrap();
    let skipped = Barrier { epoch: 1, full: false, checkpointed: false };
    let mut out = Collected::default();
    let mut held = Vec::new();
    for step in 0..12 {
        let mut between = Collected::default();
        let combiner = &mut combiners[step / 4];
        combiner.process(0, numbered(1, 0..KEYS), &mut between).unwrap();
        match step {
            // The last of the first and the second shard come one after the other, then there is more of the third.
            3 | 7 | 11 => advance(combiner.as_mut(), 1000, &mut between).unwrap(),
            _ => drop(combiner.barrier(skipped, &mut between).unwrap()),
        }
        for parcel in between.parcels {
            merger.receive(parcel, &mut out).unwrap();
        }
        held.push(merger.state_bytes());
    }
    assert!(held[0] >= 8 * KEYS as usize, "{held:?}");
    assert!(held.iter().all(|bytes| *bytes < 2 * held[0]), "{held:?}");
    advance(merger.as_mut(), 1000, &mut out).unwrap();
    assert_eq!(counts(&out), vec![12; KEYS as usize]);
    assert_eq!(merger.state_bytes(), 0);
}

#[test]
fn the_last_of_all_shards_becomes_results_whether_more_came_before_or_not() {
    const KEYS: i64 = 50_000;
    let aggregate = count_by_number(tumbling(1000), DataType::Int64);
    for again in [None, Some(0), Some(1), Some(2)] {
        let mut merger = aggregate.merger(&context(0, 1)).unwrap();
        let mut out = Collected::default();
        let mut held = 0;
        for shard in 0..3 {
            let mut combiner = aggregate.combiner(&context(shard, 1)).unwrap();
            let mut between = Collected::default();
            if again == Some(shard) {
                combiner.process(0, numbered(1, 0..KEYS), &mut between).unwrap();
                barrier(combiner.as_mut(), 1, false, &mut between).unwrap();
            }
            combiner.process(0, numbered(2, 0..KEYS), &mut between).unwrap();
            advance(combiner.as_mut(), 1000, &mut between).unwrap();
            for parcel in between.parcels {
                merger.receive(parcel, &mut out).unwrap();
                assert!(merger.state_bytes() > held || again.is_some(), "what waits is weighed");
                held = merger.state_bytes();
            }
        }
        advance(merger.as_mut(), 1000, &mut out).unwrap();
        let expected = if again.is_some() { 4 } else { 3 };
        assert_eq!(counts(&out), vec![expected; KEYS as usize], "{again:?}");
        assert_eq!(merger.state_bytes(), 0);
    }
}

#[test]
fn memory_for_the_next_slice_counts_as_state_until_a_barrier() {
    const KEYS: i64 = 50_000;
    let aggregate = count_by_number(tumbling(10), DataType::Int64);
    let mut operator = aggregate.fused(&context(0, 1)).unwrap();
    let mut out = Collected::default();
    let mut held = Vec::new();
    for second in 0..5 {
        operator.process(0, numbered(10 * second + 1, 0..KEYS), &mut out).unwrap();
        advance(operator.as_mut(), 10 * second, &mut out).unwrap();
        held.push(operator.state_bytes());
    }
    // The first table began without knowing what would come.
    let one = held[1];
    assert!(
        one > 0 && held[2..].iter().all(|bytes| (one * 3 / 2..one * 5 / 2).contains(bytes)),
        "{held:?}"
    );
    let skipped = Barrier { epoch: 1, full: false, checkpointed: false };
    drop(operator.barrier(skipped, &mut out).unwrap());
    assert!(operator.state_bytes() <= one * 5 / 4, "{} of {held:?}", operator.state_bytes());
    advance(operator.as_mut(), END_OF_TIME, &mut out).unwrap();
    assert_eq!((operator.state_bytes(), counts(&out)), (0, vec![1; 5 * KEYS as usize]));
}

#[test]
fn windows_ages_apart_fire_at_once_and_nothing_between_them() {
    let second = AlignedWindow::hopping(3_600_000_000, 1_000_000, 0).unwrap();
    let aggregate = count_by_number(WindowSpec::Aligned(second), DataType::Int64);
    let mut operator = aggregate.fused(&context(0, 1)).unwrap();
    let mut out = Collected::default();
    for time in [-60_000_000_000_000_000, 0, 200_000_000_000_000_000] {
        operator.process(0, numbered(time, 0..1), &mut out).unwrap();
    }
    advance(operator.as_mut(), END_OF_TIME, &mut out).unwrap();
    assert_eq!(counts(&out), vec![1; 3 * 3600]);
    assert_eq!(operator.watermark(END_OF_TIME, &mut out).unwrap(), Progress::Done);
}

#[test]
fn a_session_that_never_closes_stays_small() {
    let aggregate = count_by_number(WindowSpec::session(10).unwrap(), DataType::Int64);
    let mut operator = aggregate.fused(&context(0, 1)).unwrap();
    let mut out = Collected::default();
    let mut largest = 0;
    for time in 0..100_000 {
        operator.process(0, numbered(time, 0..2), &mut out).unwrap();
        if time % 7 == 0 {
            advance(operator.as_mut(), time - 5, &mut out).unwrap();
        }
        if time % 1000 == 0 {
            barrier(operator.as_mut(), 1, false, &mut out).unwrap();
        }
        largest = largest.max(operator.state_bytes());
    }
    assert!(out.batches.is_empty());
    // Up to 8192 rows may be kept in vain, here each two in a batch of their own.
    assert!(largest < 8 << 20, "{largest} bytes for two open sessions");
    advance(operator.as_mut(), END_OF_TIME, &mut out).unwrap();
    assert_eq!(counts(&out), [100_000, 100_000]);
}

#[test]
fn rows_of_keys_that_come_seldom_pass_through_and_still_meet_in_sessions() {
    let aggregate = count_by_number(WindowSpec::session(10).unwrap(), DataType::Int64);
    let mut combiner = aggregate.combiner(&context(0, 1)).unwrap();
    let mut between = Collected::default();
    for part in 0..33 {
        let keys = part * 8000..(part + 1) * 8000;
        combiner.process(0, numbered(1, keys), &mut between).unwrap();
    }
    assert!(between.batches.is_empty(), "rows are combined at first");
    let held = combiner.state_bytes();
    advance(combiner.as_mut(), 2, &mut between).unwrap();
    assert_eq!(between.rows(), 264_000);
    assert!(combiner.state_bytes() < held / 20, "{} bytes", combiner.state_bytes());
    for round in 1..=2 {
        combiner.process(0, numbered(5, 0..8000), &mut between).unwrap();
        assert_eq!(between.rows(), 264_000 + round * 8000, "rows pass through");
    }
    let mut out = Collected::default();
    let mut merger = aggregate.merger(&context(0, 1)).unwrap();
    for batch in between.batches {
        assert!(batch.len() <= 8192);
        merger.process(0, batch, &mut out).unwrap();
    }
    let StateChange::Replace(state) = barrier(merger.as_mut(), 1, true, &mut out).unwrap() else {
        panic!("a full barrier asks for everything");
    };
    let mut fused = aggregate.fused(&context(0, 1)).unwrap();
    for fragment in state {
        fused.restore(fragment).unwrap();
    }
    advance(fused.as_mut(), END_OF_TIME, &mut out).unwrap();
    let counts = counts(&out);
    assert_eq!(counts.len(), 264_000);
    assert_eq!(counts.iter().filter(|count| **count == 3).count(), 8000);
}

#[test]
fn very_many_sessions_fire_bit_by_bit() {
    let aggregate = count_by_number(WindowSpec::session(10).unwrap(), DataType::Int64);
    let mut operator = aggregate.fused(&context(0, 1)).unwrap();
    let mut out = Collected::default();
    for part in 0..20 {
        operator.process(0, numbered(part, part * 8000..(part + 1) * 8000), &mut out).unwrap();
    }
    assert_eq!(operator.watermark(END_OF_TIME, &mut out).unwrap(), Progress::More);
    assert!(out.rows() < 160_000);
    advance(operator.as_mut(), END_OF_TIME, &mut out).unwrap();
    assert_eq!(counts(&out), vec![1; 160_000]);
    assert!(out.batches.iter().all(|batch| batch.len() <= 8192));
}

#[test]
fn a_barrier_without_checkpoint_takes_nothing_and_loses_nothing() {
    for window in [tumbling(10), WindowSpec::session(10).unwrap()] {
        let aggregate = count_by_number(window, DataType::Int64);
        let mut operator = aggregate.fused(&context(0, 1)).unwrap();
        let mut out = Collected::default();
        let skipped = Barrier { epoch: 1, full: false, checkpointed: false };
        operator.process(0, numbered(1, 0..3), &mut out).unwrap();
        let change = operator.barrier(skipped, &mut out).unwrap();
        assert!(matches!(change, StateChange::Append(state) if state.is_empty()));
        operator.process(0, numbered(2, 0..3), &mut out).unwrap();
        let change = barrier(operator.as_mut(), 2, false, &mut out).unwrap();
        let StateChange::Append(state) = change else { panic!("{change:?}") };
        let mut again = aggregate.merger(&context(0, 1)).unwrap();
        state.into_iter().for_each(|fragment| again.restore(fragment).unwrap());
        advance(again.as_mut(), END_OF_TIME, &mut out).unwrap();
        assert_eq!(counts(&out), [2, 2, 2]);
    }
}
