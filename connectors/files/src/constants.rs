//! Columns that are the same in a whole file: metadata, and the values of its partition folders.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tidemill_core::{Error, Result};

use crate::location::partitions;

/// Metadata keys, as in Flink.
const KEYS: [&str; 4] = ["file.path", "file.name", "file.size", "file.modification-time"];

/// The folder of rows whose partition column is null, as in Flink.
pub(crate) const NULL_PARTITION: &str = "__DEFAULT_PARTITION__";

/// Which columns of a table do not stand in its files' records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Column and metadata key.
    pub(crate) metadata: Vec<(usize, String)>,
    /// Columns whose values stand in the folders' names.
    pub(crate) partitions: Vec<usize>,
}

impl Plan {
    /// Refuses keys that do not exist, and types that do not fit.
    pub(crate) fn check(&self, schema: &Schema) -> Result<()> {
        for (column, key) in &self.metadata {
            let field = schema.field(*column);
            let castable = match key.as_str() {
                "file.path" | "file.name" => is_text(field.data_type()),
                "file.size" => field.data_type().is_integer(),
                "file.modification-time" => matches!(field.data_type(), DataType::Timestamp(_, _)),
                _ => {
                    return Err(Error::configuration(format!(
                        "column '{}': files have no metadata '{key}', only '{}'",
                        field.name(),
                        KEYS.join("', '")
                    )));
                }
            };
            if !castable {
                return Err(Error::configuration(format!(
                    "column '{}': metadata '{key}' does not fit its type",
                    field.name()
                )));
            }
        }
        Ok(())
    }

    /// The columns that do stand in the records.
    pub(crate) fn stored(&self, schema: &Schema) -> SchemaRef {
        let field = |column| schema.field(column).clone();
        Arc::new(Schema::new(self.stored_columns(schema).map(field).collect::<Vec<_>>()))
    }

    /// Their numbers in the table.
    pub(crate) fn stored_columns(&self, schema: &Schema) -> impl Iterator<Item = usize> {
        let is_stored = |column: &usize| {
            !self.partitions.contains(column) && self.metadata.iter().all(|(c, _)| c != column)
        };
        (0..schema.fields().len()).filter(is_stored)
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The constant columns of one file.
pub(crate) struct Constants {
    schema: SchemaRef,
    /// For each column of the table its only value, or `None` where the records hold it.
    values: Vec<Option<ArrayRef>>,
}

impl Constants {
    /// The constants of the file at `path`.
    pub(crate) fn of(path: &Path, plan: &Plan, schema: &SchemaRef) -> Result<Self> {
        let mut values = vec![None; schema.fields().len()];
        for (column, key) in &plan.metadata {
            values[*column] = Some(converted(metadata(path, key)?, schema.field(*column))?);
        }
        for column in &plan.partitions {
            let field = schema.field(*column);
            let Some((_, text)) = partitions(path).find(|(name, _)| name == field.name()) else {
                return Err(Error::external(format!(
                    "{}: partition column '{name}' has no folder '{name}=…' on its path",
                    path.display(),
                    name = field.name()
                )));
            };
            values[*column] = Some(if text == NULL_PARTITION {
                new_null_array(field.data_type(), 1)
            } else {
                let value = Arc::new(StringArray::from(vec![text]));
                converted(value, field).map_err(|error| error.at(path.display()))?
            });
        }
        Ok(Self { schema: schema.clone(), values })
    }

    /// The table's columns: `stored` ones and constants, each in its place.
    pub(crate) fn complete(&self, stored: RecordBatch) -> Result<RecordBatch> {
        let rows = stored.num_rows();
        let mut stored = stored.columns().iter().cloned();
        let mut columns = Vec::with_capacity(self.values.len());
        for value in &self.values {
            columns.push(match value {
                Some(value) => take(value, &UInt32Array::from(vec![0; rows]), None)?,
                None => stored.next().ok_or_else(|| Error::internal("a stored column is lost"))?,
            });
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

fn metadata(path: &Path, key: &str) -> Result<ArrayRef> {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let facts = || {
        std::fs::metadata(path).map_err(|error| {
            Error::external(format!("cannot read the facts of {}", path.display())).caused_by(error)
        })
    };
    Ok(match key {
        "file.path" => text(&std::path::absolute(path)?.to_string_lossy()),
        "file.name" => text(&path.file_name().unwrap_or_default().to_string_lossy()),
        "file.size" => Arc::new(Int64Array::from(vec![facts()?.len() as i64])),
        _ => {
            let modified = facts()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let micros = tidemill_core::time::micros(modified);
            Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"))
        }
    })
}

fn converted(value: ArrayRef, field: &Field) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&value, field.data_type(), &strict)
        .map_err(|error| Error::external(format!("column '{}': {error}", field.name())))
}
