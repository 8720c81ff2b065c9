//! Logical plan → dataflow graph.
//!
//! Goes from the tables up. What several queries share (a table, a view) becomes one node. A
//! projection that only renames leaves no node behind; a windowing call neither, until an
//! aggregation groups by its columns. Invariant: a plan node that is not known here is refused by
//! name.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::{
    Aggregate, Filter as FilterPlan, LogicalPlan, Projection as ProjectionPlan, TableScan,
    Union as UnionPlan,
};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{CastExpr, Column as PhysicalColumn};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, TokenWithSpan};
use tidemill_core::graph::{Edge, Graph, NodeId, NodeKind, Port, SourceNode, TimeAttribute};
use tidemill_core::need::Need;
use tidemill_operators::{Filter, Projection, RowOperator, Union};

use crate::catalog::Table;
use crate::context::TableHandle;
use crate::demand;
use crate::diagnostic::{Fallible, Problem};
use crate::explain_error;
use crate::query::physical;
use crate::relation::{Assigned, Column, Fired, NOT_AGGREGATED, Rows, Value};
use crate::token::is_word;
use crate::windowing::{Part, WindowBound};

/// A graph that grows by one query after the other.
#[derive(Default)]
pub(crate) struct Lowering {
    pub graph: Graph,
    sources: HashMap<(String, bool), NodeId>,
    /// What the queries look at of each source's table.
    needs: HashMap<NodeId, (Arc<Table>, Vec<Need>)>,
    done: HashMap<LogicalPlan, Rows>,
}

impl Lowering {
    /// Notes what a query that has been lowered looks at of the tables that it reads.
    pub fn note_needs(&mut self, plan: &LogicalPlan) {
        demand::of_plan(plan, &mut |scan, needs| {
            let Some(TableHandle(table)) = scan.source.downcast_ref::<TableHandle>() else {
                return;
            };
            let read = Read::of(scan, table);
            let Some(node) = self.sources.get(&read.key()) else { return };
            let nothing = || (table.clone(), vec![Need::Nothing; table.schema.fields().len()]);
            let (_, noted) = self.needs.entry(*node).or_insert_with(nothing);
            read.columns.iter().zip(needs).for_each(|(column, need)| noted[*column].add(need));
        });
    }

    /// The graph, with sources that make no more than what was noted.
    pub fn finish(mut self) -> Graph {
        for (node, (table, needs)) in self.needs {
            let NodeKind::Source(source) = &mut self.graph.node_mut(node).kind else { continue };
            if let Some(reading) = source.source.reading(&table.needs_of_source(needs)) {
                source.source = reading;
            }
        }
        self.graph
    }
}

/// What a scan reads of a table.
struct Read<'a> {
    table: &'a Table,
    columns: Vec<usize>,
    reads_clock: bool,
}

impl<'a> Read<'a> {
    fn of(scan: &TableScan, table: &'a Table) -> Self {
        let all = || (0..table.schema.fields().len()).collect();
        let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
        let reads_clock = table.processing_time.is_some_and(|column| columns.contains(&column));
        Self { table, columns, reads_clock }
    }

    /// What its node is found by: a query that reads the clock has another time.
    fn key(&self) -> (String, bool) {
        (self.table.name.text.clone(), self.reads_clock)
    }
}

/// One query on its way into the graph.
pub(crate) struct Query<'a> {
    pub lowering: &'a mut Lowering,
    /// The statement's tokens, for positions.
    pub tokens: &'a [TokenWithSpan],
}

impl Query<'_> {
    /// Adds what the plan needs; `name` is what the nodes are called after.
    pub fn lower(&mut self, plan: &LogicalPlan, name: &str) -> Fallible<Rows> {
        if let Some(rows) = self.lowering.done.get(plan) {
            return Ok(rows.clone());
        }
        let rows = match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan)?,
            LogicalPlan::SubqueryAlias(alias) => self.lower(&alias.input, alias.alias.table())?,
            LogicalPlan::Projection(projection) => self.projection(projection, name)?,
            LogicalPlan::Filter(filter) => self.filter(filter, name)?,
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, name)?,
            LogicalPlan::Union(union) => self.union(union, name)?,
            other => return Err(self.refused(other)),
        };
        self.lowering.done.insert(plan.clone(), rows.clone());
        Ok(rows)
    }

    fn refused(&self, plan: &LogicalPlan) -> Problem {
        let (word, message) = match plan {
            LogicalPlan::Join(_) => ("JOIN", "JOIN is not supported yet"),
            LogicalPlan::Sort(_) => ("ORDER", "ORDER BY is not supported"),
            LogicalPlan::Limit(_) => ("LIMIT", "LIMIT is not supported"),
            LogicalPlan::Distinct(_) => ("DISTINCT", "DISTINCT is not supported"),
            LogicalPlan::Window(_) => ("OVER", "OVER windows are not supported"),
            LogicalPlan::Unnest(_) => ("UNNEST", "UNNEST is not supported yet"),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
                ("SELECT", "a query needs a table to read")
            }
            _ => ("SELECT", "this query is not supported on a stream"),
        };
        Problem::new(self.word(word), message)
    }

    /// Where a keyword stands in the statement, or else where the statement starts.
    pub fn word(&self, word: &str) -> Span {
        let found = self.tokens.iter().find(|token| is_word(&token.token, word));
        found.or(self.tokens.first()).map_or(Span::empty(), |token| token.span)
    }

    pub fn schema(&self, node: NodeId) -> SchemaRef {
        self.lowering.graph.schema(node, Port::Main)
    }

    pub fn fields(&self, node: NodeId) -> Vec<FieldRef> {
        self.schema(node).fields().to_vec()
    }

    fn failed(&self, error: &DataFusionError) -> Problem {
        explain_error::problem(error, self.tokens)
    }

    pub fn operator_failed(&self, error: &tidemill_core::Error) -> Problem {
        Problem::new(self.word("SELECT"), error.to_string())
    }

    /// An expression of the logical plan over the rows of a node.
    pub fn over(
        &self,
        rows: &Rows,
        schema: &DFSchema,
        expr: &Expr,
    ) -> Fallible<Arc<dyn PhysicalExpr>> {
        self.check_bounds(expr)?;
        let planned =
            physical(expr, schema).and_then(|expr| rows.over_node(expr, &self.fields(rows.node)));
        planned.map_err(|error| {
            let problem = self.failed(&error);
            match span_of(expr) {
                Some(span) => Problem { span, ..problem },
                None => problem,
            }
        })
    }

    /// A bound of a window inside an expression must be computable from the row.
    fn check_bounds(&self, expr: &Expr) -> Fallible<()> {
        let mut wrong = false;
        let visited = expr.apply(|node| {
            wrong |= bound(node).is_some_and(|bound| !bound.is_computable());
            Ok(TreeNodeRecursion::Continue)
        });
        if wrong || visited.is_err() {
            let span = span_of(expr).unwrap_or_else(|| self.word("SELECT"));
            return Err(Problem::new(span, NOT_AGGREGATED));
        }
        Ok(())
    }

    fn scan(&mut self, scan: &TableScan) -> Fallible<Rows> {
        let Some(TableHandle(table)) = scan.source.downcast_ref::<TableHandle>() else {
            return Err(Problem::new(self.word("FROM"), "this table is not supported"));
        };
        let table = table.clone();
        let read = Read::of(scan, &table);
        let reads_clock = read.reads_clock;
        let node = self.source(&read)?;
        let time = match (reads_clock, table.processing_time, table.watermark) {
            (true, column, _) => column,
            (false, _, watermark) => watermark.map(|(column, _)| column),
        };
        let column =
            |index: &usize| Column { is_time: time == Some(*index), ..Column::stored(*index) };
        Ok(Rows { node, columns: read.columns.iter().map(column).collect() })
    }

    fn source(&mut self, read: &Read<'_>) -> Fallible<NodeId> {
        let (table, reads_clock, key) = (read.table, read.reads_clock, read.key());
        if let Some(node) = self.lowering.sources.get(&key) {
            return Ok(*node);
        }
        let time = match (table.processing_time.filter(|_| reads_clock), table.watermark) {
            (Some(column), _) => TimeAttribute::Processing { column },
            (None, Some((column, strategy))) => TimeAttribute::Event { column, strategy },
            (None, None) => TimeAttribute::None,
        };
        let source = SourceNode {
            source: table.source()?,
            computed: table.computed.as_ref().map(|computed| computed.function.clone()),
            time,
            rate_limit: table.rate_limit,
            buffer: table.buffer,
            on_error: table.on_error,
            alignment: table.alignment.clone(),
        };
        let kind = NodeKind::Source(source);
        let node = self.lowering.graph.add(table.name.text.clone(), Vec::new(), kind);
        self.lowering.sources.insert(key, node);
        Ok(node)
    }

    fn projection(&mut self, projection: &ProjectionPlan, name: &str) -> Fallible<Rows> {
        let rows = self.lower(&projection.input, name)?;
        let schema = projection.input.schema();
        let wanted = projection.expr.iter().zip(projection.schema.fields()).map(|(expr, field)| {
            Ok(match self.as_column(&rows, schema, expr)? {
                Some(column) => Wanted::Column(column),
                None => Wanted::Computed(self.over(&rows, schema, expr)?, field.name().clone()),
            })
        });
        let wanted = wanted.collect::<Fallible<Vec<_>>>()?;
        self.store(&rows, wanted, name)
    }

    /// The column that an expression merely names, or the window that it assigns.
    pub fn as_column(
        &self,
        rows: &Rows,
        schema: &DFSchema,
        expr: &Expr,
    ) -> Fallible<Option<Column>> {
        match expr.clone().unalias_nested().data {
            Expr::Column(column) => {
                let index = schema.index_of_column(&column).map_err(|error| self.failed(&error))?;
                Ok(Some(rows.columns[index].clone()))
            }
            call @ Expr::ScalarFunction(_) if bound(&call).is_some() => {
                self.assigned(rows, schema, &call).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The window that a call of a [`WindowBound`] assigns to rows.
    fn assigned(&self, rows: &Rows, schema: &DFSchema, call: &Expr) -> Fallible<Column> {
        let (Expr::ScalarFunction(function), Some(bound)) = (call, bound(call)) else {
            return Err(Problem::new(self.word("SELECT"), NOT_AGGREGATED));
        };
        let span = span_of(call).unwrap_or_else(|| self.word("FROM"));
        let mut stored = Vec::new();
        for (position, argument) in function.args.iter().enumerate() {
            let column = self.as_column(rows, schema, argument)?;
            match column {
                Some(Column { value: Value::Stored(index), is_time, .. })
                    if is_time || position > 0 =>
                {
                    stored.push(index);
                }
                _ if position > 0 => {
                    return Err(Problem::new(span, "PARTITION BY takes plain columns"));
                }
                _ => return Err(not_time(span, argument)),
            }
        }
        let [time, partition @ ..] = stored.as_slice() else {
            return Err(Problem::new(span, "a window needs a time column"));
        };
        let assigned = Assigned {
            function: function.func.clone(),
            spec: bound.spec,
            sessions: bound.sessions,
            time: *time,
            partition: partition.to_vec(),
        };
        let is_time = bound.part == Part::Time && bound.is_computable();
        Ok(Column { value: Value::Assigned(bound.part, assigned), is_time, fired: None })
    }

    fn filter(&mut self, filter: &FilterPlan, name: &str) -> Fallible<Rows> {
        let rows = self.lower(&filter.input, name)?;
        let rows = self.narrow(rows, name)?;
        let schema = filter.input.schema();
        let predicate = self.over(&rows, schema, &filter.predicate).map_err(|problem| {
            if problem.message == NOT_AGGREGATED { too_early(problem.span) } else { problem }
        })?;
        let operator = Filter::new(self.schema(rows.node), predicate)
            .map_err(|error| self.operator_failed(&error))?;
        let kind = NodeKind::Operator(Arc::new(operator));
        let node =
            self.lowering.graph.add(format!("filter({name})"), vec![Edge::local(rows.node)], kind);
        Ok(Rows { node, ..rows })
    }

    /// Drops stored columns that nothing refers to, so that a filter does not copy them.
    fn narrow(&mut self, rows: Rows, name: &str) -> Fallible<Rows> {
        let mut used: Vec<usize> = rows.columns.iter().flat_map(stored_columns).collect();
        used.sort_unstable();
        used.dedup();
        if used.is_empty() || used.len() == self.schema(rows.node).fields().len() {
            return Ok(rows);
        }
        let wanted = rows.columns.iter().cloned().map(Wanted::Column).collect();
        self.project(&rows, wanted, name)
    }

    /// Rows with these columns; a new node only where something is computed.
    fn store(&mut self, rows: &Rows, wanted: Vec<Wanted>, name: &str) -> Fallible<Rows> {
        if wanted.iter().any(|wanted| matches!(wanted, Wanted::Computed(..))) {
            return self.project(rows, wanted, name);
        }
        let columns = wanted.into_iter().filter_map(|wanted| match wanted {
            Wanted::Column(column) => Some(column),
            Wanted::Computed(..) => None,
        });
        Ok(Rows { node: rows.node, columns: columns.collect() })
    }

    fn project(&mut self, rows: &Rows, wanted: Vec<Wanted>, name: &str) -> Fallible<Rows> {
        let fields = self.fields(rows.node);
        let mut new = Stored { fields: &fields, columns: Vec::new(), moved: HashMap::new() };
        let columns = wanted
            .into_iter()
            .map(|wanted| match wanted {
                Wanted::Computed(expr, name) => {
                    new.columns.push((expr, name));
                    Column::stored(new.columns.len() - 1)
                }
                Wanted::Column(column) => new.keep(column),
            })
            .collect();
        let columns_to_compute = new.columns;
        let node = self.add_projection(rows.node, columns_to_compute, name)?;
        Ok(Rows { node, columns })
    }

    /// A projection node over the rows of `input`.
    pub fn add_projection(
        &mut self,
        input: NodeId,
        columns: Vec<(Arc<dyn PhysicalExpr>, String)>,
        name: &str,
    ) -> Fallible<NodeId> {
        let projection = Projection::new(self.schema(input), columns)
            .map_err(|error| self.operator_failed(&error))?;
        let operator = NodeKind::Operator(Arc::new(RowOperator(Arc::new(projection))));
        let inputs = vec![Edge::local(input)];
        Ok(self.lowering.graph.add(format!("project({name})"), inputs, operator))
    }

    fn union(&mut self, union: &UnionPlan, name: &str) -> Fallible<Rows> {
        let schema = union.schema.as_arrow();
        let mut inputs = Vec::new();
        let mut is_time = vec![true; schema.fields().len()];
        for input in &union.inputs {
            let rows = self.lower(input, name)?;
            for (all, column) in is_time.iter_mut().zip(&rows.columns) {
                *all &= column.is_time;
            }
            inputs.push(self.lay_out(&rows, schema.fields(), name)?);
        }
        let nullable =
            |index: usize| inputs.iter().any(|node| self.schema(*node).field(index).is_nullable());
        let fields: Vec<_> = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| field.as_ref().clone().with_nullable(nullable(index)))
            .collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let kind = NodeKind::Operator(Arc::new(Union::new(schema)));
        let edges = inputs.into_iter().map(Edge::local).collect();
        let node = self.lowering.graph.add(format!("union({name})"), edges, kind);
        let columns = is_time.into_iter().enumerate();
        let columns = columns.map(|(index, is_time)| Column { is_time, ..Column::stored(index) });
        Ok(Rows { node, columns: columns.collect() })
    }

    /// A node whose rows have exactly these columns.
    pub fn lay_out(&mut self, rows: &Rows, wanted: &[FieldRef], name: &str) -> Fallible<NodeId> {
        let fields = self.fields(rows.node);
        let mut as_is = fields.len() == wanted.len();
        let mut columns = Vec::new();
        for (index, field) in wanted.iter().enumerate() {
            let Some(expr) = rows.expression(index, &fields) else {
                return Err(Problem::new(self.word("SELECT"), NOT_AGGREGATED));
            };
            let stored = expr.downcast_ref::<PhysicalColumn>().map(PhysicalColumn::index);
            as_is &= stored == Some(index) && fields[index].name() == field.name();
            let data_type =
                expr.data_type(&self.schema(rows.node)).map_err(|error| self.failed(&error))?;
            let expr = if data_type == *field.data_type() {
                expr
            } else {
                as_is = false;
                Arc::new(CastExpr::new(expr, field.data_type().clone(), None))
            };
            columns.push((expr, field.name().clone()));
        }
        if as_is { Ok(rows.node) } else { self.add_projection(rows.node, columns, name) }
    }

    fn aggregate(&mut self, aggregate: &Aggregate, name: &str) -> Fallible<Rows> {
        let rows = self.lower(&aggregate.input, name)?;
        crate::aggregate::lower(self, aggregate, rows, name)
    }
}

/// A column of a projection.
enum Wanted {
    Column(Column),
    Computed(Arc<dyn PhysicalExpr>, String),
}

/// The columns of a new projection node.
struct Stored<'a> {
    fields: &'a [FieldRef],
    columns: Vec<(Arc<dyn PhysicalExpr>, String)>,
    moved: HashMap<usize, usize>,
}

impl Stored<'_> {
    /// Where a stored column of the input is found in the new rows.
    fn index(&mut self, old: usize) -> usize {
        if let Some(new) = self.moved.get(&old) {
            return *new;
        }
        let name = self.fields[old].name().clone();
        self.columns.push((Arc::new(PhysicalColumn::new(&name, old)), name));
        self.moved.insert(old, self.columns.len() - 1);
        self.columns.len() - 1
    }

    fn keep(&mut self, column: Column) -> Column {
        let value = match column.value {
            Value::Stored(old) => Value::Stored(self.index(old)),
            Value::Assigned(part, assigned) => {
                let time = self.index(assigned.time);
                let partition = assigned.partition.iter().map(|old| self.index(*old)).collect();
                Value::Assigned(part, Assigned { time, partition, ..assigned })
            }
        };
        let fired = column.fired.map(|fired| Fired { time: self.index(fired.time), ..fired });
        Column { value, fired, ..column }
    }
}

fn stored_columns(column: &Column) -> Vec<usize> {
    let mut stored: Vec<usize> = column.fired.iter().map(|fired| fired.time).collect();
    match &column.value {
        Value::Stored(index) => stored.push(*index),
        Value::Assigned(_, assigned) => {
            stored.push(assigned.time);
            stored.extend(&assigned.partition);
        }
    }
    stored
}

/// The window's bound that an expression calls.
/// Whether rows that a window repeats (all but tumbling ones) reach the top of a plan without an
/// aggregation that takes the window up, shown or not.
pub(crate) fn leaves_window_open(plan: &LogicalPlan) -> bool {
    let repeats = |expr: &Expr| {
        let call = expr.clone().unalias();
        bound(&call).is_some_and(|bound| !bound.is_computable())
    };
    match plan {
        LogicalPlan::Aggregate(_) => false,
        LogicalPlan::Projection(projection) if projection.expr.iter().any(repeats) => true,
        other => other.inputs().into_iter().any(leaves_window_open),
    }
}

/// Where an expression stands: its first column that still knows.
pub(crate) fn span_of(expr: &Expr) -> Option<Span> {
    let mut span = None;
    let visited = expr.apply(|node| {
        if let Expr::Column(column) = node
            && let Some(at) = column.spans.first()
        {
            let location = |at: datafusion_common::Location| Location::new(at.line, at.column);
            span = Some(Span::new(location(at.start), location(at.end)));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.ok().and(span)
}

pub(crate) fn bound(expr: &Expr) -> Option<&WindowBound> {
    match expr {
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<WindowBound>(),
        _ => None,
    }
}

/// A row is in several overlapping windows, so it has no bounds to compare until it is grouped.
fn too_early(span: Span) -> Problem {
    let message = "a condition on the bounds of overlapping windows comes before the windows are \
                   aggregated";
    Problem::new(span, message)
        .help("put it behind GROUP BY window_start, window_end: HAVING window_end > …")
}

fn not_time(span: Span, argument: &Expr) -> Problem {
    let name = match argument {
        Expr::Column(column) => column.name.clone(),
        other => other.to_string(),
    };
    Problem::new(span, format!("column '{name}' is not a time attribute")).help(
        "windows need a column with WATERMARK FOR, one declared AS PROCTIME(), or window_time; a \
         query that reads a PROCTIME() column has that as its only time",
    )
}
