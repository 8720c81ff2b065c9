//! Flink SQL job files, planned into dataflow graphs.
//!
//! ```text
//! text ─▶ tokens ─▶ statements ─▶ tables, views ─▶ syntax tree ─▶ logical plan ─▶ graph
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `token`, `statement`, `types`, `interval` | reading the file, DDL by hand |
//! | `catalog`, `settings` | what is declared, checked at once |
//! | `windowing`, `rewrite`, `naming` | Flink's syntax that the parser of queries lacks; what is refused |
//! | `functions` | what can be called |
//! | `context`, `query`, `text` | DataFusion's planner: names, types, simplification |
//! | `clock` | `PROCTIME()` in a query |
//! | `lower`, `aggregate`, `relation`, `sink`, `nullability` | logical plan to graph |
//! | `demand` | what sources need not make |
//! | `diagnostic`, `explain_error`, `secrets` | all errors of a file, each at its place |
//!
//! This crate knows no connector and no runtime: connectors come in through their factories, and
//! what goes out is a [`Graph`]. Invariant: a job either means here what it means in Flink, or it is
//! refused with a reason at the position of what is wrong.

#![deny(missing_docs)]

mod aggregate;
mod catalog;
mod clock;
mod context;
mod demand;
mod diagnostic;
mod explain_error;
mod flow;
mod functions;
mod interval;
mod job;
mod lower;
mod naming;
mod nested;
mod nullability;
mod query;
mod relation;
mod rewrite;
mod secrets;
mod settings;
mod sink;
mod statement;
mod text;
mod token;
mod types;
mod windowing;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_expr::{AggregateUDF, ScalarUDF};
use tidemill_core::Error;
use tidemill_core::dead_letter::OnError;
use tidemill_core::graph::{Graph, NodeId};
use tidemill_core::interceptor::Interceptor;
use tidemill_core::table::ConnectorFactory;

use crate::catalog::Interceptors;

pub use diagnostic::{Diagnostic, Diagnostics};

/// What job files may use: connectors, and functions of one's own.
#[derive(Clone)]
pub struct Registry {
    connectors: Vec<Arc<dyn ConnectorFactory>>,
    scalars: Vec<Arc<ScalarUDF>>,
    aggregates: Vec<Arc<AggregateUDF>>,
    default_on_error: OnError,
    interceptors: Interceptors,
    settings: BTreeMap<String, String>,
}

impl Registry {
    /// These connectors, the built-in functions, and sources that fail on a bad record unless
    /// their table says otherwise.
    pub fn new(connectors: Vec<Arc<dyn ConnectorFactory>>) -> Self {
        Self {
            connectors,
            scalars: Vec::new(),
            aggregates: Vec::new(),
            default_on_error: OnError::Fail,
            interceptors: Interceptors::new(),
            settings: BTreeMap::new(),
        }
    }

    /// The same with a scalar function; it hides a built-in one of its name.
    #[must_use]
    pub fn with_udf(mut self, function: Arc<ScalarUDF>) -> Self {
        self.scalars.push(function);
        self
    }

    /// The same with an aggregate function; it hides a built-in one of its name.
    #[must_use]
    pub fn with_udaf(mut self, function: Arc<AggregateUDF>) -> Self {
        self.aggregates.push(function);
        self
    }

    /// The same with another `'on-error'` for tables that do not say it.
    #[must_use]
    pub fn with_default_on_error(mut self, on_error: OnError) -> Self {
        self.default_on_error = on_error;
        self
    }

    /// The same with an interceptor that tables may name in `'interceptors'`; it takes the place of one of
    /// the same name.
    #[must_use]
    pub fn with_interceptor(
        mut self,
        name: impl Into<String>,
        interceptor: Arc<dyn Interceptor>,
    ) -> Self {
        self.interceptors.insert(name.into(), interceptor);
        self
    }

    /// Whether tables may name such an interceptor.
    pub fn has_interceptor(&self, name: &str) -> bool {
        self.interceptors.contains_key(name)
    }

    /// The same with a setting that wins over the job file's.
    ///
    /// # Errors
    /// A key that does not exist, or a value that makes no sense.
    pub fn with_setting(mut self, key: &str, value: &str) -> tidemill_core::Result<Self> {
        settings::check(key, value).map_err(|wrong| match wrong {
            settings::Wrong::Value(message) => Error::option(key, message),
            settings::Wrong::Key => {
                let known: Vec<_> = settings::names().collect();
                let known = known.join("', '");
                Error::option(key, format!("unknown setting '{key}': there are '{known}'"))
            }
        })?;
        self.settings.insert(key.to_owned(), value.to_owned());
        Ok(self)
    }
}

/// A job file as it will run.
pub struct PlannedJob {
    /// What is computed.
    pub graph: Graph,
    /// Every `SET`, keys and values checked.
    pub settings: BTreeMap<String, String>,
    /// The sinks, in the order in which the file first inserts into them.
    pub inserts: Vec<PlannedInsert>,
    /// What Flink would not take, each with its position.
    pub portability: Vec<String>,
}

/// A table that the job writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedInsert {
    /// The table's name.
    pub table: String,
    /// Its sink in the graph.
    pub node: NodeId,
}

/// Plans a job file. `file_name` stands in errors; `env` gives the variables that string literals
/// may name.
///
/// # Errors
/// All that is wrong with the file, each at its position.
pub fn plan(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    registry: &Registry,
) -> Result<PlannedJob, Diagnostics> {
    job::plan(file_name, text, env, registry)
}
