//! Inputs that are silent beside inputs that have ended, and inputs that wait and are not silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::TimestampMicrosecondArray;
use tidemill::core::source::{Offset, Read, ReadBatch, ReaderContext, SplitId, SplitReader};
use tidemill::core::{Epoch, Result};
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

/// Split `0` has rows of two minutes. Split `1` has one of the first second, which cannot be decoded
/// before its schema comes.
struct Waiting {
    columns: SchemaRef,
    schema_came: Arc<AtomicBool>,
}

struct WaitingReader {
    left: Vec<RecordBatch>,
    needs_schema: bool,
    schema_came: Arc<AtomicBool>,
}

fn times(columns: &SchemaRef, second: i64) -> RecordBatch {
    let times = TimestampMicrosecondArray::from(vec![second * 1_000_000]);
    RecordBatch::try_new(columns.clone(), vec![Arc::new(times)]).unwrap()
}

impl Source for Waiting {
    fn schema(&self) -> SchemaRef {
        self.columns.clone()
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(["0", "1"].map(SplitId::new).into())
    }

    fn open(
        &self,
        split: &SplitId,
        _: Option<&Offset>,
        _: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        let needs_schema = split.as_str() == "1";
        let seconds: &[i64] = if needs_schema { &[1] } else { &[120, 60, 1] };
        Ok(Box::new(WaitingReader {
            left: seconds.iter().map(|second| times(&self.columns, *second)).collect(),
            needs_schema,
            schema_came: self.schema_came.clone(),
        }))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "waiting".into()
    }
}

impl SplitReader for WaitingReader {
    fn read(&mut self, _: usize) -> Result<Read> {
        if self.waits() {
            return Ok(Read::Pending);
        }
        Ok(match self.left.pop() {
            Some(rows) => Read::Batch(ReadBatch::clean(rows)),
            None if self.schema_came.load(Ordering::SeqCst) => Read::End,
            None => Read::Pending,
        })
    }

    fn offset(&self) -> Offset {
        Offset(self.left.len().to_string())
    }

    fn progress(&self) -> Option<(u64, u64)> {
        None
    }

    fn waits(&self) -> bool {
        self.needs_schema && !self.schema_came.load(Ordering::SeqCst)
    }
}

/// A split whose rows are there and cannot be decoded yet holds the watermark, however long it takes:
/// else they would be late.
#[test]
fn a_split_that_waits_to_be_decoded_is_not_idle() {
    for shards in [1, 2] {
        let schema_came = Arc::new(AtomicBool::new(false));
        let columns = schema([("ts", TIMESTAMP)]);
        let (results, sink) = collect();
        let idle_after = Duration::from_millis(20);
        let mut job = Job::named("waiting");
        job.source(Waiting { columns, schema_came: schema_came.clone() })
            .event_time("ts", Watermarks::bounded(Duration::ZERO).idle_after(idle_after))
            .key_by(["ts"])
            .window(Tumbling::of(Duration::from_secs(10)))
            .aggregate([count().alias("n")])
            .sink(sink);
        job.parallelism(shards);
        let running = job.start().unwrap();
        wait_for(|| {
            let splits = running.status().splits;
            let idle = |n: &str| splits.iter().any(|s| s.split.as_str() == n && s.idle);
            assert!(!idle("1"), "{shards} shards");
            idle("0")
        });
        schema_came.store(true, Ordering::SeqCst);
        let summary = running.wait().unwrap();
        assert_eq!(summary.ledgers[0].late, 0, "{shards} shards");
        assert_eq!((summary.ledgers[0].counted, results.rows()), (4, 3), "{shards} shards");
    }
}
