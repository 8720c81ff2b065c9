//! Bearer tokens: where they come from, and that nobody sees them.
//!
//! Invariant: a token is neither shown (`Debug`) nor found out by measuring how long a comparison takes.

use std::fmt;
use std::path::PathBuf;

use subtle::ConstantTimeEq;
use tidemill_core::table::Options;
use tidemill_core::{Error, Result};

/// Where a token comes from.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) enum TokenSource {
    /// None is asked for.
    #[default]
    None,
    /// It is given.
    Text(String),
    /// The first line of a file.
    File(PathBuf),
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl TokenSource {
    /// What `token` or `token.file` say.
    ///
    /// # Errors
    /// Both do, or the token is empty.
    pub fn parse(options: &Options) -> Result<Self> {
        match (options.get("token"), options.get("token.file")) {
            (Some(_), Some(_)) => {
                let message = "'token' and 'token.file' exclude each other: remove one";
                Err(Error::option("token.file", message))
            }
            (Some(""), None) => {
                let message = "option 'token' is empty: leave it out if no token is wanted";
                Err(Error::option("token", message))
            }
            (Some(token), None) => Ok(Self::Text(token.to_owned())),
            (None, Some(file)) => Ok(Self::File(file.into())),
            (None, None) => Ok(Self::None),
        }
    }

    /// The token; reads its file.
    ///
    /// # Errors
    /// The file cannot be read, or holds none.
    pub fn read(&self) -> Result<Option<Token>> {
        let path = match self {
            Self::None => return Ok(None),
            Self::Text(token) => return Token::new(token).map(Some),
            Self::File(path) => path,
        };
        let wrong = |what: &str| {
            Error::option("token.file", format!("the token file {} {what}", path.display()))
        };
        let text =
            std::fs::read_to_string(path).map_err(|e| wrong("cannot be read").caused_by(e))?;
        match text.lines().next().map(str::trim).filter(|token| !token.is_empty()) {
            Some(token) => Token::new(token).map(Some),
            None => Err(wrong("has an empty first line: write the token there")),
        }
    }
}

impl Token {
    fn new(token: &str) -> Result<Self> {
        if token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(token.to_owned()));
        }
        let message = "the token holds a character that no HTTP header takes: use letters, digits \
                       and punctuation only";
        Err(Error::option("token", message))
    }

    /// Whether this is the token, in a time that depends on its length alone.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// The value of the header `Authorization`.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
