//! A source and a sink of your own: numbers in, a total out.
//!
//! `cargo run --example 02_own_source_and_sink`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use tidemill::core::sink::{
    Delivered, Delivery, Guarantee, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill::core::source::{Offset, Read, ReadBatch, ReaderContext, SplitId, SplitReader};
use tidemill::core::{Batch, Epoch, Error};
use tidemill::prelude::*;

/// The numbers from 0 on, one each second of event time, in two splits: even and odd.
struct Numbers {
    end: i64,
}

impl Source for Numbers {
    fn schema(&self) -> SchemaRef {
        schema([("n", DataType::Int64), ("ts", TIMESTAMP)])
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn splits(&self) -> tidemill::Result<Vec<SplitId>> {
        Ok(vec![SplitId::new("even"), SplitId::new("odd")])
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        _: &ReaderContext,
    ) -> tidemill::Result<Box<dyn SplitReader>> {
        let next = match from {
            Some(offset) => {
                let wrong = |_| Error::corrupt(format!("{split}: offset {offset} is no number"));
                offset.0.parse().map_err(wrong)?
            }
            None => i64::from(split.as_str() == "odd"),
        };
        Ok(Box::new(NumberReader { schema: self.schema(), next, end: self.end }))
    }

    fn checkpointed(&self, _: Epoch, _: &[(SplitId, Offset)]) -> tidemill::Result<()> {
        Ok(()) // there is nobody to tell
    }

    fn describe(&self) -> String {
        format!("numbers below {}", self.end)
    }
}

/// Reads one split. The same offset always gives the same numbers: exactly-once rests on it.
struct NumberReader {
    schema: SchemaRef,
    next: i64,
    end: i64,
}

impl SplitReader for NumberReader {
    fn read(&mut self, max_rows: usize) -> tidemill::Result<Read> {
        let numbers: Vec<i64> = (self.next..self.end).step_by(2).take(max_rows).collect();
        let Some(last) = numbers.last() else { return Ok(Read::End) };
        self.next = last + 2;
        let times = numbers.iter().map(|n| n * 1_000_000);
        let times = TimestampMicrosecondArray::from_iter_values(times);
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(Int64Array::from(numbers)), Arc::new(times)];
        Ok(Read::Batch(ReadBatch::clean(RecordBatch::try_new(self.schema.clone(), columns)?)))
    }

    fn offset(&self) -> Offset {
        Offset(self.next.to_string())
    }

    fn progress(&self) -> Option<(u64, u64)> {
        Some((self.next.min(self.end) as u64, self.end as u64))
    }
}

/// Adds up a column. What was added cannot be taken back, so it promises at least once.
struct Total {
    total: Arc<AtomicU64>,
}

impl Sink for Total {
    fn guarantee(&self, _: bool) -> Guarantee {
        let why = "what was added to the total cannot be taken back".to_owned();
        Guarantee { delivery: Delivery::AtLeastOnce, why }
    }

    fn writer(&self, context: &SinkContext) -> tidemill::Result<Box<dyn SinkWriter>> {
        let column = context.schema.index_of("total")?;
        Ok(Box::new(TotalWriter { total: self.total.clone(), column }))
    }

    fn committer(&self, _: &SinkContext) -> tidemill::Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Delivered))
    }

    fn describe(&self) -> String {
        "a total in memory".to_owned()
    }
}

struct TotalWriter {
    total: Arc<AtomicU64>,
    column: usize,
}

impl SinkWriter for TotalWriter {
    fn poll_ready(&mut self) -> tidemill::Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> tidemill::Result<()> {
        let totals = batch.rows.column(self.column).as_primitive::<Int64Type>();
        let sum: i64 = totals.iter().flatten().sum();
        self.total.fetch_add(sum as u64, Ordering::Relaxed);
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> tidemill::Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged::default())) // everything is delivered already
    }
}

/// Sums the numbers by minute in the job, and the minutes in the sink.
pub fn main() -> tidemill::Result<()> {
    let total = Arc::new(AtomicU64::new(0));
    let mut job = Job::named("own-source-and-sink");
    job.source(Numbers { end: 1000 })
        .event_time("ts", Watermarks::bounded(Duration::ZERO))
        .window(Tumbling::of(Duration::from_secs(60)))
        .aggregate([sum(col("n")).alias("total")])
        .sink(Total { total: total.clone() });
    let summary = job.run_blocking()?;

    assert_eq!(summary.windows_fired, 17);
    assert_eq!(total.load(Ordering::Relaxed), (0..1000).sum::<u64>());
    eprintln!("the numbers below 1000 make {}", total.load(Ordering::Relaxed));
    Ok(())
}
