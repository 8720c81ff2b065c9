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

    /// The headers of record `index` alone.
    fn headers(&self, index: usize) -> Vec<Header> {
        self.record(index).headers
    }
}

/// Records with more headers than they came with: those of the same name give way.
#[derive(Debug)]
pub(crate) struct WithHeaders {
    /// The records; `None` for rows that are no records.
    pub records: Option<Arc<dyn Records>>,
    /// For every row its headers.
    pub added: Vec<Vec<Header>>,
    /// Which record each row is.
    pub rows: Option<Vec<u32>>,
}

impl Records for WithHeaders {
    fn record(&self, index: usize) -> SourceRecord {
        let inner = self.rows.as_ref().map_or(index, |rows| rows[index] as usize);
        let mut record = match &self.records {
            Some(records) => records.record(inner),
            None => SourceRecord::default(),
        };
        let added = &self.added[index];
        record.headers.retain(|old| added.iter().all(|new| new.name != old.name));
        record.headers.extend_from_slice(added);
        record
    }
}
