//! Whole pipelines in memory: the engine on one and two shards, beside the yardsticks.
//!
//! What `tidemill bench tumbling` reports, in criterion's form: for looking at one contender while
//! changing it. Comparisons are better read from `tidemill bench`, where contenders take turns.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidemill::bench::contenders::{RowSource, Workload, contenders};

fn tumbling(criterion: &mut Criterion) {
    let workload = Workload {
        rows: 2_000_000,
        keys: 10_000,
        source: RowSource::Memory,
        parallelism: vec![1, 2],
        checkpoints: None,
    };
    let mut group = criterion.benchmark_group("tumbling 10 s over 10 000 keys");
    group.throughput(Throughput::Elements(workload.rows as u64));
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for contender in contenders(&workload).expect("rows in memory cannot fail") {
        let name = format!("{}, {} threads", contender.family, contender.threads);
        group.bench_function(name, |bencher| {
            bencher.iter(|| contender.run().expect("the pipeline runs"));
        });
    }
    group.finish();
}

criterion_group!(pipelines, tumbling);
criterion_main!(pipelines);
