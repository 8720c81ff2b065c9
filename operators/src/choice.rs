//! `CASE` that does no more than choose between columns. On the data path where a column is computed:
//! a time that each kind of row keeps in a field of its own is chosen by the kind.
//!
//! DataFusion takes the rows of each branch out of all columns, and puts them together again. That is what it
//! takes where a branch may fail or is dear; a column is neither, so here the values of one branch are copied
//! and those of the others written over them. Invariant: the result is that of DataFusion's `CASE`.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float64Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CaseExpr, Column, Literal};
use tidemill_core::Result;

use crate::failed;
use crate::project::mask;

/// A column for each of a list of conditions, and one for where none of them is true.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    branches: Vec<(Arc<dyn PhysicalExpr>, usize)>,
    otherwise: usize,
}

impl Choice {
    /// The expression as a choice, where it is one: conditions that compare a column with a literal, branches
    /// that are columns of the same type.
    pub(crate) fn of(expression: &Arc<dyn PhysicalExpr>, input: &Schema) -> Option<Self> {
        let case = expression.downcast_ref::<CaseExpr>()?;
        if case.expr().is_some() {
            return None;
        }
        let otherwise = index(case.else_expr()?)?;
        let branch = |(when, then): &(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)| {
            is_comparison(when).then(|| Some((when.clone(), index(then)?)))?
        };
        let branches: Option<Vec<_>> = case.when_then_expr().iter().map(branch).collect();
        let choice = Self { branches: branches?, otherwise };
        let data_type = input.field(otherwise).data_type();
        let is_of_type = |(_, column): &(_, usize)| input.field(*column).data_type() == data_type;
        let is_known = matches!(
            data_type,
            DataType::Int64 | DataType::Float64 | DataType::Timestamp(TimeUnit::Microsecond, _)
        );
        (is_known && choice.branches.iter().all(is_of_type)).then_some(choice)
    }

    /// The column that is chosen, row by row.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        match rows.column(self.otherwise).data_type() {
            DataType::Int64 => self.choose::<Int64Type>(rows),
            DataType::Float64 => self.choose::<Float64Type>(rows),
            _ => self.choose::<TimestampMicrosecondType>(rows),
        }
    }

    fn choose<T: ArrowPrimitiveType>(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        let otherwise = rows.column(self.otherwise).as_primitive::<T>();
        let mut values = otherwise.values().to_vec();
        let mut valid = otherwise.nulls().map(|nulls| nulls.inner().clone());
        // The first condition that is true decides, so it has the last word.
        for (condition, column) in self.branches.iter().rev() {
            let column = rows.column(*column).as_primitive::<T>();
            let chosen = truth(condition.as_ref(), rows)?;
            for (start, end) in chosen.set_slices() {
                values[start..end].copy_from_slice(&column.values()[start..end]);
            }
            valid = merge(valid, column.nulls(), &chosen);
        }
        let nulls = valid.map(NullBuffer::new).filter(|nulls| nulls.null_count() > 0);
        let chosen = PrimitiveArray::<T>::try_new(values.into(), nulls)?;
        Ok(Arc::new(chosen.with_data_type(otherwise.data_type().clone())))
    }
}

/// Where a condition is true, neither false nor null.
fn truth(condition: &dyn PhysicalExpr, rows: &RecordBatch) -> Result<BooleanBuffer> {
    let value = condition.evaluate(rows).map_err(failed)?;
    let value = value.into_array(rows.num_rows()).map_err(failed)?;
    Ok(mask(value.as_boolean()).values().clone())
}

/// Which values there are when those of a column take the places of the chosen ones.
fn merge(
    valid: Option<BooleanBuffer>,
    column: Option<&NullBuffer>,
    chosen: &BooleanBuffer,
) -> Option<BooleanBuffer> {
    Some(match (&valid, column) {
        (None, None) => return None,
        (Some(valid), None) => valid | chosen,
        (None, Some(column)) => column.inner() | &!chosen,
        (Some(valid), Some(column)) => {
            // In one pass over the words, where one for each operation would take four.
            let (valid, column) = (valid.bit_chunks(), column.inner().bit_chunks());
            let words = valid.iter_padded().zip(column.iter_padded());
            let words = words.zip(chosen.bit_chunks().iter_padded());
            let merged = words.map(|((valid, column), chosen)| valid & !chosen | column & chosen);
            BooleanBuffer::new(merged.collect::<Vec<u64>>().into(), 0, chosen.len())
        }
    })
}

fn index(expression: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expression.downcast_ref::<Column>().map(Column::index)
}

/// Whether this compares a column with a literal: that fails for no row.
fn is_comparison(expression: &Arc<dyn PhysicalExpr>) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    expression.downcast_ref::<BinaryExpr>().is_some_and(|comparison| {
        matches!(comparison.op(), Eq | NotEq | Lt | LtEq | Gt | GtEq)
            && index(comparison.left()).is_some()
            && comparison.right().downcast_ref::<Literal>().is_some()
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::Field;
    use datafusion_common::ScalarValue;
    use datafusion_expr::ColumnarValue;
    use datafusion_physical_expr::expressions::{binary, col, lit};

    use super::*;

    const ROWS: i64 = 500;

    /// A kind that is sometimes null, and three columns of each type: with nulls in the places of the other
    /// kinds, with nulls anywhere, and without.
    fn rows() -> RecordBatch {
        let kind = |n: i64| (n % 11 > 0).then_some(n / 7 % 4);
        let there = |column: i64, n: i64| match column {
            0 => kind(n) == Some(0),
            1 => n % 5 > 0,
            _ => true,
        };
        let value = |column: i64, n: i64| there(column, n).then_some(1_000 * column + n);
        let numbers =
            |column| -> Vec<Option<i64>> { (0..ROWS).map(|n| value(column, n)).collect() };
        let mut columns: Vec<(String, ArrayRef)> =
            vec![("kind".to_owned(), Arc::new(Int64Array::from_iter((0..ROWS).map(kind))))];
        for column in 0..3 {
            let floats = numbers(column).into_iter().map(|n| n.map(|n| n as f64));
            let times = TimestampMicrosecondArray::from(numbers(column)).with_timezone("UTC");
            columns.push((format!("int{column}"), Arc::new(Int64Array::from(numbers(column)))));
            columns.push((format!("float{column}"), Arc::new(Float64Array::from_iter(floats))));
            columns.push((format!("time{column}"), Arc::new(times)));
        }
        let fields = columns.iter().map(|(name, c)| Field::new(name, c.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect())
            .unwrap()
    }

    fn case(
        rows: &RecordBatch,
        conditions: &[(Operator, ScalarValue)],
        columns: &[String],
    ) -> Arc<dyn PhysicalExpr> {
        let schema = rows.schema();
        let column = |name: &String| col(name, &schema).unwrap();
        let condition = |(operator, value): &(Operator, ScalarValue)| {
            let kind = col("kind", &schema).unwrap();
            binary(kind, *operator, lit(value.clone()), &schema).unwrap()
        };
        let when = conditions.iter().map(condition);
        let branches = when.zip(columns.iter().map(column)).collect();
        Arc::new(CaseExpr::try_new(None, branches, columns.last().map(column)).unwrap())
    }

    fn array(value: ColumnarValue) -> ArrayRef {
        value.into_array(ROWS as usize).unwrap()
    }

    #[test]
    fn it_is_datafusions_case() {
        let rows = rows();
        let is = |n: i64| (Operator::Eq, ScalarValue::from(n));
        let below = (Operator::Lt, ScalarValue::from(2_i64));
        let never = (Operator::NotEq, ScalarValue::Int64(None));
        let all = (Operator::GtEq, ScalarValue::from(0_i64));
        for conditions in [
            vec![is(0), is(1)],
            vec![below.clone(), is(1)],
            vec![never, below],
            vec![all, is(3)],
            vec![is(9), is(8)],
        ] {
            for columns in ["int", "float", "time"] {
                for order in [[0, 1, 2], [2, 1, 0], [1, 1, 1], [2, 2, 2], [0, 2, 1]] {
                    let columns = order.map(|n| format!("{columns}{n}"));
                    let case = case(&rows, &conditions, &columns);
                    let choice = Choice::of(&case, &rows.schema()).expect("a choice");
                    let expected = array(case.evaluate(&rows).unwrap());
                    assert_eq!(&choice.evaluate(&rows).unwrap(), &expected, "{case}");
                }
            }
        }
    }

    #[test]
    fn what_may_fail_or_is_no_column_is_left_to_datafusion() {
        let rows = rows();
        let schema = rows.schema();
        let column = |name| col(name, &schema).unwrap();
        let one = || lit(1_i64);
        let quotient = binary(one(), Operator::Divide, column("kind"), &schema).unwrap();
        let is_one =
            |of| -> Arc<dyn PhysicalExpr> { binary(of, Operator::Eq, one(), &schema).unwrap() };
        let case = |when: Arc<dyn PhysicalExpr>, then, otherwise| -> Arc<dyn PhysicalExpr> {
            Arc::new(CaseExpr::try_new(None, vec![(when, then)], otherwise).unwrap())
        };
        let kind = || column("kind");
        for case in [
            case(is_one(quotient.clone()), column("int0"), Some(column("int1"))),
            case(is_one(kind()), quotient, Some(column("int1"))),
            case(is_one(kind()), column("int0"), None),
            Arc::new(
                CaseExpr::try_new(Some(kind()), vec![(one(), column("int0"))], Some(kind()))
                    .unwrap(),
            ),
            kind(),
        ] {
            assert!(Choice::of(&case, &schema).is_none(), "{case}");
        }
    }
}
