//! A literal as a column: the `1` of `COUNT(*)`, most of all. On the data path where columns are computed.
//! Invariant: the result is that of DataFusion's literal.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;

/// As many rows as batches usually have at most.
const ROWS: usize = 8192;

/// With fewer, making a column costs nothing. Whoever weighs a slice by the memory behind it finds at most twice too much.
const FEW: usize = ROWS / 2;

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

    /// The value for each row, if these are neither few nor too many.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Option<ArrayRef> {
        let rows = rows.num_rows();
        (FEW..=ROWS).contains(&rows).then(|| self.0.slice(0, rows))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatchOptions;
    use arrow::datatypes::Schema;
    use datafusion_common::ScalarValue;

    use super::*;

    #[test]
    fn a_literal_is_the_same_column_whoever_makes_it() {
        let schema = Arc::new(Schema::empty());
        for value in [
            ScalarValue::Int64(Some(1)),
            ScalarValue::Float64(None),
            ScalarValue::TimestampMicrosecond(Some(7), Some("UTC".into())),
            ScalarValue::Decimal128(Some(125), 5, 2),
        ] {
            let literal: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(value));
            let constant = Constant::of(&literal).unwrap();
            for rows in [FEW, FEW + 1, ROWS] {
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let rows = RecordBatch::try_new_with_options(schema.clone(), vec![], &options);
                let rows = rows.unwrap();
                let expected = literal.evaluate(&rows).unwrap().into_array(rows.num_rows());
                assert_eq!(constant.evaluate(&rows), Some(expected.unwrap()), "{literal}");
            }
        }
        let text: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::from("a")));
        assert!(Constant::of(&text).is_none());
    }
}
