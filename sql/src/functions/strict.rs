//! Functions of DataFusion that skip NULL arguments where Flink's of the same name give NULL.
//!
//! Invariant: a row has a value exactly where all arguments and the function itself have one.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Flink's functions that are NULL as soon as one argument is.
pub(super) const NAMES: [&str; 3] = ["concat", "greatest", "least"];

/// A function that is NULL where an argument is, and else what `lenient` gives.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Strict {
    lenient: Arc<ScalarUDF>,
}

pub(super) fn strict(lenient: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Strict { lenient }))
}

impl ScalarUDFImpl for Strict {
    fn name(&self) -> &str {
        self.lenient.name()
    }

    fn signature(&self) -> &Signature {
        self.lenient.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.lenient.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.lenient.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let field = self.lenient.return_field_from_args(args)?;
        Ok(Arc::new(field.as_ref().clone().with_nullable(nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut nulls: Option<NullBuffer> = None;
        for argument in &args.args {
            match argument {
                ColumnarValue::Scalar(value) if value.is_null() => {
                    let null = ScalarValue::try_from(args.return_field.data_type())?;
                    return Ok(ColumnarValue::Scalar(null));
                }
                ColumnarValue::Scalar(_) => {}
                ColumnarValue::Array(values) => {
                    nulls = NullBuffer::union(nulls.as_ref(), values.logical_nulls().as_ref());
                }
            }
        }
        let rows = args.number_rows;
        let result = self.lenient.invoke_with_args(args)?;
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return Ok(result) };
        let missing = BooleanArray::new(!nulls.inner(), None);
        Ok(ColumnarValue::Array(nullif(&result.to_array(rows)?, &missing)?))
    }
}
