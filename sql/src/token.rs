//! The text of a job file as tokens with positions, and a cursor over them.
//!
//! Everything behind works on these tokens, also where it rewrites them: a token keeps the span
//! that it was read from, so an error found late still points into the file. Variables are
//! replaced here, inside string literals only: the text around them can never change shape.

use datafusion_sql::sqlparser::ast::Expr;
use datafusion_sql::sqlparser::dialect::Dialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{
    Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError,
};

use crate::diagnostic::{Fallible, Problem, Problems};

/// Flink's lexical rules: backticks around identifiers, no escapes in strings.
#[derive(Debug)]
pub(crate) struct FlinkDialect;

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn identifier_quote_style(&self, _: &str) -> Option<char> {
        Some('`')
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }
}

/// A name and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub text: String,
    pub span: Span,
}

/// The tokens of a job file without blanks and comments, variables replaced.
pub(crate) fn tokenize(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Vec<TokenWithSpan> {
    let tokens = match Tokenizer::new(&FlinkDialect, text).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(TokenizerError { message, location }) => {
            problems.add(Problem::new(Span::new(location, location), message));
            return Vec::new();
        }
    };
    let mut result = Vec::with_capacity(tokens.len());
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::Whitespace(_) | Token::EOF => {}
            // `ARRAY<ARRAY<INT>>` closes two types; nothing in Flink SQL shifts bits with it.
            Token::ShiftRight => {
                let middle = Location::new(span.start.line, span.start.column + 1);
                result.push(TokenWithSpan::new(Token::Gt, Span::new(span.start, middle)));
                result.push(TokenWithSpan::new(Token::Gt, Span::new(middle, span.end)));
            }
            Token::SingleQuotedString(text) => {
                let text = problems.take(replace_variables(&text, env, span)).unwrap_or(text);
                result.push(TokenWithSpan::new(Token::SingleQuotedString(text), span));
            }
            Token::DoubleQuotedString(text) => {
                problems.add(
                    Problem::new(span, format!("\"{text}\" is neither a string nor a name"))
                        .help(format!("write '{text}' for a string, `{text}` for a name")),
                );
                // Goes on as a name, so that what follows is not reported too.
                result.push(TokenWithSpan::new(Token::make_word(&text, None), span));
            }
            token => result.push(TokenWithSpan::new(token, span)),
        }
    }
    result
}

/// Replaces `${NAME}`, `${NAME:-default}` and `${NAME:?message}`.
fn replace_variables(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    span: Span,
) -> Fallible<String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        result.push_str(&rest[..start]);
        let Some(length) = rest[start..].find('}') else {
            return Err(Problem::new(span, "'${' is not closed by '}'"));
        };
        result.push_str(&variable(&rest[start + 2..start + length], env, span)?);
        rest = &rest[start + length + 1..];
    }
    result.push_str(rest);
    Ok(result)
}

fn variable(inner: &str, env: &dyn Fn(&str) -> Option<String>, span: Span) -> Fallible<String> {
    let (name, otherwise) = inner.split_once(':').map_or((inner, ""), |(name, rest)| (name, rest));
    let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(Problem::new(span, format!("'${{{inner}}}' does not name a variable"))
            .help("write ${NAME}, ${NAME:-default} or ${NAME:?message}"));
    }
    let value = env(name);
    match (otherwise.chars().next(), value) {
        (None, Some(value)) => Ok(value),
        // As in a shell, `:-` and `:?` take an empty variable for a missing one.
        (Some('-' | '?'), Some(value)) if !value.is_empty() => Ok(value),
        (Some('-'), _) => Ok(otherwise[1..].to_owned()),
        (Some('?'), _) => {
            let message = &otherwise[1..];
            let message = if message.is_empty() { "it is required" } else { message };
            Err(Problem::new(span, format!("environment variable {name}: {message}")))
        }
        (None, None) => Err(Problem::new(span, format!("environment variable {name} is not set"))
            .help(format!("set it, or write ${{{name}:-default}}"))),
        (Some(_), _) => Err(Problem::new(span, format!("'${{{inner}}}' is not understood"))
            .help("write ${NAME}, ${NAME:-default} or ${NAME:?message}")),
    }
}

/// Whether a token is this keyword, in any case and not quoted.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// From the start of the first token to the end of the last.
pub(crate) fn span_of(tokens: &[TokenWithSpan]) -> Span {
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => Span::new(first.span.start, last.span.end),
        _ => Span::empty(),
    }
}

/// A parser of expressions and queries over tokens that keep their positions.
pub(crate) fn parser(tokens: &[TokenWithSpan]) -> Parser<'static> {
    Parser::new(&FlinkDialect).with_tokens_with_locations(tokens.to_vec())
}

/// Parses all of `tokens` as one expression.
pub(crate) fn parse_expr(tokens: &[TokenWithSpan]) -> Fallible<Expr> {
    let mut parser = parser(tokens);
    let expr = parser.parse_expr().map_err(|e| parse_problem(&e, tokens))?;
    expect_end(&parser, "expression")?;
    Ok(expr)
}

/// An error unless the parser has consumed everything.
pub(crate) fn expect_end(parser: &Parser<'_>, what: &str) -> Fallible<()> {
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Ok(()),
        token => {
            Err(Problem::new(next.span, format!("'{token}' does not belong behind this {what}")))
        }
    }
}

/// What the parser said, at the position that it said it about.
pub(crate) fn parse_problem(error: &ParserError, tokens: &[TokenWithSpan]) -> Problem {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply",
    };
    let whole = span_of(tokens);
    let Some((message, position)) = text.rsplit_once(" at Line: ") else {
        let end = Span::new(whole.end, whole.end);
        let at = if text.contains("found: EOF") { end } else { whole };
        return Problem::new(at, text.replace("found: EOF", "found the end of the statement"));
    };
    let mut numbers = position.split(", Column: ").map(|n| n.trim().parse::<u64>());
    let at = match (numbers.next(), numbers.next()) {
        (Some(Ok(line)), Some(Ok(column))) => Location::new(line, column),
        _ => whole.start,
    };
    let token = tokens.iter().find(|token| token.span.start == at);
    let span = token.map_or(Span::new(at, at), |token| token.span);
    Problem::new(span, message.replace("Expected: ", "expected "))
}

/// Reads tokens one by one.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    tokens: &'a [TokenWithSpan],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(tokens: &'a [TokenWithSpan]) -> Self {
        Self { tokens, at: 0 }
    }

    pub fn peek(&self) -> Option<&'a Token> {
        self.peek_ahead(0)
    }

    pub fn peek_ahead(&self, by: usize) -> Option<&'a Token> {
        self.tokens.get(self.at + by).map(|token| &token.token)
    }

    /// Where the next token stands, or the end of the last one.
    pub fn span(&self) -> Span {
        match self.tokens.get(self.at) {
            Some(token) => token.span,
            None => {
                let end = span_of(self.tokens).end;
                Span::new(end, end)
            }
        }
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn advance(&mut self) {
        self.at += 1;
    }

    /// All tokens that are left.
    pub fn rest(&mut self) -> &'a [TokenWithSpan] {
        let rest = &self.tokens[self.at.min(self.tokens.len())..];
        self.at = self.tokens.len();
        rest
    }

    pub fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    /// Consumes these keywords, all or none.
    pub fn accept_words(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .enumerate()
            .all(|(ahead, word)| self.peek_ahead(ahead).is_some_and(|token| is_word(token, word)));
        self.at += if found { words.len() } else { 0 };
        found
    }

    pub fn expect(&mut self, token: &Token) -> Fallible<()> {
        if self.accept(token) { Ok(()) } else { Err(self.expected(&format!("'{token}'"))) }
    }

    pub fn expect_words(&mut self, words: &[&str]) -> Fallible<()> {
        if self.accept_words(words) { Ok(()) } else { Err(self.expected(&words.join(" "))) }
    }

    /// An error: something else should stand here.
    pub fn expected(&self, what: &str) -> Problem {
        let found = match self.peek() {
            Some(token) => format!("'{token}'"),
            None => "the end of the statement".to_owned(),
        };
        Problem::new(self.span(), format!("expected {what}, found {found}"))
    }

    pub fn name(&mut self, what: &str) -> Fallible<Name> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let name = Name { text: word.value.clone(), span: self.span() };
                self.advance();
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A string literal, and where it stands.
    pub fn string(&mut self, what: &str) -> Fallible<Name> {
        match self.peek() {
            Some(Token::SingleQuotedString(text)) => {
                let name = Name { text: text.clone(), span: self.span() };
                self.advance();
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    pub fn number(&mut self, what: &str) -> Fallible<u32> {
        match self.peek() {
            Some(Token::Number(text, _)) => {
                let number = text.parse().map_err(|_| self.expected(what))?;
                self.advance();
                Ok(number)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// The tokens up to one for which `stop` holds outside all parentheses and brackets.
    pub fn until(&mut self, stop: impl Fn(&Token) -> bool) -> &'a [TokenWithSpan] {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            match token {
                _ if depth == 0 && stop(token) => break,
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket if depth == 0 => break,
                Token::RParen | Token::RBracket => depth -= 1,
                _ => {}
            }
            self.advance();
        }
        &self.tokens[start..self.at]
    }

    /// Names in parentheses.
    pub fn names(&mut self, what: &str) -> Fallible<Vec<Name>> {
        self.expect(&Token::LParen)?;
        let mut names = vec![self.name(what)?];
        while self.accept(&Token::Comma) {
            names.push(self.name(what)?);
        }
        self.expect(&Token::RParen)?;
        Ok(names)
    }
}
