//! Where the first record of a block begins.
//!
//! Where every line end ends a record, it begins behind the last one before the block. Inside quotes a
//! line end ends none, and whether a byte is inside only those before it can tell: there the lanes of a
//! file share what they know of its records, and pass over the rest of the bytes before the block,
//! quickly where there are no quotes. Invariant: what is found is where a record begins for a reader that
//! goes through the file from its start.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tidemill_core::Result;

use crate::chunk::Chunks;

/// Places where a record of one file begins.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    known: Mutex<BTreeSet<u64>>,
}

impl Starts {
    /// A record begins at this byte, or the file ends there.
    pub(crate) fn add(&self, byte: u64) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(byte);
    }

    /// The first record that begins at `byte` or later; or the end of the file. `open` reads the file from where
    /// a record begins.
    pub(crate) fn find(&self, byte: u64, open: impl Fn(u64) -> Result<Chunks>) -> Result<u64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.range(..=byte).next_back().copied();
        // In front of the first record there are none.
        let from = before.or_else(|| known.first().copied()).unwrap_or(0);
        if from >= byte {
            return Ok(from);
        }
        let mut chunks = open(from)?;
        chunks.pass_to(byte)?;
        known.insert(chunks.offset());
        Ok(chunks.offset())
    }
}
