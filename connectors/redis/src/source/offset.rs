//! The text of an offset: `1712-3`, the last entry that was read.
//!
//! Behind it, where there is more to say: `..1800-0`, the last entry of a bounded source, written down
//! because a bounded job ends where it said at its first start, however often it is restored; `#57`, how many
//! entries the stream has had up to there, which tells what was trimmed meanwhile, and the stream from one
//! that is created under its name later; `?1700-0`, up to where that number is known to be right, where that is
//! not the place itself; `~1600-0`, up to where entries that a dead consumer left have been
//! read (`'read' = 'group'`).

use std::fmt;

use tidemill_core::source::Offset;
use tidemill_core::{Error, Result};

use super::gap::Place;
use super::id::EntryId;

/// A place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The last entry that was read; [`EntryId::ZERO`] before the first.
    pub at: EntryId,
    /// How many entries the stream has had up to there, where that is known.
    pub count: Option<u64>,
    /// Up to where `count` is known to be right.
    pub sure: EntryId,
    /// The last entry that is to be read.
    pub stop: Option<EntryId>,
    /// The last entry that was taken over from a dead consumer, while there may be more.
    pub claimed: EntryId,
}

impl Position {
    /// Reads what [`fmt::Display`] has written.
    ///
    /// # Errors
    /// Text that is no offset of this connector.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text)
            .ok_or_else(|| Error::corrupt(format!("'{text}' is no offset of a Redis stream")))
    }

    fn read(text: &str) -> Option<Self> {
        let (text, claimed) = match text.split_once('~') {
            Some((text, claimed)) => (text, claimed.parse().ok()?),
            None => (text, EntryId::ZERO),
        };
        let (text, sure) = match text.split_once('?') {
            Some((text, sure)) => (text, Some(sure.parse().ok()?)),
            None => (text, None),
        };
        let (text, count) = match text.split_once('#') {
            Some((text, count)) => (text, Some(count.parse().ok()?)),
            None => (text, None),
        };
        let (at, stop) = match text.split_once("..") {
            Some((at, stop)) => (at, Some(stop.parse().ok()?)),
            None => (text, None),
        };
        let at = at.parse().ok()?;
        Some(Self { at, count, sure: sure.unwrap_or(at), stop, claimed })
    }

    /// The place, without where it ends.
    pub fn place(&self) -> Place {
        Place { at: self.at, count: self.count, sure: self.sure }
    }

    /// Whether all has been read that is to be read.
    pub fn is_at_end(&self) -> bool {
        self.stop.is_some_and(|stop| self.at >= stop)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        if let Some(stop) = self.stop {
            write!(f, "..{stop}")?;
        }
        if let Some(count) = self.count {
            write!(f, "#{count}")?;
            if self.sure != self.at {
                write!(f, "?{}", self.sure)?;
            }
        }
        if self.claimed > EntryId::ZERO {
            write!(f, "~{}", self.claimed)?;
        }
        Ok(())
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
        for text in [
            "0-0",
            "17-3",
            "17-3..20-0",
            "17-3#57",
            "17-3#57?9-1",
            "17-3..20-0#57?9-1~9-1",
            "17-3~9-1",
        ] {
            assert_eq!(Position::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "x", "1-0..", "..2-0", "1-0#", "1-0#x", "1-0#1?", "1-0~", "42@id"] {
            assert!(Position::parse(text).is_err(), "{text}");
        }
    }
}
