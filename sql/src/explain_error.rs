//! Errors of DataFusion's planner, told in the words of a job file and at a position in it.

use datafusion_common::{DataFusionError, SchemaError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use crate::diagnostic::Problem;
use crate::functions::planner_name;
use crate::token::span_of;
use crate::types::in_sql_words;

/// The error, at the token that it is about.
pub(crate) fn problem(error: &DataFusionError, tokens: &[TokenWithSpan]) -> Problem {
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(problem) = inner.downcast_ref::<Problem>()
    {
        let mut problem = problem.clone();
        if problem.span == Span::empty() {
            problem.span = start(tokens);
        }
        return problem;
    }
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(from_datafusion);
    if let DataFusionError::SchemaError(schema_error, _) = error.find_root() {
        return of_schema(schema_error, span, tokens);
    }
    let message = error.find_root().message().into_owned();
    if let Some(problem) = not_grouped(&message, span, tokens) {
        return problem;
    }
    let message = clean(&message);
    let span = span.or_else(|| mentioned(&message, tokens)).unwrap_or_else(|| start(tokens));
    Problem::new(span, message)
}

fn from_datafusion(span: datafusion_common::Span) -> Span {
    let location = |at: datafusion_common::Location| Location::new(at.line, at.column);
    Span::new(location(span.start), location(span.end))
}

fn of_schema(error: &SchemaError, span: Option<Span>, tokens: &[TokenWithSpan]) -> Problem {
    let at = |name: &str| span.or_else(|| find(name, tokens)).unwrap_or_else(|| start(tokens));
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let span = field.spans.first().map(from_datafusion).or(span);
            let span = span.or_else(|| find(&field.name, tokens)).unwrap_or_else(|| start(tokens));
            let mut names: Vec<&str> = valid_fields.iter().map(|c| c.name.as_str()).collect();
            names.dedup();
            let written = match &field.relation {
                Some(relation) => format!("{}.{}", relation.table(), field.name),
                None => field.name.clone(),
            };
            Problem::new(span, format!("unknown column '{written}'")).suggest_or_list(
                &field.name,
                "columns",
                names,
            )
        }
        SchemaError::AmbiguousReference { field } => {
            Problem::new(at(&field.name), format!("column '{}' is ambiguous", field.name))
                .help("several columns have this name: rename one with AS")
        }
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            Problem::new(at(name), format!("two columns are called '{name}'"))
                .help("rename one with AS")
        }
    }
}

fn not_grouped(message: &str, span: Option<Span>, tokens: &[TokenWithSpan]) -> Option<Problem> {
    let (before, _) = message.split_once(" must appear in the GROUP BY clause")?;
    let column = before.rsplit('"').nth(1).or_else(|| before.rsplit(' ').next())?;
    let name = column.rsplit('.').next()?.trim_matches('"');
    let span = span.or_else(|| find(name, tokens)).unwrap_or_else(|| start(tokens));
    Some(
        Problem::new(span, format!("column '{name}' is neither grouped by nor aggregated"))
            .help(format!("add '{name}' to GROUP BY, or aggregate it: MAX({name})")),
    )
}

/// The first line, without the library's prefixes and type names.
fn clean(message: &str) -> String {
    let mut text = message.lines().next().unwrap_or_default();
    let prefixes =
        ["Error during planning: ", "This feature is not implemented: ", "Internal error: "];
    for prefix in prefixes {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let signature = ["failed to match any signature", "No function matches", "Failed to coerce"];
    if signature.iter().any(|phrase| text.contains(phrase))
        && let Some(name) = quoted(text).next()
    {
        let name = name.split('(').next().unwrap_or(name).to_uppercase();
        return format!("{name} does not take arguments of these types");
    }
    in_sql_words(text.trim_end_matches('.'))
}

/// What stands in single quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('\'').skip(1).step_by(2)
}

/// A function that the message calls by its name, or a string that it quotes.
fn mentioned(message: &str, tokens: &[TokenWithSpan]) -> Option<Span> {
    let is_called = |name: &str| {
        let is_call = |pair: &&[TokenWithSpan]| match (&pair[0].token, &pair[1].token) {
            (Token::Word(word), Token::LParen) => {
                word.value.eq_ignore_ascii_case(name)
                    || planner_name(&word.value).is_some_and(|n| n.eq_ignore_ascii_case(name))
            }
            _ => false,
        };
        tokens.windows(2).find(is_call).map(|pair| pair[0].span)
    };
    let is_quoted = |text: &str| {
        let is_it = |token: &&TokenWithSpan| matches!(&token.token, Token::SingleQuotedString(literal) if literal == text);
        tokens.iter().find(is_it).map(|token| token.span)
    };
    let separators = |c: char| !(c.is_alphanumeric() || c == '_');
    let words = message.split(separators).filter(|word| word.len() > 1);
    words.into_iter().find_map(is_called).or_else(|| quoted(message).find_map(is_quoted))
}

/// Where a name stands, in its own case.
pub(crate) fn find(name: &str, tokens: &[TokenWithSpan]) -> Option<Span> {
    let is_it = |token: &&TokenWithSpan| matches!(&token.token, Token::Word(w) if w.value == name);
    tokens.iter().find(is_it).map(|token| token.span)
}

fn start(tokens: &[TokenWithSpan]) -> Span {
    tokens.first().map_or_else(|| span_of(tokens), |token| token.span)
}
