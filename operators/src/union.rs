//! Several inputs with the same columns as one. On the data path wherever streams meet
//! (`UNION ALL`). Invariant: every row is passed on, as it is, under the columns of the union.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use tidemill_core::operator::{
    Barrier, Operator, OperatorContext, OperatorFactory, Output, Progress, StateChange,
    StateFragment,
};
use tidemill_core::{Batch, Error, EventTime, Result};

use crate::project::stateless;

/// All rows of all inputs. Columns go by position; their types must be those of the union.
#[derive(Debug, Clone)]
pub struct Union {
    schema: SchemaRef,
}

impl Union {
    /// A union whose rows have these columns.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl OperatorFactory for Union {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }

    fn describe(&self) -> String {
        "union all".to_owned()
    }

    fn fingerprint(&self) -> String {
        "union".to_owned()
    }
}

impl Operator for Union {
    fn process(&mut self, input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
        let columns = batch.rows.columns().to_vec();
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| Error::from(e).at(format!("input {input} of the union")))?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }

    fn watermark(&mut self, _: EventTime, _: &mut dyn Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn barrier(&mut self, _: Barrier, _: &mut dyn Output) -> Result<StateChange> {
        Ok(StateChange::default())
    }

    fn restore(&mut self, _: StateFragment) -> Result<()> {
        Err(stateless("a union"))
    }

    fn state_bytes(&self) -> usize {
        0
    }
}
