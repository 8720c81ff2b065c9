//! One aggregate call, its arguments coerced, ready to make DataFusion accumulators from.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion_common::{Result as DataFusionResult, ScalarValue};
use datafusion_expr::AggregateUDF;
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_functions_aggregate::all_default_aggregate_functions;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::{Column, Literal, cast};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use tidemill_core::Result;

use super::AggregateSpec;
use crate::{failed, parts};

/// A call over rows of `input`, with arguments of the types that the function takes.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub function: Arc<AggregateUDF>,
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    pub distinct: bool,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    pub order_by: Vec<PhysicalSortExpr>,
    pub ignore_nulls: bool,
    pub name: String,
    pub input: SchemaRef,
}

impl Call {
    /// The call of `spec`, coerced.
    pub fn new(spec: &AggregateSpec, input: &SchemaRef) -> Result<Self> {
        let args = coerced(spec, input).map_err(failed)?;
        let mut call = Self {
            function: spec.function.clone(),
            args,
            distinct: spec.distinct,
            filter: spec.filter.clone(),
            order_by: spec.order_by.clone(),
            ignore_nulls: spec.ignore_nulls,
            name: spec.name.clone(),
            input: input.clone(),
        };
        if !call.function.supports_null_handling_clause() {
            call.ignore_nulls = false;
        }
        Ok(call)
    }

    /// The call as DataFusion's expression, distinct and ordered as said here.
    pub fn expression(
        &self,
        distinct: bool,
        order_by: &[PhysicalSortExpr],
    ) -> Result<AggregateFunctionExpr> {
        AggregateExprBuilder::new(self.function.clone(), self.args.clone())
            .schema(self.input.clone())
            .alias(self.name.clone())
            .order_by(order_by.to_vec())
            .with_distinct(distinct)
            .with_ignore_nulls(self.ignore_nulls)
            .build()
            .map_err(failed)
    }

    /// The call as SQL, its columns by name.
    pub fn sql(&self) -> String {
        match self.args.as_slice() {
            [arg] if self.function.name() == "count" && arg.downcast_ref::<Literal>().is_some() => {
                let star: Arc<dyn PhysicalExpr> = Arc::new(Column::new("*", 0));
                Self { args: vec![star], ..self.clone() }.text(&parts::sql)
            }
            _ => self.text(&parts::sql),
        }
    }

    /// The columns that the call reads, each once.
    pub fn uses(&self) -> Vec<String> {
        let order_by = self.order_by.iter().map(|order| &order.expr);
        let expressions = self.args.iter().chain(&self.filter).chain(order_by);
        let mut names: Vec<String> = expressions.flat_map(parts::uses).collect();
        names.sort();
        names.dedup();
        names
    }

    fn text(&self, show: &dyn Fn(&Arc<dyn PhysicalExpr>) -> String) -> String {
        let args: Vec<_> = self.args.iter().map(show).collect();
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let mut text = format!("{}({distinct}{}", self.function.name(), args.join(", "));
        if !self.order_by.is_empty() {
            let direction =
                |by: &PhysicalSortExpr| by.to_string().split_off(by.expr.to_string().len());
            let order = |by: &PhysicalSortExpr| show(&by.expr) + &direction(by);
            let order: Vec<_> = self.order_by.iter().map(order).collect();
            text += &format!(" ORDER BY {}", order.join(", "));
        }
        text.push(')');
        if self.ignore_nulls {
            text += " IGNORE NULLS";
        }
        if let Some(filter) = &self.filter {
            text += &format!(" FILTER (WHERE {})", show(filter));
        }
        text
    }

    /// Whether this is the number of rows, whatever they hold.
    pub fn counts_rows(&self) -> bool {
        let always_there =
            |arg: &Arc<dyn PhysicalExpr>| matches!(arg.nullable(&self.input), Ok(false));
        let count = all_default_aggregate_functions()
            .into_iter()
            .find(|function| function.name() == "count");
        count.is_some_and(|count| count == self.function)
            && !self.distinct
            && self.args.iter().all(always_there)
    }

    /// The type of the argument at `index`.
    pub fn arg_type(&self, index: usize) -> Result<DataType> {
        self.args[index].data_type(&self.input).map_err(failed)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&ToString::to_string))
    }
}

fn fields(args: &[Arc<dyn PhysicalExpr>], input: &SchemaRef) -> DataFusionResult<Vec<FieldRef>> {
    args.iter().map(|arg| arg.return_field(input)).collect()
}

/// The arguments, cast to what the function takes; literals stay literals.
fn coerced(
    spec: &AggregateSpec,
    input: &SchemaRef,
) -> DataFusionResult<Vec<Arc<dyn PhysicalExpr>>> {
    if spec.args.is_empty() {
        // What SQL planners make of `count(*)`.
        return Ok(vec![Arc::new(Literal::new(ScalarValue::Int64(Some(1))))]);
    }
    let fields = fields(&spec.args, input)?;
    let wanted = fields_with_udf(&fields, spec.function.as_ref())?;
    spec.args
        .iter()
        .zip(fields.iter().zip(&wanted))
        .map(|(arg, (have, want))| {
            if have.data_type() == want.data_type() {
                return Ok(arg.clone());
            }
            match arg.downcast_ref::<Literal>() {
                Some(literal) => {
                    let value = literal.value().cast_to(want.data_type())?;
                    Ok(Arc::new(Literal::new(value)) as Arc<dyn PhysicalExpr>)
                }
                None => cast(arg.clone(), input, want.data_type().clone()),
            }
        })
        .collect()
}
