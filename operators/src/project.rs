//! Computed columns: a list of expressions over each row. On the data path before windows (to
//! shape what is aggregated) and behind them (to shape results). Invariant: rows keep their number
//! and order; one for which an expression fails becomes a dead letter, alone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use tidemill_core::graph::RowFunction;
use tidemill_core::operator::{Operator, OperatorContext, OperatorFactory, Output};
use tidemill_core::part::Part;
use tidemill_core::{Batch, Error, Result};

use crate::kernel::Kernel;
use crate::stateless::{Stateless, Transform};
use crate::{failed, parts, reject};

/// One column for each of a list of expressions.
#[derive(Debug, Clone)]
pub struct Projection {
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// The same, as they are evaluated.
    evaluated: Vec<Narrowed>,
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
        let evaluated = expressions.iter().map(|expression| Narrowed::of(expression, &input));
        let evaluated = evaluated.collect::<Result<_>>()?;
        Ok(Self { expressions, evaluated, schema: Arc::new(Schema::new(fields)) })
    }
}

impl RowFunction for Projection {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.evaluated.iter().map(|column| column.evaluate(rows));
        let columns = columns.collect::<Result<_>>()?;
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

/// An expression over no more of its input than it looks at.
///
/// `CASE` takes the rows of each branch out of all that its columns hold, and a row (`STRUCT`) may hold
/// many fields of which one is looked at. So fields are taken out of their rows first.
#[derive(Debug, Clone)]
struct Narrowed {
    /// What it is evaluated over; nothing where that is the input itself.
    inputs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    expression: Arc<dyn PhysicalExpr>,
    /// What evaluates it faster, where there is such.
    kernel: Option<Kernel>,
}

impl Narrowed {
    fn of(expression: &Arc<dyn PhysicalExpr>, input: &SchemaRef) -> Result<Self> {
        let mut inputs: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        let narrowed = expression.clone().transform_down(|node| {
            if !is_column(&node) && !is_field(&node) {
                return Ok(Transformed::no(node));
            }
            let known = inputs.iter().position(|input| input.as_ref() == node.as_ref());
            let index = known.unwrap_or_else(|| {
                inputs.push(node.clone());
                inputs.len() - 1
            });
            let column = Arc::new(Column::new(&node.to_string(), index));
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        });
        if is_field(expression) || !inputs.iter().any(is_field) {
            return Ok(Self::over(Vec::new(), input.clone(), expression.clone()));
        }
        let field = |of: &Arc<dyn PhysicalExpr>| -> Result<Field> {
            Ok(Field::clone(&*of.return_field(input).map_err(failed)?).with_name(of.to_string()))
        };
        let fields = inputs.iter().map(field).collect::<Result<Vec<_>>>()?;
        let expression = narrowed.map_err(failed)?.data;
        Ok(Self::over(inputs, Arc::new(Schema::new(fields)), expression))
    }

    fn over(
        inputs: Vec<Arc<dyn PhysicalExpr>>,
        schema: SchemaRef,
        expression: Arc<dyn PhysicalExpr>,
    ) -> Self {
        let kernel = Kernel::of(&expression, &schema);
        Self { inputs, schema, expression, kernel }
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        if self.inputs.is_empty() {
            return self.value(rows);
        }
        let inputs = self.inputs.iter().map(|input| evaluate(input.as_ref(), rows));
        let inputs = RecordBatch::try_new(self.schema.clone(), inputs.collect::<Result<_>>()?)?;
        self.value(&inputs)
    }

    fn value(&self, inputs: &RecordBatch) -> Result<ArrayRef> {
        let value = match &self.kernel {
            Some(kernel) => kernel.evaluate(inputs)?,
            None => None,
        };
        value.map_or_else(|| evaluate(self.expression.as_ref(), inputs), Ok)
    }
}

fn is_column(expression: &Arc<dyn PhysicalExpr>) -> bool {
    expression.downcast_ref::<Column>().is_some()
}

/// Whether this is a field of a column, or a field of that.
fn is_field(expression: &Arc<dyn PhysicalExpr>) -> bool {
    let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>() else { return false };
    match call.args() {
        [of, name] => {
            call.name() == "get_field"
                && (is_column(of) || is_field(of))
                && name.downcast_ref::<Literal>().is_some()
        }
        _ => false,
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
