//! Expressions of a form that has a kernel of its own. On the data path wherever columns are computed.
//! Invariant: a kernel's results are those of DataFusion, which evaluates what no kernel does.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use datafusion_physical_expr::PhysicalExpr;
use tidemill_core::Result;

use crate::choice::Choice;
use crate::constant::Constant;
use crate::decimal::{Narrowing, Product};

/// What evaluates an expression faster than DataFusion.
#[derive(Debug, Clone)]
pub(crate) enum Kernel {
    Choice(Choice),
    Product(Product),
    Narrowing(Narrowing),
    Constant(Constant),
}

impl Kernel {
    /// The kernel of an expression, where there is one.
    pub(crate) fn of(expression: &Arc<dyn PhysicalExpr>, input: &Schema) -> Option<Self> {
        let choice = Choice::of(expression, input).map(Self::Choice);
        let product = || Product::of(expression, input).map(Self::Product);
        let narrowing = || Narrowing::of(expression, input).map(Self::Narrowing);
        let constant = || Constant::of(expression).map(Self::Constant);
        choice.or_else(product).or_else(narrowing).or_else(constant)
    }

    /// The column, unless it takes DataFusion to make it for these rows.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<Option<ArrayRef>> {
        Ok(match self {
            Self::Choice(choice) => Some(choice.evaluate(rows)?),
            Self::Product(product) => Some(product.evaluate(rows)),
            Self::Narrowing(narrowing) => narrowing.evaluate(rows),
            Self::Constant(constant) => constant.evaluate(rows),
        })
    }
}
