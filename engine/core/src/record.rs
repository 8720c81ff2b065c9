//! Records as a source holds them: bytes, key, headers. What dead letters keep, and what travels beside a
//! row for as long as the row is still one record.

use std::sync::Arc;

use crate::time::EventTime;

/// One record of a source, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceRecord {
    /// Where in its split, as people name it: `line 12`, `offset 40`.
    pub position: String,
    /// The payload; `None` where the source says that there is none (a tombstone).
    pub payload: Option<Vec<u8>>,
    /// The key, where the source has keys.
    pub key: Option<Vec<u8>>,
    /// The headers, in order; names may repeat.
    pub headers: Vec<Header>,
    /// The source's own timestamp, in microseconds.
    pub timestamp: Option<EventTime>,
}

impl SourceRecord {
    /// A record of a source that has neither keys nor headers.
    pub fn new(position: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self { position: position.into(), payload: Some(payload.into()), ..Self::default() }
    }
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, byte for byte.
    pub value: Option<Vec<u8>>,
}

impl Header {
    /// A header with a value.
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// Access to the records that a batch was decoded from.
pub trait Records: std::fmt::Debug + Send + Sync {
    /// Record `index`.
    fn record(&self, index: usize) -> SourceRecord;

    /// The headers that record `index` goes on with: its own, unless some were added on the way.
    fn headers(&self, index: usize) -> Vec<Header> {
        self.record(index).headers
    }
}

/// Records that go on with more headers than they came with: those of the same name give way. The records
/// themselves stay as they came, for dead letters.
#[derive(Debug)]
pub(crate) struct WithHeaders {
    /// The records; `None` for rows that are no records.
    pub records: Option<Arc<dyn Records>>,
    /// For every row its headers.
    pub added: Vec<Vec<Header>>,
    /// Which record each row is.
    pub rows: Option<Vec<u32>>,
}

impl WithHeaders {
    fn inner(&self, index: usize) -> usize {
        self.rows.as_ref().map_or(index, |rows| rows[index] as usize)
    }
}

impl Records for WithHeaders {
    fn record(&self, index: usize) -> SourceRecord {
        let records = self.records.as_ref();
        records.map_or_else(SourceRecord::default, |records| records.record(self.inner(index)))
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        let records = self.records.as_ref();
        let mut headers =
            records.map_or_else(Vec::new, |records| records.headers(self.inner(index)));
        let added = &self.added[index];
        headers.retain(|old| added.iter().all(|new| new.name != old.name));
        headers.extend_from_slice(added);
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Incoming;

    impl Records for Incoming {
        fn record(&self, index: usize) -> SourceRecord {
            let headers = vec![Header::new("id", format!("{index}")), Header::new("kind", "old")];
            SourceRecord { headers, ..SourceRecord::new(format!("offset {index}"), "{}") }
        }
    }

    #[test]
    fn headers_that_are_added_go_on_and_the_record_stays_as_it_came() {
        let added = |n: u32| vec![Header::new("kind", "new"), Header::new("by", n.to_string())];
        let once = WithHeaders {
            records: Some(Arc::new(Incoming)),
            added: vec![added(0), added(1)],
            rows: Some(vec![7, 8]),
        };
        let twice = WithHeaders {
            records: Some(Arc::new(once)),
            added: vec![vec![Header::new("by", "2")]],
            rows: Some(vec![1]),
        };
        assert_eq!(twice.record(0), Incoming.record(8));
        let pairs = [("id", "8"), ("kind", "new"), ("by", "2")];
        assert_eq!(twice.headers(0), pairs.map(|(name, value)| Header::new(name, value)));
        let rowless = WithHeaders { records: None, added: vec![added(0)], rows: None };
        assert_eq!(rowless.headers(0), added(0));
    }
}
