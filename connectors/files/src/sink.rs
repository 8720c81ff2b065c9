//! Files as a sink: part files that become visible by rename.
//!
//! ```text
//! write* ─▶ .part-job-0-0000000007-0.inprogress ─ stage(7): finish, fsync ─▶ commit(7): rename ─▶ part-job-0-0000000007.json
//! ```
//!
//! What is staged names each file and its final name, so a commit that is repeated after a crash
//! finds the file under either. A job that starts again from a checkpoint removes what it wrote
//! after it: that is going to be written again. A job that starts afresh adds to what is there.
//! Readers leave hidden files alone.

mod commit;
mod names;
mod part;
mod writer;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use tidemill_core::sink::{Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter};
use tidemill_core::{Epoch, Error, Result};
use tidemill_formats::Format;
use tidemill_formats::csv::CsvFormat;
use tidemill_formats::json::JsonFormat;

use self::commit::Renamer;
use self::names::JobFiles;
use self::writer::PartWriter;
use crate::source::FileFormat;

/// Part files of one format in a folder.
#[derive(Debug)]
pub struct FileSink {
    folder: PathBuf,
    format: FileFormat,
    /// Columns whose values become folders (`column=value`) instead of standing in the files.
    partitioned_by: Vec<usize>,
    /// Names of the columns, where they are not those of the rows.
    names: Option<Vec<String>>,
    /// Jobs that have tidied the folder up: name, first epoch, and which run of theirs this is.
    tidied: Mutex<Vec<(String, Epoch, u64)>>,
}

impl FileSink {
    /// JSON lines into `folder`, which is made where it does not exist.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Self {
            folder: folder.as_ref().to_owned(),
            format: FileFormat::Text(Format::Json(JsonFormat::default())),
            partitioned_by: Vec::new(),
            names: None,
            tidied: Mutex::default(),
        }
    }

    /// CSV.
    #[must_use]
    pub fn csv(self) -> Self {
        self.format(FileFormat::Text(Format::Csv(CsvFormat::default())))
    }

    /// CSV files begin with a line of column names. No effect on others.
    #[must_use]
    pub fn with_header(mut self) -> Self {
        if let FileFormat::Text(Format::Csv(csv)) = &mut self.format {
            csv.header = true;
        }
        self
    }

    /// The columns are called as in `schema`, whatever the rows call them.
    #[must_use]
    pub fn columns(mut self, schema: &Schema) -> Self {
        self.names = Some(schema.fields().iter().map(|field| field.name().clone()).collect());
        self
    }

    /// Parquet.
    #[must_use]
    pub fn parquet(self) -> Self {
        self.format(FileFormat::Parquet)
    }

    /// Files of this format.
    #[must_use]
    pub fn format(mut self, format: FileFormat) -> Self {
        self.format = format;
        self
    }

    /// A folder `column=value` for each combination of values of these columns (numbers of columns
    /// in the schema); the files hold the other columns.
    #[must_use]
    pub fn partitioned_by(mut self, columns: Vec<usize>) -> Self {
        self.partitioned_by = columns;
        self
    }

    /// The rows' columns under their names in the files.
    fn named(&self, rows: &SchemaRef) -> Result<SchemaRef> {
        let Some(names) = &self.names else { return Ok(rows.clone()) };
        if names.len() != rows.fields().len() {
            return Err(Error::configuration(format!(
                "the file sink has {} columns, and its rows have {}",
                names.len(),
                rows.fields().len()
            )));
        }
        let fields = rows.fields().iter().zip(names);
        let fields = fields.map(|(field, name)| field.as_ref().clone().with_name(name));
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    /// Makes the folder ready for a run of the job, once; returns which run of the job it is.
    fn tidy(&self, context: &SinkContext) -> Result<u64> {
        let mut tidied = self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tidied.iter().find(|(job, first_epoch, _)| {
            *job == context.job && *first_epoch == context.first_epoch
        });
        if let Some((_, _, run)) = known {
            return Ok(*run);
        }
        fs::create_dir_all(&self.folder).map_err(|error| {
            let message = format!("cannot make folder {}", self.folder.display());
            Error::external(message).caused_by(error)
        })?;
        let run = JobFiles::new(&self.folder, &context.job).tidy(context.first_epoch)?;
        tidied.push((context.job.clone(), context.first_epoch, run));
        Ok(run)
    }
}

impl Sink for FileSink {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        if checkpointed {
            Guarantee {
                delivery: Delivery::ExactlyOnce,
                why: "part files are renamed into view once their epoch has a checkpoint".into(),
            }
        } else {
            Guarantee {
                delivery: Delivery::AtLeastOnce,
                why:
                    "without checkpoints files appear when the job ends, and again when it is run \
                      again; switch checkpoints on for exactly once"
                        .into(),
            }
        }
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let run = self.tidy(context)?;
        let job = JobFiles::new(&self.folder, &context.job);
        let schema = self.named(&context.schema)?;
        let writer =
            PartWriter::new(job, run, &self.format, &self.partitioned_by, schema, context)?;
        Ok(Box::new(writer))
    }

    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        Ok(Box::new(Renamer::new(&self.folder)))
    }

    fn describe(&self) -> String {
        format!("files {} ({})", self.folder.display(), self.format.name())
    }
}

/// Makes what was created, renamed or removed in a folder durable.
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| {
        Error::external(format!("cannot sync folder {}", folder.display())).caused_by(error)
    })
}
