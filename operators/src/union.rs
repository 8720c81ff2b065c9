//! Several inputs with the same columns as one. On the data path wherever streams meet
//! (`UNION ALL`). Invariant: every row is passed on, as it is, under the columns of the union.

use crate::stateless::{Stateless, Transform};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use tidemill_core::operator::{Operator, OperatorContext, OperatorFactory, Output};
use tidemill_core::part::Part;
use tidemill_core::{Batch, Error, Result};

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
        Ok(Box::new(Stateless(self.clone())))
    }

    fn describe(&self) -> String {
        "union all".to_owned()
    }

    fn fingerprint(&self) -> String {
        "union".to_owned()
    }

    fn parts(&self) -> Option<Vec<Part>> {
        Some(Vec::new())
    }
}

impl Transform for Union {
    const NAME: &'static str = "a union";

    fn transform(&mut self, input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
        let columns = batch.rows.columns().to_vec();
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| Error::from(e).at(format!("input {input} of the union")))?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }
}
