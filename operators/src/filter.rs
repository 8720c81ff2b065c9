//! Drops the rows for which a predicate is not true. On the data path before windows (`WHERE`) and
//! behind them (`HAVING`). Invariant: a row is passed on, accounted for as filtered, or a dead
//! letter because the predicate failed for it.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use tidemill_core::graph::RowFunction;
use tidemill_core::operator::{Fate, Operator, OperatorContext, OperatorFactory, Output};
use tidemill_core::part::Part;
use tidemill_core::{Batch, Error, Result};

use crate::project::{Projection, mask};
use crate::reject;
use crate::stateless::{Stateless, Transform};

/// Keeps the rows for which a predicate is true (neither false nor null).
#[derive(Debug, Clone)]
pub struct Filter {
    schema: SchemaRef,
    text: String,
    predicate: Projection,
}

impl Filter {
    /// Keeps the rows of `input` for which `predicate` is true.
    ///
    /// # Errors
    /// A configuration error where the predicate is not a boolean over the input.
    pub fn new(input: SchemaRef, predicate: Arc<dyn PhysicalExpr>) -> Result<Self> {
        let text = predicate.to_string();
        let predicate = Projection::new(input.clone(), vec![(predicate, "predicate".to_owned())])?;
        let found = predicate.schema().field(0).data_type().clone();
        if found != DataType::Boolean {
            return Err(Error::configuration(format!(
                "a filter needs a BOOLEAN, but {text} is of type {found}"
            )));
        }
        Ok(Self { schema: input, text, predicate })
    }
}

impl OperatorFactory for Filter {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Stateless(self.clone())))
    }

    fn describe(&self) -> String {
        format!("filter {}", self.text)
    }

    fn fingerprint(&self) -> String {
        "filter".to_owned()
    }

    fn parts(&self) -> Option<Vec<Part>> {
        let condition = |part: Part| Part { name: "condition".to_owned(), makes: None, ..part };
        self.predicate.parts().map(|parts| parts.into_iter().map(condition).collect())
    }
}

impl Transform for Filter {
    const NAME: &'static str = "a filter";

    fn transform(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let (batch, results) = reject::apply(&self.predicate, batch, out)?;
        let keep = mask(results.column(0).as_boolean());
        let kept = keep.true_count();
        if kept < batch.len() {
            out.account(Fate::Filtered, batch.len() - kept);
        }
        if kept == batch.len() && kept > 0 {
            out.emit(batch);
        } else if kept > 0 {
            out.emit(batch.filter(&keep)?);
        }
        Ok(())
    }
}
