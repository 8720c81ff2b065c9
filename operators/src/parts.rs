//! What operators depend on, in SQL-like words: for the manifest of a checkpoint, which tells a user
//! what has changed in a query. Invariant: columns stand with their names and never their positions, and
//! a text in quotes, so that equal words mean equal expressions.

use std::fmt;
use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::utils::collect_columns;

/// An expression as SQL.
pub(crate) fn sql(expression: &Arc<dyn PhysicalExpr>) -> String {
    let quoted = expression.clone().transform_up(|expression| {
        let text = expression.downcast_ref::<Literal>().and_then(|literal| text(literal.value()));
        Ok(match text {
            // Expressions show columns as they are called, and literals without quotes.
            Some(text) => {
                let quoted = format!("'{}'", text.replace('\'', "''"));
                Transformed::yes(Arc::new(Column::new(&quoted, 0)) as Arc<dyn PhysicalExpr>)
            }
            None => Transformed::no(expression),
        })
    });
    match quoted {
        Ok(quoted) => Sql(&quoted.data).to_string(),
        Err(_) => Sql(expression).to_string(),
    }
}

/// The columns that an expression reads, by name, each once.
pub(crate) fn uses(expression: &Arc<dyn PhysicalExpr>) -> Vec<String> {
    let columns = collect_columns(expression);
    let mut names: Vec<String> = columns.iter().map(|column| column.name().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

fn text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => {
            text.as_deref()
        }
        _ => None,
    }
}

struct Sql<'a>(&'a Arc<dyn PhysicalExpr>);

impl fmt::Display for Sql<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use datafusion_common::ScalarValue;
    use datafusion_expr::Operator;
    use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal};

    use super::*;

    fn equals(column: usize, other: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(Arc::new(Column::new("a", column)), Operator::Eq, other))
    }

    #[test]
    fn equal_words_mean_equal_expressions_wherever_columns_stand() {
        let literal = |text: &str| Arc::new(Literal::new(ScalarValue::from(text)));
        let (text, column) = (literal("b"), Arc::new(Column::new("b", 1)));
        assert_eq!(sql(&equals(0, text.clone())), "a = 'b'");
        assert_eq!(sql(&equals(7, text)), "a = 'b'");
        assert_eq!(sql(&equals(0, column.clone())), "a = b");
        assert_eq!(sql(&equals(0, literal("o'clock"))), "a = 'o''clock'");
        assert_eq!(uses(&equals(0, column)), ["a", "b"]);
    }
}
