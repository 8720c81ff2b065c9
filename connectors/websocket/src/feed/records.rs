//! The messages behind a batch, for dead letters.

use std::sync::Arc;

use tidemill_core::record::{Records, SourceRecord};

use super::inlet::Received;

/// Messages of which the first has the number `first`.
#[derive(Debug, Clone)]
pub(super) struct FeedRecords {
    pub messages: Arc<[Received]>,
    pub first: u64,
    /// For each row its message.
    pub rows: Vec<u32>,
}

impl Records for FeedRecords {
    fn record(&self, index: usize) -> SourceRecord {
        let message = self.rows[index] as usize;
        record(&self.messages[message], self.first + message as u64)
    }
}

/// Message `number` of its feed, byte for byte.
pub(super) fn record(message: &Received, number: u64) -> SourceRecord {
    let record = SourceRecord::new(format!("message {number}"), message.payload.to_vec());
    SourceRecord { timestamp: Some(message.read_at), ..record }
}
