//! Files in and out, as the engine drives them.

mod lanes;
mod schema_evolution;
mod sink;
mod source;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::source::{Offset, Read, ReaderContext, Source, SplitId};
use tidemill_core::testing;
use tidemill_core::time::VirtualClock;

/// A schema of nullable columns.
fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, t): &(&str, DataType)| Field::new(*name, t.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn context() -> ReaderContext {
    testing::reader_context(Arc::new(VirtualClock::default()))
}

/// Everything that one split gave, and the offset and number of records after every read.
struct Everything {
    rows: RecordBatch,
    dead_letters: Vec<DeadLetter>,
    /// Position and payload behind each row, where the reader keeps them.
    records: Vec<(String, String)>,
    offsets: Vec<(usize, Offset)>,
}

impl Everything {
    fn reasons(&self) -> Vec<String> {
        self.dead_letters.iter().map(|l| format!("{}: {}", l.record.position, l.reason)).collect()
    }
}

fn read_split(
    source: &dyn Source,
    split: &SplitId,
    from: Option<&Offset>,
    max_rows: usize,
) -> tidemill_core::Result<Everything> {
    let mut reader = source.open(split, from, &context())?;
    let (mut batches, mut dead_letters, mut records) = (vec![], vec![], vec![]);
    let mut offsets = vec![(0, reader.offset())];
    let mut count = 0;
    loop {
        match reader.read(max_rows)? {
            Read::End => break,
            Read::Pending => panic!("a file is never pending"),
            Read::Batch(batch) => {
                let read = batch.rows.num_rows() + batch.dead_letters.len();
                assert!(read > 0 && read <= max_rows);
                count += read;
                for row in 0..batch.rows.num_rows() {
                    let Some(kept) = &batch.records else { break };
                    let record = kept.record(row);
                    let payload = record.payload.unwrap();
                    records.push((record.position, String::from_utf8_lossy(&payload).into_owned()));
                }
                batches.push(batch.rows);
                dead_letters.extend(batch.dead_letters);
            }
        }
        offsets.push((count, reader.offset()));
    }
    let rows = concat_batches(&source.schema(), &batches).unwrap();
    Ok(Everything { rows, dead_letters, records, offsets })
}

/// Reads all splits.
fn read_all(source: &dyn Source) -> Vec<Everything> {
    let splits = source.splits().unwrap();
    splits.iter().map(|split| read_split(source, split, None, 8_192).unwrap()).collect()
}
