//! Whole files of text into batches: opening, reading, cutting into records, decoding.
//!
//! The lines are those of `tidemill bench tumbling --source ndjson|csv`, and of events with text and a
//! nested row. Each file is in the page cache, and is read as the engine reads it: batch by batch, each
//! dropped before the next; and each both cut into lanes and as one split.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidemill_core::source::{Read, Source, SplitId};
use tidemill_core::testing;
use tidemill_core::time::VirtualClock;
use tidemill_files::{FileSource, FormattedFiles};

const ROWS: usize = 500_000;
const BATCH_ROWS: usize = 8_192;

fn schema(fields: Vec<(&str, DataType)>) -> SchemaRef {
    let field = |(name, data_type): (&str, DataType)| Field::new(name, data_type, true);
    Arc::new(Schema::new(fields.into_iter().map(field).collect::<Vec<_>>()))
}

fn measurements() -> SchemaRef {
    schema(vec![
        ("key", DataType::Int64),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("value", DataType::Float64),
    ])
}

/// Key, time of day and value of row `n`.
fn measurement(n: usize) -> (usize, String, String) {
    let (key, micros) = (n * 7_919 % 10_000, n * 10);
    let time = format!("1970-01-01 00:00:{:02}.{:06}", micros / 1_000_000, micros % 1_000_000);
    (key, time, format!("{}.{:02}", n % 100, n * 31 % 100))
}

fn json_line(n: usize) -> String {
    let (key, time, value) = measurement(n);
    format!(r#"{{"key":{key},"ts":"{time}","value":{value}}}"#)
}

fn csv_line(n: usize) -> String {
    let (key, time, value) = measurement(n);
    format!("{key},{time},{value}")
}

fn events() -> SchemaRef {
    let session = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("country", DataType::Utf8View, true),
    ];
    schema(vec![
        ("event_id", DataType::Utf8View),
        ("user_id", DataType::Utf8View),
        ("event_type", DataType::Utf8View),
        ("amount", DataType::Float64),
        ("session", DataType::Struct(session.into())),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ])
}

fn event_line(n: usize) -> String {
    format!(
        concat!(
            r#"{{"event_id":"0f8fad5b-d9cb-469f-a165-{:012}","user_id":"user-{:06}","#,
            r#""event_type":"purchase","amount":{}.95,"unknown":"EUR","#,
            r#""session":{{"id":{},"country":"DE"}},"ts":"2013-01-01T10:{:02}:50.123Z"}}"#,
        ),
        n,
        n * 7 % 10_000,
        n % 1_000,
        n * 11 % 100_000,
        n % 60
    )
}

fn write(folder: &Path, name: &str, line: fn(usize) -> String) -> PathBuf {
    let path = folder.join(name);
    let mut file = BufWriter::new(File::create(&path).expect("the folder is ours"));
    for n in 0..ROWS {
        writeln!(file, "{}", line(n)).expect("the disk has room");
    }
    file.flush().expect("the disk has room");
    path
}

/// The splits that a file is cut into, or the file as one where a checkpoint knew it so.
fn splits(source: &FormattedFiles, uncut: Option<&SplitId>) -> Vec<SplitId> {
    let splits = match uncut {
        Some(file) => source.splits_again(std::slice::from_ref(file)),
        None => source.splits(),
    };
    splits.expect("the file is there")
}

/// Reads splits one after the other, and counts rows.
fn read(source: &FormattedFiles, splits: &[SplitId]) -> usize {
    let context = testing::reader_context(Arc::new(VirtualClock::default()));
    let mut rows = 0;
    for split in splits {
        let mut reader = source.open(split, None, &context).expect("the file is there");
        while let Read::Batch(batch) = reader.read(BATCH_ROWS).expect("the file is there") {
            rows += black_box(batch).rows.num_rows();
        }
    }
    rows
}

fn files(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name, line| write(folder.path(), name, line);
    let sources = [
        ("ndjson", "a.json", FileSource::new(path("a.json", json_line)).json(measurements())),
        ("csv", "a.csv", FileSource::new(path("a.csv", csv_line)).csv(measurements())),
        ("ndjson, nested", "b.json", FileSource::new(path("b.json", event_line)).json(events())),
    ];
    let mut group = c.benchmark_group("files");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    for (name, file, source) in sources {
        let file = SplitId::new(folder.path().join(file).to_string_lossy());
        for (form, uncut) in [("cut", None), ("uncut", Some(&file))] {
            group.bench_function(format!("{name}, {form}"), |b| {
                b.iter(|| assert_eq!(read(&source, &splits(&source, uncut)), ROWS));
            });
        }
    }
}

criterion_group!(benches, files);
criterion_main!(benches);
