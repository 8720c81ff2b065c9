//! Casts of rows, and of arrays and maps that hold some: by position, as Flink casts them.
//!
//! DataFusion goes by the names of fields, and `ROW(a, b)` has none. Invariant: a value written to a
//! table keeps the order of its fields, whatever they are called there.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::Result;
use datafusion_common::utils::take_function_args;
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::context::config;

/// A cast of `expr`; `None` where these are no nested types of one shape.
pub(crate) fn physical_cast(
    expr: &Arc<dyn PhysicalExpr>,
    from: &DataType,
    to: &DataType,
) -> Option<Arc<dyn PhysicalExpr>> {
    let cast = || -> Arc<dyn PhysicalExpr> {
        let function = Arc::new(ScalarUDF::from(NestedCast::to(to.clone())));
        let returned = Arc::new(Field::new("cast", to.clone(), true));
        let name = function.name().to_owned();
        let arguments = vec![expr.clone()];
        Arc::new(ScalarFunctionExpr::new(&name, function, arguments, returned, config().clone()))
    };
    applies(from, to).then(cast)
}

fn applies(from: &DataType, to: &DataType) -> bool {
    from.is_nested() && from != to && fits(from, to)
}

/// Whether the types have one shape, and their leaves cast to each other. What becomes text is
/// not judged here, and so not cast.
fn fits(from: &DataType, to: &DataType) -> bool {
    let is_text =
        |t: &DataType| matches!(t, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    match (from, to) {
        (DataType::Struct(from), DataType::Struct(to)) => {
            from.len() == to.len()
                && from.iter().zip(to).all(|(from, to)| fits(from.data_type(), to.data_type()))
        }
        (DataType::List(from), DataType::List(to))
        | (DataType::Map(from, _), DataType::Map(to, _)) => fits(from.data_type(), to.data_type()),
        (from, to) if from.is_nested() || to.is_nested() => false,
        (from, to) => from == to || (can_cast_types(from, to) && (is_text(from) || !is_text(to))),
    }
}

/// A cast to a nested type of the argument's shape.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NestedCast {
    to: DataType,
    signature: Signature,
}

impl NestedCast {
    fn to(to: DataType) -> Self {
        Self { to, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NestedCast {
    fn name(&self) -> &str {
        "cast_by_position"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [value] = take_function_args(self.name(), args.arg_fields)?;
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), value.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args(self.name(), args.args)?;
        let array = value.to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(cast_array(&array, &self.to)?))
    }
}

fn cast_array(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(match (array.data_type(), to) {
        (from, to) if from == to => array.clone(),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let rows = array.as_struct();
            let columns = rows.columns().iter().zip(fields);
            let columns: Result<Vec<_>> =
                columns.map(|(column, field)| cast_array(column, field.data_type())).collect();
            Arc::new(StructArray::try_new(fields.clone(), columns?, rows.nulls().cloned())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let items = cast_array(list.values(), item.data_type())?;
            let nulls = list.nulls().cloned();
            Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), items, nulls)?)
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let cast: ArrayRef = Arc::new(map.entries().clone());
            let cast = cast_array(&cast, entries.data_type())?.as_struct().clone();
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(entries.clone(), offsets, cast, nulls, *sorted)?)
        }
        (_, to) => {
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, to, &strict)?
        }
    })
}
