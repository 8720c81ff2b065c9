//! Types of events with their version: `OrderPlaced.v1`.

use std::fmt;
use std::str::FromStr;

use crate::BusError;

/// What kind of event something is, and in which version of its schema: `OrderPlaced.v1`.
///
/// ```
/// use tidemill_bus::EventType;
///
/// let placed: EventType = "shop.OrderPlaced.v2".parse()?;
/// assert_eq!((placed.name(), placed.version()), ("shop.OrderPlaced", 2));
/// assert!("OrderPlaced".parse::<EventType>().is_err());
/// # Ok::<(), tidemill_bus::BusError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType {
    name: String,
    version: u32,
}

impl EventType {
    /// The name, without the version.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, counted from 1.
    pub fn version(&self) -> u32 {
        self.version
    }
}

impl FromStr for EventType {
    type Err = BusError;

    fn from_str(text: &str) -> Result<Self, BusError> {
        parse(text).ok_or_else(|| BusError::InvalidEvent {
            reason: format!(
                "'{text}' is no type of an event: write a name of letters, digits, '_' and '.', and \
                 its version, as 'OrderPlaced.v1'"
            ),
        })
    }
}

fn parse(text: &str) -> Option<EventType> {
    let (name, version) = text.rsplit_once(".v")?;
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphabetic())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let is_number = !version.starts_with('0') && version.bytes().all(|byte| byte.is_ascii_digit());
    if !name.split('.').all(is_word) || !is_number {
        return None;
    }
    Some(EventType { name: name.to_owned(), version: version.parse().ok()? })
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.v{}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_version_and_come_back() {
        for text in ["OrderPlaced.v1", "shop.OrderPlaced.v12", "a_b.v3", "v1.v2"] {
            assert_eq!(text.parse::<EventType>().unwrap().to_string(), text);
        }
        let wrong = [
            "",
            "OrderPlaced",
            "OrderPlaced.v",
            "OrderPlaced.v0",
            "OrderPlaced.v01",
            "OrderPlaced.1",
            ".v1",
            "Order Placed.v1",
            "1Order.v1",
            "a..b.v1",
            "OrderPlaced.v1.",
            "OrderPlaced.v-1",
            "OrderPlaced.v99999999999",
            "Ordër.v1",
        ];
        for text in wrong {
            let error = text.parse::<EventType>().unwrap_err();
            assert!(error.to_string().contains("OrderPlaced.v1"), "{text}: {error}");
        }
    }
}
