//! Windowed aggregation by key.
//!
//! ```text
//! rows ─▶ place ─▶ combiner ─▶ EXCHANGE ─▶ merger ─▶ results        several shards
//! rows ─▶ place ─▶ fused ─▶ results                                 one shard
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `plan` | what is fixed for a job: expressions, aggregates, columns |
//! | `place`, `few` | decides each row's fate: its slice, late, or a dead letter |
//! | `table` | partial aggregates of the groups of one slice, growing or at rest |
//! | `cells` | the same for an integer key and the usual aggregates, faster |
//! | `aggregates`, `columns` | aggregates of groups that are numbered elsewhere: any, and the usual ones of doubles |
//! | `combiner`, `merger`, `fused` | the three operators |
//! | `parcel` | groups on their way from a combiner's table to a merger's |
//! | `windows`, `slices` | which window fires next, and the slices that it is made of |
//! | `session` | windows whose bounds depend on the rows of each key |
//!
//! Invariants: a (key, window) fires once, when the watermark reaches its end (a session: passes
//! it), and then its state is gone; a row enters exactly the windows that its own split's watermark
//! had not passed; nothing here depends on how rows were cut into batches, shards or epochs.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use tidemill_core::Result;
use tidemill_core::operator::{KeyedDescription, KeyedFactory, Operator, OperatorContext};
use tidemill_core::window::WindowSpec;

use crate::aggregate::AggregateSpec;

mod aggregates;
mod cells;
mod columns;
mod combiner;
mod emit;
mod few;
mod fused;
mod merger;
mod parcel;
mod place;
mod plan;
mod results;
mod session;
mod slices;
mod table;
mod windows;

use plan::Plan;

/// A windowed aggregation as the planner hands it over.
#[derive(Debug, Clone)]
pub struct WindowAggregateSpec {
    /// Columns of the rows.
    pub input: SchemaRef,
    /// How rows are grouped by time.
    pub window: WindowSpec,
    /// The event-time column: a timestamp in microseconds.
    pub time: usize,
    /// What rows are grouped by, with the names of the result's columns. None: one group.
    pub keys: Vec<(Arc<dyn PhysicalExpr>, String)>,
    /// The aggregates.
    pub aggregates: Vec<AggregateSpec>,
}

/// A windowed aggregation, as the runtime lays it out.
///
/// Its result has the columns `window_start` and `window_end` (timestamps in microseconds without
/// zone), `window_time` (of the event time's type: a millisecond before the end), then the keys,
/// then the aggregates. Keys that are dictionaries come out as their values; of `-0.0` and `0.0`,
/// which are one key, comes out `0.0`.
pub struct WindowAggregate {
    plan: Arc<Plan>,
}

impl WindowAggregate {
    /// Plans an aggregation.
    ///
    /// # Errors
    /// A configuration error that names the key or the aggregate that cannot be used, and why.
    pub fn new(spec: WindowAggregateSpec) -> Result<Self> {
        Ok(Self { plan: Arc::new(Plan::new(spec)?) })
    }
}

impl KeyedFactory for WindowAggregate {
    fn schema(&self) -> SchemaRef {
        self.plan.output.clone()
    }

    fn key_columns(&self) -> Vec<usize> {
        self.plan.key_columns().collect()
    }

    fn combiner(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(match self.plan.window {
            WindowSpec::Aligned(window) => {
                Box::new(combiner::Combiner::new(self.plan.clone(), window, context.shards))
            }
            WindowSpec::Session { gap } => {
                Box::new(session::Combiner::new(self.plan.clone(), gap)?)
            }
        })
    }

    fn merger(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(match self.plan.window {
            WindowSpec::Aligned(window) => {
                Box::new(merger::Merger::new(self.plan.clone(), window, context))
            }
            WindowSpec::Session { gap } => {
                Box::new(session::Merger::new(self.plan.clone(), gap, context)?)
            }
        })
    }

    fn fused(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(match self.plan.window {
            WindowSpec::Aligned(window) => {
                Box::new(fused::Fused::new(self.plan.clone(), window, context))
            }
            WindowSpec::Session { gap } => {
                Box::new(session::Fused::new(self.plan.clone(), gap, context)?)
            }
        })
    }

    fn describe(&self) -> KeyedDescription {
        self.plan.describe()
    }
}
