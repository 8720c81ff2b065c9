//! Parquet files of an old and a new shape in one folder: the cells of the table in
//! `docs/schema-evolution.md`. A file says what its columns are, so each is judged as a whole.

use std::fs::File;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use tidemill_core::ErrorKind;

use super::*;
use crate::FileSource;

/// A folder with a file for each shape, in their order.
fn files(shapes: &[&[(&str, ArrayRef)]]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, columns) in shapes.iter().enumerate() {
        let batch = RecordBatch::try_from_iter(columns.iter().cloned()).unwrap();
        let file = File::create(folder.path().join(format!("{number}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    folder
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// What is read of each file: its rows, values with commas between them.
fn rows(folder: &TempDir, columns: SchemaRef) -> Vec<tidemill_core::Result<Vec<String>>> {
    let source = FileSource::new(folder.path()).parquet(columns);
    let splits = source.splits().unwrap();
    let read = |split: &SplitId| {
        let rows = read_split(&source, split, None, 8_192)?.rows;
        let options = FormatOptions::default().with_null("null");
        let columns: Vec<_> =
            rows.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        let row = |n| columns.iter().map(|c| c.value(n).to_string()).collect::<Vec<_>>().join(", ");
        Ok((0..rows.num_rows()).map(row).collect())
    };
    splits.iter().map(read).collect()
}

#[test]
fn columns_come_and_go_from_file_to_file() {
    let folder = files(&[
        &[("id", ints(&[1])), ("note", texts(&["a"]))],
        &[("more", ints(&[9])), ("note", texts(&["b"])), ("id", ints(&[2]))],
        &[("id", ints(&[3]))],
    ]);
    let columns = schema(&[("id", DataType::Int64), ("note", DataType::Utf8View)]);
    let read: Vec<_> = rows(&folder, columns).into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(read, ["1, a", "2, b", "3, null"]);
    let strict = Field::new("note", DataType::Utf8View, false);
    let strict = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), strict]));
    let read = rows(&folder, strict);
    assert_eq!(read[1].as_ref().unwrap(), &["2, b"]);
    let error = read[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("2.parquet: the file lacks column 'note'"), "{error}");
}

#[test]
fn numbers_widen_and_neither_wrap_nor_lose_their_fractions() {
    let small: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    let fraction: ArrayRef = Arc::new(Float64Array::from(vec![2.5]));
    let folder = files(&[&[("v", small)], &[("v", ints(&[8, 3_000_000_000]))], &[("v", fraction)]]);
    let read = |of: DataType| rows(&folder, schema(&[("v", of)]));
    let doubles: Vec<_> = read(DataType::Float64).into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(doubles, ["7.0", "8.0", "3000000000.0", "2.5"]);
    let longs = read(DataType::Int64);
    assert_eq!(longs[1].as_ref().unwrap(), &["8", "3000000000"]);
    let error = longs[2].as_ref().unwrap_err().to_string();
    assert!(error.contains("column 'v' is Float64 in the file, which does not convert"), "{error}");
    let narrow = read(DataType::Int32);
    assert_eq!(narrow[0].as_ref().unwrap(), &["7"]);
    let error = narrow[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    let said = error.to_string();
    assert!(
        said.contains("1.parquet: column 'v' near row 0") && said.contains("3000000000"),
        "{said}"
    );
}

#[test]
fn a_column_with_a_new_name_is_another_column() {
    let folder = files(&[&[("customer", texts(&["a"]))], &[("client", texts(&["b"]))]]);
    let both = schema(&[("customer", DataType::Utf8View), ("client", DataType::Utf8View)]);
    let read: Vec<_> = rows(&folder, both).into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(read, ["a, null", "null, b"]);
}
