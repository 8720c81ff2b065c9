//! User functions over whole batches. On the data path wherever a program puts its own code.
//! Invariant: a row that comes out has the floor of the rows that it was made from.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use tidemill_core::element::Origin;
use tidemill_core::operator::{Fate, Operator, OperatorContext, OperatorFactory, Output};
use tidemill_core::{Batch, Error, ErrorKind, EventTime, Result};

use crate::reject;
use crate::stateless::{Stateless, Transform};

/// A user's function: a batch in, any number of batches out.
pub type BatchFunction = Arc<dyn Fn(RecordBatch) -> Result<Vec<RecordBatch>> + Send + Sync>;

/// A function over batches that may change the number of rows.
///
/// The function must be pure: the same rows give the same results however they are cut into
/// batches. An error of kind [`ErrorKind::Permanent`] or [`ErrorKind::Business`] concerns some row
/// among those given: the function is called again with fewer, until that row is found, and the
/// row becomes a dead letter. Any other error ends the job.
#[derive(Clone)]
pub struct FlatMap {
    schema: SchemaRef,
    function: BatchFunction,
}

impl FlatMap {
    /// Applies `function`, whose results have the columns `schema`.
    pub fn new(schema: SchemaRef, function: BatchFunction) -> Self {
        Self { schema, function }
    }

    /// Calls the function for rows that share one floor, halving them where it rejects some.
    fn call(&self, batch: Batch, floor: Option<EventTime>, out: &mut dyn Output) -> Result<()> {
        let mut parts = vec![batch];
        while let Some(batch) = parts.pop() {
            match (self.function)(batch.rows.clone()) {
                Ok(results) => self.emit(&batch, results, floor, out)?,
                Err(e) if !matches!(e.kind(), ErrorKind::Permanent | ErrorKind::Business) => {
                    return Err(e);
                }
                Err(e) if batch.len() <= 1 => {
                    for row in 0..batch.len() {
                        reject::dead_letter(&batch, row, e.to_string(), out)?;
                    }
                }
                Err(_) => {
                    let half = batch.len() / 2;
                    parts.push(batch.slice(half, batch.len() - half));
                    parts.push(batch.slice(0, half));
                }
            }
        }
        Ok(())
    }

    fn emit(
        &self,
        from: &Batch,
        results: Vec<RecordBatch>,
        floor: Option<EventTime>,
        out: &mut dyn Output,
    ) -> Result<()> {
        // Which record a result came from is not known any more, but the split is.
        let origin = from.origin.as_ref().map(|origin| Origin {
            split: origin.split.clone(),
            records: None,
            rows: None,
        });
        let emitted: usize = results.iter().map(RecordBatch::num_rows).sum();
        out.account(Fate::Filtered, from.len().saturating_sub(emitted));
        for rows in results.into_iter().filter(|rows| rows.num_rows() > 0) {
            if rows.schema_ref().fields() != self.schema.fields() {
                return Err(Error::internal(format!(
                    "a function over batches returned the columns {:?}, but declared {:?}",
                    rows.schema_ref().fields(),
                    self.schema.fields()
                )));
            }
            let floor = floor.map(|floor| Int64Array::from(vec![floor; rows.num_rows()]));
            out.emit(Batch { rows, floor, origin: origin.clone() });
        }
        Ok(())
    }
}

impl OperatorFactory for FlatMap {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Stateless(self.clone())))
    }

    fn describe(&self) -> String {
        "function over batches".to_owned()
    }

    fn fingerprint(&self) -> String {
        "function over batches".to_owned()
    }
}

impl Transform for FlatMap {
    const NAME: &'static str = "a function over batches";

    fn transform(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let Some(floors) = batch.floor.clone() else {
            return self.call(batch, None, out);
        };
        let mut start = 0;
        for run in floors.values().chunk_by(|a, b| a == b) {
            self.call(batch.slice(start, run.len()), Some(run[0]), out)?;
            start += run.len();
        }
        Ok(())
    }
}
