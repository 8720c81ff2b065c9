//! The rows of one split as Arrow batches, whatever they are kept in.
//!
//! Text and Parquet are read by Arrow's own readers, which are DataFusion's.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::input::Split;
use super::workload::RowSource;

/// Rows in a batch that is read from a file.
const BATCH_ROWS: usize = 8192;

/// A file, or a piece of one that begins and ends with a line.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The file.
    pub path: PathBuf,
    /// Its first byte.
    pub start: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl Piece {
    /// The bytes of the piece.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(&self) -> std::io::Result<impl Read + Send + use<>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(file.take(self.length))
    }
}

/// The rows of one split.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Their columns.
    pub schema: SchemaRef,
    /// Where they are.
    pub place: Place,
}

/// Where the rows of a split are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In memory.
    Memory(Split),
    /// In a file, or a piece of one, of this format.
    File(RowSource, Piece),
}

/// Batches, one after the other.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

impl Scan {
    /// The rows.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn batches(&self) -> Result<Batches, ArrowError> {
        let (format, piece) = match &self.place {
            Place::Memory(split) => return Ok(Box::new(split.clone().into_iter().map(Ok))),
            Place::File(format, piece) => (format, piece),
        };
        Ok(match format {
            RowSource::Csv => {
                let csv = arrow::csv::ReaderBuilder::new(self.schema.clone());
                Box::new(csv.with_batch_size(BATCH_ROWS).build(piece.open()?)?)
            }
            RowSource::Json => {
                let json = arrow::json::ReaderBuilder::new(self.schema.clone());
                let bytes = BufReader::with_capacity(1 << 20, piece.open()?);
                Box::new(json.with_batch_size(BATCH_ROWS).build(bytes)?)
            }
            _ => {
                let parquet = ParquetRecordBatchReaderBuilder::try_new(File::open(&piece.path)?)?;
                Box::new(parquet.with_batch_size(BATCH_ROWS).build()?)
            }
        })
    }
}
