//! Errors of a job file: what is wrong, where, and what to write instead.
//!
//! While a file is planned, a [`Problem`] holds a position in the tokens; [`Diagnostics`] is what
//! the caller gets, with the source lines cut out and secrets masked. Invariant: a file with several
//! wrong statements yields an error for each of them, in the order of the file.

use std::fmt;

use datafusion_sql::sqlparser::tokenizer::Span;

use crate::secrets::Masked;

/// All errors of a job file, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// The errors; never empty.
    pub errors: Vec<Diagnostic>,
}

/// One error of a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// Line of the first wrong character, from 1.
    pub line: u64,
    /// Its column in characters, from 1.
    pub column: u64,
    /// How many characters on that line are wrong, at least 1.
    pub length: u64,
    /// The text of that line.
    pub source_line: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            error.render(&self.file, f)?;
        }
        Ok(())
    }
}

impl Diagnostic {
    fn render(&self, file: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret stands under its character in any terminal.
        let indent: String = self
            .source_line
            .chars()
            .take(self.column as usize - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "{margin}--> {file}:{}:{}", self.line, self.column)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.source_line)?;
        writeln!(f, "{margin} | {indent}{}", "^".repeat(self.length as usize))?;
        match &self.help {
            Some(help) => writeln!(f, "{margin} = help: {help}"),
            None => Ok(()),
        }
    }
}

/// An error on its way to the caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    pub message: String,
    pub span: Span,
    pub help: Option<String>,
}

pub(crate) type Fallible<T> = Result<T, Problem>;

impl Problem {
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, help: None }
    }

    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds "did you mean" where one of `known` is close to `written`.
    pub fn suggest<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match closest(written, known) {
            Some(name) => self.help(format!("did you mean '{name}'?")),
            None => self,
        }
    }

    /// Adds "did you mean", or else the list of what there is.
    pub fn suggest_or_list<'a>(
        self,
        written: &str,
        what: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let suggested = self.suggest(written, known.iter().copied());
        if suggested.help.is_some() || known.is_empty() {
            return suggested;
        }
        suggested.help(format!("{what}: {}", known.join(", ")))
    }

    fn into_diagnostic(self, lines: &[&str]) -> Diagnostic {
        let line = self.span.start.line.clamp(1, lines.len().max(1) as u64);
        let source_line = lines.get(line as usize - 1).unwrap_or(&"").to_string();
        let width = source_line.chars().count() as u64;
        let column = self.span.start.column.clamp(1, width + 1);
        let end = if self.span.end.line > line { width + 1 } else { self.span.end.column };
        let length = end.saturating_sub(column).clamp(1, (width + 1 - column).max(1));
        Diagnostic { message: self.message, line, column, length, source_line, help: self.help }
    }
}

/// The errors of a file, collected while planning goes on.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub fn add(&mut self, problem: Problem) {
        let same = |p: &Problem| p.span == problem.span && p.message == problem.message;
        if !self.0.iter().any(same) {
            self.0.push(problem);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value, or `None` with the error noted.
    pub fn take<T>(&mut self, result: Fallible<T>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }

    /// `Ok` where nothing was wrong.
    pub fn finish(mut self, file: &str, text: &str) -> Result<(), Diagnostics> {
        if self.0.is_empty() {
            return Ok(());
        }
        let masked = Masked::new(text);
        let lines: Vec<&str> = masked.text.lines().collect();
        self.0.sort_by_key(|problem| (problem.span.start.line, problem.span.start.column));
        let diagnostic = |problem: Problem| {
            let message = masked.message(problem.message);
            let help = problem.help.map(|help| masked.message(help));
            Problem { message, help, ..problem }.into_diagnostic(&lines)
        };
        let errors = self.0.into_iter().map(diagnostic).collect();
        Err(Diagnostics { file: file.to_owned(), errors })
    }
}

/// The name among `known` that a person most likely meant, if any is close.
pub(crate) fn closest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let folded = written.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&folded, &name.to_lowercase());
    let (best, name) = known.into_iter().map(|name| (distance(name), name)).min()?;
    let tolerance = (folded.chars().count() / 3).max(1);
    (best <= tolerance && name != written).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_sql::sqlparser::tokenizer::Location;

    #[test]
    fn suggestions_are_close_or_absent() {
        assert_eq!(closest("usr_id", ["user_id", "ts"]), Some("user_id"));
        assert_eq!(closest("USER_ID", ["user_id", "ts"]), Some("user_id"));
        assert_eq!(closest("amount", ["user_id", "ts"]), None);
    }

    #[test]
    fn errors_come_in_the_files_order_with_a_caret() {
        let at =
            |line, column, end| Span::new(Location::new(line, column), Location::new(line, end));
        let mut problems = Problems::default();
        problems.add(Problem::new(at(2, 1, 3), "second"));
        problems.add(Problem::new(at(1, 3, 5), "first").help("try this"));
        let text = problems.finish("a.sql", "ab cd\nef").unwrap_err().to_string();
        let expected = "error: first\n --> a.sql:1:3\n  |\n1 | ab cd\n  |   ^^\n  = help: try this\n\
                        \nerror: second\n --> a.sql:2:1\n  |\n2 | ef\n  | ^^\n";
        assert_eq!(text, expected);
    }
}
