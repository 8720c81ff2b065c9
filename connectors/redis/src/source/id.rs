//! Ids of entries: milliseconds and a number within them, as Redis gives them out.

use std::fmt;
use std::str::FromStr;

use tidemill_core::EventTime;

/// An entry's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct EntryId {
    pub millis: u64,
    pub number: u64,
}

impl EntryId {
    /// In front of every entry.
    pub const ZERO: Self = Self { millis: 0, number: 0 };

    /// The last id that is before `millis`.
    pub fn before_millis(millis: u64) -> Self {
        Self { millis, number: 0 }.previous()
    }

    /// The id right before this one; [`EntryId::ZERO`] has none, and is its own.
    pub fn previous(self) -> Self {
        match (self.millis, self.number) {
            (0, 0) => self,
            (millis, 0) => Self { millis: millis - 1, number: u64::MAX },
            (millis, number) => Self { millis, number: number - 1 },
        }
    }

    /// The id right behind this one.
    pub fn next(self) -> Self {
        match self.number.checked_add(1) {
            Some(number) => Self { number, ..self },
            None => Self { millis: self.millis.saturating_add(1), number: 0 },
        }
    }

    /// Its time in microseconds; `None` where that is out of range.
    pub fn time(self) -> Option<EventTime> {
        i64::try_from(self.millis).ok()?.checked_mul(1000)
    }

    /// From the bytes that Redis sends.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let dash = bytes.iter().position(|byte| *byte == b'-')?;
        Some(Self { millis: number(&bytes[..dash])?, number: number(&bytes[dash + 1..])? })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

impl FromStr for EntryId {
    type Err = ();

    /// `17-3`, or `17` for `17-0`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let id = match text.contains('-') {
            true => Self::of_bytes(text.as_bytes()),
            false => number(text.as_bytes()).map(|millis| Self { millis, number: 0 }),
        };
        id.ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_from_their_text_and_keep_their_order() {
        let ids = ["0-0", "0-1", "1-18446744073709551615", "2-0", "1700000000000-3"];
        let parsed: Vec<EntryId> = ids.iter().map(|text| text.parse().unwrap()).collect();
        assert!(parsed.is_sorted());
        for (text, id) in ids.iter().zip(&parsed) {
            assert_eq!(&id.to_string(), text);
            assert_eq!(id.next().previous(), *id);
        }
        assert_eq!("17".parse(), Ok(EntryId { millis: 17, number: 0 }));
        assert_eq!(EntryId::before_millis(2), parsed[2]);
        for text in ["", "-", "1-", "-1", "x", "1-x", "99999999999999999999-0"] {
            assert!(text.parse::<EntryId>().is_err(), "{text}");
        }
    }
}
