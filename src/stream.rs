//! The builder's streams: each call adds a node to the job's graph.
//!
//! Mistakes do not stop the chain: the first is kept, and reported when the job is started.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use parking_lot::Mutex;
use tidemill_core::dead_letter::OnError;
use tidemill_core::graph::{
    Alignment, Buffer, Edge, Graph, NodeId, NodeKind, Port, Routing, SinkNode, TimeAttribute,
};
use tidemill_core::operator::OperatorFactory;
use tidemill_core::retry::RetrySettings;
use tidemill_core::sink::Sink;
use tidemill_core::time::micros;
use tidemill_core::window::WindowSpec;
use tidemill_core::{Error, Result};
use tidemill_operators::{
    Filter, Function, Projection, RowOperator, Union, WindowAggregate, WindowAggregateSpec,
};

use crate::expr::{IntoExpr, Planner};
use crate::windows::{Watermarks, Window};

/// The graph that streams add to, and the first mistake made.
#[derive(Default)]
pub(crate) struct Draft {
    pub graph: Graph,
    pub mistake: Option<Error>,
    /// Sources that say themselves what becomes of their bad records.
    pub say_on_error: HashSet<NodeId>,
    /// The nodes that are users' functions.
    pub functions: HashMap<NodeId, Function>,
}

/// A stream of rows in a job that is being built. Clones read the same rows.
#[derive(Clone)]
pub struct Stream {
    pub(crate) draft: Arc<Mutex<Draft>>,
    pub(crate) node: NodeId,
    /// Which of the node's outputs.
    pub(crate) port: Port,
    /// The event-time column, by name; rows keep it through filters and projections.
    pub(crate) time: Option<String>,
}

/// A stream whose rows are grouped by keys.
pub struct Keyed {
    stream: Stream,
    keys: Vec<Expr>,
}

/// A stream whose rows are grouped by keys and windows.
pub struct Windowed {
    stream: Stream,
    keys: Vec<Expr>,
    window: Result<WindowSpec>,
    name: Option<String>,
    late: Option<Arc<dyn Sink>>,
}

impl Stream {
    /// The columns of its rows.
    pub fn schema(&self) -> SchemaRef {
        self.draft.lock().graph.schema(self.node, self.port)
    }

    /// Time comes from a timestamp column of this source, in microseconds.
    #[must_use]
    pub fn event_time(mut self, column: &str, watermarks: Watermarks) -> Self {
        let schema = self.schema();
        let result = (|| {
            let index = schema.index_of(column).map_err(|_| unknown_column(column, &schema))?;
            if *schema.field(index).data_type() != crate::expr::TIMESTAMP {
                let found = schema.field(index).data_type();
                return Err(Error::configuration(format!(
                    "event time needs a timestamp in microseconds; `{column}` is {found}"
                )));
            }
            let strategy = watermarks.strategy()?;
            self.set_time(TimeAttribute::Event { column: index, strategy })
        })();
        self.keep(result);
        self.time = Some(column.to_owned());
        self
    }

    /// What becomes of this source's records that cannot be decoded or processed. If not said: a dead
    /// letter where the job makes checkpoints, else the job fails.
    #[must_use]
    pub fn on_error(self, on_error: OnError) -> Self {
        let result = self.with_source(|source| source.on_error = on_error);
        self.draft.lock().say_on_error.insert(self.node);
        self.keep(result);
        self
    }

    /// At most so many rows per second from this source.
    #[must_use]
    pub fn rate_limit(self, rows_per_second: u64) -> Self {
        let result = self.with_source(|source| source.rate_limit = Some(rows_per_second));
        self.keep(result);
        self
    }

    /// What becomes of this source's records that come faster than they are processed. If not said, they are
    /// not read before there is room for them.
    #[must_use]
    pub fn buffer(self, buffer: Buffer) -> Self {
        let result = self.with_source(|source| source.buffer = buffer);
        self.keep(result);
        self
    }

    /// Sources of the same `group` wait for their slowest split: one that is more than `max_drift` of
    /// event time ahead of it is not read until it is ahead by seven eighths of that at most.
    #[must_use]
    pub fn align(self, group: &str, max_drift: Duration) -> Self {
        let result = micros(max_drift)
            .ok_or_else(|| Error::configuration("the drift that is allowed is too long"))
            .and_then(|max_drift| {
                let alignment = Alignment { group: group.to_owned(), max_drift };
                self.with_source(|source| source.alignment = Some(alignment))
            });
        self.keep(result);
        self
    }

    fn set_time(&self, time: TimeAttribute) -> Result<()> {
        self.with_source(|source| source.time = time)
    }

    pub(crate) fn with_source(
        &self,
        change: impl FnOnce(&mut tidemill_core::graph::SourceNode),
    ) -> Result<()> {
        match &mut self.draft.lock().graph.node_mut(self.node).kind {
            NodeKind::Source(source) => {
                change(source);
                Ok(())
            }
            _ => Err(Error::configuration(
                "event_time(), on_error(), rate_limit(), buffer() and align() belong right behind source()",
            )),
        }
    }

    /// Keeps the rows whose predicate is true.
    #[must_use]
    pub fn filter(self, predicate: Expr) -> Self {
        self.operator("filter", |schema| {
            let (predicate, _) = Planner::new(&schema)?.physical(&predicate)?;
            Ok(Arc::new(Filter::new(schema, predicate)?))
        })
    }

    /// Computes columns; only these go on. The event-time column must be among them to be windowed.
    #[must_use]
    pub fn select<E: IntoExpr>(self, columns: impl IntoIterator<Item = E>) -> Self {
        let columns: Vec<Expr> = columns.into_iter().map(IntoExpr::into_expr).collect();
        self.operator("select", |schema| {
            let planner = Planner::new(&schema)?;
            let columns: Result<Vec<_>> = columns.iter().map(|c| planner.physical(c)).collect();
            Ok(Arc::new(RowOperator(Arc::new(Projection::new(schema, columns?)?))))
        })
    }

    /// Adds an operator of your own.
    #[must_use]
    pub fn apply(self, name: &str, operator: impl OperatorFactory + 'static) -> Self {
        self.operator(name, |_| Ok(Arc::new(operator)))
    }

    /// Rows of both streams, which have the same columns.
    #[must_use]
    pub fn union(self, other: &Stream) -> Self {
        let (schema, theirs) = (self.schema(), other.schema());
        let same = schema
            .fields()
            .iter()
            .map(|f| f.data_type())
            .eq(theirs.fields().iter().map(|f| f.data_type()));
        if !same {
            self.keep(Err(Error::configuration(
                "union() needs streams with the same column types",
            )));
            return self;
        }
        let edges = vec![self.edge(), other.edge()];
        let union = NodeKind::Operator(Arc::new(Union::new(schema)));
        let node = self.draft.lock().graph.add("union", edges, union);
        Self { node, port: Port::Main, ..self }
    }

    /// Groups rows by columns or expressions.
    #[must_use]
    pub fn key_by<E: IntoExpr>(self, keys: impl IntoIterator<Item = E>) -> Keyed {
        let keys = keys.into_iter().map(IntoExpr::into_expr).collect();
        Keyed { stream: self, keys }
    }

    /// Groups all rows together by windows, without a key.
    #[must_use]
    pub fn window(self, window: impl Window) -> Windowed {
        Keyed { stream: self, keys: Vec::new() }.window(window)
    }

    /// Sends the rows to a sink.
    pub fn sink(self, sink: impl Sink + 'static) {
        self.sink_named("sink", sink);
    }

    /// Sends the rows to a sink that metrics, checkpoints and `explain` call `name`.
    pub fn sink_named(self, name: &str, sink: impl Sink + 'static) {
        self.sink_with(name, sink, RetrySettings::default());
    }

    /// Sends the rows to a sink called `name`, whose calls that fail for a while are made again as
    /// `retry` says.
    pub fn sink_with(self, name: &str, sink: impl Sink + 'static, retry: RetrySettings) {
        let kind = NodeKind::Sink(SinkNode { sink: Arc::new(sink), retry });
        self.draft.lock().graph.add(name, vec![self.edge()], kind);
    }

    fn edge(&self) -> Edge {
        Edge { from: self.node, port: self.port, routing: Routing::Local }
    }

    pub(crate) fn operator(
        self,
        name: &str,
        make: impl FnOnce(SchemaRef) -> Result<Arc<dyn OperatorFactory>>,
    ) -> Self {
        match make(self.schema()) {
            Ok(factory) => {
                let edges = vec![self.edge()];
                let node = self.draft.lock().graph.add(name, edges, NodeKind::Operator(factory));
                Self { node, port: Port::Main, ..self }
            }
            Err(error) => {
                self.keep(Err(error.at(name)));
                self
            }
        }
    }

    pub(crate) fn keep(&self, result: Result<()>) {
        if let Err(error) = result {
            self.draft.lock().mistake.get_or_insert(error);
        }
    }
}

impl Keyed {
    /// Groups rows by windows over the source's time.
    #[must_use]
    pub fn window(self, window: impl Window) -> Windowed {
        let Self { stream, keys } = self;
        Windowed { stream, keys, window: window.spec(), name: None, late: None }
    }
}

impl Windowed {
    /// What metrics, checkpoints and `explain` call the aggregate.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Rows that come too late for all their windows go there, as they are.
    #[must_use]
    pub fn late_rows_to(mut self, sink: impl Sink + 'static) -> Self {
        self.late = Some(Arc::new(sink));
        self
    }

    /// One row for each key and window: `window_start`, `window_end`, `window_time`, the keys, and
    /// the results of these aggregate calls.
    #[must_use]
    pub fn aggregate(self, aggregates: impl IntoIterator<Item = Expr>) -> Stream {
        let aggregates: Vec<Expr> = aggregates.into_iter().collect();
        let Self { stream, keys, window, name, late } = self;
        let planned = plan_window(&stream, &keys, window, &aggregates);
        let aggregate = match planned {
            Ok(aggregate) => aggregate,
            Err(error) => {
                stream.keep(Err(error.at("window aggregate")));
                return stream;
            }
        };
        let name = name.unwrap_or_else(|| "window".to_owned());
        let mut draft = stream.draft.lock();
        let edges = vec![stream.edge()];
        let node = draft.graph.add(&name, edges, NodeKind::Keyed(Arc::new(aggregate)));
        if let Some(late) = late {
            let edge = Edge { from: node, port: Port::Late, routing: Routing::Local };
            draft.graph.add(
                format!("{name}-late"),
                vec![edge],
                NodeKind::Sink(SinkNode::new(late)),
            );
        }
        drop(draft);
        Stream { node, port: Port::Main, time: Some("window_time".to_owned()), ..stream }
    }
}

fn plan_window(
    stream: &Stream,
    keys: &[Expr],
    window: Result<WindowSpec>,
    aggregates: &[Expr],
) -> Result<WindowAggregate> {
    let input = stream.schema();
    let Some(time) = &stream.time else {
        return Err(Error::configuration(
            "a window needs time: call event_time() right behind source()",
        ));
    };
    let time = input.index_of(time).map_err(|_| unknown_column(time, &input))?;
    let planner = Planner::new(&input)?;
    let keys: Result<Vec<_>> = keys.iter().map(|key| planner.physical(key)).collect();
    let aggregates: Result<Vec<_>> = aggregates.iter().map(|a| planner.aggregate(a)).collect();
    let spec =
        WindowAggregateSpec { input, window: window?, time, keys: keys?, aggregates: aggregates? };
    WindowAggregate::new(spec)
}

fn unknown_column(column: &str, schema: &SchemaRef) -> Error {
    let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    Error::configuration(format!(
        "there is no column `{column}` here; there are: {}",
        known.join(", ")
    ))
}
