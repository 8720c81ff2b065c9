//! Errors, by what the caller should do about them.
//!
//! One type serves the whole engine, user code included: the [`ErrorKind`] decides whether a
//! failure is retried, becomes a dead letter, or ends the job.

use std::fmt;

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It may work when tried again: retry with backoff, then treat as [`ErrorKind::Permanent`].
    Transient,
    /// This record can never be processed: it becomes a dead letter.
    Permanent,
    /// A normal negative outcome of the business: to the side output, never retried.
    Business,
    /// The job file or an option is wrong: the user must change it.
    Configuration,
    /// Another instance of this job has taken over: stop, and do not touch anything outside.
    Fenced,
    /// Stored bytes are not what was written.
    Corrupt,
    /// A file, a disk or a server failed.
    External,
    /// A defect in Tidemill or in user code.
    Internal,
}

/// The four ways to treat a failure; every [`ErrorKind`] is in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Retry with backoff; when that is in vain, treat as [`ErrorClass::Permanent`].
    Transient,
    /// A dead letter.
    Permanent,
    /// A normal negative outcome: to the side output.
    Business,
    /// The job ends.
    Fatal,
}

impl ErrorClass {
    /// The class in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Business => "business",
            Self::Fatal => "fatal",
        }
    }
}

impl ErrorKind {
    /// How to treat it.
    pub fn class(self) -> ErrorClass {
        match self {
            Self::Transient => ErrorClass::Transient,
            Self::Permanent => ErrorClass::Permanent,
            Self::Business => ErrorClass::Business,
            Self::Configuration
            | Self::Fenced
            | Self::Corrupt
            | Self::External
            | Self::Internal => ErrorClass::Fatal,
        }
    }
}

/// An error of the engine: its kind, a message that says what happened and what to do, and
/// optionally the option that is wrong and the cause.
pub struct Error {
    kind: ErrorKind,
    message: String,
    option: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message that says what happened, where, and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), option: None, source: None }
    }

    /// [`ErrorKind::Configuration`] with no option to point at.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// [`ErrorKind::Configuration`], and the table option that is wrong.
    pub fn option(option: impl Into<String>, message: impl Into<String>) -> Self {
        Self { option: Some(option.into()), ..Self::configuration(message) }
    }

    /// [`ErrorKind::Permanent`]: the record becomes a dead letter.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Permanent, message)
    }

    /// [`ErrorKind::Transient`]: it may work when tried again.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, message)
    }

    /// [`ErrorKind::Business`]: a normal negative outcome.
    pub fn business(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Business, message)
    }

    /// [`ErrorKind::External`]: a file, a disk or a server failed.
    pub fn external(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::External, message)
    }

    /// [`ErrorKind::Corrupt`]: stored bytes are not what was written.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// [`ErrorKind::Internal`]: a defect in Tidemill or in user code.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with the error that caused it.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, its message prefixed by where it happened (`"{place}: {message}"`).
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What the caller should do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, without the cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The table option that is wrong, if one is.
    pub fn wrong_option(&self) -> Option<&str> {
        self.option.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = cause {
            let text = error.to_string();
            if !self.message.contains(&text) {
                write!(f, ": {text}")?;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::external(error.to_string())
    }
}
