//! In-memory tables for SQL: `'connector' = 'memory', 'table' = 'name'`.
//!
//! The bridge between a program's own batches and a job file. What a declaration says is checked
//! against the registered table when the job is planned: columns are found by name, and only the
//! physical form of strings, bytes and timestamps is converted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use parking_lot::Mutex;
use tidemill_core::sink::Sink;
use tidemill_core::source::Source;
use tidemill_core::table::{ConnectorFactory, OptionSpec, TableSpec};
use tidemill_core::{Error, Result};

use crate::{MemoryHandle, MemorySink, MemorySource};

/// Named in-memory tables that SQL jobs read and write. Clones share the same tables.
#[derive(Debug, Clone, Default)]
pub struct MemoryTables {
    tables: Arc<Mutex<Registered>>,
}

#[derive(Debug, Default)]
struct Registered {
    sources: BTreeMap<String, (SchemaRef, Vec<Vec<RecordBatch>>)>,
    sinks: BTreeMap<String, MemoryHandle>,
}

impl MemoryTables {
    /// No tables yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same tables and one to read: `splits` as for [`MemorySource::new`].
    #[must_use]
    pub fn with_source(
        self,
        name: impl Into<String>,
        schema: SchemaRef,
        splits: Vec<Vec<RecordBatch>>,
    ) -> Self {
        self.tables.lock().sources.insert(name.into(), (schema, splits));
        self
    }

    /// What jobs commit to the table called `name`, which is made if need be.
    pub fn sink(&self, name: impl Into<String>) -> MemoryHandle {
        let mut tables = self.tables.lock();
        tables.sinks.entry(name.into()).or_insert_with(|| MemorySink::new().1).clone()
    }
}

impl ConnectorFactory for MemoryTables {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn options(&self) -> Vec<OptionSpec> {
        vec![OptionSpec::new(
            "table",
            "Name under which the program registered the table; by default the SQL table's own.",
        )]
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        refuse_metadata(table)?;
        let name = table_name(table);
        let tables = self.tables.lock();
        let Some((schema, splits)) = tables.sources.get(name) else {
            return Err(unknown("source", name, tables.sources.keys()));
        };
        let columns = columns(schema, &table.schema).map_err(|e| e.at(&table.name))?;
        let convert = |batch: &RecordBatch| conform(batch, &columns, &table.schema);
        let splits = splits.iter().map(|split| split.iter().map(convert).collect());
        let splits = splits.collect::<Result<Vec<_>>>().map_err(|e| e.at(&table.name))?;
        Ok(Arc::new(MemorySource::new(table.schema.clone(), splits)))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        refuse_metadata(table)?;
        let name = table_name(table);
        let tables = self.tables.lock();
        let handle = tables.sinks.get(name);
        let handle = handle.ok_or_else(|| unknown("sink", name, tables.sinks.keys()))?;
        Ok(Arc::new(handle.sink()))
    }
}

fn table_name(table: &TableSpec) -> &str {
    table.options.get("table").unwrap_or(&table.name)
}

fn refuse_metadata(table: &TableSpec) -> Result<()> {
    match table.metadata.first() {
        None => Ok(()),
        Some((_, key)) => Err(Error::configuration(format!(
            "the memory connector has no metadata column '{key}'"
        ))),
    }
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let known: Vec<_> = known.map(|name| format!("'{name}'")).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Error::option(
        "table",
        format!("no in-memory {kind} '{name}' is registered with MemoryTables (there is: {known})"),
    )
}

/// For each declared column its index in the registered table.
fn columns(registered: &SchemaRef, declared: &SchemaRef) -> Result<Vec<usize>> {
    let find = |field: &Arc<Field>| {
        let (index, found) = registered.column_with_name(field.name()).ok_or_else(|| {
            Error::configuration(format!("the in-memory table has no column '{}'", field.name()))
        })?;
        if !same_values(found.data_type(), field.data_type()) {
            return Err(Error::configuration(format!(
                "column '{}' is declared as {} but is {} in the in-memory table",
                field.name(),
                field.data_type(),
                found.data_type()
            )));
        }
        Ok(index)
    };
    declared.fields().iter().map(find).collect()
}

/// Whether two types are forms of the same values, so that converting loses nothing that a
/// declaration could have meant to keep.
fn same_values(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (Dictionary(_, values), _) => same_values(values, to),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
            Binary | LargeBinary | BinaryView,
        ) => true,
        (Timestamp(_, from_zone), Timestamp(_, to_zone)) => {
            from_zone.is_some() == to_zone.is_some()
        }
        (from, to) => from == to,
    }
}

fn conform(batch: &RecordBatch, columns: &[usize], declared: &SchemaRef) -> Result<RecordBatch> {
    let arrays = columns.iter().zip(declared.fields()).map(|(column, field)| {
        let array = batch.columns().get(*column).ok_or_else(|| {
            Error::configuration("a batch does not have the columns of its in-memory table")
        })?;
        Ok(cast(array, field.data_type())?)
    });
    Ok(RecordBatch::try_new(declared.clone(), arrays.collect::<Result<_>>()?)?)
}
