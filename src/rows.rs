//! Functions over rows as Rust values, through serde. Invariant: each result, and each error, is known to be of
//! one row.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_core::{Error, Result};
use tidemill_operators::function::{Lineage, Outcome};

/// Applies `function` to each row of a batch; its values become rows of `output`.
pub(crate) fn map<I, O>(
    batch: &RecordBatch,
    output: &SchemaRef,
    function: impl Fn(I) -> Result<O>,
) -> Result<Outcome>
where
    I: DeserializeOwned,
    O: Serialize,
{
    let (mut results, mut failed) = (Vec::new(), Vec::new());
    for (number, row) in values::<I>(batch)?.into_iter().enumerate() {
        match function(row) {
            Ok(result) => results.push(result),
            Err(error) => failed.push((number, error)),
        }
    }
    Ok(Outcome { rows: to_rows(&results, output)?, lineage: Lineage::OneToOne, failed })
}

/// Applies `function` to each row of a batch; all its values become rows of `output`.
pub(crate) fn flat_map<I, O, R>(
    batch: &RecordBatch,
    output: &SchemaRef,
    function: impl Fn(I) -> R,
) -> Result<Outcome>
where
    I: DeserializeOwned,
    O: Serialize,
    R: IntoIterator<Item = O>,
{
    let (mut results, mut from) = (Vec::new(), Vec::new());
    for (number, row) in (0..).zip(values::<I>(batch)?) {
        results.extend(function(row));
        from.resize(results.len(), number);
    }
    let lineage = Lineage::Rows(from);
    Ok(Outcome { rows: to_rows(&results, output)?, lineage, failed: Vec::new() })
}

fn values<I: DeserializeOwned>(batch: &RecordBatch) -> Result<Vec<I>> {
    serde_arrow::from_record_batch(batch).map_err(|error| {
        Error::configuration("the row type does not fit the columns of the stream").caused_by(error)
    })
}

fn to_rows<O: Serialize>(results: &[O], output: &SchemaRef) -> Result<RecordBatch> {
    let batch = serde_arrow::to_record_batch(output.fields(), &results).map_err(|error| {
        Error::configuration("the result type does not fit the schema of the function")
            .caused_by(error)
    })?;
    // The schema's own metadata and nullability, not what was derived from them.
    Ok(RecordBatch::try_new(output.clone(), batch.columns().to_vec())?)
}
