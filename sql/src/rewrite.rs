//! One pass over a query's syntax tree before it is planned: Flink's spellings become the
//! planner's, and what cannot run on a stream is refused where it stands.
//!
//! Invariant: whatever this pass lets through either runs with Flink's meaning or is refused by
//! the lowering; nothing is dropped silently.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion_sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CeilFloorKind, CharacterLength, DataType, DateTimeField,
    ExactNumberInfo, Expr, ExtractSyntax, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, Interval, ObjectName,
    ObjectNamePart, Query, Select, SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor,
    Value, VisitMut, VisitorMut,
};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, TokenWithSpan};

use crate::clock::CLOCK;
use crate::diagnostic::{Fallible, Problem};
use crate::functions::{Functions, is_flink_function, nondeterministic};
use crate::interval;
use crate::naming;
use crate::token::is_word;
use crate::windowing::{Kind, PLACEHOLDER, Part, Windows};

/// The pass, and what it found.
pub(crate) struct Rewriter<'a> {
    functions: &'a Functions,
    tokens: &'a [TokenWithSpan],
    is_table: &'a dyn Fn(&str) -> bool,
    tables: Vec<String>,
    ctes: BTreeSet<String>,
    pub windows: Windows,
    pub problems: Vec<Problem>,
    /// What Flink does not have, and where it stands.
    pub notes: Vec<(String, Span)>,
}

impl<'a> Rewriter<'a> {
    pub fn new(
        functions: &'a Functions,
        tokens: &'a [TokenWithSpan],
        tables: Vec<String>,
        is_table: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        Self {
            functions,
            tokens,
            is_table,
            tables,
            ctes: BTreeSet::new(),
            windows: Windows::default(),
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Names that `WITH` gives to queries; they must be known before relations are looked at.
    pub fn collect_ctes(&mut self, query: &Query) {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes.insert(cte.alias.name.value.clone());
            self.collect_ctes(&cte.query);
        }
    }

    pub fn run(&mut self, tree: &mut impl VisitMut) {
        let ControlFlow::Continue(()) = tree.visit(self) else {
            unreachable!("the pass never stops early");
        };
    }

    fn refuse(&mut self, span: Span, message: impl Into<String>, help: &str) {
        self.problems.push(Problem::new(span, message).help(help));
    }

    /// The last such keyword before `position`, or else where `fallback` stands.
    fn word_before(&self, position: Location, word: &str, fallback: Span) -> Span {
        let before = |token: &&TokenWithSpan| token.span.start <= position;
        let found = self.tokens.iter().filter(before).rev().find(|t| is_word(&t.token, word));
        found.map_or(fallback, |token| token.span)
    }

    /// The first such keyword from `position` on.
    fn word_after(&self, position: Location, word: &str) -> Span {
        let mut after = self.tokens.iter().filter(|token| token.span.start >= position);
        let start = Span::new(position, position);
        after.find(|token| is_word(&token.token, word)).map_or(start, |token| token.span)
    }

    fn check_set_expression(&mut self, body: &SetExpr) {
        match body {
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let position = right.span().start;
                let word = op.to_string();
                let span = self.word_before(position, &word, right.span());
                match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => {}
                    (SetOperator::Union, _) => self.refuse(
                        span,
                        "UNION without ALL is not supported: it would remember every row for ever",
                        "write UNION ALL",
                    ),
                    _ => self.refuse(
                        span,
                        format!("{word} is not supported: it would remember every row for ever"),
                        "filter with WHERE, or aggregate in windows",
                    ),
                }
                self.check_set_expression(left);
                self.check_set_expression(right);
            }
            SetExpr::Values(values) => self.refuse(
                values.span(),
                "VALUES is not supported as a table",
                "declare a table with a connector",
            ),
            SetExpr::Select(_) | SetExpr::Query(_) => {}
            other => self.refuse(other.span(), "a query must be a SELECT", "write SELECT * FROM …"),
        }
    }

    fn check_select(&mut self, select: &Select) {
        let start = select.select_token.0.span;
        if select.distinct.is_some() {
            let span = self.word_after(start.start, "DISTINCT");
            self.refuse(
                span,
                "SELECT DISTINCT is not supported: it would remember every row for ever",
                "group by the columns and a window: GROUP BY window_start, window_end, …",
            );
        }
        if select.from.is_empty() {
            self.refuse(start, "a query needs a table to read", "write FROM <table>");
        }
        for table in &select.from {
            if let Some(join) = table.joins.first() {
                let position = join.relation.span().start;
                let span = self.word_before(position, "JOIN", join.relation.span());
                self.refuse(span, "JOIN is not supported yet", "read one table in a query");
            }
        }
        if let Some(second) = select.from.get(1) {
            self.refuse(
                second.relation.span(),
                "a query reads one table: a list of tables is a join, which is not supported yet",
                "use UNION ALL to put the rows of several tables together",
            );
        }
        if let Some(qualify) = &select.qualify {
            let span = self.word_before(qualify.span().start, "QUALIFY", qualify.span());
            self.refuse(span, "QUALIFY is not supported", "filter the aggregate with HAVING");
        }
        if !select.named_window.is_empty() {
            let span = self.word_after(start.start, "WINDOW");
            self.refuse(
                span,
                "OVER windows are not supported",
                "aggregate in TUMBLE or HOP windows",
            );
        }
    }

    fn rewrite_group_by(&mut self, select: &mut Select) {
        let GroupByExpr::Expressions(expressions, modifiers) = &mut select.group_by else {
            let span = self.word_after(select.select_token.0.span.start, "GROUP");
            return self.refuse(span, "GROUP BY ALL is not supported", "name the columns");
        };
        if !modifiers.is_empty() {
            let span = self.word_after(select.select_token.0.span.start, "GROUP");
            self.refuse(
                span,
                "GROUP BY … WITH is not supported",
                "write a query for each grouping",
            );
        }
        let mut rewritten = Vec::with_capacity(expressions.len() + 2);
        for expression in std::mem::take(expressions) {
            match &expression {
                Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => {
                    let message = "GROUPING SETS, CUBE and ROLLUP are not supported";
                    let span = self.word_after(select.select_token.0.span.start, "GROUP");
                    self.refuse(span, message, "write a query for each grouping");
                }
                Expr::Function(function) if group_window(function).is_some() => {
                    match self.group_window_columns(function) {
                        Ok(columns) => rewritten.extend(columns),
                        Err(problem) => self.problems.push(problem),
                    }
                }
                _ => rewritten.push(expression),
            }
        }
        *expressions = rewritten;
    }

    /// What `TUMBLE(ts, INTERVAL …)` in `GROUP BY` stands for.
    fn group_window_columns(&mut self, function: &Function) -> Fallible<Vec<Expr>> {
        let (kind, span) = group_window(function).unwrap_or((Kind::Tumble, Span::empty()));
        let columns = Part::ALL.map(|part| self.window_function(kind, part, function, span));
        columns.into_iter().collect()
    }

    /// A call of the window of `function`'s arguments, for one part of it.
    fn window_function(
        &mut self,
        kind: Kind,
        part: Part,
        function: &Function,
        span: Span,
    ) -> Fallible<Expr> {
        let arguments = arguments(function).unwrap_or_default();
        let [time, lengths @ ..] = arguments.as_slice() else {
            return Err(Problem::new(span, format!("{kind} takes a time column and lengths"))
                .help(format!("write {kind}(ts, INTERVAL '1' MINUTE)")));
        };
        let spec = kind.window(lengths, span)?;
        Ok(call(&self.windows.function(part, spec), vec![time.clone()], span))
    }

    fn rewrite_function(&mut self, expression: &mut Expr) {
        let Expr::Function(function) = expression else { return };
        let Some(ident) = function.name.0.last().and_then(ObjectNamePart::as_ident) else { return };
        let (span, name) = (ident.span, ident.value.to_uppercase());
        if function.over.is_some() {
            let span = self.word_after(span.start, "OVER");
            self.refuse(
                span,
                "OVER windows are not supported",
                "aggregate in TUMBLE, HOP, CUMULATE or SESSION windows",
            );
            function.over = None;
            return;
        }
        if let Some((kind, part)) = auxiliary(&name) {
            match self.window_function(kind, part, function, span) {
                Ok(call) => *expression = call,
                Err(problem) => self.problems.push(problem),
            }
            return;
        }
        if Kind::named(&name).is_some() && self.functions.scalar(&name).is_none() {
            let help = format!(
                "write FROM TABLE({name}(TABLE t, DESCRIPTOR(ts), …)), or GROUP BY {name}(ts, …) \
                 with {name}_START(ts, …) here"
            );
            return self.refuse(span, format!("{name} cannot be called here"), &help);
        }
        if let Some((message, help)) = nondeterministic(&name, arguments(function).map(|a| a.len()))
        {
            return self.refuse(span, message, help);
        }
        if is_word_function(&name) {
            return self.rewrite_by_name(expression, &name, span);
        }
        if !name.starts_with("__WINDOW_") && !name.eq_ignore_ascii_case(CLOCK) {
            self.check_function(function, &name, span);
        }
    }

    fn check_function(&mut self, function: &mut Function, name: &str, span: Span) {
        if function.name.0.len() > 1 || !self.functions.contains(name) {
            let written = function.name.to_string();
            let problem = Problem::new(span, format!("unknown function '{written}'"));
            let names = self.functions.names();
            let problem = problem.suggest(name, names.iter().map(String::as_str));
            self.problems.push(problem);
            return;
        }
        if !is_flink_function(name) && !self.functions.is_users(name) {
            self.notes.push((format!("Flink has no function {name}"), span));
        }
        if name.contains("PERCENTILE") {
            literals_as_double(function);
        }
        // Of one argument it is the natural logarithm, as in Flink.
        let is_natural = arguments(function).is_some_and(|given| given.len() == 1);
        if name == "LOG" && is_natural && !self.functions.is_users(name) {
            function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("ln"))]);
        }
        // Flink replaces every match.
        if name == "REGEXP_REPLACE" && arguments(function).is_some_and(|given| given.len() == 3) {
            push_argument(function, text("g"));
        }
        if name == "LISTAGG" && arguments(function).is_some_and(|given| given.len() == 1) {
            push_argument(function, text(","));
        }
    }

    /// Functions whose arguments need another shape.
    fn rewrite_by_name(&mut self, expression: &mut Expr, name: &str, span: Span) {
        let Expr::Function(function) = &*expression else { return };
        let arguments = arguments(function).unwrap_or_default();
        let rewritten = match (name, arguments.as_slice()) {
            ("IF", [condition, then, otherwise]) => Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: vec![CaseWhen { condition: condition.clone(), result: then.clone() }],
                else_result: Some(Box::new(otherwise.clone())),
            },
            ("MOD", [dividend, divisor]) => Expr::Nested(Box::new(Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(dividend.clone()))),
                op: BinaryOperator::Modulo,
                right: Box::new(Expr::Nested(Box::new(divisor.clone()))),
            })),
            ("DAYOFWEEK", [time]) => day_of_week(time),
            ("TIMESTAMPDIFF" | "TIMESTAMPADD", [unit, rest @ ..]) if rest.len() == 2 => {
                let unit = unit.to_string().trim_matches('\'').to_uppercase();
                let mut arguments = vec![text(&unit)];
                arguments.extend(rest.to_vec());
                call(&name.to_lowercase(), arguments, span)
            }
            _ => {
                let usage = match name {
                    "DAYOFWEEK" => "DAYOFWEEK(date)",
                    "IF" => "IF(condition, value, otherwise)",
                    "MOD" => "MOD(dividend, divisor)",
                    "TIMESTAMPADD" => "TIMESTAMPADD(unit, number, time)",
                    _ => "TIMESTAMPDIFF(unit, from, to)",
                };
                return self.refuse(
                    span,
                    format!("wrong number of arguments for {name}"),
                    &format!("write {usage}"),
                );
            }
        };
        *expression = rewritten;
    }

    fn rewrite_interval(&mut self, interval: &mut Interval) {
        match interval::micros(interval) {
            Ok(Some(micros)) => {
                *interval.value = text(&format!("{micros} microseconds"));
                interval.leading_field = None;
                interval.leading_precision = None;
                interval.last_field = None;
                interval.fractional_seconds_precision = None;
            }
            Ok(None) => {}
            // The parser has no unit where this pass has been here before.
            Err(_) if interval.leading_field.is_none() && is_rewritten(interval) => {}
            Err(problem) => self.problems.push(problem),
        }
    }
}

impl VisitorMut for Rewriter<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(with) = query.with.as_ref().filter(|with| with.recursive) {
            let span = self.word_after(with.span().start, "RECURSIVE");
            self.refuse(span, "WITH RECURSIVE is not supported", "write the query out");
        }
        if let Some(order_by) = &query.order_by {
            let span = self.word_before(order_by.span().start, "ORDER", order_by.span());
            let message = "ORDER BY is not supported: a stream has no end at which to sort";
            self.refuse(span, message, "windows are emitted in the order of their ends");
        }
        let limit = query.limit_clause.as_ref().map(Spanned::span);
        let fetch = query.fetch.as_ref().map(|_| query.span());
        if let Some(at) = limit.or(fetch) {
            let word = if limit.is_some() { "LIMIT" } else { "FETCH" };
            let span = match self.word_before(at.end, word, at) {
                span if span == at => self.word_before(at.end, "OFFSET", at),
                span => span,
            };
            let message = format!("{word} is not supported: Top-N comes later");
            self.refuse(span, message, "filter with WHERE or HAVING");
        }
        let body = query.body.clone();
        self.check_set_expression(&body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.check_select(select);
        self.rewrite_group_by(select);
        naming::clocks(select);
        naming::fields(select);
        naming::repeated_items(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let span = factor.span();
        match factor {
            TableFactor::Table { name, args: None, version: None, sample: None, .. } => {
                self.check_relation(name);
            }
            TableFactor::Table { name, args: Some(_), .. }
                if name.to_string().eq_ignore_ascii_case("UNNEST") =>
            {
                self.refuse(span, "UNNEST is not supported yet", "take elements with array[1]");
            }
            TableFactor::Table { name, args: Some(_), .. } => self.refuse(
                name.span(),
                format!("'{name}' is not a windowing table function"),
                "there are TUMBLE, HOP, CUMULATE and SESSION: TABLE(TUMBLE(TABLE t, …))",
            ),
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => {}
            TableFactor::MatchRecognize { .. } => {
                let span = self.word_after(span.start, "MATCH_RECOGNIZE");
                self.refuse(span, "MATCH_RECOGNIZE is not supported", "aggregate in windows");
            }
            TableFactor::UNNEST { .. } => {
                self.refuse(span, "UNNEST is not supported yet", "take elements with array[1]");
            }
            _ => self.refuse(span, "this kind of table is not supported", "name a table or view"),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        match expression {
            Expr::Function(_) => self.rewrite_function(expression),
            Expr::Interval(interval) => self.rewrite_interval(interval),
            Expr::InSubquery { subquery, .. } => {
                let span = self.word_before(subquery.span().start, "IN", subquery.span());
                self.refuse(
                    span,
                    "IN (SELECT …) is not supported: it is a join",
                    "list the values",
                );
            }
            Expr::Exists { subquery, .. } => {
                let span = self.word_before(subquery.span().start, "EXISTS", subquery.span());
                self.refuse(span, "EXISTS is not supported: it is a join", "filter with WHERE");
            }
            Expr::Subquery(query) => {
                let message = "a sub-query as a value is not supported: it is a join";
                self.refuse(query.span(), message, "sub-queries stand in FROM");
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut arguments = vec![expr.as_ref().clone()];
                arguments
                    .push(substring_from.as_ref().map_or(number(1), |from| from.as_ref().clone()));
                arguments.extend(substring_for.as_ref().map(|length| length.as_ref().clone()));
                *expression = call("substr", arguments, Span::empty());
            }
            Expr::Extract {
                field: DateTimeField::Dow | DateTimeField::DayOfWeek, expr, ..
            } => {
                *expression = day_of_week(expr);
            }
            Expr::CompoundFieldAccess { access_chain, .. } => quote_fields(access_chain),
            Expr::Cast { data_type, .. } => {
                if let Some((function, length)) = text_length(data_type) {
                    *data_type = DataType::Varchar(None);
                    *expression = fit(expression, function, length);
                }
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(unit) }
                if *unit != DateTimeField::NoDateTime =>
            {
                *expression = truncate(expr, unit);
            }
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(unit) }
                if *unit != DateTimeField::NoDateTime =>
            {
                *expression = round_up(expr, unit);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Rewriter<'_> {
    fn check_relation(&mut self, name: &ObjectName) {
        let written = name.to_string().replace('`', "");
        let is_known = written.starts_with(PLACEHOLDER)
            || self.ctes.contains(&written)
            || (self.is_table)(&written);
        if !is_known {
            let problem = Problem::new(name.span(), format!("unknown table '{written}'"));
            let known = self.tables.iter().chain(&self.ctes).map(String::as_str);
            let problem = problem.suggest_or_list(&written, "there are", known);
            self.problems.push(problem);
        }
    }
}

/// `items[1].sku`: behind a subscript the planner takes names of fields as strings only.
fn quote_fields(access_chain: &mut [AccessExpr]) {
    let behind = access_chain.iter_mut().skip_while(|a| !matches!(a, AccessExpr::Subscript(_)));
    for access in behind {
        if let AccessExpr::Dot(field @ Expr::Identifier(_)) = access
            && let Expr::Identifier(name) = &*field
        {
            *field = text(&name.value);
        }
    }
}

fn group_window(function: &Function) -> Option<(Kind, Span)> {
    let ident = function.name.0.last()?.as_ident()?;
    Kind::named(&ident.value).map(|kind| (kind, ident.span))
}

/// `TUMBLE_START` and the like.
fn auxiliary(name: &str) -> Option<(Kind, Part)> {
    let (kind, part) = name.split_once('_')?;
    let part = match part {
        "START" => Part::Start,
        "END" => Part::End,
        "ROWTIME" | "PROCTIME" => Part::Time,
        _ => return None,
    };
    Some((Kind::named(kind)?, part))
}

fn is_word_function(name: &str) -> bool {
    matches!(name, "DAYOFWEEK" | "IF" | "MOD" | "TIMESTAMPDIFF" | "TIMESTAMPADD")
}

fn is_rewritten(interval: &Interval) -> bool {
    interval.value.to_string().ends_with(" microseconds'")
}

/// The arguments by position; `None` where there are others.
pub(crate) fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return Some(Vec::new()) };
    let expression = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression.clone()),
        _ => None,
    };
    list.args.iter().map(expression).collect()
}

fn push_argument(function: &mut Function, argument: Expr) {
    if let FunctionArguments::List(list) = &mut function.args {
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)));
    }
}

fn literals_as_double(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    for argument in &mut list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) = argument else { continue };
        if matches!(expression, Expr::Value(value) if matches!(value.value, Value::Number(..))) {
            *expression = Expr::Cast {
                kind: datafusion_sql::sqlparser::ast::CastKind::Cast,
                expr: Box::new(expression.clone()),
                data_type: DataType::Double(ExactNumberInfo::None),
                array: false,
                format: None,
            };
        }
    }
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).with_empty_span())
}

fn number(value: u64) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).with_empty_span())
}

/// What makes text fit into a type with a length, and that length.
fn text_length(data_type: &DataType) -> Option<(&'static str, u64)> {
    let (function, length) = match data_type {
        DataType::Varchar(length) | DataType::CharacterVarying(length) => ("substr", *length),
        DataType::Char(length) | DataType::Character(length) => {
            let one = CharacterLength::IntegerLength { length: 1, unit: None };
            ("rpad", Some(length.unwrap_or(one)))
        }
        _ => return None,
    };
    match length? {
        CharacterLength::IntegerLength { length, .. } => Some((function, length)),
        CharacterLength::Max => None,
    }
}

/// Text cut to a length, and filled up to it by `rpad`.
fn fit(value: &Expr, function: &str, length: u64) -> Expr {
    let arguments = match function {
        "rpad" => vec![value.clone(), number(length), text(" ")],
        _ => vec![value.clone(), number(1), number(length)],
    };
    call(function, arguments, Span::empty())
}

/// Sunday is 1 in Flink, and 0 to the planner.
fn day_of_week(time: &Expr) -> Expr {
    // By another spelling than the one that this pass looks for.
    let day = Expr::Extract {
        field: DateTimeField::Custom(Ident::new("dow")),
        syntax: ExtractSyntax::From,
        expr: Box::new(time.clone()),
    };
    Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(day),
        op: BinaryOperator::Plus,
        right: Box::new(number(1)),
    }))
}

/// `FLOOR(time TO unit)`.
fn truncate(time: &Expr, unit: &DateTimeField) -> Expr {
    let unit = unit.to_string().to_lowercase();
    call("date_trunc", vec![text(unit.trim_end_matches('s')), time.clone()], Span::empty())
}

/// `CEIL(time TO unit)`: the end of the unit that holds the microsecond before.
fn round_up(time: &Expr, unit: &DateTimeField) -> Expr {
    let name = unit.to_string().to_lowercase();
    let length = Expr::Interval(Interval {
        value: Box::new(text(&format!("1 {} -1 microseconds", name.trim_end_matches('s')))),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    });
    let later = Expr::BinaryOp {
        left: Box::new(time.clone()),
        op: BinaryOperator::Plus,
        right: Box::new(length),
    };
    truncate(&later, unit)
}

pub(crate) fn call(name: &str, arguments: Vec<Expr>, span: Span) -> Expr {
    let mut ident = Ident::new(name);
    ident.span = span;
    let unnamed = |argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument));
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(ident)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(unnamed).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
