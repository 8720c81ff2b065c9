//! The benchmark's rows, `(key BIGINT, ts TIMESTAMP, value DOUBLE)`: in memory, or in files of
//! text.
//!
//! Invariant: however many splits there are, together they hold the same rows, and within each the
//! rows are as much out of order as in all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{Float64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use tempfile::TempDir;
use tidemill_core::{Error, Result};
use tidemill_formats::{Encoder, Format};
use tidemill_generator::workload::{Keys, tumbling_rows};

use super::DISORDER;

/// The seed of the rows: every run measures the same ones.
const SEED: u64 = 1;

/// The rows of one split, in batches.
pub type Split = Vec<RecordBatch>;

/// `rows` rows over `keys` equally frequent keys, up to [`DISORDER`] out of order.
pub fn rows(rows: usize, keys: u64) -> Split {
    tumbling_rows(rows, Keys::Uniform(keys), DISORDER, SEED)
}

/// Deals the batches out to `splits` splits in turn.
pub fn deal(batches: &[RecordBatch], splits: usize) -> Vec<Split> {
    (0..splits).map(|split| batches.iter().skip(split).step_by(splits).cloned().collect()).collect()
}

/// The columns of a batch of the benchmark's rows: keys, times in microseconds, values.
pub fn columns(batch: &RecordBatch) -> (&[i64], &[i64], &[f64]) {
    (
        batch.column(0).as_primitive::<Int64Type>().values(),
        batch.column(1).as_primitive::<TimestampMicrosecondType>().values(),
        batch.column(2).as_primitive::<Float64Type>().values(),
    )
}

/// How rows are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// `17,1970-01-01 00:00:12.345678,57.38`
    Csv,
    /// `{"key":17,"ts":"1970-01-01 00:00:12.345678","value":57.38}`
    Json,
}

/// Files of text with the benchmark's rows, one for each split; gone when this is dropped.
pub struct TextFiles {
    /// How the rows are written down.
    pub format: TextFormat,
    folder: TempDir,
    paths: Vec<PathBuf>,
}

impl TextFiles {
    /// Writes the splits to a folder of their own. Values are rounded to hundredths, as prices are.
    ///
    /// # Errors
    /// A folder or a file that cannot be written.
    pub fn write(format: TextFormat, splits: &[Split]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |split| folder.path().join(format!("split-{split}.{}", format.name()));
        let paths: Vec<_> = (0..splits.len()).map(path).collect();
        for (path, split) in paths.iter().zip(splits) {
            let write = write_file(path, format, split);
            write.map_err(|error| error.at(path.display()))?;
        }
        Ok(Self { format, folder, paths })
    }

    /// The folder that holds nothing but these files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files, split by split.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl TextFormat {
    /// The name, which is also the files' suffix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "ndjson",
        }
    }

    fn encoder(self, schema: SchemaRef) -> Result<Box<dyn Encoder>> {
        let format = match self {
            Self::Csv => Format::Csv(Default::default()),
            Self::Json => Format::Json(Default::default()),
        };
        format.encoder(schema)
    }
}

fn write_file(path: &Path, format: TextFormat, split: &Split) -> Result<()> {
    let Some(first) = split.first() else {
        return Err(Error::configuration("a split has no rows: ask for more rows"));
    };
    let mut encoder = format.encoder(first.schema())?;
    let mut file = BufWriter::new(File::create(path)?);
    for batch in split {
        let mut written = Ok(());
        encoder.encode(&in_hundredths(batch)?, &mut |line| {
            if written.is_ok() {
                written = file.write_all(line).and_then(|()| file.write_all(b"\n"));
            }
        })?;
        written?;
    }
    Ok(file.flush()?)
}

/// The batch, its values rounded to hundredths.
fn in_hundredths(batch: &RecordBatch) -> Result<RecordBatch> {
    let values = batch.column(2).as_primitive::<Float64Type>();
    let rounded: Float64Array = values.unary(|value| (value * 100.0).round() / 100.0);
    let mut columns = batch.columns().to_vec();
    columns[2] = Arc::new(rounded);
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}
