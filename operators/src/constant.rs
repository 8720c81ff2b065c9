//! A literal as a column: the `1` of `COUNT(*)`, most of all. On the data path where columns are computed.
//! Invariant: the result is that of DataFusion's literal.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;

/// As many rows as batches usually have at most.
const ROWS: usize = 8192;

/// One value, so many times that most batches need no more of it.
#[derive(Debug, Clone)]
pub(crate) struct Constant(ArrayRef);

impl Constant {
    /// The expression as a column, where it is a literal of a fixed width.
    pub(crate) fn of(expression: &Arc<dyn PhysicalExpr>) -> Option<Self> {
        let value = expression.downcast_ref::<Literal>()?.value();
        let is_fixed = value.data_type().is_primitive();
        is_fixed.then(|| value.to_array_of_size(ROWS).ok().map(Self))?
    }

    /// The value for each row, if there are not too many.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Option<ArrayRef> {
        let rows = rows.num_rows();
        (rows <= self.0.len()).then(|| self.0.slice(0, rows))
    }
}
