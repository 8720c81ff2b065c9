//! What the items of a SELECT list are called where nobody has said: as in Flink.
//!
//! Before the planner sees a query. Invariant: every item that is changed has a name of its own.

use datafusion_sql::sqlparser::ast::{
    Expr, Ident, ObjectNamePart, Select, SelectItem, Spanned, TableFactor,
};

use crate::clock::CLOCK;
use crate::rewrite::{arguments, call};

/// `PROCTIME()` in the list becomes a column of the table that is read.
pub(crate) fn clocks(select: &mut Select) {
    for (position, item) in select.projection.iter_mut().enumerate() {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, Ident::new(format!("EXPR${position}"))),
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.clone()),
            _ => continue,
        };
        let Expr::Function(function) = &*expr else { continue };
        let is_clock = function.name.to_string().eq_ignore_ascii_case("PROCTIME")
            && arguments(function).is_some_and(|given| given.is_empty());
        if is_clock {
            let expr = call(CLOCK, Vec::new(), function.name.span());
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
    }
}

/// A field of a row is called after itself, as in Flink: `SELECT bid.price` gives `price`, and
/// `price0` where there is such a column already.
pub(crate) fn fields(select: &mut Select) {
    let tables: Vec<&str> =
        select.from.iter().filter_map(|from| table_name(&from.relation)).collect();
    let mut taken: Vec<String> = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => taken.push(alias.value.clone()),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => taken.push(name.value.clone()),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path))
                if field(path, &tables).is_none() =>
            {
                taken.extend(path.last().map(|name| name.value.clone()));
            }
            SelectItem::UnnamedExpr(_) => {}
            // What a wildcard stands for is not known yet.
            _ => return,
        }
    }
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) = &*item else { continue };
        let Some(name) = field(path, &tables) else { continue };
        let numbered = (0..=taken.len()).map(|n| format!("{}{n}", name.value));
        let mut names = std::iter::once(name.value.clone()).chain(numbered);
        let Some(free) = names.find(|name| !taken.contains(name)) else { continue };
        let alias = Ident { value: free.clone(), ..name.clone() };
        *item = SelectItem::ExprWithAlias { expr: Expr::CompoundIdentifier(path.clone()), alias };
        taken.push(free);
    }
}

/// The field that a path names, where it goes further than to a column.
fn field<'a>(path: &'a [Ident], tables: &[&str]) -> Option<&'a Ident> {
    let starts_with_table =
        path.first().is_some_and(|first| tables.contains(&first.value.as_str()));
    let columns = if starts_with_table { 2 } else { 1 };
    path.last().filter(|_| path.len() > columns)
}

/// What columns of a relation may be called after.
fn table_name(relation: &TableFactor) -> Option<&str> {
    let (name, alias) = match relation {
        TableFactor::Table { name, alias, .. } => (name.0.last(), alias),
        TableFactor::Derived { alias, .. } => (None, alias),
        _ => return None,
    };
    let alias = alias.as_ref().map(|alias| alias.name.value.as_str());
    alias.or_else(|| name.and_then(ObjectNamePart::as_ident).map(|name| name.value.as_str()))
}

/// Gives names to items that are selected twice: the planner wants every column to have its own.
pub(crate) fn repeated_items(select: &mut Select) {
    let mut seen: Vec<String> = Vec::new();
    for (position, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let written = expr.to_string();
        if seen.contains(&written) {
            let alias = Ident::new(format!("EXPR${position}"));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        } else {
            seen.push(written);
        }
    }
}
