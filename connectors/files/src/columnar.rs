//! Reads one Parquet file. Its offsets are numbers of rows, counting from 0.

use std::fs::File;
use std::path::Path;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use tidemill_core::need::Need;
use tidemill_core::source::{Offset, Read, ReadBatch, SplitReader};
use tidemill_core::{Error, Result};

use crate::constants::Constants;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// Reads one split.
pub(crate) struct ParquetReader {
    place: String,
    reader: ParquetRecordBatchReader,
    /// Decoded, and not yet handed over.
    pending: Option<RecordBatch>,
    /// For each stored column its column in the reader's batches.
    targets: Vec<Option<usize>>,
    stored: SchemaRef,
    constants: Constants,
    row: u64,
    rows: u64,
}

impl ParquetReader {
    /// A reader of the columns `stored` that starts at `from`, or at the first row. What is not needed of them, and
    /// may be null, is null.
    pub(crate) fn open(
        path: &Path,
        stored: SchemaRef,
        needs: &[Need],
        constants: Constants,
        from: Option<&Offset>,
    ) -> Result<Self> {
        Self::open_at(path, stored, needs, constants, from)
            .map_err(|error| error.at(path.display()))
    }

    fn open_at(
        path: &Path,
        stored: SchemaRef,
        needs: &[Need],
        constants: Constants,
        from: Option<&Offset>,
    ) -> Result<Self> {
        let file = File::open(path)
            .map_err(|error| Error::external("cannot be opened").caused_by(error))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)
            .map_err(|error| Error::corrupt("not a Parquet file").caused_by(error))?;
        let mut found = find_columns(&stored, builder.schema())?;
        for ((column, field), need) in found.iter_mut().zip(stored.fields()).zip(needs) {
            if need.is_nothing() && field.is_nullable() {
                *column = None;
            }
        }
        let metadata = builder.metadata().clone();
        let rows = metadata.file_metadata().num_rows().max(0) as u64;
        let row = start(from, rows)?;
        let mut wanted: Vec<usize> = found.iter().flatten().copied().collect();
        wanted.sort_unstable();
        let position = |column: usize| wanted.iter().position(|wanted| *wanted == column);
        let targets = found.iter().map(|column| column.and_then(position)).collect();
        // Row groups before the start are not even looked at.
        let (mut groups, mut skipped) = (Vec::new(), 0);
        for (group, facts) in metadata.row_groups().iter().enumerate() {
            let group_rows = facts.num_rows().max(0) as u64;
            if groups.is_empty() && skipped + group_rows <= row {
                skipped += group_rows;
            } else {
                groups.push(group);
            }
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
        let reader = builder
            .with_projection(mask)
            .with_row_groups(groups)
            .with_offset((row - skipped) as usize)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| Error::corrupt("a damaged Parquet file").caused_by(error))?;
        let place = path.display().to_string();
        Ok(Self { place, reader, pending: None, targets, stored, constants, row, rows })
    }

    /// The table's stored columns from those of the file.
    fn convert(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.targets.len());
        for (target, field) in self.targets.iter().zip(self.stored.fields()) {
            columns.push(match target {
                None => new_null_array(field.data_type(), rows.num_rows()),
                Some(column) => cast_with_options(rows.column(*column), field.data_type(), &strict)
                    .map_err(|error| {
                        Error::external(format!(
                            "{}: column '{}' near row {}: {error}",
                            self.place,
                            field.name(),
                            self.row
                        ))
                    })?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(self.stored.clone(), columns, &options)
            .map_err(|error| Error::external(format!("{}: {error}", self.place)))
    }
}

/// For each of the table's columns the file's column of that name.
fn find_columns(stored: &Schema, file: &Schema) -> Result<Vec<Option<usize>>> {
    let names = || file.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
    let mut found = Vec::new();
    for field in stored.fields() {
        let column = file.index_of(field.name()).ok();
        if let Some(column) = column {
            let (from, to) = (file.field(column).data_type(), field.data_type());
            // A cast would cut fractions off, and say nothing.
            if !can_cast_types(from, to) || from.is_floating() && to.is_integer() {
                return Err(Error::configuration(format!(
                    "column '{}' is {from} in the file, which does not convert to {to}",
                    field.name()
                )));
            }
        } else if !field.is_nullable() {
            return Err(Error::configuration(format!(
                "the file lacks column '{}', which is NOT NULL: it has {}",
                field.name(),
                names()
            )));
        }
        found.push(column);
    }
    if !found.is_empty() && found.iter().all(Option::is_none) {
        let message = format!("the file has none of the table's columns: it has {}", names());
        return Err(Error::configuration(message));
    }
    Ok(found)
}

fn start(from: Option<&Offset>, rows: u64) -> Result<u64> {
    let Some(from) = from else { return Ok(0) };
    let row = from.0.parse().map_err(|_| {
        Error::corrupt(format!(
            "'{from}' is no offset of a Parquet file: was its name given to another?"
        ))
    })?;
    if row > rows {
        return Err(Error::external(format!(
            "the file has {rows} rows, but a checkpoint says that {row} were read: it was \
             replaced; restore it, or start the job afresh"
        )));
    }
    Ok(row)
}

impl SplitReader for ParquetReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        let decoded = match self.pending.take() {
            Some(pending) => pending,
            None => match self.reader.next() {
                None => return Ok(Read::End),
                Some(rows) => rows.map_err(|error| {
                    let place = format!("{}: near row {}", self.place, self.row);
                    Error::corrupt("a damaged Parquet file").caused_by(error).at(place)
                })?,
            },
        };
        let rows = decoded.num_rows().min(max_rows);
        if rows < decoded.num_rows() {
            self.pending = Some(decoded.slice(rows, decoded.num_rows() - rows));
        }
        let batch = self.convert(&decoded.slice(0, rows))?;
        self.row += rows as u64;
        Ok(Read::Batch(ReadBatch::clean(self.constants.complete(batch)?)))
    }

    fn offset(&self) -> Offset {
        Offset(self.row.to_string())
    }

    fn progress(&self) -> Option<(u64, u64)> {
        Some((self.row, self.rows))
    }

    fn is_at_hand(&self) -> bool {
        true
    }
}
