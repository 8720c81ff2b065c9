//! Expressions: from DataFusion's logical ones, as users write them, to physical ones over a
//! schema.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ident, lit};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr, create_physical_expr};
use tidemill_core::{Error, Result};
use tidemill_memory::{MemoryHandle, MemorySink};
use tidemill_operators::AggregateSpec;

/// The type of event-time columns: microseconds since the epoch, UTC.
pub const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// A schema of nullable columns.
pub fn schema<const N: usize>(columns: [(&str, DataType); N]) -> SchemaRef {
    let field = |(name, data_type)| Field::new(name, data_type, true);
    Arc::new(Schema::new(columns.into_iter().map(field).collect::<Vec<_>>()))
}

/// An in-memory sink, and the handle through which its committed rows are seen.
pub fn collect() -> (MemoryHandle, MemorySink) {
    let (sink, handle) = MemorySink::new();
    (handle, sink)
}

/// `COUNT(*)`: rows in the group.
pub fn count() -> Expr {
    datafusion_functions_aggregate::expr_fn::count(lit(1i64))
}

/// What can stand where an expression is wanted: an expression, or the name of a column.
pub trait IntoExpr {
    /// The expression.
    fn into_expr(self) -> Expr;
}

impl IntoExpr for Expr {
    fn into_expr(self) -> Expr {
        self
    }
}

impl IntoExpr for &str {
    fn into_expr(self) -> Expr {
        ident(self)
    }
}

/// Plans expressions over the columns of a schema.
pub(crate) struct Planner {
    schema: DFSchema,
}

impl Planner {
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        let schema = DFSchema::try_from(schema.as_ref().clone()).map_err(wrong)?;
        Ok(Self { schema })
    }

    /// The physical expression and the name of its result.
    pub fn physical(&self, expr: &Expr) -> Result<(Arc<dyn PhysicalExpr>, String)> {
        let name = expr.schema_name().to_string();
        let coerced = self.coerce(expr.clone())?;
        Ok((self.create(&coerced.unalias())?, name))
    }

    /// An aggregate call, as window operators take it.
    pub fn aggregate(&self, expr: &Expr) -> Result<AggregateSpec> {
        let name = expr.schema_name().to_string();
        let coerced = self.coerce(expr.clone())?.unalias();
        let Expr::AggregateFunction(AggregateFunction { func, params }) = coerced else {
            return Err(Error::configuration(format!(
                "`{expr}` is not an aggregate function: aggregate() takes calls like \
                 sum(col(\"x\")).alias(\"total\")"
            )));
        };
        let args: Result<Vec<_>> = params.args.iter().map(|arg| self.create(arg)).collect();
        let order_by: Result<Vec<_>> = params.order_by.iter().map(|sort| self.sort(sort)).collect();
        Ok(AggregateSpec {
            function: func,
            args: args?,
            distinct: params.distinct,
            filter: params.filter.map(|filter| self.create(&filter)).transpose()?,
            order_by: order_by?,
            ignore_nulls: params.null_treatment == Some(NullTreatment::IgnoreNulls),
            name,
        })
    }

    fn sort(&self, sort: &Sort) -> Result<PhysicalSortExpr> {
        let options =
            arrow::compute::SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        Ok(PhysicalSortExpr::new(self.create(&sort.expr)?, options))
    }

    fn coerce(&self, expr: Expr) -> Result<Expr> {
        let context = SimplifyContext::builder().with_schema(Arc::new(self.schema.clone())).build();
        ExprSimplifier::new(context).coerce(expr, &self.schema).map_err(wrong)
    }

    fn create(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        create_physical_expr(expr, &self.schema, &props, &context).map_err(wrong)
    }
}

/// An expression that does not fit is the user's mistake.
fn wrong(error: DataFusionError) -> Error {
    Error::configuration(error.strip_backtrace())
}
