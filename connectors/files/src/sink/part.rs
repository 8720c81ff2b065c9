//! One part file while it is written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tidemill_core::{Error, Result};
use tidemill_formats::Encoder;

use crate::source::FileFormat;

/// Text that is gathered before it is written.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes of encoded columns after which a Parquet row group ends, so that memory stays bounded.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// A part file. Locked for as long as it is open, so that it is not taken for a leftover.
pub(super) struct Part {
    body: Body,
    place: String,
}

enum Body {
    Text { file: File, encoder: Box<dyn Encoder>, buffer: Vec<u8> },
    Parquet(Box<ArrowWriter<File>>),
}

impl Part {
    /// A new file at `path`; `None` where there is one already.
    pub(super) fn create(
        path: &Path,
        format: &FileFormat,
        schema: &SchemaRef,
    ) -> Result<Option<Self>> {
        let place = path.display().to_string();
        let file = match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(failed(&place, error)),
        };
        match file.lock() {
            // Without locks two sinks of one job must not start in one folder at different times.
            Err(error) if error.kind() != std::io::ErrorKind::Unsupported => {
                return Err(failed(&place, error));
            }
            _ => {}
        }
        let body = match format {
            FileFormat::Text(format) => {
                let encoder = format.encoder(schema.clone())?;
                let mut buffer = Vec::with_capacity(BUFFER_BYTES);
                if let Some(header) = encoder.header() {
                    buffer.extend_from_slice(&header);
                    buffer.push(b'\n');
                }
                Body::Text { file, encoder, buffer }
            }
            FileFormat::Parquet => {
                let compression = Compression::SNAPPY;
                let properties = WriterProperties::builder().set_compression(compression).build();
                let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties));
                Body::Parquet(Box::new(writer.map_err(|error| refused(&place, error))?))
            }
        };
        Ok(Some(Self { body, place }))
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        match &mut self.body {
            Body::Text { file, encoder, buffer } => {
                let mut written = Ok(());
                encoder.encode(rows, &mut |record| {
                    buffer.extend_from_slice(record);
                    buffer.push(b'\n');
                    if buffer.len() >= BUFFER_BYTES && written.is_ok() {
                        written = file.write_all(buffer);
                        buffer.clear();
                    }
                })?;
                written.map_err(|error| failed(&self.place, error))
            }
            Body::Parquet(writer) => {
                writer.write(rows).map_err(|error| refused(&self.place, error))?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES {
                    writer.flush().map_err(|error| refused(&self.place, error))?;
                }
                Ok(())
            }
        }
    }

    /// Completes the file and makes it durable. The file stays locked until what is returned is
    /// dropped.
    pub(super) fn finish(self) -> Result<File> {
        let place = self.place;
        let file = match self.body {
            Body::Text { mut file, buffer, .. } => {
                file.write_all(&buffer).map_err(|error| failed(&place, error))?;
                file
            }
            Body::Parquet(writer) => writer.into_inner().map_err(|error| refused(&place, error))?,
        };
        file.sync_all().map_err(|error| failed(&place, error))?;
        Ok(file)
    }
}

fn failed(place: &str, error: std::io::Error) -> Error {
    Error::external(format!("cannot write {place}")).caused_by(error)
}

fn refused(place: &str, error: ParquetError) -> Error {
    Error::external(format!("cannot write {place} as Parquet")).caused_by(error)
}
