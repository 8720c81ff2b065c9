//! From the text of a job file to its graph: statement after statement, going on after an error,
//! so that all of them are reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_expr::logical_plan::LogicalPlan;
use datafusion_sql::sqlparser::tokenizer::{Span, TokenWithSpan};
use tidemill_core::graph::{Edge, NodeId, NodeKind, SinkNode};
use tidemill_core::table::parse_duration;
use tidemill_operators::Union;

use crate::catalog::{Catalog, Defaults, Relation, Table};
use crate::diagnostic::{Diagnostics, Fallible, Problem, Problems};
use crate::functions::Functions;
use crate::lower::{Lowering, Query, leaves_window_open};
use crate::query::{self, Notes};
use crate::relation::NOT_AGGREGATED;
use crate::statement::{Statement, TableDeclaration};
use crate::token::{Name, tokenize};
use crate::{PlannedInsert, PlannedJob, Registry, explain_error, settings, sink, statement};

/// A job file while it is gone through.
struct Job<'a> {
    registry: &'a Registry,
    functions: Functions,
    catalog: Catalog,
    settings: BTreeMap<String, String>,
    lowering: Lowering,
    /// For each sink table the nodes whose rows go into it.
    inserts: Vec<(Arc<Table>, Vec<NodeId>)>,
    notes: Notes,
    problems: Problems,
}

/// Plans a job file.
pub(crate) fn plan(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    registry: &Registry,
) -> Result<PlannedJob, Diagnostics> {
    let mut problems = Problems::default();
    let tokens = tokenize(text, env, &mut problems);
    let statements = statement::parse(&tokens, &mut problems);
    let has_insert = statements.iter().any(|s| matches!(s, Statement::Insert { .. }));
    let mut job = Job {
        registry,
        functions: Functions::new(&registry.scalars, &registry.aggregates),
        catalog: Catalog::default(),
        settings: registry.settings.clone(),
        lowering: Lowering::default(),
        inserts: Vec::new(),
        notes: Vec::new(),
        problems,
    };
    for statement in statements {
        job.run(statement);
    }
    if !has_insert && job.problems.len() == 0 {
        let end = tokens.last().map_or(Span::empty(), |token| token.span);
        let problem = Problem::new(end, "the job file has no INSERT INTO: nothing would run");
        job.problems.add(problem.help("write INSERT INTO <table> SELECT … FROM <table>"));
    }
    let inserts = job.add_sinks();
    job.problems.finish(file, text)?;
    let portability = job
        .notes
        .into_iter()
        .map(|(note, span)| format!("{file}:{}:{}: {note}", span.start.line, span.start.column))
        .collect();
    Ok(PlannedJob { graph: job.lowering.finish(), settings: job.settings, inserts, portability })
}

impl Job<'_> {
    fn run(&mut self, statement: Statement) {
        match statement {
            Statement::Set { key, value } => {
                let overridden = self.registry.settings.get_key_value(&key.text);
                let result = settings::set(&mut self.settings, key, value);
                self.problems.take(result);
                self.settings.extend(overridden.map(|(k, v)| (k.clone(), v.clone())));
            }
            Statement::CreateTable(declaration) => self.create_table(declaration),
            Statement::CreateView { name, columns, if_not_exists, query } => {
                self.create_view(&name, &columns, if_not_exists, &query);
            }
            Statement::Insert { table, columns, query } => self.insert(&table, &columns, &query),
            Statement::Broken { name } => {
                if self.catalog.get(&name.text).is_none() {
                    self.catalog.insert(&name.text, Relation::Broken);
                }
            }
        }
    }

    /// Whether the name is free; reports it where it is taken.
    fn is_new(&mut self, name: &Name, if_not_exists: bool) -> bool {
        if self.catalog.get(&name.text).is_none() {
            return true;
        }
        if !if_not_exists {
            let message = format!("'{}' is declared already", name.text);
            self.problems.add(Problem::new(name.span, message));
        }
        false
    }

    fn create_table(&mut self, declaration: TableDeclaration) {
        let name = declaration.name.clone();
        if !self.is_new(&name, declaration.if_not_exists) {
            return;
        }
        let idle_timeout = self.settings.get(settings::IDLE_TIMEOUT);
        let defaults = Defaults {
            on_error: self.registry.default_on_error,
            idle_timeout: idle_timeout.and_then(|text| parse_duration(text)),
            interceptors: &self.registry.interceptors,
        };
        let notes = std::cell::RefCell::new(Vec::new());
        let functions = &self.functions;
        let table =
            Table::declare(declaration, &self.registry.connectors, &defaults, &|spec, declared| {
                let mut notes = notes.borrow_mut();
                query::computed_columns(spec, declared, functions, &mut notes)
            });
        self.notes.append(&mut notes.into_inner());
        let relation = match self.problems.take(table) {
            Some(table) => Relation::Table(Arc::new(table)),
            None => Relation::Broken,
        };
        self.catalog.insert(&name.text, relation);
    }

    /// Plans a query; `None` where it is wrong, or rests on something that was reported already.
    fn plan_query(&mut self, tokens: &[TokenWithSpan]) -> Option<LogicalPlan> {
        if self.catalog.mentions_broken(tokens) {
            return None;
        }
        match query::plan(tokens, &self.catalog, &self.functions, &mut self.notes) {
            Ok(plan) => Some(plan),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.problems.add(problem));
                None
            }
        }
    }

    fn create_view(
        &mut self,
        name: &Name,
        columns: &[Name],
        if_not_exists: bool,
        tokens: &[TokenWithSpan],
    ) {
        if !self.is_new(name, if_not_exists) {
            return;
        }
        let plan = self.plan_query(tokens).and_then(|plan| {
            let view = rename(plan, name, columns);
            let view = self.problems.take(view)?;
            // Lowered on its own for its errors: they belong here, not where the view is used.
            let mut scratch = Lowering::default();
            let checked = query::optimize(view.clone(), tokens)
                .and_then(|plan| Query { lowering: &mut scratch, tokens }.lower(&plan, &name.text));
            self.problems.take(checked)?;
            Some(view)
        });
        let relation = plan.map_or(Relation::Broken, |plan| Relation::View(Arc::new(plan)));
        self.catalog.insert(&name.text, relation);
    }

    fn insert(&mut self, table: &Name, columns: &[Name], tokens: &[TokenWithSpan]) {
        let sink = match self.catalog.get(&table.text) {
            Some(Relation::Table(sink)) => Some(sink.clone()),
            Some(Relation::Broken) => None,
            Some(Relation::View(_)) => {
                let message =
                    format!("'{}' is a view: rows cannot be inserted into it", table.text);
                self.problems.add(Problem::new(table.span, message));
                None
            }
            None => {
                let names = self.catalog.names();
                let problem = Problem::new(table.span, format!("unknown table '{}'", table.text));
                let known = names.iter().map(String::as_str);
                self.problems.add(problem.suggest_or_list(&table.text, "there are", known));
                None
            }
        };
        if let Some(sink) = &sink {
            let writable = sink.sink();
            self.problems.take(writable);
        }
        let Some(plan) = self.plan_query(tokens) else { return };
        let result = self.add_insert(sink, columns, plan, tokens);
        self.problems.take(result);
    }

    fn add_insert(
        &mut self,
        sink: Option<Arc<Table>>,
        columns: &[Name],
        plan: LogicalPlan,
        tokens: &[TokenWithSpan],
    ) -> Fallible<()> {
        if leaves_window_open(&plan) {
            let span = tokens.first().map_or(Span::empty(), |token| token.span);
            return Err(Problem::new(span, NOT_AGGREGATED));
        }
        let plan = query::optimize(plan, tokens)?;
        let assigned = match &sink {
            Some(sink) => sink::assign(sink, columns, &plan, tokens),
            None => Ok(Vec::new()),
        };
        let assigned = self.problems.take(assigned);
        let mut query = Query { lowering: &mut self.lowering, tokens };
        let name = sink.as_ref().map_or("query", |table| table.name.text.as_str());
        let rows = query.lower(&plan, name)?;
        query.lowering.note_needs(&plan);
        let (Some(sink), Some(assigned)) = (sink, assigned) else { return Ok(()) };
        let node = sink::project(&mut query, &rows, &sink, &assigned)?;
        let same = |(other, _): &&mut (Arc<Table>, Vec<NodeId>)| Arc::ptr_eq(other, &sink);
        match self.inserts.iter_mut().find(same) {
            Some((_, nodes)) => nodes.push(node),
            None => self.inserts.push((sink, vec![node])),
        }
        Ok(())
    }

    /// Sinks come last: several queries that write one table share one sink.
    fn add_sinks(&mut self) -> Vec<PlannedInsert> {
        let mut planned = Vec::new();
        for (table, nodes) in std::mem::take(&mut self.inserts) {
            let sink = table.sink();
            let Some(sink) = self.problems.take(sink) else { continue };
            let sink = SinkNode { sink, retry: table.retry };
            let graph = &mut self.lowering.graph;
            let input = match nodes.as_slice() {
                [only] => *only,
                several => {
                    let edges = several.iter().copied().map(Edge::local).collect();
                    let union = Union::new(table.sink_spec.schema.clone());
                    let name = format!("union({})", table.name.text);
                    graph.add(name, edges, NodeKind::Operator(Arc::new(union)))
                }
            };
            let name = table.name.text.clone();
            let node = graph.add(name.clone(), vec![Edge::local(input)], NodeKind::Sink(sink));
            planned.push(PlannedInsert { table: name, node });
        }
        planned
    }
}

fn rename(plan: LogicalPlan, view: &Name, columns: &[Name]) -> Fallible<LogicalPlan> {
    if columns.is_empty() {
        return Ok(plan);
    }
    let given = plan.schema().fields().len();
    if given != columns.len() {
        let message = format!("the view names {} columns, its query has {given}", columns.len());
        return Err(Problem::new(view.span, message));
    }
    let names = columns.iter().map(|name| name.text.clone()).collect();
    query::rename(plan, names)
        .map_err(|error| Problem { span: view.span, ..explain_error::problem(&error, &[]) })
}
