//! The text of an offset: `42@<topic-id>`, of a bounded source `42..100@<topic-id>`.
//!
//! The id tells a topic from one that is created under its name later; brokers before Kafka 2.8 have
//! none, and then it is left out. The end is written down because a bounded job ends where it said at
//! its first start, however often it is restored.

use std::fmt;

use tidemill_core::source::Offset;
use tidemill_core::{Error, Result};

/// A place in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The next record.
    pub next: i64,
    /// The record that is not read any more.
    pub stop: Option<i64>,
    /// The topic's id.
    pub topic_id: Option<String>,
}

impl Position {
    /// Reads what [`fmt::Display`] has written.
    ///
    /// # Errors
    /// Text that is no offset of this connector.
    pub fn parse(text: &str) -> Result<Self> {
        let (range, id) = match text.split_once('@') {
            Some((range, id)) => (range, Some(id.to_owned())),
            None => (text, None),
        };
        let (next, stop) = match range.split_once("..") {
            Some((next, stop)) => (next.parse().ok(), Some(stop.parse().ok())),
            None => (range.parse().ok(), None),
        };
        match (next, stop) {
            (Some(next), None) => Ok(Self { next, stop: None, topic_id: id }),
            (Some(next), Some(Some(stop))) => Ok(Self { next, stop: Some(stop), topic_id: id }),
            _ => Err(Error::corrupt(format!("'{text}' is no offset of a Kafka partition"))),
        }
    }

    /// Whether all has been read that is to be read.
    pub fn is_at_end(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.next)?;
        if let Some(stop) = self.stop {
            write!(f, "..{stop}")?;
        }
        match &self.topic_id {
            Some(id) => write!(f, "@{id}"),
            None => Ok(()),
        }
    }
}

impl From<&Position> for Offset {
    fn from(position: &Position) -> Self {
        Self(position.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_come_back_from_their_text() {
        for text in ["0", "42@Xy-9_z", "42..100", "42..100@Xy-9_z"] {
            assert_eq!(Position::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "x", "1..", "..2@id", "-"] {
            assert!(Position::parse(text).is_err(), "{text}");
        }
    }
}
