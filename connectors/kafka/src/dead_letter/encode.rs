//! Rows of dead letters into records, on their way into a topic.
//!
//! A letter that the topic is too small for goes without its payload: where its record was read still says
//! all that is needed to find it. Invariant: every row is one record of the topic, or the job ends.

use tidemill_core::{Batch, Error, Result};

use super::headers::{self, HeaderNames};
use super::letter::Letter;
use crate::sink::record::{Outgoing, RecordEncoder};

/// See the module.
pub(super) struct LetterEncoder {
    pub topic: String,
    pub names: HeaderNames,
    /// How large a record may be on the wire.
    pub max_bytes: usize,
}

impl RecordEncoder for LetterEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        each: &mut dyn FnMut(usize, Result<Outgoing<'_>, String>) -> Result<()>,
    ) -> Result<()> {
        for (row, letter) in Letter::from_rows(&batch.rows)?.iter().enumerate() {
            let mut headers = headers::of(letter, self.names);
            let record = &letter.letter.record;
            let (key, mut payload) = (record.key.as_deref(), record.payload.as_deref());
            let size =
                Outgoing { key, payload, headers: &headers, ..Outgoing::default() }.wire_size();
            if size > self.max_bytes {
                headers.push(headers::omitted(payload.map_or(0, <[u8]>::len)));
                payload = None;
            }
            let outgoing = Outgoing { key, payload, headers: &headers, ..Outgoing::default() };
            if outgoing.wire_size() > self.max_bytes {
                return Err(self.too_large(letter, size));
            }
            each(row, Ok(outgoing))?;
        }
        Ok(())
    }
}

impl LetterEncoder {
    fn too_large(&self, letter: &Letter, size: usize) -> Error {
        let Letter { letter, source, .. } = letter;
        let (split, position) = (&letter.split, &letter.record.position);
        Error::external(format!(
            "the dead letter of {source}, {split}, {position} has {size} bytes, and topic '{}' takes \
             at most {}, too few even for its key and headers: raise the topic's 'max.message.bytes'",
            self.topic, self.max_bytes
        ))
    }
}
