//! What DataFusion's SQL planner asks about: tables, functions, types, and windowing calls.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Field, FieldRef, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Column, DFSchema, DataFusionError, Result, TableReference};
use datafusion_expr::logical_plan::{LogicalPlan, LogicalPlanBuilder};
use datafusion_expr::planner::{
    ContextProvider, ExprPlanner, PlannedRelation, RelationPlanner, RelationPlannerContext,
    RelationPlanning, TypePlanner,
};
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_sql::planner::{ParserOptions, SqlToRel};
use datafusion_sql::sqlparser::ast::{DataType as SqlDataType, TableFactor};

use crate::catalog::{Catalog, Relation, Table};
use crate::clock::{self, CLOCK};
use crate::diagnostic::Problem;
use crate::functions::{self, Functions};
use crate::token::Name;
use crate::types;
use crate::windowing::{PLACEHOLDER, Part, Sessions, WindowBound, WindowCall, Windows};

/// Answers for one statement.
pub(crate) struct Context<'a> {
    catalog: &'a Catalog,
    functions: &'a Functions,
    windows: Windows,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
}

impl<'a> Context<'a> {
    pub fn new(
        catalog: &'a Catalog,
        functions: &'a Functions,
        windows: Windows,
        calls: Vec<WindowCall>,
    ) -> Self {
        Self {
            catalog,
            functions,
            windows,
            expr_planners: functions::planners(),
            relation_planners: vec![Arc::new(WindowPlanner { calls })],
        }
    }

    /// The planner, with Flink's rules: names keep their case, `1.5` is a decimal.
    pub fn planner(&self) -> SqlToRel<'_, Self> {
        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_parse_float_as_decimal(true)
            .with_collect_spans(true);
        SqlToRel::new_with_options(self, options)
    }
}

/// The planner's and the optimizer's settings.
pub(crate) fn config() -> &'static Arc<ConfigOptions> {
    static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(|| {
        let mut config = ConfigOptions::default();
        config.execution.time_zone = Some("UTC".to_owned());
        // A failing rule is an error, never a plan that was half rewritten.
        config.optimizer.skip_failed_rules = false;
        Arc::new(config)
    });
    &CONFIG
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.catalog.get(name.table()) {
            Some(Relation::Table(table)) => Ok(Arc::new(TableHandle(table.clone()))),
            Some(Relation::View(plan)) => Ok(Arc::new(View(plan.clone()))),
            _ => Err(DataFusionError::Plan(format!("unknown table '{name}'"))),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == CLOCK {
            return Some(clock::marker());
        }
        self.windows.resolve(name).or_else(|| self.functions.scalar(name).cloned())
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(name).cloned()
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<arrow::datatypes::DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        config()
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A declared table in a logical plan.
pub(crate) struct TableHandle(pub Arc<Table>);

impl TableSource for TableHandle {
    fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }
}

/// A view: its plan stands wherever its name does.
struct View(Arc<LogicalPlan>);

impl TableSource for View {
    fn schema(&self) -> SchemaRef {
        Arc::new(self.0.schema().as_arrow().clone())
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.0))
    }
}

/// Types in `CAST` and before literals.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &SqlDataType) -> Result<Option<FieldRef>> {
        let data_type = types::parse_text(&sql_type.to_string());
        Ok(data_type.map(|data_type| Arc::new(Field::new("", data_type, true))))
    }
}

/// Plans what stands for a windowing table function.
#[derive(Debug)]
struct WindowPlanner {
    calls: Vec<WindowCall>,
}

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let number = name.to_string().strip_prefix(PLACEHOLDER).and_then(|n| n.parse().ok());
        let Some(call) = number.and_then(|number: usize| self.calls.get(number)) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let input = context.plan(call.data.clone())?;
        let plan = with_window_columns(input, call)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

fn with_window_columns(input: LogicalPlan, call: &WindowCall) -> Result<LogicalPlan> {
    let schema = input.schema().clone();
    let mut arguments = vec![column(&schema, &call.time)?];
    for name in &call.partition {
        arguments.push(column(&schema, name)?);
    }
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    for part in Part::ALL {
        let name = unused(&schema, part.column());
        let function =
            WindowBound::udf(part.column().to_owned(), part, call.spec, Sessions::ByArguments);
        columns.push(function.call(arguments.clone()).alias(name));
    }
    LogicalPlanBuilder::from(input).project(columns)?.build()
}

/// The name, or as in Flink the name with a number where a column has it already.
fn unused(schema: &DFSchema, name: &str) -> String {
    let taken = |name: &str| schema.fields().iter().any(|field| field.name() == name);
    std::iter::once(name.to_owned())
        .chain((0..schema.fields().len()).map(|number| format!("{name}{number}")))
        .find(|name| !taken(name))
        .expect("there are more names than columns")
}

fn column(schema: &DFSchema, name: &Name) -> Result<Expr> {
    let found = schema.columns_with_unqualified_name(&name.text);
    match found.first() {
        Some(column) => {
            let mut column: Column = column.clone();
            let span = datafusion_common::Span::try_from_sqlparser_span(name.span);
            span.into_iter().for_each(|span| column.spans.add_span(span));
            Ok(Expr::Column(column))
        }
        None => {
            let fields = schema.fields();
            let names = fields.iter().map(|field| field.name().as_str());
            let problem = Problem::new(name.span, format!("unknown column '{}'", name.text));
            let problem = problem.suggest_or_list(&name.text, "columns", names);
            Err(DataFusionError::External(Box::new(problem)))
        }
    }
}
