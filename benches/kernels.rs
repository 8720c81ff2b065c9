//! What is done for every row: its slice, its key's hash, its place in the aggregates.

use std::hint::black_box;

use arrow::array::cast::AsArray;
use arrow::array::types::TimestampMicrosecondType;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidemill::bench::workload::{KeyType, Query, Workload};
use tidemill::bench::{engine, input};
use tidemill::core::Batch;
use tidemill::core::key::hash_rows;
use tidemill::core::operator::{Barrier, KeyedFactory, Operator, OperatorContext, Progress};
use tidemill::core::testing::{Collected, context};
use tidemill::core::time::END_OF_TIME;
use tidemill::core::window::AlignedWindow;

/// Length of tumbling windows, in microseconds.
const WINDOW: i64 = 10_000_000;

/// Ten seconds of event time by 10 000 keys: one window, nearly.
fn workload() -> Workload {
    Workload {
        query: Query::Tumbling { size_us: WINDOW },
        rows: 1_000_000,
        keys: 10_000,
        ..Workload::default()
    }
}

fn row_kernels(criterion: &mut Criterion) {
    let batch = &input::rows(&workload())[1];
    let rows = batch.num_rows();
    let window = AlignedWindow::tumbling(WINDOW, 0).expect("the size is positive");
    let mut group = criterion.benchmark_group("a batch of rows");
    group.throughput(Throughput::Elements(rows as u64));
    let times = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
    group.bench_function("slice assignment", |bencher| {
        bencher.iter(|| {
            let ends = black_box(times).iter().filter_map(|time| window.slice_end(*time));
            ends.fold(0, i64::wrapping_add)
        });
    });
    let keys = [batch.column(0).clone()];
    group.bench_function("key hash", |bencher| {
        bencher.iter(|| hash_rows(black_box(&keys), rows).expect("integers are keys"));
    });
    group.finish();
}

type Make = fn(&dyn KeyedFactory, &OperatorContext) -> tidemill::Result<Box<dyn Operator>>;

/// Rows, or groups, through a fresh operator to its last result.
fn feed(operator: &mut dyn Operator, input: &Collected) -> tidemill::Result<Collected> {
    let mut out = Collected::default();
    for batch in &input.batches {
        operator.process(0, batch.clone(), &mut out)?;
    }
    for parcel in &input.parcels {
        operator.receive(parcel.clone(), &mut out)?;
    }
    operator.barrier(Barrier { epoch: 1, full: false, checkpointed: false }, &mut out)?;
    while operator.watermark(END_OF_TIME, &mut out)? == Progress::More {}
    Ok(out)
}

fn window_operators(criterion: &mut Criterion) {
    let by = |name, change: fn(&mut Workload)| {
        let mut workload = workload();
        change(&mut workload);
        (name, workload)
    };
    let workloads = [
        by("tumbling 10 s, 10 000 keys", |_| {}),
        by("tumbling 10 s, 1 million keys", |w| w.keys = 1_000_000),
        by("tumbling 10 s, 10 000 keys of text", |w| w.key_type = KeyType::Text),
        by("hopping 10 s by 2 s, 100 000 keys", |w| {
            w.query = Query::Hopping { size_us: WINDOW, slide_us: WINDOW / 5 };
            w.keys = 100_000;
        }),
        by("sessions, gap 10 s, 10 000 keys", |w| w.query = Query::Session { gap_us: WINDOW }),
    ];
    workloads.iter().for_each(|(name, workload)| operators_of(criterion, name, workload));
}

fn operators_of(criterion: &mut Criterion, name: &str, workload: &Workload) {
    let rows = input::rows(workload);
    let factory = engine::aggregate(workload).expect("the benchmark's job is right");
    let context = OperatorContext { checkpointed: false, ..context(0, 1) };
    let input =
        Collected { batches: rows.into_iter().map(Batch::new).collect(), ..Collected::default() };
    let run = |make: Make, input: &Collected| {
        let mut operator = make(factory.as_ref(), &context).expect("the operator is made");
        feed(operator.as_mut(), input).expect("the rows are aggregated")
    };
    let combiner: Make = |factory, context| factory.combiner(context);
    let partial = run(combiner, &input);
    let operators: [(&str, Make, &Collected); 3] = [
        ("combiner, a row", combiner, &input),
        ("fused, a row", |factory, context| factory.fused(context), &input),
        ("merger, a group", |factory, context| factory.merger(context), &partial),
    ];
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    for (name, make, input) in operators {
        group.throughput(Throughput::Elements(input.rows() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| run(make, input)));
    }
    group.finish();
}

criterion_group!(kernels, row_kernels, window_operators);
criterion_main!(kernels);
