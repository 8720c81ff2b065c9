use std::fs;
use std::io::Write;
use std::path::Path;

use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use tidemill_core::ErrorKind;
use tidemill_core::need::Need;
use tidemill_core::source::{Offset, Source};
use tidemill_core::table::{ConnectorFactory, TableSpec};

use super::*;
use crate::{FileSource, FilesFactory, FormattedFiles};

pub(super) fn numbers() -> SchemaRef {
    schema(&[("n", DataType::Int64), ("s", DataType::Utf8View)])
}

pub(super) fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The only split of `content`, read in pieces of `chunk` bytes.
fn csv(content: &[u8], chunk: usize, max_rows: usize) -> Everything {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.csv", content);
    let source = FileSource::new(folder.path()).csv(numbers()).with_limits(chunk, 1 << 20);
    read_split(&source, &source.splits().unwrap()[0], None, max_rows).unwrap()
}

/// Lines of a CSV file: good, bad, quoted over lines, blank; unix and Windows ends.
pub(super) fn csv_file() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[0-9]{1,5},[a-z]{0,30}",
        "[0-9]{1,5},\"[a-z\n,]{0,10}(\"\")?[a-z]{0,3}\"",
        "[a-z]{1,3},x",
        "[0-9],[0-9],[0-9]",
        "[0-9],5\" pipe",
        "",
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n")];
    (prop::collection::vec((line, end), 0..30), any::<bool>()).prop_map(|(lines, cut)| {
        let mut text: String = lines.into_iter().map(|(line, end)| line + end).collect();
        if cut {
            text.truncate(text.trim_end().len());
        }
        text
    })
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_do_not_depend_on_the_sizes_of_reads(
        text in csv_file(), chunk in 1usize..40, max_rows in 1usize..9
    ) {
        let whole = csv(text.as_bytes(), 1 << 20, 8_192);
        let pieces = csv(text.as_bytes(), chunk, max_rows);
        prop_assert_eq!(&pieces.rows, &whole.rows);
        prop_assert_eq!(pieces.reasons(), whole.reasons());
        prop_assert_eq!(&pieces.records, &whole.records);
        prop_assert_eq!(pieces.records.len(), pieces.rows.num_rows());
    }

    #[test]
    fn every_offset_gives_the_rest_compressed_or_not(text in csv_file(), max_rows in 1usize..9) {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a.csv", &text);
        put(folder.path(), "b.csv.gz", gzip(text.as_bytes()));
        put(folder.path(), "c.csv.zst", zstd::encode_all(text.as_bytes(), 1).unwrap());
        let source = FileSource::new(folder.path()).csv(numbers()).with_limits(16, 1 << 20);
        let all = read_all(&source);
        for (split, whole) in source.splits().unwrap().iter().zip(&all) {
            prop_assert_eq!(&whole.rows, &all[0].rows);
            prop_assert_eq!(whole.reasons(), all[0].reasons());
            let read = read_split(&source, split, None, max_rows).unwrap();
            for (records, offset) in &read.offsets {
                let rest = read_split(&source, split, Some(offset), 8_192).unwrap();
                let dead = whole.dead_letters.len() - rest.dead_letters.len();
                let rows = records - dead;
                let expected = whole.rows.slice(rows, whole.rows.num_rows() - rows);
                prop_assert_eq!(&rest.rows, &expected);
                prop_assert_eq!(&rest.dead_letters, &whole.dead_letters[dead..].to_vec());
                prop_assert_eq!(&rest.records, &whole.records[rows..].to_vec());
            }
        }
    }

    #[test]
    fn garbage_is_counted_and_never_panics(content in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a", &content);
        let lines = content.split(|byte| *byte == b'\n').collect::<Vec<_>>();
        let not_blank = lines.iter().filter(|l| !matches!(l, [] | [b'\r'])).count();
        let json = FileSource::new(folder.path()).json(numbers()).with_limits(7, 1 << 20);
        let read = &read_all(&json)[0];
        prop_assert_eq!(read.rows.num_rows() + read.dead_letters.len(), not_blank);
        let csv = FileSource::new(folder.path()).csv(numbers()).with_limits(7, 1 << 20);
        read_all(&csv);
    }
}

#[test]
fn dead_letters_name_their_line_and_keep_their_bytes() {
    let read = csv(b"\xef\xbb\xbf1,\"a\nb\"\r\nx,y\r\n\n2,z\n3\n4,last", 5, 100);
    assert_eq!(
        read.reasons(),
        ["line 3: n: 'x' is not a valid BIGINT", "line 6: 1 field where 2 are expected"]
    );
    assert_eq!(read.dead_letters[0].record.payload.as_deref().unwrap(), b"x,y");
    let records: Vec<_> = read.records.iter().map(|(p, r)| (p.as_str(), r.as_str())).collect();
    assert_eq!(records, [("line 1", "1,\"a\nb\""), ("line 5", "2,z"), ("line 7", "4,last")]);
}

#[test]
fn a_folder_a_glob_and_a_file_are_splits_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.csv", "a.csv", "deep/c.csv", ".hidden.csv", "_SUCCESS", "d.csv.inprogress"] {
        put(folder.path(), name, "1,x\n");
    }
    let names = |path: &Path| -> Vec<String> {
        let splits = FileSource::new(path).csv(numbers()).splits().unwrap();
        splits.iter().map(|split| split.as_str().to_owned()).collect()
    };
    assert_eq!(names(folder.path()), ["a.csv", "b.csv", "deep/c.csv"]);
    let full = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(names(&folder.path().join("*.csv")), [full("a.csv"), full("b.csv")]);
    assert_eq!(names(&folder.path().join("b.csv")), [full("b.csv")]);
    let glob = FileSource::new(folder.path().join("*.csv")).csv(numbers());
    assert_eq!(read_all(&glob).len(), 2);
    let error = FileSource::new(folder.path().join("none*")).csv(numbers()).splits().unwrap_err();
    assert!(error.to_string().contains("none*' matches no file (seen from "), "{error}");
}

#[test]
fn empty_files_have_no_records() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("a", ""), ("b", "\n\r\n\n"), ("c", "\u{feff}")] {
        put(folder.path(), name, content);
    }
    put(folder.path(), "d.gz", gzip(b""));
    for source in [
        FileSource::new(folder.path()).csv(numbers()),
        FileSource::new(folder.path()).csv(numbers()).with_header(),
        FileSource::new(folder.path()).json(numbers()),
    ] {
        for read in read_all(&source) {
            assert_eq!((read.rows.num_rows(), read.dead_letters.len()), (0, 0));
        }
    }
}

#[test]
fn a_header_line_names_the_columns_also_when_reading_on() {
    let folder = tempfile::tempdir().unwrap();
    let text = "s,unused,n\nx,0,1\ny,0,2\nz,0,3\n";
    put(folder.path(), "a.csv", text);
    put(folder.path(), "b.csv.gz", gzip(text.as_bytes()));
    let source = FileSource::new(folder.path()).csv(numbers()).with_header();
    for split in source.splits().unwrap() {
        let read = read_split(&source, &split, None, 1).unwrap();
        let n: Vec<_> = read.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(n, [1, 2, 3]);
        let rest = read_split(&source, &split, Some(&read.offsets[2].1), 10).unwrap();
        assert_eq!(rest.records, [("line 4".to_owned(), "z,0,3".to_owned())]);
        assert_eq!(rest.rows, read.rows.slice(2, 1));
    }
    put(folder.path(), "a.csv", "other\n1\n");
    let error = read_split(&source, &SplitId::new("a.csv"), None, 1).err().unwrap();
    assert!(error.to_string().contains("a.csv: the header line has none of"), "{error}");
}

#[test]
fn a_line_beyond_the_limit_is_a_dead_letter_and_reading_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("1,a\n2,{}\n3,c\n4,\"{}", "x".repeat(5_000), "y\n".repeat(3_000));
    put(folder.path(), "a.csv", &text);
    for chunk in [1, 64, 100_000] {
        let source = FileSource::new(folder.path()).csv(numbers()).with_limits(chunk, 4_000);
        let read = &read_all(&source)[0];
        assert_eq!(read.rows.slice(0, 2).column(0).as_primitive::<Int64Type>().values(), &[1, 3]);
        assert!(read.reasons()[0].starts_with("line 2: longer than 4000 bytes"));
        assert!(read.reasons()[1].starts_with("line 4: longer than 4000 bytes"));
        assert_eq!(read.dead_letters[0].record.payload.as_ref().unwrap().len(), 4_000);
        let (last, records) =
            (read.reasons().pop().unwrap(), read.rows.num_rows() + read.dead_letters.len());
        assert_eq!(last, "line 3003: n: 'y' is not a valid BIGINT", "lines are still counted");
        assert_eq!(records, 4 + 3_000 - 2_000 + 1);
    }
}

#[test]
fn lines_of_ten_megabytes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(10 << 20);
    put(folder.path(), "a.json", format!("{{\"s\":\"{long}\"}}\n{{\"n\":2}}\n"));
    let read = &read_all(&FileSource::new(folder.path()).json(numbers()))[0];
    assert_eq!(read.rows.column(1).as_string_view().value(0).len(), long.len());
    assert_eq!(read.rows.column(0).as_primitive::<Int64Type>().value(1), 2);
}

#[test]
fn a_file_that_was_cut_since_the_checkpoint_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.csv", "1,a\n");
    put(folder.path(), "b.csv.gz", gzip(b"1,a\n"));
    let source = FileSource::new(folder.path()).csv(numbers());
    for (split, offset) in
        [("a.csv", "400:7"), ("b.csv.gz", "7"), ("a.csv", "x"), ("b.csv.gz", "1:1")]
    {
        let offset = Offset(offset.to_owned());
        let error = read_split(&source, &SplitId::new(split), Some(&offset), 1).err().unwrap();
        let text = error.to_string();
        assert!(text.contains(split), "{text}");
        assert!(
            text.contains("was cut or replaced") || error.kind() == ErrorKind::Corrupt,
            "{text}"
        );
    }
    let mut cut = gzip("1,some text\n".repeat(100).as_bytes());
    cut.truncate(cut.len() / 2);
    put(folder.path(), "b.csv.gz", cut);
    let error = read_split(&source, &SplitId::new("b.csv.gz"), None, 1_000).err().unwrap();
    assert!(error.to_string().contains("b.csv.gz: the compressed file is cut off"), "{error}");
}

fn parquet_file(folder: &Path, rows: usize) -> RecordBatch {
    let text = (0..rows).map(|n| format!("{n},row {n}\n")).collect::<String>();
    let batch = csv(text.as_bytes(), 1 << 20, rows).rows;
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(7)).build();
    let file = fs::File::create(folder.join("a.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    batch
}

#[test]
fn parquet_is_read_by_name_from_every_row_on() {
    let folder = tempfile::tempdir().unwrap();
    let batch = parquet_file(folder.path(), 30);
    let wanted =
        schema(&[("s", DataType::Utf8View), ("gone", DataType::Int64), ("n", DataType::Int32)]);
    let source = FileSource::new(folder.path()).parquet(wanted);
    let split = SplitId::new("a.parquet");
    let whole = read_split(&source, &split, None, 4).unwrap();
    assert_eq!(whole.rows.column(0), batch.column(1));
    assert_eq!(whole.rows.column(1).null_count(), 30);
    for (rows, offset) in &whole.offsets {
        let rest = read_split(&source, &split, Some(offset), 8_192).unwrap();
        assert_eq!(rest.rows, whole.rows.slice(*rows, 30 - rows));
    }
    let error = read_split(&source, &split, Some(&Offset("31".into())), 1).err().unwrap();
    assert!(error.to_string().contains("has 30 rows, but a checkpoint says that 31"), "{error}");
    put(folder.path(), "a.parquet", "PAR1 no");
    assert!(
        read_split(&source, &split, None, 1)
            .err()
            .unwrap()
            .to_string()
            .contains("not a Parquet file")
    );
}

#[test]
fn what_a_job_does_not_look_at_is_null_and_all_else_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    parquet_file(folder.path(), 30);
    let text = |line: fn(usize) -> String| (0..30).map(line).collect::<String>();
    put(folder.path(), "a.csv", text(|n| format!("{n},text {n}\n")));
    put(folder.path(), "h.csv", format!("s,n\n{}", text(|n| format!("text {n},{n}\n"))));
    put(folder.path(), "a.json", text(|n| format!("{{\"n\":{n},\"s\":\"text {n}\"}}\n")));
    let columns =
        schema(&[("n", DataType::Int64), ("file", DataType::Utf8View), ("s", DataType::Utf8View)]);
    let path = |name| FileSource::new(folder.path().join(name));
    for files in [
        path("a.csv").csv(columns.clone()),
        path("h.csv").csv(columns.clone()).with_header(),
        path("a.json").json(columns.clone()),
        path("a.parquet").parquet(columns.clone()),
    ] {
        let whole = files.with_metadata(1, "file.name").unwrap();
        for kept in [0, 2] {
            let mut needs = [Need::Nothing, Need::All, Need::Nothing];
            needs[kept] = Need::All;
            let some = whole.reading(&needs).expect("a column is spared");
            let split = &some.splits().unwrap()[0];
            let (all, some) = (
                read_split(&whole, split, None, 7).unwrap(),
                read_split(some.as_ref(), split, None, 7).unwrap(),
            );
            assert_eq!((&some.records, &some.offsets), (&all.records, &all.offsets));
            assert_eq!(some.rows.column(2 - kept).null_count(), 30);
            assert_eq!(some.rows.column(kept), all.rows.column(kept));
            assert_eq!(some.rows.column(1), all.rows.column(1));
        }
        let none = whole.reading(&[Need::Nothing, Need::Nothing, Need::Nothing]).unwrap();
        assert_eq!(read_all(none.as_ref())[0].rows.num_rows(), 30);
        let metadata = [Need::All, Need::Nothing, Need::All];
        assert!(whole.reading(&metadata).is_none(), "metadata costs nothing");
    }
}

#[test]
fn metadata_and_partition_folders_are_columns() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "day=2013-01-01/a%2Fb=__DEFAULT_PARTITION__/x.csv", "1,a\n2,b\n");
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = schema(&[
        ("name", DataType::Utf8View),
        ("n", DataType::Int64),
        ("day", DataType::Date32),
        ("s", DataType::Utf8View),
        ("size", DataType::Int64),
        ("at", zoned),
        ("path", DataType::Utf8View),
        ("a/b", DataType::Int32),
    ]);
    let metadata =
        [(0, "file.name"), (4, "file.size"), (5, "file.modification-time"), (6, "file.path")];
    let table = TableSpec {
        name: "t".into(),
        schema: columns,
        metadata: metadata.map(|(column, key)| (column, key.to_owned())).to_vec(),
        primary_key: vec![],
        partitioned_by: vec![2, 7],
        options: [("path", folder.path().to_str().unwrap()), ("format", "csv")]
            .into_iter()
            .collect(),
    };
    let source = FilesFactory.source(&table).unwrap();
    let rows = &read_all(source.as_ref())[0].rows;
    assert_eq!(rows.num_rows(), 2);
    assert_eq!(rows.column(0).as_string_view().value(1), "x.csv");
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert_eq!(rows.column(2).as_primitive::<Date32Type>().value(0), 15_706);
    assert_eq!(rows.column(4).as_primitive::<Int64Type>().value(0), 8);
    assert!(rows.column(5).as_primitive::<TimestampMicrosecondType>().value(0) > 0);
    assert!(rows.column(6).as_string_view().value(0).ends_with("/x.csv"));
    assert_eq!(rows.column(7).null_count(), 2);

    let wrong = TableSpec { metadata: vec![(0, "file.owner".into())], ..table };
    let error = FilesFactory.source(&wrong).err().unwrap().to_string();
    assert!(error.contains("no metadata 'file.owner', only 'file.path', 'file.name'"), "{error}");
}

#[test]
fn wrong_options_are_named() {
    let table = |options: &[(&str, &str)]| TableSpec {
        name: "t".into(),
        schema: numbers(),
        metadata: vec![],
        primary_key: vec![],
        partitioned_by: vec![],
        options: options.iter().copied().collect(),
    };
    for (options, wrong, words) in [
        (vec![("format", "csv")], "path", "required"),
        (vec![("path", "x")], "format", "required"),
        (vec![("path", "x"), ("format", "xml")], "format", "'csv', 'json', 'parquet' or 'raw'"),
        (vec![("path", "s3://b/x"), ("format", "csv")], "path", "'s3' is not supported"),
        (vec![("path", "x"), ("format", "raw")], "format", "exactly one column"),
        (
            vec![("path", "x"), ("format", "csv"), ("source.monitor-interval", "1 s")],
            "source.monitor-interval",
            "not supported",
        ),
        (vec![("path", "x"), ("format", "csv"), ("csv.header", "yes")], "csv.header", "'yes'"),
    ] {
        let error = FilesFactory.source(&table(&options)).err().unwrap();
        assert_eq!(error.wrong_option(), Some(wrong), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn progress_ends_where_the_file_does() {
    let folder = tempfile::tempdir().unwrap();
    let text = "1,some text\n".repeat(1_000);
    put(folder.path(), "a.csv", &text);
    put(folder.path(), "b.csv.gz", gzip(text.as_bytes()));
    let source: FormattedFiles = FileSource::new(folder.path()).csv(numbers());
    for split in source.splits().unwrap() {
        let mut reader = source.open(&split, None, &context()).unwrap();
        while !matches!(reader.read(100).unwrap(), Read::End) {}
        let (read, size) = reader.progress().unwrap();
        assert!(read == size && size > 0, "{split}: {read} of {size}");
        assert!(reader.is_at_hand(), "{split}");
    }
}
