//! Files as a source: every file is a split, or several where it is large enough to be cut.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Field, SchemaRef};
use tidemill_core::need::Need;
use tidemill_core::source::{Offset, ReaderContext, Source, SplitId, SplitReader};
use tidemill_core::{Epoch, Error, Result};
use tidemill_formats::Format;
use tidemill_formats::csv::CsvFormat;
use tidemill_formats::json::JsonFormat;
use tidemill_formats::raw::RawFormat;

use crate::chunk::Limits;
use crate::columnar::ParquetReader;
use crate::constants::{Constants, Plan};
use crate::input::compression;
use crate::lanes::Lane;
use crate::location::Location;
use crate::pool::Pool;
use crate::starts::Starts;
use crate::text::{TextReader, TextSplit};

/// What is in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// Records of text, compressed where the file's name ends in `.gz` or `.zst`.
    Text(Format),
    /// Parquet.
    Parquet,
}

impl FileFormat {
    /// The name, as in `'format'`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text(format) => format.name(),
            Self::Parquet => "parquet",
        }
    }
}

/// Where files are, before it is said what is in them.
///
/// ```
/// use std::sync::Arc;
/// use arrow::datatypes::{DataType, Field, Schema};
/// use tidemill_files::FileSource;
///
/// let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
/// let numbers = FileSource::new("numbers/*.csv").csv(schema).with_header();
/// ```
#[derive(Debug, Clone)]
pub struct FileSource {
    location: Location,
}

impl FileSource {
    /// The files of `path`: a file, a folder with all below it, or a glob.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { location: Location::local(path) }
    }

    /// They are CSV; columns go by position.
    pub fn csv(self, schema: SchemaRef) -> FormattedFiles {
        self.format(FileFormat::Text(Format::Csv(CsvFormat::default())), schema)
    }

    /// They are JSON, one object a line.
    pub fn json(self, schema: SchemaRef) -> FormattedFiles {
        self.format(FileFormat::Text(Format::Json(JsonFormat::default())), schema)
    }

    /// They are lines of text or bytes, for the only column of `schema`.
    pub fn raw(self, schema: SchemaRef) -> FormattedFiles {
        self.format(FileFormat::Text(Format::Raw(RawFormat::default())), schema)
    }

    /// They are Parquet; columns go by name.
    pub fn parquet(self, schema: SchemaRef) -> FormattedFiles {
        self.format(FileFormat::Parquet, schema)
    }

    /// They are of this format.
    pub fn format(self, format: FileFormat, schema: SchemaRef) -> FormattedFiles {
        FormattedFiles::new(self.location, format, schema, Plan::default())
    }
}

/// Files of one format as a source.
#[derive(Debug, Clone)]
pub struct FormattedFiles {
    location: Location,
    format: FileFormat,
    schema: SchemaRef,
    plan: Plan,
    stored: SchemaRef,
    /// What the job looks at of the stored columns.
    needs: Vec<Need>,
    limits: Limits,
    pool: Pool,
    /// What is known of the records of files that are cut.
    starts: Arc<Mutex<HashMap<PathBuf, Arc<Starts>>>>,
}

impl FormattedFiles {
    pub(crate) fn new(
        location: Location,
        format: FileFormat,
        schema: SchemaRef,
        plan: Plan,
    ) -> Self {
        let stored = plan.stored(&schema);
        let needs = vec![Need::All; stored.fields().len()];
        let (limits, pool, starts) = Default::default();
        Self { location, format, schema, plan, stored, needs, limits, pool, starts }
    }

    /// CSV files begin with a line of column names, and columns go by these. No effect on others.
    #[must_use]
    pub fn with_header(mut self) -> Self {
        if let FileFormat::Text(Format::Csv(csv)) = &mut self.format {
            csv.header = true;
        }
        self
    }

    /// Column number `column` of the schema is metadata of the file: `file.path`, `file.name`,
    /// `file.size` or `file.modification-time`.
    ///
    /// # Errors
    /// A configuration error where there is no such key, or the column has another type.
    pub fn with_metadata(mut self, column: usize, key: &str) -> Result<Self> {
        self.plan.metadata.push((column, key.to_owned()));
        self.plan.check(&self.schema)?;
        self.stored = self.plan.stored(&self.schema);
        self.needs = vec![Need::All; self.stored.fields().len()];
        Ok(self)
    }

    #[cfg(test)]
    pub(crate) fn with_limits(mut self, chunk_bytes: usize, record_bytes_max: usize) -> Self {
        self.limits = Limits { chunk_bytes, record_bytes_max, ..self.limits };
        self
    }

    #[cfg(test)]
    pub(crate) fn with_cut(mut self, cut: crate::lanes::Cut) -> Self {
        self.limits.cut = cut;
        self
    }

    /// The splits, where a checkpoint has offsets of `known`. Records that cannot be found from the middle of
    /// their file are not cut.
    fn cut(&self, known: &[SplitId]) -> Result<Vec<SplitId>> {
        // A job begins, and the files may be others than they were for the one before.
        self.starts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let is_text = matches!(self.format, FileFormat::Text(_));
        let sized = |split: SplitId| {
            let path = self.location.file(&split);
            let can_be_cut = is_text && compression(&path).is_none();
            let facts = can_be_cut.then(|| std::fs::metadata(path).ok()).flatten();
            (split, facts.map_or(0, |facts| facts.len()))
        };
        let files: Vec<_> = self.location.splits()?.into_iter().map(sized).collect();
        Ok(self.limits.cut.splits(&files, known))
    }

    /// The file behind a split, and which lane of it the split is.
    fn file(&self, split: &SplitId) -> (PathBuf, Option<Lane>) {
        let path = self.location.file(split);
        match Lane::parse(split.as_str()) {
            Some((file, lane)) if !path.exists() => {
                (self.location.file(&SplitId::new(file)), Some(lane))
            }
            _ => (path, None),
        }
    }

    /// Whether not to read what is not needed of a column spares anything.
    fn can_spare(&self, field: &Field, need: &Need) -> bool {
        match &self.format {
            FileFormat::Text(Format::Json(json)) if json.needs_all_fields => false,
            FileFormat::Text(Format::Json(_)) if *need != Need::All => {
                field.is_nullable() || !need.is_nothing()
            }
            FileFormat::Text(Format::Csv(_)) | FileFormat::Parquet => {
                need.is_nothing() && field.is_nullable()
            }
            FileFormat::Text(_) => false,
        }
    }

    /// Whether the format can hold the columns.
    pub(crate) fn check(&self) -> Result<()> {
        self.plan.check(&self.schema)?;
        if self.stored.fields().is_empty() {
            let message = "the table has no column that stands in the files: declare one";
            return Err(Error::configuration(message));
        }
        match &self.format {
            FileFormat::Text(format) => {
                format.check_lines(&self.stored)?;
                format.decoder(self.stored.clone()).map(drop)
            }
            FileFormat::Parquet => Ok(()),
        }
    }
}

impl Source for FormattedFiles {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        self.cut(&[])
    }

    fn splits_again(&self, known: &[SplitId]) -> Result<Vec<SplitId>> {
        self.cut(known)
    }

    fn open(
        &self,
        split: &SplitId,
        from: Option<&Offset>,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        let (path, lane) = self.file(split);
        let constants = Constants::of(&path, &self.plan, &self.schema)?;
        let (stored, needs) = (self.stored.clone(), &self.needs);
        Ok(match &self.format {
            FileFormat::Parquet => {
                Box::new(ParquetReader::open(&path, stored, needs, constants, from)?)
            }
            FileFormat::Text(format) => {
                let (limits, pool) = (self.limits, self.pool.clone());
                let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
                let starts = starts.entry(path.clone()).or_default().clone();
                #[rustfmt::skip]
                let split = TextSplit { split, path, lane, format, stored, needs, constants, limits, starts, pool };
                Box::new(TextReader::open(split, from)?)
            }
        })
    }

    fn checkpointed(&self, _epoch: Epoch, _offsets: &[(SplitId, Offset)]) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        format!("files {} ({})", self.location.path().display(), self.format.name())
    }

    fn reading(&self, needs: &[Need]) -> Option<Arc<dyn Source>> {
        let needs: Vec<_> =
            self.plan.stored_columns(&self.schema).map(|column| needs[column].clone()).collect();
        let mut columns = self.stored.fields().iter().zip(&needs);
        let spares = columns.any(|(field, need)| self.can_spare(field, need));
        spares.then(|| Arc::new(Self { needs, ..self.clone() }) as Arc<dyn Source>)
    }
}

impl From<FormattedFiles> for Arc<dyn Source> {
    fn from(files: FormattedFiles) -> Self {
        Arc::new(files)
    }
}
