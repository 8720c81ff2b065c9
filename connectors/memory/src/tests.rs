//! What a program that embeds the engine notices of its in-memory tables.

use std::sync::Arc;
use std::task::Poll;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tidemill_core::element::Epoch;
use tidemill_core::sink::{Delivery, Sink, SinkCommitter, SinkContext, Staged};
use tidemill_core::source::{Offset, Read, ReaderContext, Source, SplitId};
use tidemill_core::table::{ConnectorFactory, Options, TableSpec};
use tidemill_core::testing;
use tidemill_core::time::VirtualClock;

use crate::{MemorySink, MemorySource, MemoryTables};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

fn batch(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let values: Int64Array = values.into_iter().collect();
    RecordBatch::try_new(schema(), vec![Arc::new(values)]).unwrap()
}

fn values<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<i64> {
    let values = |b: &'a RecordBatch| b.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches.into_iter().flat_map(values).collect()
}

fn reader_context() -> ReaderContext {
    testing::reader_context(Arc::new(VirtualClock::default()))
}

fn sink_context(shard: usize, first_epoch: Epoch) -> SinkContext {
    testing::sink_context(shard, first_epoch, schema())
}

/// All rows from `from` on, with the offset after each read.
fn read(source: &dyn Source, from: usize, max_rows: usize) -> (Vec<i64>, Vec<String>) {
    let from = Offset(from.to_string());
    let split = SplitId::new("memory/0");
    let mut reader = source.open(&split, Some(&from), &reader_context()).unwrap();
    let (mut rows, mut offsets) = (Vec::new(), Vec::new());
    while let Read::Batch(read) = reader.read(max_rows).unwrap() {
        assert!(read.rows.num_rows() <= max_rows);
        rows.push(read.rows);
        offsets.push(reader.offset().0);
    }
    assert_eq!(reader.progress(), Some((10, 10)));
    (values(&rows), offsets)
}

#[test]
fn a_split_read_from_any_row_in_any_batch_size_gives_the_rows_from_there() {
    let batches = vec![batch(0..0), batch(0..4), batch(4..5), batch([]), batch(5..10)];
    let source = MemorySource::new(schema(), vec![batches, vec![]]);
    for from in 0..=10 {
        for max_rows in [1, 3, 8192] {
            let (rows, offsets) = read(&source, from, max_rows);
            assert_eq!(rows, (from as i64..10).collect::<Vec<_>>());
            assert!(offsets.last().is_none_or(|last| last == "10"));
        }
    }
    let splits = source.splits().unwrap();
    assert_eq!(splits.iter().map(SplitId::as_str).collect::<Vec<_>>(), ["memory/0", "memory/1"]);
}

#[test]
fn a_reader_that_cannot_resume_says_why() {
    let source = MemorySource::new(schema(), vec![vec![batch(0..3)]]);
    let open = |split: &str, offset: &str| {
        let offset = Offset(offset.to_owned());
        source.open(&SplitId::new(split), Some(&offset), &reader_context()).err().unwrap()
    };
    assert!(open("memory/0", "4").to_string().contains("beyond its 3 rows"));
    assert!(open("memory/1", "0").to_string().contains("no split memory/1"));
    assert!(open("memory/0", "x").to_string().contains("not a row number"));
}

fn stage(sink: &dyn Sink, shard: usize, epoch: Epoch, rows: &[RecordBatch]) -> Staged {
    let mut writer = sink.writer(&sink_context(shard, epoch)).unwrap();
    rows.iter().for_each(|rows| writer.write(&rows.clone().into()).unwrap());
    match writer.poll_stage(epoch).unwrap() {
        Poll::Ready(staged) => staged,
        Poll::Pending => panic!("memory is always ready"),
    }
}

fn committer(sink: &dyn Sink, first_epoch: Epoch) -> Box<dyn SinkCommitter> {
    sink.committer(&sink_context(0, first_epoch)).unwrap()
}

#[test]
fn rows_are_visible_once_committed_and_once_only() {
    let (sink, handle) = MemorySink::new();
    assert_eq!(sink.guarantee(true).delivery, Delivery::ExactlyOnce);
    let mut run = committer(&sink, 1);
    let staged = [stage(&sink, 0, 1, &[batch(0..2)]), stage(&sink, 1, 1, &[batch(2..5)])];
    assert_eq!((handle.rows(), run.committed().unwrap()), (0, None));
    run.commit(1, &staged).unwrap();
    run.commit(1, &staged).unwrap();
    assert_eq!(values(&handle.batches()), [0, 1, 2, 3, 4]);

    let staged = [stage(&sink, 0, 2, &[]), stage(&sink, 1, 2, &[batch(5..6)])];
    drop(run);
    let mut resumed = committer(&handle.sink(), 3);
    assert_eq!(resumed.committed().unwrap(), Some(1), "epoch 2 was staged but not committed");
    resumed.commit(2, &staged).unwrap();
    assert_eq!((handle.rows(), handle.committed()), (6, Some(2)));
}

#[test]
fn a_second_job_from_nothing_appends_to_the_first() {
    let (sink, handle) = MemorySink::new();
    for _ in 0..2 {
        let mut run = committer(&sink, 1);
        assert_eq!(run.committed().unwrap(), None);
        run.commit(1, &[stage(&sink, 0, 1, &[batch(0..3)])]).unwrap();
    }
    assert_eq!(values(&handle.batches()), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn staged_output_that_was_damaged_is_refused() {
    let (sink, handle) = MemorySink::new();
    let mut staged = stage(&sink, 0, 1, &[batch(0..1000)]);
    staged.0.truncate(staged.0.len() / 2);
    let error = committer(&sink, 1).commit(1, &[staged]).unwrap_err();
    assert!(error.to_string().contains("epoch 1, shard 0"), "{error}");
    assert_eq!(handle.rows(), 0);
}

fn declared(columns: Vec<Field>, table: &str) -> TableSpec {
    TableSpec {
        name: "t".to_owned(),
        schema: Arc::new(Schema::new(columns)),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
        options: Options::from_iter([("connector", "memory"), ("table", table)]),
    }
}

#[test]
fn sql_reads_registered_columns_by_name_in_its_own_string_type() {
    let fields =
        vec![Field::new("n", DataType::Int64, false), Field::new("name", DataType::Utf8, false)];
    let schema = Arc::new(Schema::new(fields));
    let names = Arc::new(StringArray::from(vec!["a", "b"]));
    let numbers = Arc::new(Int64Array::from(vec![1, 2]));
    let rows = RecordBatch::try_new(schema.clone(), vec![numbers, names]).unwrap();
    let tables = MemoryTables::new().with_source("events", schema, vec![vec![rows]]);

    let name = Field::new("name", DataType::Utf8View, true);
    let source = tables.source(&declared(vec![name.clone()], "events")).unwrap();
    let mut reader = source.open(&SplitId::new("memory/0"), None, &reader_context()).unwrap();
    let Read::Batch(read) = reader.read(10).unwrap() else { panic!("there are rows") };
    assert_eq!(read.rows.schema(), source.schema());
    assert_eq!(read.rows.column(0).as_string_view(), &StringViewArray::from(vec!["a", "b"]));

    let refused =
        |columns, table: &str| tables.source(&declared(columns, table)).err().unwrap().to_string();
    assert!(refused(vec![name.clone()], "event").contains("there is: 'events'"));
    assert!(refused(vec![name.with_name("nam")], "events").contains("no column 'nam'"));
    let number = Field::new("n", DataType::Utf8View, true);
    assert!(refused(vec![number], "events").contains("declared as Utf8View but is Int64"));
}

#[test]
fn sql_writes_where_the_program_looks() {
    let tables = MemoryTables::new();
    let handle = tables.sink("out");
    let column = Field::new("n", DataType::Int64, true);
    let sink = ConnectorFactory::sink(&tables, &declared(vec![column.clone()], "out")).unwrap();
    committer(sink.as_ref(), 1).commit(1, &[stage(sink.as_ref(), 0, 1, &[batch(0..3)])]).unwrap();
    assert_eq!(handle.rows(), 3);
    assert!(ConnectorFactory::sink(&tables, &declared(vec![column], "in")).is_err());
}
