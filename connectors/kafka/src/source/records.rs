//! The records behind a batch, for dead letters and for headers that travel on: the messages themselves,
//! which librdkafka keeps until the batch is gone. Nothing is copied and no header is parsed unless
//! somebody asks.

use std::fmt;

use tidemill_core::record::{Header, Records, SourceRecord};

use super::queue::Messages;

/// See the module.
pub(crate) struct KafkaRecords {
    messages: Messages,
    /// For each row its message, where they are not the same.
    rows: Option<Vec<u32>>,
}

impl KafkaRecords {
    pub fn new(messages: Messages, rows: Vec<u32>) -> Self {
        let rows = Some(rows).filter(|rows| rows.len() != messages.len());
        Self { messages, rows }
    }

    fn message(&self, index: usize) -> usize {
        self.rows.as_ref().map_or(index, |rows| rows[index] as usize)
    }
}

impl fmt::Debug for KafkaRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaRecords({} messages)", self.messages.len())
    }
}

impl Records for KafkaRecords {
    fn record(&self, index: usize) -> SourceRecord {
        record(&self.messages, self.message(index))
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        self.messages.owned_headers(self.message(index))
    }
}

/// Message `index`, byte for byte.
pub(crate) fn record(messages: &Messages, index: usize) -> SourceRecord {
    let message = messages.get(index);
    let (millis, _) = message.timestamp();
    SourceRecord {
        position: format!("offset {}", message.offset()),
        payload: message.payload().map(<[u8]>::to_vec),
        key: message.key().map(<[u8]>::to_vec),
        headers: messages.owned_headers(index),
        timestamp: millis.and_then(|millis| millis.checked_mul(1000)),
    }
}
