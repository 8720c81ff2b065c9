//! Aggregate functions of a user's own.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// A step of the order-sensitive function.
pub fn roll(hash: i64, x: i64) -> i64 {
    hash.wrapping_mul(31).wrapping_add(x)
}

/// Depends on the order of rows, and says nothing about it, which means the same.
pub fn rolling() -> Arc<AggregateUDF> {
    function("rolling", AggregateOrderSensitivity::HardRequirement, DataType::Int64)
}

/// Does not depend on the order of rows, and says so.
pub fn sum_of_squares() -> Arc<AggregateUDF> {
    function("sum_of_squares", AggregateOrderSensitivity::Insensitive, DataType::Int64)
}

/// Gives another type than it says.
pub fn misdeclared() -> Arc<AggregateUDF> {
    function("misdeclared", AggregateOrderSensitivity::Insensitive, DataType::Utf8)
}

fn function(
    name: &'static str,
    order: AggregateOrderSensitivity,
    result: DataType,
) -> Arc<AggregateUDF> {
    let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
    Arc::new(AggregateUDF::from(UserFunction { name, signature, order: Order(order), result }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct UserFunction {
    name: &'static str,
    signature: Signature,
    order: Order,
    result: DataType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order(AggregateOrderSensitivity);

impl std::hash::Hash for Order {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.is_insensitive().hash(state);
    }
}

impl AggregateUDFImpl for UserFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Folding { ordered: !self.order.0.is_insensitive(), value: 0 }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.order.0
    }
}

#[derive(Debug)]
struct Folding {
    ordered: bool,
    value: i64,
}

impl Accumulator for Folding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for x in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.value = match self.ordered {
                true => roll(self.value, x),
                false => self.value.wrapping_add(x.wrapping_mul(x)),
            };
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.value)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Int64(Some(self.value))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        assert!(!self.ordered, "rows were to be given in order and at once");
        let states = states[0].as_primitive::<Int64Type>();
        assert_eq!(states.null_count(), 0);
        states.values().iter().for_each(|x| self.value = self.value.wrapping_add(*x));
        Ok(())
    }
}
