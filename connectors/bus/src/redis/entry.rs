//! Events as entries of streams.
//!
//! Invariant: nothing and empty are different things: a field that is not there is nothing.

use redis::{Cmd, RedisResult, Value};
use tidemill_core::record::Header;
use tidemill_core::source::Offset;

use crate::{BusError, Event};

const PAYLOAD: &[u8] = b"payload";
const KEY: &[u8] = b"key";
const TIMESTAMP: &[u8] = b"timestamp";
const HEADER: &[u8] = b"h.";

/// Refuses an event that has no fields: Redis has no entries without.
pub(super) fn check(topic: &str, event: &Event) -> Result<(), BusError> {
    let has_header = event.headers.iter().any(|header| header.value.is_some());
    if event.payload.is_some() || event.key.is_some() || event.timestamp.is_some() || has_header {
        return Ok(());
    }
    let reason =
        "it has neither key, payload, headers nor timestamp, and Redis keeps no such entry";
    Err(BusError::PublishFailed {
        topic: topic.to_owned(),
        reason: reason.to_owned(),
        may_pass: false,
    })
}

/// The command that adds an event to a stream. Of headers with the same name the last is kept.
pub(super) fn add(stream: &str, event: &Event) -> Cmd {
    let mut add = redis::cmd("XADD");
    add.arg(stream).arg("*");
    if let Some(payload) = &event.payload {
        add.arg(PAYLOAD).arg(payload);
    }
    if let Some(key) = &event.key {
        add.arg(KEY).arg(key);
    }
    for (index, header) in event.headers.iter().enumerate() {
        let is_last = event.headers[index + 1..].iter().all(|later| later.name != header.name);
        if let Some(value) = header.value.as_ref().filter(|_| is_last) {
            add.arg([HEADER, header.name.as_bytes()].concat()).arg(value);
        }
    }
    if let Some(timestamp) = event.timestamp {
        add.arg(TIMESTAMP).arg(timestamp);
    }
    add
}

/// The id of an entry: milliseconds, and a number within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Id(pub u64, pub u64);

impl Id {
    /// Reads `1700000000000-0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, number) = text.split_once('-')?;
        Some(Self(millis.parse().ok()?, number.parse().ok()?))
    }

    /// The last id before this one.
    pub fn before(self) -> Self {
        match (self.0, self.1) {
            (0, 0) => self,
            (millis, 0) => Self(millis - 1, u64::MAX),
            (millis, number) => Self(millis, number - 1),
        }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl From<Id> for Offset {
    fn from(id: Id) -> Self {
        Self(id.to_string())
    }
}

/// An entry that was read; without fields where it was deleted meanwhile.
pub(super) struct Entry {
    pub id: Id,
    pub event: Option<Event>,
}

/// `[id, [field, value, …]]`
pub(super) fn parse(entry: Value) -> RedisResult<Entry> {
    let (id, fields): (String, Option<Vec<Vec<u8>>>) = redis::from_redis_value(entry)?;
    let id = Id::parse(&id).ok_or_else(|| {
        redis::RedisError::from((redis::ErrorKind::UnexpectedReturnType, "no id of an entry"))
    })?;
    Ok(Entry { id, event: fields.map(|fields| event(id, fields)) })
}

fn event(id: Id, fields: Vec<Vec<u8>>) -> Event {
    let mut event = Event::default();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match name.as_slice() {
            PAYLOAD => event.payload = Some(value),
            KEY => event.key = Some(value),
            TIMESTAMP => {
                event.timestamp = String::from_utf8(value).ok().and_then(|t| t.parse().ok())
            }
            name => {
                if let Some(name) = name.strip_prefix(HEADER) {
                    event.headers.push(Header::new(String::from_utf8_lossy(name), value));
                }
            }
        }
    }
    let added = i64::try_from(id.0).ok().and_then(|millis| millis.checked_mul(1000));
    event.timestamp = event.timestamp.or(added);
    event
}

/// The entries of an answer of `XREAD` and `XREADGROUP`, of one stream; none where nothing came.
pub(super) fn of_one_stream(answer: Value) -> RedisResult<Vec<Entry>> {
    let streams: Option<Vec<(Value, Vec<Value>)>> = redis::from_redis_value(answer)?;
    let entries = streams.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries);
    entries.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_have_one_before() {
        let id = |text| Id::parse(text).unwrap();
        assert!(id("9-5") < id("10-0") && id("10-0") < id("10-1"));
        assert_eq!(id("10-0").before(), Id(9, u64::MAX));
        assert_eq!(id("10-3").before().to_string(), "10-2");
        assert_eq!(Id::default().before(), Id::default());
        assert!(["", "1", "1-", "a-0", "1-2-3"].iter().all(|text| Id::parse(text).is_none()));
    }
}
