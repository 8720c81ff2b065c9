//! Decimals that can be multiplied and narrowed without a check of each. On the data path where a column is
//! computed, as a price in another currency is. Invariant: the results, and what fails, are DataFusion's.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Decimal128Array, PrimitiveArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, Schema};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};

/// Digits that hold every `BIGINT`.
const BIGINT_DIGITS: u8 = 19;

/// A `BIGINT` column as a decimal, times a literal of at most 64 bits: no product exceeds 128 bits.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    column: usize,
    factor: i64,
    data_type: DataType,
}

impl Product {
    /// The expression as such a product, where it is one.
    pub(crate) fn of(expression: &Arc<dyn PhysicalExpr>, input: &Schema) -> Option<Self> {
        let product = expression.downcast_ref::<BinaryExpr>()?;
        if *product.op() != Operator::Multiply {
            return None;
        }
        let (left, right) = (product.left(), product.right());
        let (factor, cast) = match literal(left) {
            Some(factor) => (factor, right),
            None => (literal(right)?, left),
        };
        let (column, to) = cast_column(cast)?;
        let is_whole = matches!(to, DataType::Decimal128(digits, 0) if *digits >= BIGINT_DIGITS);
        let is_bigint = *input.field(column).data_type() == DataType::Int64;
        let data_type = expression.data_type(input).ok()?;
        let is_decimal = matches!(data_type, DataType::Decimal128(_, _));
        (is_whole && is_bigint && is_decimal).then_some(Self { column, factor, data_type })
    }

    /// The products.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> ArrayRef {
        let factor = i128::from(self.factor);
        let numbers = rows.column(self.column).as_primitive::<Int64Type>();
        let product = |number: i64| i128::from(number) * factor;
        let products: Decimal128Array = numbers.unary(product);
        Arc::new(products.with_data_type(self.data_type.clone()))
    }
}

/// A decimal column as one of fewer digits before the point.
#[derive(Debug, Clone)]
pub(crate) struct Narrowing {
    column: usize,
    /// The least that has too many digits.
    bound: i128,
    data_type: DataType,
}

impl Narrowing {
    /// The expression as such a cast, where it is one.
    pub(crate) fn of(expression: &Arc<dyn PhysicalExpr>, input: &Schema) -> Option<Self> {
        let (column, to) = cast_column(expression)?;
        match (input.field(column).data_type(), to) {
            (DataType::Decimal128(_, from), DataType::Decimal128(digits, scale))
                if from == scale =>
            {
                let bound = 10_i128.checked_pow(u32::from(*digits))?;
                Some(Self { column, bound, data_type: to.clone() })
            }
            _ => None,
        }
    }

    /// The same numbers; `None` where one of them may have too many digits.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Option<ArrayRef> {
        let numbers: &PrimitiveArray<Decimal128Type> = rows.column(self.column).as_primitive();
        let is_within = |number: &i128| (-self.bound < *number) & (*number < self.bound);
        // All are looked at, as that needs no branch.
        let are_within = numbers.values().iter().fold(true, |are, number| are & is_within(number));
        are_within.then(|| -> ArrayRef {
            Arc::new(numbers.clone().with_data_type(self.data_type.clone()))
        })
    }
}

/// A decimal literal's digits, where they fit 64 bits.
fn literal(expression: &Arc<dyn PhysicalExpr>) -> Option<i64> {
    match expression.downcast_ref::<Literal>()?.value() {
        ScalarValue::Decimal128(Some(digits), _, _) => i64::try_from(*digits).ok(),
        _ => None,
    }
}

/// A cast of a column: which, and to what.
fn cast_column(expression: &Arc<dyn PhysicalExpr>) -> Option<(usize, &DataType)> {
    let cast = expression.downcast_ref::<CastExpr>()?;
    Some((cast.expr().downcast_ref::<Column>()?.index(), cast.cast_type()))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::Field;
    use datafusion_physical_expr::expressions::{binary, cast, col, lit};

    use super::*;

    fn rows(column: ArrayRef) -> RecordBatch {
        let field = Field::new("n", column.data_type().clone(), true);
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
    }

    fn decimal(digits: i128, precision: u8, scale: i8) -> Arc<dyn PhysicalExpr> {
        lit(ScalarValue::Decimal128(Some(digits), precision, scale))
    }

    fn by_datafusion(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> ArrayRef {
        expression.evaluate(rows).unwrap().into_array(rows.num_rows()).unwrap()
    }

    #[test]
    fn products_are_datafusions() {
        let numbers = [Some(0), None, Some(1), Some(-7), Some(i64::MAX), Some(i64::MIN)];
        let rows = rows(Arc::new(Int64Array::from_iter(numbers)));
        let schema = rows.schema();
        let column = |digits| {
            let to = DataType::Decimal128(digits, 0);
            cast(col("n", &schema).unwrap(), &schema, to).unwrap()
        };
        let times = |left, right| binary(left, Operator::Multiply, right, &schema).unwrap();
        for factor in
            [decimal(908, 3, 3), decimal(-1_000_001, 10, 2), decimal(i128::from(i64::MIN), 19, 0)]
        {
            for expression in [times(factor.clone(), column(20)), times(column(19), factor.clone())]
            {
                let product = Product::of(&expression, &schema).expect("a product");
                let expected = by_datafusion(&expression, &rows);
                assert_eq!(&product.evaluate(&rows), &expected, "{expression}");
            }
        }
        let large = decimal(i128::from(i64::MAX) + 1, 19, 0);
        for expression in [
            times(large, column(20)),
            times(decimal(908, 3, 3), column(18)),
            times(column(20), column(20)),
            binary(decimal(1, 1, 0), Operator::Plus, column(20), &schema).unwrap(),
            column(20),
        ] {
            assert!(Product::of(&expression, &schema).is_none(), "{expression}");
        }
    }

    #[test]
    fn numbers_that_fit_are_narrowed_and_others_left_to_datafusion() {
        let column = |numbers: &[Option<i128>]| {
            let numbers = Decimal128Array::from(numbers.to_vec());
            rows(Arc::new(numbers.with_precision_and_scale(24, 3).unwrap()))
        };
        let fit = column(&[Some(0), None, Some(9_999), Some(-9_999)]);
        let schema = fit.schema();
        let to = |precision, scale| {
            let to = DataType::Decimal128(precision, scale);
            cast(col("n", &schema).unwrap(), &schema, to).unwrap()
        };
        let narrowing = Narrowing::of(&to(4, 3), &schema).expect("a narrowing");
        assert_eq!(&narrowing.evaluate(&fit).unwrap(), &by_datafusion(&to(4, 3), &fit));
        for too_many in [10_000, -10_000, i128::MAX, i128::MIN] {
            assert!(narrowing.evaluate(&column(&[Some(1), Some(too_many)])).is_none());
        }
        assert!(Narrowing::of(&to(30, 4), &schema).is_none(), "another scale");
        let bigint = rows(Arc::new(Int64Array::from(vec![1])));
        assert!(Narrowing::of(&to(4, 3), &bigint.schema()).is_none(), "no decimal");
    }
}
