//! What a part of a query has become in the graph: a node, and where each column of the logical
//! plan is found in the node's rows.
//!
//! A window that was assigned to rows is not stored with them: its columns say which window of
//! which time column they mean, until an aggregation takes them up.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion_common::DataFusionError;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::ScalarUDF;
use datafusion_physical_expr::expressions::Column as PhysicalColumn;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use tidemill_core::graph::NodeId;
use tidemill_core::window::WindowSpec;

use crate::context::config;
use crate::windowing::{Part, Sessions, WindowBound};

/// Rows on a node.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub node: NodeId,
    pub columns: Vec<Column>,
}

/// Where a column of the logical plan is found.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub value: Value,
    /// Whether it is the rows' time, so that windows can be made of it.
    pub is_time: bool,
    /// Which part of which window it shows, where an aggregation has put it there.
    pub fired: Option<Fired>,
}

/// The value of a column.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A column of the node's rows.
    Stored(usize),
    /// A part of a window that rows have been assigned to.
    Assigned(Part, Assigned),
}

/// A window over rows that are not aggregated yet.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub function: Arc<ScalarUDF>,
    pub spec: WindowSpec,
    pub sessions: Sessions,
    /// The stored time column.
    pub time: usize,
    /// The stored columns that tell sessions apart.
    pub partition: Vec<usize>,
}

/// A window that an aggregation has made rows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fired {
    pub part: Part,
    pub spec: WindowSpec,
    /// The stored `window_time` of the rows.
    pub time: usize,
}

impl Column {
    pub fn stored(index: usize) -> Self {
        Self { value: Value::Stored(index), is_time: false, fired: None }
    }
}

impl Assigned {
    /// Whether both are the same window of the same rows.
    pub fn same_window(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.time == other.time
            && self.partition == other.partition
            && self.sessions == other.sessions
    }

    pub fn bound(&self) -> Option<&WindowBound> {
        self.function.inner().downcast_ref::<WindowBound>()
    }

    /// The value as an expression over the stored rows, where it follows from the time alone.
    fn computed(&self, fields: &[FieldRef]) -> Option<Arc<dyn PhysicalExpr>> {
        let bound = self.bound().filter(|bound| bound.is_computable())?;
        let field = &fields[self.time];
        let data_type = match bound.part {
            Part::Time => field.data_type().clone(),
            _ => crate::types::timestamp(),
        };
        let returned = arrow::datatypes::Field::new(bound.part.column(), data_type, true);
        let argument = Arc::new(PhysicalColumn::new(field.name(), self.time));
        Some(Arc::new(ScalarFunctionExpr::new(
            bound.part.column(),
            self.function.clone(),
            vec![argument],
            Arc::new(returned),
            config().clone(),
        )))
    }
}

impl Rows {
    /// Column `index` as an expression over the node's rows (`fields`); `None` where it shows a
    /// window that only an aggregation knows.
    pub fn expression(&self, index: usize, fields: &[FieldRef]) -> Option<Arc<dyn PhysicalExpr>> {
        match &self.columns[index].value {
            Value::Stored(stored) => {
                Some(Arc::new(PhysicalColumn::new(fields[*stored].name(), *stored)))
            }
            Value::Assigned(_, assigned) => assigned.computed(fields),
        }
    }

    /// An expression over the logical columns as one over the node's rows.
    pub fn over_node(
        &self,
        expr: Arc<dyn PhysicalExpr>,
        fields: &[FieldRef],
    ) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let replaced = expr.transform_up(|node| {
            let Some(column) = node.downcast_ref::<PhysicalColumn>() else {
                return Ok(Transformed::no(node));
            };
            match self.expression(column.index(), fields) {
                Some(expr) => Ok(Transformed::yes(expr)),
                None => Err(DataFusionError::Plan(NOT_AGGREGATED.to_owned())),
            }
        })?;
        Ok(replaced.data)
    }
}

/// Why the bounds of a window cannot be used before the window is aggregated.
pub(crate) const NOT_AGGREGATED: &str = "only TUMBLE windows can be used without aggregating them: add GROUP BY window_start, window_end";
