//! A record on its way out: what encoders produce and producers take.
//!
//! Invariant: absent and empty are different things all the way, for keys, payloads and header values.

use tidemill_core::record::{Header, SourceRecord};
use tidemill_core::{Batch, Result};

/// What a record of the newest format costs on the wire beside its bytes, at most: the header of its
/// batch and its own lengths.
const WIRE_OVERHEAD: usize = 61 + 36;

/// What a header costs on the wire beside its bytes, at most.
const HEADER_OVERHEAD: usize = 10;

/// A record to be produced. The topic is the producer's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// The partition; `None` leaves it to the partitioner.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [Header],
    /// Milliseconds since the epoch; `None`: when it is produced.
    pub timestamp: Option<i64>,
}

impl Outgoing<'_> {
    /// Bytes on the wire, at most and uncompressed: what brokers and producers compare with their
    /// limits.
    pub fn wire_size(&self) -> usize {
        let header = |header: &Header| {
            HEADER_OVERHEAD + header.name.len() + header.value.as_ref().map_or(0, Vec::len)
        };
        WIRE_OVERHEAD
            + self.key.map_or(0, <[u8]>::len)
            + self.payload.map_or(0, <[u8]>::len)
            + self.headers.iter().map(header).sum::<usize>()
    }

    /// The record as a dead letter keeps it. It never was at a position: `topic` says where it was to
    /// go.
    pub(crate) fn to_record(self, topic: &str) -> SourceRecord {
        SourceRecord {
            position: format!("to {topic}"),
            payload: self.payload.map(<[u8]>::to_vec),
            key: self.key.map(<[u8]>::to_vec),
            headers: self.headers.to_vec(),
            timestamp: self.timestamp.and_then(|millis| millis.checked_mul(1000)),
        }
    }
}

/// The record of a row, or why it has none.
pub type Encoded<'a> = Result<Outgoing<'a>, String>;

/// Turns rows into records, in their order.
pub trait RecordEncoder: Send {
    /// Calls `each` for every row: with its number and its record, or why it has none. An error of
    /// `each` ends it.
    ///
    /// # Errors
    /// Those of `each`, and those of a format that may pass.
    fn encode(
        &mut self,
        batch: &Batch,
        each: &mut dyn FnMut(usize, Encoded<'_>) -> Result<()>,
    ) -> Result<()>;
}

/// A record that owns its bytes, with its topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    pub topic: String,
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub timestamp: Option<i64>,
}

impl Owned {
    pub fn new(topic: &str, record: &Outgoing<'_>) -> Self {
        Self {
            topic: topic.to_owned(),
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            payload: record.payload.map(<[u8]>::to_vec),
            headers: record.headers.to_vec(),
            timestamp: record.timestamp,
        }
    }

    pub fn borrow(&self) -> Outgoing<'_> {
        Outgoing {
            partition: self.partition,
            key: self.key.as_deref(),
            payload: self.payload.as_deref(),
            headers: &self.headers,
            timestamp: self.timestamp,
        }
    }
}
