//! Interceptors: code of one's own around sources and sinks, for logging, metrics and headers.
//!
//! They see batches, not records: behind a reader's decoding, and in front of a sink's encoding. Invariant:
//! they keep the number and order of rows.

use std::sync::Arc;
use std::task::Poll;

use arrow::datatypes::SchemaRef;

use crate::dead_letter::DeadLetter;
use crate::element::{Batch, Epoch};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged};
use crate::source::{Lag, Offset, Read, ReadBatch, ReaderContext, Source, SplitId, SplitReader};

/// Sees what goes in and out. Called on the shards' threads: it must not block.
pub trait Interceptor: Send + Sync {
    /// Its name, for `explain`.
    fn name(&self) -> String;

    /// Records were read from `split`. Dead letters and headers may be looked at; rows may be
    /// changed, but neither their number nor their columns.
    fn read(&self, split: &SplitId, batch: ReadBatch) -> Result<ReadBatch>;

    /// Rows are about to be written by the sink `node`: [`Batch::with_headers`] gives them headers.
    fn write(&self, node: &str, batch: Batch) -> Result<Batch>;
}

/// A source whose batches pass through interceptors, in order.
pub fn around_source(
    source: Arc<dyn Source>,
    interceptors: Vec<Arc<dyn Interceptor>>,
) -> Arc<dyn Source> {
    Arc::new(InterceptedSource { source, interceptors: interceptors.into() })
}

/// A sink whose batches pass through interceptors, in order.
pub fn around_sink(sink: Arc<dyn Sink>, interceptors: Vec<Arc<dyn Interceptor>>) -> Arc<dyn Sink> {
    Arc::new(InterceptedSink { sink, interceptors: interceptors.into() })
}

type Interceptors = Arc<[Arc<dyn Interceptor>]>;

fn describe(inner: String, interceptors: &Interceptors) -> String {
    let names: Vec<String> = interceptors.iter().map(|interceptor| interceptor.name()).collect();
    format!("{inner}, intercepted by {}", names.join(", "))
}

/// An interceptor that changes how many rows there are would make the sums wrong.
fn check_rows(name: &str, before: usize, after: usize) -> Result<()> {
    if before == after {
        return Ok(());
    }
    Err(Error::internal(format!(
        "the interceptor {name} made {after} rows of {before}: filter with an operator instead"
    )))
}

struct InterceptedSource {
    source: Arc<dyn Source>,
    interceptors: Interceptors,
}

impl Source for InterceptedSource {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        self.source.splits()
    }

    fn splits_again(&self, known: &[SplitId]) -> Result<Vec<SplitId>> {
        self.source.splits_again(known)
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        let reader = self.source.open(split, from, context)?;
        let interceptors = self.interceptors.clone();
        Ok(Box::new(InterceptedReader { reader, split: split.clone(), interceptors }))
    }

    fn checkpointed(&self, epoch: Epoch, offsets: &[(SplitId, Offset)]) -> Result<()> {
        self.source.checkpointed(epoch, offsets)
    }

    fn describe(&self) -> String {
        describe(self.source.describe(), &self.interceptors)
    }
}

struct InterceptedReader {
    reader: Box<dyn SplitReader>,
    split: SplitId,
    interceptors: Interceptors,
}

impl SplitReader for InterceptedReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        let mut batch = match self.reader.read(max_rows)? {
            Read::Batch(batch) => batch,
            nothing @ (Read::Pending | Read::End) => return Ok(nothing),
        };
        for interceptor in self.interceptors.iter() {
            let rows = batch.rows.num_rows();
            batch = interceptor.read(&self.split, batch)?;
            check_rows(&interceptor.name(), rows, batch.rows.num_rows())?;
        }
        Ok(Read::Batch(batch))
    }

    fn offset(&self) -> Offset {
        self.reader.offset()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        self.reader.progress()
    }

    fn lag(&self) -> Option<Lag> {
        self.reader.lag()
    }

    fn waits(&self) -> bool {
        self.reader.waits()
    }

    fn is_at_hand(&self) -> bool {
        self.reader.is_at_hand()
    }
}

struct InterceptedSink {
    sink: Arc<dyn Sink>,
    interceptors: Interceptors,
}

impl Sink for InterceptedSink {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        self.sink.guarantee(checkpointed)
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let writer = self.sink.writer(context)?;
        let interceptors = self.interceptors.clone();
        let node = context.node.clone();
        Ok(Box::new(InterceptedWriter { writer, node, interceptors, refused: None }))
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        self.sink.committer(context)
    }

    fn describe(&self) -> String {
        describe(self.sink.describe(), &self.interceptors)
    }
}

struct InterceptedWriter {
    writer: Box<dyn SinkWriter>,
    node: String,
    interceptors: Interceptors,
    /// A batch that the writer did not take this time: it comes again, and was seen already.
    refused: Option<Batch>,
}

impl InterceptedWriter {
    fn intercepted(&self, batch: &Batch) -> Result<Batch> {
        let mut batch = batch.clone();
        for interceptor in self.interceptors.iter() {
            let rows = batch.len();
            batch = interceptor.write(&self.node, batch)?;
            check_rows(&interceptor.name(), rows, batch.len())?;
        }
        Ok(batch)
    }
}

impl SinkWriter for InterceptedWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        self.writer.poll_ready()
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = match self.refused.take() {
            Some(batch) => batch,
            None => self.intercepted(batch)?,
        };
        let written = self.writer.write(&batch);
        if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::Transient) {
            self.refused = Some(batch);
        }
        written
    }

    fn poll_stage(&mut self, epoch: Epoch) -> Result<Poll<Staged>> {
        self.writer.poll_stage(epoch)
    }

    fn take_refused(&mut self) -> Vec<DeadLetter> {
        self.writer.take_refused()
    }

    fn buffered_bytes(&self) -> usize {
        self.writer.buffered_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;
    use crate::record::Header;
    use crate::sink::{Delivered, Delivery};
    use crate::testing::sink_context;

    /// Counts what it sees, and numbers it.
    struct Numbering(AtomicUsize);

    impl Interceptor for Numbering {
        fn name(&self) -> String {
            "numbering".to_owned()
        }

        fn read(&self, _: &SplitId, batch: ReadBatch) -> Result<ReadBatch> {
            Ok(batch)
        }

        fn write(&self, _: &str, batch: Batch) -> Result<Batch> {
            let number = self.0.fetch_add(1, Ordering::Relaxed).to_string();
            let header = || vec![Header::new("number", number.as_bytes())];
            let headers = (0..batch.len()).map(|_| header()).collect();
            Ok(batch.with_headers(headers))
        }
    }

    /// Takes every batch the second time.
    #[derive(Clone, Default)]
    struct Reluctant {
        asked: usize,
        numbers: Arc<std::sync::Mutex<Vec<Vec<Header>>>>,
    }

    impl Sink for Reluctant {
        fn guarantee(&self, _: bool) -> Guarantee {
            Guarantee { delivery: Delivery::AtLeastOnce, why: "a test".to_owned() }
        }

        fn writer(&self, _: &SinkContext) -> Result<Box<dyn SinkWriter>> {
            Ok(Box::new(self.clone()))
        }

        fn committer(&self, _: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
            Ok(Box::new(Delivered))
        }

        fn describe(&self) -> String {
            "reluctant".to_owned()
        }
    }

    impl SinkWriter for Reluctant {
        fn poll_ready(&mut self) -> Result<Poll<()>> {
            Ok(Poll::Ready(()))
        }

        fn write(&mut self, batch: &Batch) -> Result<()> {
            self.asked += 1;
            if self.asked % 2 == 1 {
                return Err(Error::transient("not now"));
            }
            self.numbers.lock().unwrap().push(batch.headers(0));
            Ok(())
        }

        fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
            Ok(Poll::Ready(Staged::default()))
        }
    }

    #[test]
    fn a_batch_that_is_written_again_is_intercepted_once() {
        let (sink, seen) = (Reluctant::default(), Arc::new(Numbering(AtomicUsize::new(0))));
        let numbers = sink.numbers.clone();
        let around = around_sink(Arc::new(sink), vec![seen.clone()]);
        let rows: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let rows = RecordBatch::try_from_iter([("n", rows)]).unwrap();
        let mut writer = around.writer(&sink_context(0, 1, rows.schema())).unwrap();
        let batch = Batch::new(rows);
        for _ in 0..2 {
            assert_eq!(writer.write(&batch).unwrap_err().kind(), ErrorKind::Transient);
            writer.write(&batch).unwrap();
        }
        assert_eq!(seen.0.load(Ordering::Relaxed), 2);
        let header = |number: &str| vec![Header::new("number", number)];
        assert_eq!(*numbers.lock().unwrap(), [header("0"), header("1")]);
    }
}
