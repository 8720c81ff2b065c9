//! The benchmark's rows, `(key BIGINT or STRING, ts TIMESTAMP, value DOUBLE)`: in memory, in files, or as text.
//!
//! Invariant: however many splits there are, together they hold the same rows, and within each the
//! rows are as much out of order as in all.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Float64Type;
use arrow::array::{Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use tidemill_core::{Error, Result};
use tidemill_formats::Format;
use tidemill_generator::workload::{Keys, tumbling_rows, tumbling_rows_by_text};

use super::scan::{Piece, Place, Scan};
use super::workload::{KeyType, RowSource, Skew, Workload};
use crate::prelude::TIMESTAMP;

/// The seed of the rows: every run measures the same ones.
const SEED: u64 = 1;

/// The rows of one split, in batches.
pub type Split = Vec<RecordBatch>;

/// The workload's rows.
pub fn rows(workload: &Workload) -> Split {
    let keys = match workload.skew {
        Skew::Uniform => Keys::Uniform(workload.keys),
        Skew::Zipf { exponent } => Keys::Zipf { keys: workload.keys, exponent },
    };
    match workload.key_type {
        KeyType::Integer => tumbling_rows(workload.rows, keys, workload.disorder_us, SEED),
        KeyType::Text => tumbling_rows_by_text(workload.rows, keys, workload.disorder_us, SEED),
    }
}

/// The columns of the workload's rows.
pub fn schema(workload: &Workload) -> SchemaRef {
    let key = match workload.key_type {
        KeyType::Integer => DataType::Int64,
        KeyType::Text => DataType::Utf8View,
    };
    Arc::new(Schema::new(vec![
        Field::new("key", key, false),
        Field::new("ts", TIMESTAMP, false),
        Field::new("value", DataType::Float64, false),
    ]))
}

/// Deals the batches out to `splits` splits in turn.
pub fn deal(batches: &[RecordBatch], splits: usize) -> Vec<Split> {
    (0..splits).map(|split| batches.iter().skip(split).step_by(splits).cloned().collect()).collect()
}

/// Files with the workload's rows; gone when this is dropped.
pub struct Files {
    format: RowSource,
    schema: SchemaRef,
    folder: TempDir,
    pieces: Vec<Piece>,
}

impl Files {
    /// Writes the rows for so many splits to a folder of their own: a file for each, or one of which
    /// each reads a piece. In text, values are rounded to hundredths, as prices are.
    ///
    /// # Errors
    /// A folder or a file that cannot be written, or Parquet that is to be in one file.
    pub fn write(workload: &Workload, rows: &[RecordBatch], splits: usize) -> Result<Self> {
        let (format, schema) = (workload.source, schema(workload));
        let folder = tempfile::tempdir()?;
        let write = |name: usize, rows: &[RecordBatch]| -> Result<PathBuf> {
            let path = folder.path().join(format!("split-{name}.{}", format.name()));
            let written = write_file(&path, format, &schema, rows);
            written.map_err(|error| error.at(path.display()))?;
            Ok(path)
        };
        let pieces = if workload.one_file && splits > 1 {
            if format == RowSource::Parquet {
                return Err(Error::configuration(
                    "only files of text are read in pieces: leave out --one-file, or read csv or json",
                ));
            }
            cut(&write(0, rows)?, splits)?
        } else {
            let whole = |(split, rows): (usize, Split)| whole(write(split, &rows)?);
            deal(rows, splits).into_iter().enumerate().map(whole).collect::<Result<_>>()?
        };
        Ok(Self { format, schema, folder, pieces })
    }

    /// The folder that holds nothing but these files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What each split reads.
    pub fn scans(&self) -> Vec<Scan> {
        let place = |piece: &Piece| Place::File(self.format, piece.clone());
        let scan = |piece| Scan { schema: self.schema.clone(), place: place(piece) };
        self.pieces.iter().map(scan).collect()
    }
}

fn whole(path: PathBuf) -> Result<Piece> {
    let length = path.metadata()?.len();
    Ok(Piece { path, start: 0, length })
}

/// Pieces of a file of text that are as long as one another, but for the lines they end with.
fn cut(path: &Path, pieces: usize) -> Result<Vec<Piece>> {
    let mut file = BufReader::new(File::open(path)?);
    let total = path.metadata()?.len();
    let mut start = 0;
    let mut piece = |number: usize| -> Result<Piece> {
        let near = total * (number as u64 + 1) / pieces as u64;
        // The line that the byte before lies in belongs to this piece.
        file.seek(SeekFrom::Start(near.saturating_sub(1)))?;
        let rest = file.skip_until(b'\n')? as u64;
        let end = (near.saturating_sub(1) + rest).max(start);
        let piece = Piece { path: path.to_owned(), start, length: end - start };
        start = end;
        Ok(piece)
    };
    (0..pieces).map(&mut piece).collect()
}

fn write_file(
    path: &Path,
    format: RowSource,
    schema: &SchemaRef,
    rows: &[RecordBatch],
) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let format = match format {
        RowSource::Csv => Format::Csv(Default::default()),
        RowSource::Json => Format::Json(Default::default()),
        _ => return write_parquet(file, schema, rows),
    };
    encode(&format, schema, rows, |line| {
        Ok(file.write_all(line).and_then(|()| file.write_all(b"\n"))?)
    })?;
    Ok(file.flush()?)
}

/// Hands over each row as text, its value rounded to hundredths, as prices are.
///
/// # Errors
/// What `each` returns.
pub(super) fn encode(
    format: &Format,
    schema: &SchemaRef,
    rows: &[RecordBatch],
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut encoder = format.encoder(schema.clone())?;
    for batch in rows {
        let mut taken = Ok(());
        encoder.encode(&in_hundredths(batch)?, &mut |row| {
            if taken.is_ok() {
                taken = each(row);
            }
        })?;
        taken?;
    }
    Ok(())
}

fn write_parquet(file: BufWriter<File>, schema: &SchemaRef, rows: &[RecordBatch]) -> Result<()> {
    let failed = |error| Error::internal("Parquet cannot be written").caused_by(error);
    let mut writer = ArrowWriter::try_new(file, schema.clone(), None).map_err(failed)?;
    rows.iter().try_for_each(|batch| writer.write(batch)).map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(())
}

/// The batch, its values rounded to hundredths.
fn in_hundredths(batch: &RecordBatch) -> Result<RecordBatch> {
    let values = batch.column(2).as_primitive::<Float64Type>();
    let rounded: Float64Array = values.unary(|value| (value * 100.0).round() / 100.0);
    let mut columns = batch.columns().to_vec();
    columns[2] = Arc::new(rounded);
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_is_cut_between_lines_into_pieces_that_make_it_up() {
        let workload = Workload {
            rows: 1_000,
            keys: 3_000,
            source: RowSource::Csv,
            one_file: true,
            ..Workload::default()
        };
        for splits in [2, 3, 7] {
            let files = Files::write(&workload, &rows(&workload), splits).unwrap();
            let read = |piece: &Piece| {
                let mut text = String::new();
                piece.open().unwrap().read_to_string(&mut text).unwrap();
                text
            };
            let pieces: Vec<String> = files.pieces.iter().map(read).collect();
            assert_eq!(pieces.len(), splits);
            assert!(pieces.iter().all(|piece| piece.ends_with('\n')));
            let whole = std::fs::read_to_string(&files.pieces[0].path).unwrap();
            assert_eq!(pieces.concat(), whole);
        }
    }
}
