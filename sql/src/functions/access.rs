//! `row.field`, `map['key']` and `array[1]`.
//!
//! Invariant: a part of what is NULL is NULL. Arrow keeps values below the NULLs of a struct, and
//! DataFusion's own access shows them.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Column, DFSchema, Result, ScalarValue, TableReference};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion_expr::{
    ColumnarValue, Expr, ExprSchemable, GetFieldAccess, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, lit,
};
use datafusion_functions::core::get_field;
use datafusion_functions_nested::extract::array_element;
use datafusion_functions_nested::map_extract::map_extract;

/// Plans access to parts of nested values; to be asked before DataFusion's planners.
#[derive(Debug)]
pub(super) struct AccessPlanner;

impl ExprPlanner for AccessPlanner {
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let column = Expr::Column(Column::from((qualifier, field)));
        let part = |of, name: &String| part(of, ScalarValue::from(name.as_str()));
        Ok(PlannerResult::Planned(nested_names.iter().fold(column, part)))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { field_access, expr } = &access;
        let key_type = map_key(&expr.get_type(schema)?);
        let planned = match (field_access, key_type) {
            (GetFieldAccess::NamedStructField { name }, Some(key_type)) => {
                part(expr.clone(), name.cast_to(&key_type)?)
            }
            (GetFieldAccess::NamedStructField { name }, None) => part(expr.clone(), name.clone()),
            (GetFieldAccess::ListIndex { key }, Some(key_type)) => match key.as_ref() {
                Expr::Literal(key, _) => part(expr.clone(), key.cast_to(&key_type)?),
                key => array_element(map_extract(expr.clone(), key.clone()), lit(1i64)),
            },
            _ => return Ok(PlannerResult::Original(access)),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// The type of a map's keys.
fn map_key(data_type: &DataType) -> Option<DataType> {
    let DataType::Map(entries, _) = data_type else { return None };
    match entries.data_type() {
        DataType::Struct(entry) => entry.first().map(|key| key.data_type().clone()),
        _ => None,
    }
}

/// The field or entry of this name.
fn part(of: Expr, name: ScalarValue) -> Expr {
    ScalarUDF::from(Access { field: get_field() }).call(vec![of, lit(name)])
}

/// What `of.name`, as planned here, takes a part of, and the name of the part.
pub(crate) fn field_access(expr: &Expr) -> Option<(&Expr, &str)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    call.func.inner().downcast_ref::<Access>()?;
    match call.args.as_slice() {
        [of, Expr::Literal(name, _)] => Some((of, name.try_as_str()??)),
        _ => None,
    }
}

/// DataFusion's access to a field, NULL where the whole is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Access {
    field: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Access {
    fn name(&self) -> &str {
        self.field.name()
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.field.schema_name(arguments)
    }

    fn signature(&self) -> &Signature {
        self.field.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.field.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.field.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.field.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let nulls = match args.args.first() {
            Some(ColumnarValue::Array(whole)) => whole.logical_nulls(),
            _ => None,
        };
        let rows = args.number_rows;
        let part = self.field.invoke_with_args(args)?;
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return Ok(part) };
        let missing = BooleanArray::new(!nulls.inner(), None);
        Ok(ColumnarValue::Array(nullif(&part.to_array(rows)?, &missing)?))
    }
}
