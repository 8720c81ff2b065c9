//! A query's tokens become a logical plan: windowing calls out, syntax tree rewritten, planned,
//! types made to fit, columns that nobody needs left out.
//!
//! Rules of the optimizer that change the shape of aggregations are not run: what the lowering
//! sees is what was written.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::logical_plan::builder::LogicalTableSource;
use datafusion_expr::logical_plan::{LogicalPlan, LogicalPlanBuilder};
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, ExprSchemable, lit};
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::optimize_unions::OptimizeUnions;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext, OptimizerRule};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::PlannerContext;
use datafusion_sql::sqlparser::ast::Statement as SqlStatement;
use datafusion_sql::sqlparser::tokenizer::{Span, TokenWithSpan};
use tidemill_core::table::TableSpec;
use tidemill_operators::Projection;

use crate::catalog::{Catalog, Computed, is_proctime};
use crate::clock;
use crate::context::{Context, config};
use crate::diagnostic::{Fallible, Problem};
use crate::explain_error;
use crate::functions::Functions;
use crate::rewrite::Rewriter;
use crate::statement::{ColumnKind, TableDeclaration};
use crate::text;
use crate::token::{expect_end, is_word, parse_expr, parse_problem, parser};
use crate::windowing::extract;

/// What Flink would not take, or would do otherwise, and where it stands.
pub(crate) type Notes = Vec<(String, Span)>;

/// Plans a query as it is written. All that is wrong with its syntax tree is reported at once.
pub(crate) fn plan(
    tokens: &[TokenWithSpan],
    catalog: &Catalog,
    functions: &Functions,
    notes: &mut Notes,
) -> Result<LogicalPlan, Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    let mut calls = Vec::new();
    let rewritten = extract(tokens, &mut calls).map_err(one)?;
    let mut parser = parser(&rewritten);
    let mut query = parser.parse_query().map_err(|e| one(parse_problem(&e, &rewritten)))?;
    expect_end(&parser, "query").map_err(one)?;
    let is_table = |name: &str| catalog.get(name).is_some();
    let mut rewriter = Rewriter::new(functions, tokens, catalog.names(), &is_table);
    rewriter.collect_ctes(&query);
    rewriter.run(&mut query);
    for call in &mut calls {
        rewriter.run(&mut call.data);
    }
    notes.append(&mut rewriter.notes);
    if !rewriter.problems.is_empty() {
        return Err(rewriter.problems);
    }
    let context = Context::new(catalog, functions, rewriter.windows, calls);
    let planned = context.planner().sql_statement_to_plan(SqlStatement::Query(query));
    let plan = planned.and_then(|plan| clock::resolve(plan, tokens));
    let plan = plan.map_err(|error| one(explain_error::problem(&error, tokens)))?;
    note_integer_averages(&plan, tokens, notes);
    Ok(plan)
}

/// Flink's `AVG` of integers is an integer; here it is a `DOUBLE`.
fn note_integer_averages(plan: &LogicalPlan, tokens: &[TokenWithSpan], notes: &mut Notes) {
    let visited = plan.apply(|node| {
        let LogicalPlan::Aggregate(aggregate) = node else {
            return Ok(TreeNodeRecursion::Continue);
        };
        let is_integer = |expr: &Expr| {
            expr.get_type(aggregate.input.schema()).is_ok_and(|data_type| data_type.is_integer())
        };
        let averages = aggregate.aggr_expr.iter().filter(|expr| match expr {
            Expr::AggregateFunction(call) => {
                call.func.name() == "avg" && call.params.args.first().is_some_and(is_integer)
            }
            _ => false,
        });
        for _ in averages {
            let avg = tokens.iter().find(|token| is_word(&token.token, "AVG"));
            let span = avg.map_or(Span::empty(), |token| token.span);
            let note = "AVG of integers is DOUBLE here and an integer in Flink: \
                        write AVG(CAST(… AS DOUBLE))";
            notes.push((note.to_owned(), span));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "nothing here fails");
}

/// The plan as it will run.
pub(crate) fn optimize(plan: LogicalPlan, tokens: &[TokenWithSpan]) -> Fallible<LogicalPlan> {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(OptimizeProjections::new()),
    ];
    run_rules(plan, rules).map_err(|error| explain_error::problem(&error, tokens))
}

fn run_rules(
    plan: LogicalPlan,
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Result<LogicalPlan, DataFusionError> {
    let plan = text::spell_booleans(plan)?;
    let plan = Analyzer::new().execute_and_check(plan, config(), |_, _| {})?;
    text::check(&plan)?;
    let context = OptimizerContext::new_with_config_options(config().clone())
        .without_query_execution_start_time();
    Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {})
}

/// A logical expression over columns of `schema`, by position.
pub(crate) fn physical(
    expr: &Expr,
    schema: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let mut properties = ExecutionProps::new();
    properties.config_options = Some(config().clone());
    create_physical_expr(expr, schema, &properties, &PhysicalPlanningContext::default())
}

/// All columns of a table over those of its source, computed ones in their places.
pub(crate) fn computed_columns(
    spec: &TableSpec,
    declaration: &TableDeclaration,
    functions: &Functions,
    notes: &mut Notes,
) -> Fallible<Computed> {
    let span = declaration.span;
    let failed = |error: DataFusionError| explain_error::problem(&error, &[]);
    let schema = DFSchema::try_from_qualified_schema(spec.name.as_str(), &spec.schema)
        .map_err(|error| Problem { span, ..failed(error) })?;
    let mut columns = Vec::new();
    for column in &declaration.columns {
        let name = column.name.text.as_str();
        let expr = match &column.kind {
            ColumnKind::Computed(tokens) if is_proctime(tokens) => wall_clock(),
            ColumnKind::Computed(tokens) => {
                let expr = expression(tokens, &schema, functions, notes)?;
                // Planned alone first, so that an error is found at its own column.
                project(spec, vec![expr.clone().alias(name)], &schema)
                    .map_err(|error| explain_error::problem(&error, tokens))?;
                expr
            }
            _ => Expr::Column(datafusion_common::Column::new(Some(spec.name.as_str()), name)),
        };
        columns.push(expr.alias(name));
    }
    compute(spec, columns, schema)
        .map_err(|error| Problem { span: declaration.name.span, ..failed(error) })
}

/// What holds the wall clock's place: the runtime puts it there when it reads a row.
pub(crate) fn wall_clock() -> Expr {
    lit(ScalarValue::TimestampMicrosecond(None, Some("UTC".into())))
}

/// These columns, over those of a source.
pub(crate) fn compute(
    spec: &TableSpec,
    columns: Vec<Expr>,
    over: DFSchema,
) -> Result<Computed, DataFusionError> {
    let projection = Projection::new(spec.schema.clone(), project(spec, columns.clone(), &over)?)
        .map_err(|error| DataFusionError::Plan(error.to_string()))?;
    Ok(Computed { function: Arc::new(projection), columns, over })
}

type NamedExpr = (Arc<dyn PhysicalExpr>, String);

fn project(
    spec: &TableSpec,
    columns: Vec<Expr>,
    schema: &DFSchema,
) -> Result<Vec<NamedExpr>, DataFusionError> {
    let source = Arc::new(LogicalTableSource::new(SchemaRef::clone(&spec.schema)));
    let scan = LogicalPlanBuilder::scan(spec.name.as_str(), source, None)?;
    let plan = scan.project(columns)?.build()?;
    let LogicalPlan::Projection(projection) =
        run_rules(plan, vec![Arc::new(SimplifyExpressions::new())])?
    else {
        return Err(DataFusionError::Internal("a projection stays one".to_owned()));
    };
    let named = projection.expr.iter().zip(projection.schema.fields());
    named.map(|(expr, field)| Ok((physical(expr, schema)?, field.name().clone()))).collect()
}

fn expression(
    tokens: &[TokenWithSpan],
    schema: &DFSchema,
    functions: &Functions,
    notes: &mut Notes,
) -> Fallible<Expr> {
    let mut tree = parse_expr(tokens)?;
    let mut rewriter = Rewriter::new(functions, tokens, Vec::new(), &|_| false);
    rewriter.run(&mut tree);
    notes.append(&mut rewriter.notes);
    if !rewriter.problems.is_empty() {
        return Err(rewriter.problems.remove(0));
    }
    let catalog = Catalog::default();
    let context = Context::new(&catalog, functions, rewriter.windows, Vec::new());
    let expr = context.planner().sql_to_expr(tree, schema, &mut PlannerContext::new());
    let expr = expr.map_err(|error| explain_error::problem(&error, tokens))?;
    if matches!(&expr, Expr::AggregateFunction(_)) {
        return Err(Problem::new(tokens[0].span, "a computed column cannot aggregate"));
    }
    Ok(expr)
}

/// A view's plan under the names that the view gives to its columns.
pub(crate) fn rename(
    plan: LogicalPlan,
    names: Vec<String>,
) -> Result<LogicalPlan, DataFusionError> {
    let columns = plan.schema().columns();
    let renamed =
        columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name));
    LogicalPlanBuilder::from(plan).project(renamed)?.build()
}
