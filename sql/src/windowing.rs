//! Windowing table functions: read on the tokens, planned as columns.
//!
//! The parser of queries knows no `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), …))`. Each such call is
//! taken out of the tokens and leaves a name behind; when the planner meets that name, it plans the
//! table inside and adds `window_start`, `window_end` and `window_time` as calls of a
//! [`WindowBound`] on the time column. So windows compose with views, sub-queries and everything
//! else that carries columns. The lowering finds the calls again; invariant: nowhere else is a
//! [`WindowBound`] made.

use std::sync::Arc;

use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion_common::{DataFusionError, exec_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_sql::sqlparser::ast::{Expr, TableFactor};
use datafusion_sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};
use tidemill_core::window::{AlignedWindow, WindowSpec};

use crate::diagnostic::{Fallible, Problem};
use crate::interval;
use crate::token::{Cursor, Name, expect_end, is_word, parse_expr, parse_problem, parser, span_of};
use crate::types::timestamp;

/// What stands in a query for a windowing table function, with the call's number behind it.
pub(crate) const PLACEHOLDER: &str = "__window_";

/// A windowing table function as called.
#[derive(Debug)]
pub(crate) struct WindowCall {
    pub data: TableFactor,
    pub time: Name,
    pub partition: Vec<Name>,
    pub spec: WindowSpec,
}

/// The part of a window that a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    Start,
    End,
    Time,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Start, Self::End, Self::Time];

    pub fn column(self) -> &'static str {
        match self {
            Self::Start => "window_start",
            Self::End => "window_end",
            Self::Time => "window_time",
        }
    }
}

/// How a session's rows are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sessions {
    /// By the columns behind the time column in the call; none where the window is aligned.
    ByArguments,
    /// By whatever the aggregation groups by (`GROUP BY SESSION(…), k`).
    ByGroupKeys,
}

/// The function behind `window_start`, `window_end` and `window_time`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowBound {
    name: String,
    pub part: Part,
    pub spec: WindowSpec,
    pub sessions: Sessions,
    signature: Signature,
}

impl WindowBound {
    pub fn udf(name: String, part: Part, spec: WindowSpec, sessions: Sessions) -> Arc<ScalarUDF> {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Self { name, part, spec, sessions, signature }))
    }

    /// Whether the value follows from the row's time alone.
    pub fn is_computable(&self) -> bool {
        matches!(self.spec, WindowSpec::Aligned(window) if window.is_tumbling())
    }

    fn compute(&self, window: &AlignedWindow, time: i64) -> Option<i64> {
        let end = window.slice_end(time)?;
        Some(match self.part {
            Part::Start => window.window_start(end),
            Part::End => end,
            Part::Time => end - 1_000,
        })
    }
}

impl ScalarUDFImpl for WindowBound {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> datafusion_common::Result<DataType> {
        match (self.part, arguments.first()) {
            (Part::Time, Some(time)) => Ok(time.clone()),
            _ => Ok(timestamp()),
        }
    }

    fn invoke_with_args(
        &self,
        args: ScalarFunctionArgs,
    ) -> datafusion_common::Result<ColumnarValue> {
        let WindowSpec::Aligned(window) = self.spec else {
            return exec_err!("the bounds of a session are known to its aggregation only");
        };
        let zone = match args.return_field.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let times = args.args[0].to_array(args.number_rows)?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| {
            DataFusionError::Execution("a window's time column is not in microseconds".to_owned())
        })?;
        let bounds: TimestampMicrosecondArray =
            times.iter().map(|time| time.and_then(|time| self.compute(&window, time))).collect();
        Ok(ColumnarValue::Array(Arc::new(bounds.with_timezone_opt(zone))))
    }
}

/// The windows that a statement names in the older spelling (`GROUP BY TUMBLE(ts, …)`).
#[derive(Debug, Default)]
pub(crate) struct Windows(Vec<WindowSpec>);

impl Windows {
    /// The name of a function that gives a part of this window.
    pub fn function(&mut self, part: Part, spec: WindowSpec) -> String {
        let number = self.0.iter().position(|other| *other == spec).unwrap_or_else(|| {
            self.0.push(spec);
            self.0.len() - 1
        });
        format!("__{}_{number}", part.column())
    }

    /// The function of that name.
    pub fn resolve(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let (part, number) = Part::ALL.into_iter().find_map(|part| {
            let number = name.strip_prefix("__")?.strip_prefix(part.column())?.strip_prefix('_')?;
            Some((part, number.parse::<usize>().ok()?))
        })?;
        let spec = *self.0.get(number)?;
        let sessions = match spec {
            WindowSpec::Session { .. } => Sessions::ByGroupKeys,
            WindowSpec::Aligned(_) => Sessions::ByArguments,
        };
        Some(WindowBound::udf(name.to_owned(), part, spec, sessions))
    }
}

/// Which window a function's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "TUMBLE" => Self::Tumble,
            "HOP" => Self::Hop,
            "CUMULATE" => Self::Cumulate,
            "SESSION" => Self::Session,
            _ => return None,
        })
    }

    /// The lengths that the function takes, in order; the last may be left out where it is OFFSET.
    fn lengths(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["SIZE", "OFFSET"],
            Self::Hop => &["SLIDE", "SIZE", "OFFSET"],
            Self::Cumulate => &["STEP", "SIZE", "OFFSET"],
            Self::Session => &["GAP"],
        }
    }

    /// The window of these lengths (an absent offset is 0).
    pub fn window(self, lengths: &[Expr], span: Span) -> Fallible<WindowSpec> {
        let names = self.lengths();
        let required = names.iter().filter(|name| **name != "OFFSET").count();
        if lengths.len() < required || lengths.len() > names.len() {
            let wanted: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
            let message = format!("wrong number of lengths: {} takes {}", self, wanted.join(", "));
            return Err(Problem::new(span, message));
        }
        let mut micros = [0i64; 3];
        for (length, micros) in lengths.iter().zip(&mut micros) {
            *micros = window_length(length, span)?;
        }
        let [first, second, third] = micros;
        let aligned = match self {
            Self::Tumble => AlignedWindow::tumbling(first, second),
            Self::Hop => AlignedWindow::hopping(second, first, third),
            Self::Cumulate => AlignedWindow::cumulating(second, first, third),
            Self::Session => {
                let session = WindowSpec::session(first);
                return session.map_err(|e| Problem::new(span, e.message()));
            }
        };
        aligned.map(WindowSpec::Aligned).map_err(|e| Problem::new(span, e.message()))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Cumulate => "CUMULATE",
            Self::Session => "SESSION",
        })
    }
}

fn window_length(length: &Expr, span: Span) -> Fallible<i64> {
    use datafusion_sql::sqlparser::ast::Spanned;
    let Expr::Interval(interval) = length else {
        let span = if length.span() == Span::empty() { span } else { length.span() };
        return Err(Problem::new(span, "a window's length must be an INTERVAL literal")
            .help("write INTERVAL '1' MINUTE"));
    };
    match interval::micros(interval)? {
        None => Err(Problem::new(interval.value.span(), "months and years differ in length")
            .help("give a window's length in DAY, HOUR, MINUTE or SECOND")),
        Some(micros) if micros % 1_000 != 0 => {
            Err(Problem::new(interval.value.span(), "a window's length must be whole milliseconds"))
        }
        Some(micros) => Ok(micros),
    }
}

/// Takes the windowing table functions out of `tokens`; a name stands for each in the result.
pub(crate) fn extract(
    tokens: &[TokenWithSpan],
    calls: &mut Vec<WindowCall>,
) -> Fallible<Vec<TokenWithSpan>> {
    let mut result = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let wrapped =
            is_word(&tokens[at].token, "TABLE") && is_token(tokens, at + 1, &Token::LParen);
        let start = if wrapped { at + 2 } else { at };
        let Some(kind) = table_function(tokens, start) else {
            if wrapped {
                return Err(not_a_window(&tokens[at..]));
            }
            result.push(tokens[at].clone());
            at += 1;
            continue;
        };
        let close = closing(tokens, start + 1)?;
        let call = read_call(kind, tokens[start].span, &tokens[start + 2..close], calls)?;
        let mut end = close + 1;
        if wrapped {
            if !is_token(tokens, end, &Token::RParen) {
                return Err(Cursor::new(&tokens[end..]).expected("')' of TABLE( … )"));
            }
            end += 1;
        }
        let name = format!("{PLACEHOLDER}{}", calls.len());
        calls.push(call);
        let keyword = datafusion_sql::sqlparser::keywords::Keyword::NoKeyword;
        let word = Word { value: name, quote_style: None, keyword };
        let span = Span::new(tokens[at].span.start, tokens[end - 1].span.end);
        result.push(TokenWithSpan::new(Token::Word(word), span));
        at = end;
    }
    Ok(result)
}

fn is_token(tokens: &[TokenWithSpan], at: usize, token: &Token) -> bool {
    tokens.get(at).is_some_and(|found| found.token == *token)
}

fn not_a_window(tokens: &[TokenWithSpan]) -> Problem {
    let mut cursor = Cursor::new(&tokens[2..]);
    let span = cursor.span();
    match cursor.name("TUMBLE, HOP, CUMULATE or SESSION") {
        Ok(name) => {
            let names = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];
            let message = format!("'{}' is not a windowing table function", name.text);
            Problem::new(span, message).suggest_or_list(&name.text, "there are", names)
        }
        Err(problem) => problem,
    }
}

/// A windowing function whose first argument is a table.
fn table_function(tokens: &[TokenWithSpan], at: usize) -> Option<Kind> {
    let Token::Word(word) = &tokens.get(at)?.token else { return None };
    let kind = Kind::named(&word.value)?;
    let first = &tokens.get(at + 2)?.token;
    let takes_table = is_word(first, "TABLE")
        || is_token(tokens, at + 3, &Token::RArrow)
        || (*first == Token::LParen && is_word(&tokens.get(at + 3)?.token, "SELECT"));
    (is_token(tokens, at + 1, &Token::LParen) && takes_table).then_some(kind)
}

/// Index of the parenthesis that closes the one at `open`.
fn closing(tokens: &[TokenWithSpan], open: usize) -> Fallible<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return Ok(at),
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    Err(Problem::new(tokens[open].span, "this parenthesis is not closed"))
}

fn read_call(
    kind: Kind,
    span: Span,
    arguments: &[TokenWithSpan],
    calls: &mut Vec<WindowCall>,
) -> Fallible<WindowCall> {
    let [data, time, lengths @ ..] = &arrange(kind, span, arguments)?[..] else {
        return Err(Problem::new(span, format!("{kind} takes a table, a time column and lengths")));
    };
    let (data, partition) = read_data(kind, data, calls)?;
    let lengths: Vec<Expr> = lengths.iter().map(|t| parse_expr(t)).collect::<Fallible<_>>()?;
    Ok(WindowCall {
        data,
        time: read_descriptor(time)?,
        partition,
        spec: kind.window(&lengths, span)?,
    })
}

/// The arguments in their order, whether given by position or by name.
fn arrange(kind: Kind, span: Span, arguments: &[TokenWithSpan]) -> Fallible<Vec<&[TokenWithSpan]>> {
    let order: Vec<&str> = ["DATA", "TIMECOL"].into_iter().chain(kind.lengths().to_vec()).collect();
    let mut slots: Vec<Option<&[TokenWithSpan]>> = vec![None; order.len()];
    let mut cursor = Cursor::new(arguments);
    for position in 0.. {
        if cursor.is_at_end() {
            break;
        }
        let start = cursor.span();
        let mut slot = position;
        if cursor.peek_ahead(1) == Some(&Token::RArrow) {
            let name = cursor.name("an argument's name")?;
            cursor.advance();
            let is_it = |other: &&str| other.eq_ignore_ascii_case(&name.text);
            slot = order.iter().position(is_it).ok_or_else(|| {
                Problem::new(name.span, format!("{kind} has no argument '{}'", name.text))
                    .suggest_or_list(&name.text, "arguments", order.iter().copied())
            })?;
        }
        let value = cursor.until(|token| *token == Token::Comma);
        cursor.accept(&Token::Comma);
        match slots.get_mut(slot) {
            Some(empty @ None) => *empty = Some(value),
            Some(_) => return Err(Problem::new(start, "this argument is given twice")),
            None => {
                let message = format!("too many arguments: {kind} takes {}", order.join(", "));
                return Err(Problem::new(start, message));
            }
        }
    }
    let given = slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let missing = slots[..given].iter().position(Option::is_none);
    if let Some(missing) = missing {
        return Err(Problem::new(span, format!("{kind} lacks the argument {}", order[missing])));
    }
    Ok(slots.into_iter().flatten().collect())
}

/// `TABLE t`, `TABLE t PARTITION BY k`, a name or a query in parentheses.
fn read_data(
    kind: Kind,
    tokens: &[TokenWithSpan],
    calls: &mut Vec<WindowCall>,
) -> Fallible<(TableFactor, Vec<Name>)> {
    let mut cursor = Cursor::new(tokens);
    cursor.accept_words(&["TABLE"]);
    let table = cursor.until(|token| is_word(token, "PARTITION"));
    let partition_span = cursor.span();
    let mut partition = Vec::new();
    if cursor.accept_words(&["PARTITION", "BY"]) {
        if kind != Kind::Session {
            return Err(Problem::new(partition_span, format!("{kind} takes no PARTITION BY"))
                .help("group by the columns instead"));
        }
        partition = if cursor.peek() == Some(&Token::LParen) {
            cursor.names("a column's name")?
        } else {
            vec![cursor.name("a column's name")?]
        };
        while cursor.accept(&Token::Comma) {
            partition.push(cursor.name("a column's name")?);
        }
    }
    if !cursor.is_at_end() {
        return Err(cursor.expected("','"));
    }
    let table = extract(table, calls)?;
    let mut parser = parser(&table);
    let data = parser.parse_table_factor().map_err(|e| parse_problem(&e, &table))?;
    expect_end(&parser, "table")?;
    Ok((data, partition))
}

fn read_descriptor(tokens: &[TokenWithSpan]) -> Fallible<Name> {
    let mut cursor = Cursor::new(tokens);
    let hint = "name the time column: DESCRIPTOR(ts)";
    cursor.expect_words(&["DESCRIPTOR"]).map_err(|problem| problem.help(hint))?;
    let mut names = cursor.names("the time column's name")?;
    if names.len() != 1 || !cursor.is_at_end() {
        return Err(Problem::new(span_of(tokens), "DESCRIPTOR takes one column").help(hint));
    }
    Ok(names.remove(0))
}
