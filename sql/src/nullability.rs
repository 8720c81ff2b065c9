//! Whether a column of a query can be NULL: what a table's `NOT NULL` columns may be given.
//!
//! Invariant: what is said never to be NULL never is. The reverse does not hold: it is inferred
//! from declarations, from `IS NOT NULL` conditions, and from windows and counts.

use datafusion_expr::Expr;
use datafusion_expr::logical_plan::LogicalPlan;
use datafusion_expr::utils::split_conjunction;

use crate::lower::bound;

/// Whether column `index` of the plan's rows can be NULL.
pub(crate) fn can_be_null(plan: &LogicalPlan, index: usize) -> bool {
    can(plan, index, false)
}

/// `grouped`: rows without a time are gone, since they are in no window.
fn can(plan: &LogicalPlan, index: usize, grouped: bool) -> bool {
    if !plan.schema().field(index).is_nullable() {
        return false;
    }
    match plan {
        LogicalPlan::Projection(node) => of_expr(&node.expr[index], &node.input, grouped),
        LogicalPlan::Aggregate(node) => {
            let key = node.group_expr.get(index);
            key.is_none_or(|key| of_expr(key, &node.input, true))
        }
        LogicalPlan::SubqueryAlias(node) => can(&node.input, index, grouped),
        LogicalPlan::Filter(node) => {
            let column = Expr::Column(node.input.schema().columns().swap_remove(index));
            let is_checked = |condition: &&Expr| matches!(condition, Expr::IsNotNull(inner) if **inner == column);
            !split_conjunction(&node.predicate).iter().any(is_checked)
                && can(&node.input, index, grouped)
        }
        LogicalPlan::Union(node) => node.inputs.iter().any(|input| can(input, index, grouped)),
        _ => true,
    }
}

fn of_expr(expr: &Expr, input: &LogicalPlan, grouped: bool) -> bool {
    match expr.clone().unalias_nested().data {
        Expr::Column(column) => {
            let index = input.schema().index_of_column(&column);
            index.map_or(true, |index| can(input, index, grouped))
        }
        call if bound(&call).is_some() => !grouped,
        _ => true,
    }
}
