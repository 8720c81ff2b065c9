//! Inputs that are silent beside inputs that have ended.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::TimestampMicrosecondArray;
use tidemill::prelude::*;
use tidemill::testing::{feed, wait_for};

/// Regression: a shard without splits ends at once; when the only split of the other fell silent,
/// the watermark rose to the end of time, and all later rows were late.
#[test]
fn an_input_that_has_ended_does_not_pull_a_silent_one_to_the_end_of_time() {
    let columns = schema([("ts", TIMESTAMP)]);
    let at = |second: i64| {
        let times = TimestampMicrosecondArray::from(vec![second * 1_000_000]);
        RecordBatch::try_new(columns.clone(), vec![Arc::new(times)]).unwrap()
    };
    for shards in [1, 2, 3] {
        let (source, feed) = feed(columns.clone(), 2);
        let (results, sink) = collect();
        let idle_after = Duration::from_millis(20);
        let mut job = Job::named("silent-beside-ended");
        job.source(source)
            .event_time("ts", Watermarks::bounded(Duration::ZERO).idle_after(idle_after))
            .key_by(["ts"])
            .window(Tumbling::of(Duration::from_secs(10)))
            .aggregate([count().alias("n")])
            .sink(sink);
        job.parallelism(shards);
        let running = job.start().unwrap();
        feed.end(1);
        for second in [1, 2, 11, 12, 25] {
            feed.push(0, at(second));
            wait_for(|| {
                let status = running.status();
                let is_silent = |split: &tidemill::runtime::SplitStatus| split.idle;
                let read: u64 = status.splits.iter().map(|split| split.records).sum();
                read > 0 && status.splits.iter().any(is_silent)
            });
        }
        feed.end(0);
        let summary = running.wait().unwrap();
        assert_eq!(summary.ledgers[0].late, 0, "{shards} shards");
        assert_eq!((summary.ledgers[0].counted, results.rows()), (5, 5), "{shards} shards");
    }
}
