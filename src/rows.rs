//! Functions over rows as Rust values, through serde.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_core::{Error, Result};

/// Applies `function` to each row of a batch; its values become rows of `output`.
pub(crate) fn flat_map<I, O, R>(
    batch: &RecordBatch,
    output: &SchemaRef,
    function: impl Fn(I) -> R,
) -> Result<Vec<RecordBatch>>
where
    I: DeserializeOwned,
    O: Serialize,
    R: IntoIterator<Item = O>,
{
    let rows: Vec<I> = serde_arrow::from_record_batch(batch).map_err(|error| {
        Error::configuration("the row type does not fit the columns of the stream").caused_by(error)
    })?;
    let results: Vec<O> = rows.into_iter().flat_map(function).collect();
    let batch = serde_arrow::to_record_batch(output.fields(), &results).map_err(|error| {
        Error::configuration("the result type does not fit the schema of flat_map_rows")
            .caused_by(error)
    })?;
    // The schema's own metadata and nullability, not what was derived from them.
    Ok(vec![RecordBatch::try_new(output.clone(), batch.columns().to_vec())?])
}
