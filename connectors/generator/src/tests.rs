//! What a job notices of generated input: replay, splits, pace, and the values themselves.

mod datagen;
mod events;
mod nexmark;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use tidemill_core::Error;
use tidemill_core::source::{Offset, Read, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::table::{ConnectorFactory, Options, TableSpec};
use tidemill_core::testing;
use tidemill_core::time::VirtualClock;

fn table(columns: Vec<Field>, options: &[(&str, &str)]) -> TableSpec {
    TableSpec {
        name: "t".to_owned(),
        schema: Arc::new(Schema::new(columns)),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
        options: Options::from_iter(options.iter().copied()),
    }
}

fn context(clock: &Arc<VirtualClock>) -> ReaderContext {
    testing::reader_context(clock.clone())
}

fn open(
    source: &dyn Source,
    split: &SplitId,
    from: Option<&Offset>,
    clock: &Arc<VirtualClock>,
) -> Box<dyn SplitReader> {
    source.open(split, from, &context(clock)).unwrap()
}

/// What is left of a bounded split, the clock moving on whenever the reader waits.
fn drain(reader: &mut dyn SplitReader, max_rows: usize, clock: &VirtualClock) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    loop {
        match reader.read(max_rows).unwrap() {
            Read::Batch(read) => {
                assert!(read.rows.num_rows() <= max_rows && read.dead_letters.is_empty());
                batches.push(read.rows);
            }
            Read::Pending => clock.advance(Duration::from_millis(10)),
            Read::End => return batches,
        }
    }
}

/// All rows of split `split`, read `max_rows` at a time.
fn rows(source: &dyn Source, split: usize, max_rows: usize) -> RecordBatch {
    let clock = Arc::new(VirtualClock::starting_at(1_000_000_000));
    let split = &source.splits().unwrap()[split];
    let batches = drain(open(source, split, None, &clock).as_mut(), max_rows, &clock);
    concat_batches(&source.schema(), &batches).unwrap()
}

/// Stops after every read, opens another reader at its offset (under a later clock), and compares.
fn assert_replays(source: &dyn Source) {
    for split in &source.splits().unwrap() {
        let clock = Arc::new(VirtualClock::starting_at(1_000_000_000));
        let mut reader = open(source, split, None, &clock);
        let whole = drain(open(source, split, None, &clock).as_mut(), 50, &clock);
        let whole = concat_batches(&source.schema(), &whole).unwrap();
        let mut done = 0;
        loop {
            let later = Arc::new(VirtualClock::starting_at(5_000_000_000));
            let mut resumed = open(source, split, Some(&reader.offset()), &later);
            let rest = drain(resumed.as_mut(), 7, &later);
            let rest = concat_batches(&source.schema(), &rest).unwrap();
            assert_eq!(rest, whole.slice(done, whole.num_rows() - done), "from row {done}");
            match reader.read(13).unwrap() {
                Read::Batch(read) => done += read.rows.num_rows(),
                Read::Pending => clock.advance(Duration::from_secs(1)),
                Read::End => break,
            }
        }
        assert_eq!(done, whole.num_rows());
        let (read, all) = reader.progress().unwrap();
        assert_eq!(read, all);
    }
}

fn refused(factory: &dyn ConnectorFactory, columns: Vec<Field>, options: &[(&str, &str)]) -> Error {
    factory.source(&table(columns, options)).err().unwrap()
}
