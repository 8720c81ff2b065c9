//! Whole pipelines in memory: the engine on one and two shards, beside the yardsticks.
//!
//! What `tidemill bench` reports, in criterion's form: for looking at one contender while changing it.
//! Comparisons are better read from `tidemill bench`, where contenders take turns.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidemill::bench::contenders::contenders;
use tidemill::bench::served::Servers;
use tidemill::bench::workload::{Query, Workload};

const SECOND: i64 = 1_000_000;

fn windows(criterion: &mut Criterion) {
    for (query, keys) in [
        (Query::Tumbling { size_us: 10 * SECOND }, 10_000),
        (Query::Hopping { size_us: 10 * SECOND, slide_us: 2 * SECOND }, 100_000),
        (Query::Session { gap_us: 10 * SECOND }, 10_000),
    ] {
        let workload = Workload { query, keys, rows: 2_000_000, ..Workload::default() };
        let mut group = criterion.benchmark_group(query.to_string());
        group.throughput(Throughput::Elements(workload.rows as u64));
        group.sample_size(10).measurement_time(Duration::from_secs(5));
        for contender in
            contenders(&workload, None, &Servers::default()).expect("rows in memory cannot fail")
        {
            let name = format!("{}, {} threads", contender.name, contender.threads);
            group.bench_function(name, |bencher| {
                bencher.iter(|| contender.run().expect("the pipeline runs"));
            });
        }
        group.finish();
    }
}

criterion_group!(pipelines, windows);
criterion_main!(pipelines);
