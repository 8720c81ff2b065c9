//! Computed columns: a list of expressions over each row. On the data path before windows (to
//! shape what is aggregated) and behind them (to shape results). Invariant: rows keep their number
//! and order; one for which an expression fails becomes a dead letter, alone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use tidemill_core::graph::RowFunction;
use tidemill_core::operator::{Operator, OperatorContext, OperatorFactory, Output};
use tidemill_core::part::Part;
use tidemill_core::{Batch, Error, Result};

use crate::stateless::{Stateless, Transform};
use crate::{failed, parts, reject};

/// One column for each of a list of expressions.
#[derive(Debug, Clone)]
pub struct Projection {
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Projection {
    /// Columns computed from rows of `input`, each with its name.
    ///
    /// # Errors
    /// A configuration error where an expression does not fit the input.
    pub fn new(input: SchemaRef, columns: Vec<(Arc<dyn PhysicalExpr>, String)>) -> Result<Self> {
        let mut fields = Vec::with_capacity(columns.len());
        let mut expressions = Vec::with_capacity(columns.len());
        for (expression, name) in columns {
            let field = expression.return_field(&input).map_err(|e| {
                Error::configuration(e.strip_backtrace()).at(format!("column {name}"))
            })?;
            fields.push(Field::clone(&field).with_name(name));
            expressions.push(expression);
        }
        Ok(Self { expressions, schema: Arc::new(Schema::new(fields)) })
    }
}

impl RowFunction for Projection {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self
            .expressions
            .iter()
            .map(|expression| evaluate(expression.as_ref(), rows))
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    fn describe(&self) -> String {
        let columns: Vec<_> = self
            .expressions
            .iter()
            .zip(self.schema.fields())
            .map(|(expression, field)| match expression.to_string() {
                text if text.split('@').next() == Some(field.name()) => field.name().clone(),
                text => format!("{text} AS {}", field.name()),
            })
            .collect();
        format!("project {}", columns.join(", "))
    }

    fn parts(&self) -> Option<Vec<Part>> {
        let columns = self.expressions.iter().zip(self.schema.fields());
        let part = |(expression, field): (&Arc<dyn PhysicalExpr>, &Arc<Field>)| {
            Part::column(field.name(), parts::sql(expression), parts::uses(expression))
        };
        Some(columns.map(part).collect())
    }
}

fn evaluate(expression: &dyn PhysicalExpr, rows: &RecordBatch) -> Result<ArrayRef> {
    let value = expression.evaluate(rows).map_err(failed)?;
    value.into_array(rows.num_rows()).map_err(failed)
}

/// A row function as an operator.
#[derive(Clone)]
pub struct RowOperator(pub Arc<dyn RowFunction>);

impl OperatorFactory for RowOperator {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Stateless(self.clone())))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn fingerprint(&self) -> String {
        "row function".to_owned()
    }

    fn parts(&self) -> Option<Vec<Part>> {
        Some(self.0.parts().unwrap_or_else(|| vec![Part::of_all("function", self.0.describe())]))
    }
}

impl Transform for RowOperator {
    const NAME: &'static str = "a row function";

    fn transform(&mut self, _: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let (batch, results) = reject::apply(self.0.as_ref(), batch, out)?;
        if !batch.is_empty() {
            out.emit(batch.with_rows(results));
        }
        Ok(())
    }
}

/// The rows for which a predicate is true: its nulls count as false.
pub(crate) fn mask(predicate: &BooleanArray) -> BooleanArray {
    if predicate.null_count() == 0 {
        return BooleanArray::new(predicate.values().clone(), None);
    }
    prep_null_mask_filter(predicate)
}
