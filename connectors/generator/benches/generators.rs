//! How fast rows are generated: Nexmark must not be the bottleneck of the jobs measured with it
//! (at least 5 M events a second and core), nor JSON events that of a broker (1 M).

#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]

use std::hint::black_box;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidemill_core::source::{Read, Source, SplitId};
use tidemill_core::table::{ConnectorFactory, Options, TableSpec};
use tidemill_core::testing;
use tidemill_core::time::VirtualClock;
use tidemill_generator::NexmarkFactory;
use tidemill_generator::events::{Encoding, Event, EventKind, EventSettings, Shares, generator};
use tidemill_generator::workload::{Keys, tumbling_rows};

const ROWS: usize = 8_192;

fn bids(columns: &[&str]) -> Arc<dyn Source> {
    let field = |name: &&str| {
        let data_type = match *name {
            "channel" | "url" | "extra" => DataType::Utf8View,
            "dateTime" => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => DataType::Int64,
        };
        Field::new(*name, data_type, true)
    };
    let table = TableSpec {
        name: "bid".to_owned(),
        schema: Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
        options: Options::from_iter([("nexmark.table", "bid")]),
    };
    NexmarkFactory.source(&table).expect("the fields of a bid")
}

fn nexmark(c: &mut Criterion) {
    let all = ["auction", "bidder", "price", "channel", "url", "dateTime", "extra"];
    let mut group = c.benchmark_group("nexmark");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, columns) in [("bids, q5", &["auction", "dateTime"] as &[&str]), ("bids, all", &all)]
    {
        let source = bids(columns);
        let clock = Arc::new(VirtualClock::default());
        let context = testing::reader_context(clock);
        let mut reader =
            source.open(&SplitId::new("nexmark/0"), None, &context).expect("a split there is");
        group.bench_function(name, |b| {
            b.iter(|| match reader.read(ROWS).expect("generating does not fail") {
                Read::Batch(read) => black_box(read.rows.num_rows()),
                Read::Pending | Read::End => unreachable!("neither paced nor bounded"),
            });
        });
    }
    group.finish();
}

fn workload(c: &mut Criterion) {
    let mut group = c.benchmark_group("workload");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("uniform", |b| {
        b.iter(|| black_box(tumbling_rows(ROWS, Keys::Uniform(10_000), 1_000_000, 1)));
    });
    group.finish();
}

fn events(c: &mut Criterion) {
    let settings = EventSettings {
        seed: 1,
        keys: 10_000,
        skew: 0.0,
        start: 1_767_225_600_000_000,
        interval_us: 1_000,
        shares: Shares::default(),
        late_by_us: 0,
    };
    let mut group = c.benchmark_group("events");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, kind) in [
        ("user-events", EventKind::UserEvents),
        ("customer-events", EventKind::CustomerEvents(Encoding::Protobuf { prefix: vec![] })),
        ("nexmark", EventKind::Nexmark),
    ] {
        let mut generator = generator(kind, settings).expect("settings that agree");
        let mut next = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                let rows = next..next + ROWS as u64;
                next = rows.end;
                let mut count = |event: &Event<'_>| {
                    black_box(event.value.len());
                    Ok(())
                };
                generator.generate(rows, &mut count).expect("times in range");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, nexmark, workload, events);
criterion_main!(benches);
