//! Sinks against real servers: the shared one, and servers of their own where one must fail.

mod at_least_once;
mod cluster;
mod exactly_once;
mod options;
mod outages;
pub(crate) mod server;
mod streams;
mod structures;

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::Thread;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::sink::{Sink, SinkContext, SinkWriter, Staged};
use tidemill_core::testing;
use tidemill_core::{Batch, Epoch, Result};

use super::RedisSink;

/// Users with a window and what is counted in it.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Utf8, true),
        Field::new("window_start", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("n", DataType::Int64, true),
        Field::new("revenue", DataType::Float64, true),
    ]))
}

type Row<'a> = (Option<&'a str>, i64, Option<i64>, Option<f64>);

/// Rows of [`schema`]; windows in seconds.
fn rows(rows: &[Row<'_>]) -> Batch {
    let users: StringArray = rows.iter().map(|row| row.0).collect();
    let windows: TimestampMicrosecondArray =
        rows.iter().map(|row| Some(row.1 * 1_000_000)).collect();
    let counts: Int64Array = rows.iter().map(|row| row.2).collect();
    let sums: Float64Array = rows.iter().map(|row| row.3).collect();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(users), Arc::new(windows), Arc::new(counts), Arc::new(sums)];
    Batch::new(RecordBatch::try_new(schema(), columns).unwrap())
}

/// Rows of users `u0`, `u1`, …, each with `n`.
fn users(range: std::ops::Range<usize>, n: i64) -> Batch {
    let names: Vec<String> = range.map(|user| format!("u{user}")).collect();
    let all: Vec<Row<'_>> =
        names.iter().map(|name| (Some(name.as_str()), 60, Some(n), None)).collect();
    rows(&all)
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What a writer of shard `shard` gets, in a job called `job`.
fn context(job: &str, shard: usize, schema: SchemaRef) -> SinkContext {
    SinkContext {
        job: job.to_owned(),
        waker: Waker::from(Arc::new(Unpark(std::thread::current()))),
        ..testing::sink_context(shard, 1, schema)
    }
}

/// Waits until it is ready.
fn wait<T>(mut poll: impl FnMut() -> Result<Poll<T>>) -> Result<T> {
    loop {
        if let Poll::Ready(ready) = poll()? {
            return Ok(ready);
        }
        std::thread::park();
    }
}

fn write(writer: &mut dyn SinkWriter, batch: &Batch) -> Result<()> {
    wait(|| writer.poll_ready())?;
    writer.write(batch)
}

fn stage(writer: &mut dyn SinkWriter, epoch: Epoch) -> Result<Staged> {
    wait(|| writer.poll_stage(epoch))
}

/// Writes batches at least once, up to a barrier; what was refused.
fn deliver(sink: &RedisSink, batches: &[Batch]) -> Result<Vec<DeadLetter>> {
    let mut writer = sink.writer(&context("job", 0, batches[0].rows.schema()))?;
    let mut letters = Vec::new();
    for batch in batches {
        write(writer.as_mut(), batch)?;
        letters.extend(writer.take_refused());
    }
    assert!(
        stage(writer.as_mut(), 1)?.0.is_empty(),
        "it is delivered, and nothing is left to commit"
    );
    letters.extend(writer.take_refused());
    Ok(letters)
}

/// Stages batches for exactly once.
fn staged(sink: &RedisSink, job: &str, shard: usize, batches: &[Batch]) -> Staged {
    let mut writer = sink.writer(&context(job, shard, batches[0].rows.schema())).unwrap();
    batches.iter().for_each(|batch| write(writer.as_mut(), batch).unwrap());
    stage(writer.as_mut(), 1).unwrap()
}
