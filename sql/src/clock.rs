//! `PROCTIME()` in the SELECT list of a query: a column of the table below that nobody declared.
//!
//! The wall clock is put into a row when it is read, so that a row has one processing time wherever it
//! is looked at. The planner sees a call of a function that cannot be evaluated; here it becomes that
//! column, handed up from the scan. Invariant: no such call is left in a plan.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DataFusionError, Result, exec_err};
use datafusion_expr::logical_plan::{
    Filter, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias,
};
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_sql::sqlparser::tokenizer::{Span, TokenWithSpan};

use crate::context::TableHandle;
use crate::diagnostic::Problem;
use crate::token::is_word;
use crate::types::timestamp_ltz;

/// The function and the column that `PROCTIME()` becomes.
pub(crate) const CLOCK: &str = "__proctime";

const HELP: &str = "declare a column `p AS PROCTIME()` in CREATE TABLE and use that, or write SELECT *, PROCTIME() \
     AS p FROM t";

/// What stands for `PROCTIME()` until its column is found.
pub(crate) fn marker() -> Arc<ScalarUDF> {
    static MARKER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::exact(Vec::new(), Volatility::Volatile);
        Arc::new(ScalarUDF::from(Marker { signature }))
    });
    MARKER.clone()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    signature: Signature,
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        CLOCK
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_ltz())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("PROCTIME() is a column by the time a job runs")
    }
}

/// Puts the tables' clocks in the place of all markers of a plan.
pub(crate) fn resolve(plan: LogicalPlan, tokens: &[TokenWithSpan]) -> Result<LogicalPlan> {
    let resolved = plan.transform_up(|plan| {
        let LogicalPlan::Projection(node) = plan else { return Ok(Transformed::no(plan)) };
        if !node.expr.iter().any(is_marker) {
            return Ok(Transformed::no(LogicalPlan::Projection(node)));
        }
        let (input, clock) = with_clock(&node.input, tokens)?;
        let expr = node.expr.into_iter().map(|expr| match is_marker(&expr) {
            true => Expr::Column(clock.clone()).alias(expr.schema_name().to_string()),
            false => expr,
        });
        let projection = Projection::try_new(expr.collect(), Arc::new(input))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    })?;
    refuse_markers(&resolved.data, tokens)?;
    Ok(resolved.data)
}

fn is_marker(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_marker(&alias.expr),
        Expr::ScalarFunction(call) => call.func.inner().is::<Marker>(),
        _ => false,
    }
}

/// A marker is left where it is a part of an expression.
fn refuse_markers(plan: &LogicalPlan, tokens: &[TokenWithSpan]) -> Result<()> {
    let mut left = false;
    plan.apply(|node| {
        left |=
            node.expressions().iter().any(|expr| expr.exists(|e| Ok(is_marker(e))).unwrap_or(true));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if left {
        return Err(refused("PROCTIME() stands alone in a SELECT list", tokens));
    }
    Ok(())
}

fn refused(message: &str, tokens: &[TokenWithSpan]) -> DataFusionError {
    let at = tokens.iter().find(|token| is_word(&token.token, "PROCTIME"));
    let span = at.map_or(Span::empty(), |token| token.span);
    DataFusionError::External(Box::new(Problem::new(span, message).help(HELP)))
}

/// The plan with the clock of the table below as one more column, and what that is called.
fn with_clock(plan: &LogicalPlan, tokens: &[TokenWithSpan]) -> Result<(LogicalPlan, Column)> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let Some(TableHandle(table)) = scan.source.downcast_ref::<TableHandle>() else {
                return Err(refused("PROCTIME() needs a table to read", tokens));
            };
            let table = match table.processing_time {
                Some(_) => table.clone(),
                None => Arc::new(table.with_clock()?),
            };
            let place = table.processing_time.unwrap_or(table.schema.fields().len() - 1);
            let source = Arc::new(TableHandle(table));
            let scan = LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?.build()?;
            let clock = Column::from(scan.schema().qualified_field(place));
            Ok((scan, clock))
        }
        LogicalPlan::Projection(node) => {
            let (input, clock) = with_clock(&node.input, tokens)?;
            let mut expr = node.expr.clone();
            let given = Expr::Column(clock);
            let place = expr.iter().position(|e| *e == given).unwrap_or_else(|| {
                expr.push(given);
                expr.len() - 1
            });
            let plan = LogicalPlan::Projection(Projection::try_new(expr, Arc::new(input))?);
            let clock = Column::from(plan.schema().qualified_field(place));
            Ok((plan, clock))
        }
        LogicalPlan::Filter(node) => {
            let (input, clock) = with_clock(&node.input, tokens)?;
            let filter = Filter::try_new(node.predicate.clone(), Arc::new(input))?;
            Ok((LogicalPlan::Filter(filter), clock))
        }
        LogicalPlan::SubqueryAlias(node) => {
            let (input, clock) = with_clock(&node.input, tokens)?;
            let place = input.schema().index_of_column(&clock)?;
            let alias = SubqueryAlias::try_new(Arc::new(input), node.alias.clone())?;
            let clock = Column::from(alias.schema.qualified_field(place));
            Ok((LogicalPlan::SubqueryAlias(alias), clock))
        }
        _ => Err(refused(
            "PROCTIME() needs the rows of a table, not of an aggregation or a UNION",
            tokens,
        )),
    }
}
