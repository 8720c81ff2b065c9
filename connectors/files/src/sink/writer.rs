//! Writes one shard's rows into part files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::task::Poll;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use tidemill_core::sink::{SinkContext, SinkWriter, Staged};
use tidemill_core::{Batch, Epoch, Error, Result};

use super::commit::{Rename, stage};
use super::names::JobFiles;
use super::part::Part;
use super::sync_folder;
use crate::constants::NULL_PARTITION;
use crate::location::escape;
use crate::source::FileFormat;

/// See the module.
pub(super) struct PartWriter {
    job: JobFiles,
    run: u64,
    shard: usize,
    format: FileFormat,
    partitioned_by: Vec<usize>,
    /// All columns, under their names in the files.
    schema: SchemaRef,
    /// Columns of the files, and their numbers in the rows.
    stored: SchemaRef,
    stored_columns: Vec<usize>,
    /// The epoch that what is written now will be staged in.
    epoch: Epoch,
    /// How many files the epoch has so far.
    files: usize,
    /// Open files by partition folder.
    parts: BTreeMap<String, OpenPart>,
    /// Files of the last epoch, held so that nobody takes them for leftovers.
    held: Vec<File>,
}

struct OpenPart {
    part: Part,
    name: String,
    number: usize,
}

impl PartWriter {
    pub(super) fn new(
        job: JobFiles,
        run: u64,
        format: &FileFormat,
        partitioned_by: &[usize],
        schema: SchemaRef,
        context: &SinkContext,
    ) -> Result<Self> {
        let columns = schema.fields().len();
        let stored_columns: Vec<_> = (0..columns).filter(|c| !partitioned_by.contains(c)).collect();
        let stored: SchemaRef = schema.project(&stored_columns)?.into();
        if let FileFormat::Text(format) = format {
            format.check_lines(&stored)?;
            format.encoder(stored.clone())?;
        }
        Ok(Self {
            job,
            run,
            shard: context.shard,
            format: format.clone(),
            partitioned_by: partitioned_by.to_vec(),
            schema,
            stored,
            stored_columns,
            epoch: context.first_epoch,
            files: 0,
            parts: BTreeMap::new(),
            held: Vec::new(),
        })
    }

    fn write_part(&mut self, folder: String, rows: &RecordBatch) -> Result<()> {
        // The columns under the sink's own names, which header lines and Parquet files show.
        let columns = self.stored_columns.iter().map(|c| rows.column(*c).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.stored.clone(), columns, &options)?;
        match self.parts.entry(folder) {
            Entry::Occupied(open) => open.into_mut().part.write(&rows),
            Entry::Vacant(slot) => {
                let mut open = loop {
                    let (epoch, number) = (self.epoch, self.files);
                    let name = self.job.unfinished(self.shard, epoch, number);
                    let path = self.job.folder().join(&name);
                    self.files += 1;
                    if let Some(part) = Part::create(&path, &self.format, &self.stored)? {
                        break OpenPart { part, name, number };
                    }
                };
                open.part.write(&rows)?;
                slot.insert(open);
                Ok(())
            }
        }
    }

    /// The rows of each partition folder.
    fn partition(&self, rows: &RecordBatch) -> Result<BTreeMap<String, UInt32Array>> {
        let text = |column: &usize| -> Result<(String, ArrayRef)> {
            let name = escape(self.schema.field(*column).name());
            Ok((name, cast(rows.column(*column), &DataType::Utf8)?))
        };
        let columns = self.partitioned_by.iter().map(text).collect::<Result<Vec<_>>>()?;
        let mut folders: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let folder: Vec<String> = columns
                .iter()
                .map(|(name, values)| format!("{name}={}", partition_value(values, row)))
                .collect();
            folders.entry(folder.join("/")).or_default().push(row as u32);
        }
        Ok(folders.into_iter().map(|(folder, rows)| (folder, rows.into())).collect())
    }

    fn stage(&mut self, epoch: Epoch) -> Result<Staged> {
        let mut renames = Vec::new();
        self.held.clear();
        for (folder, open) in std::mem::take(&mut self.parts) {
            self.held.push(open.part.finish()?);
            let extension = self.format.name();
            let extension = if extension == "raw" { "txt" } else { extension };
            let name = self.job.finished(self.run, self.shard, epoch, open.number, extension);
            let to = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            renames.push(Rename { from: open.name, to });
        }
        if !renames.is_empty() {
            sync_folder(self.job.folder())?;
        }
        self.epoch = epoch + 1;
        self.files = 0;
        stage(&renames)
    }
}

fn partition_value(values: &ArrayRef, row: usize) -> String {
    let text = values.as_any().downcast_ref::<StringArray>();
    let text = text.expect("a cast gives the type it was asked for");
    if text.is_null(row) { NULL_PARTITION.to_owned() } else { escape(text.value(row)) }
}

impl SinkWriter for PartWriter {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = &batch.rows;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.num_columns() != self.schema.fields().len() {
            return Err(Error::internal("a batch does not have the sink's columns"));
        }
        if self.partitioned_by.is_empty() {
            return self.write_part(String::new(), batch);
        }
        for (folder, rows) in self.partition(batch)? {
            self.write_part(folder, &take_record_batch(batch, &rows)?)?;
        }
        Ok(())
    }

    fn poll_stage(&mut self, epoch: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(self.stage(epoch)?))
    }
}
