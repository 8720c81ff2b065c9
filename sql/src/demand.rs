//! What a query looks at of the tables that it reads: from the top of its plan down to the scans.
//!
//! A source that is told so need not make the rest. Invariant: what is not known to be unneeded is
//! needed.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion_common::DFSchema;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::{LogicalPlan, TableScan};
use tidemill_core::need::Need;

use crate::functions::field_access;

/// Calls `found` with each scan of a plan all of whose columns are looked at, and what that needs of
/// the scan's columns.
pub(crate) fn of_plan(plan: &LogicalPlan, found: &mut dyn FnMut(&TableScan, &[Need])) {
    descend(plan, &vec![Need::All; plan.schema().fields().len()], found);
}

fn descend(plan: &LogicalPlan, needs: &[Need], found: &mut dyn FnMut(&TableScan, &[Need])) {
    match plan {
        LogicalPlan::TableScan(scan) => found(scan, needs),
        LogicalPlan::Projection(node) => {
            let below = of_columns(&node.expr, needs, node.input.schema());
            descend(&node.input, &below, found);
        }
        LogicalPlan::Filter(node) => {
            let mut below = needs.to_vec();
            add_uses(&node.predicate, node.input.schema(), &mut below);
            descend(&node.input, &below, found);
        }
        LogicalPlan::Aggregate(node) => {
            let schema = node.input.schema();
            let mut below = vec![Need::Nothing; schema.fields().len()];
            for expr in node.group_expr.iter().chain(&node.aggr_expr) {
                add_uses(expr, schema, &mut below);
            }
            descend(&node.input, &below, found);
        }
        LogicalPlan::SubqueryAlias(node) => descend(&node.input, needs, found),
        LogicalPlan::Union(node) => {
            node.inputs.iter().for_each(|input| descend(input, needs, found));
        }
        other => other.inputs().into_iter().for_each(|input| of_plan(input, found)),
    }
}

/// What a list of expressions of which so much is needed needs of the columns that they are over.
pub(crate) fn of_columns(exprs: &[Expr], needs: &[Need], over: &DFSchema) -> Vec<Need> {
    let mut below = vec![Need::Nothing; over.fields().len()];
    for (expr, need) in exprs.iter().zip(needs).filter(|(_, need)| !need.is_nothing()) {
        match expr.clone().unalias_nested().data {
            Expr::Column(column) => match over.index_of_column(&column) {
                Ok(index) => below[index].add(need),
                Err(_) => below.fill(Need::All),
            },
            computed => add_uses(&computed, over, &mut below),
        }
    }
    below
}

/// Adds what the value of an expression needs.
fn add_uses(expr: &Expr, over: &DFSchema, below: &mut [Need]) {
    let visited = expr.apply(|node| {
        if let Some((index, field)) = first_field(node, over) {
            below[index].add(&Need::Fields(BTreeSet::from([field.to_owned()])));
            return Ok(TreeNodeRecursion::Jump);
        }
        if let Expr::Column(column) = node {
            below[over.index_of_column(column)?] = Need::All;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if visited.is_err() {
        below.fill(Need::All);
    }
}

/// The column and its field that `column.field`, or `column.field.field…`, is a part of.
fn first_field<'a>(expr: &'a Expr, over: &DFSchema) -> Option<(usize, &'a str)> {
    let (of, field) = field_access(expr)?;
    let Expr::Column(column) = of else { return first_field(of, over) };
    let index = over.index_of_column(column).ok()?;
    matches!(over.field(index).data_type(), DataType::Struct(_)).then_some((index, field))
}
