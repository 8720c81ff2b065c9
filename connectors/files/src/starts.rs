//! Where the first record of a block begins.
//!
//! Where every line end ends a record, it begins behind the last one before the block. Inside quotes a
//! line end ends none, and whether a byte is inside only those before it can tell: there the lanes of a
//! file share what they know of its records, and pass over the rest of the bytes before the block,
//! quickly where there are no quotes. Invariant: what is found is where a record begins for a reader that
//! goes through the file from its start.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tidemill_core::Result;

use crate::chunk::Chunks;

/// Places where a record of one file begins.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// For each place the one from where on no other record begins before it. A record that spans many blocks is
    /// passed over once, not once for each of them.
    known: Mutex<BTreeMap<u64, u64>>,
}

impl Starts {
    /// The first record of the file begins at this byte.
    pub(crate) fn begin(&self, byte: u64) {
        self.learn(byte, 0);
    }

    /// A record begins at this byte, or the file ends there.
    pub(crate) fn add(&self, byte: u64) {
        self.learn(byte, byte);
    }

    fn learn(&self, byte: u64, since: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        learn(&mut known, byte, since);
    }

    /// The first record that begins at `byte` or later; or the end of the file. `open` reads the file from where
    /// a record begins.
    pub(crate) fn find(&self, byte: u64, open: impl Fn(u64) -> Result<Chunks>) -> Result<u64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((place, since)) = known.range(byte..).next()
            && *since <= byte
        {
            return Ok(*place);
        }
        let from = known.range(..byte).next_back().map_or(0, |(place, _)| *place);
        let mut chunks = open(from)?;
        let since = chunks.pass_to(byte)?;
        learn(&mut known, chunks.offset(), since);
        Ok(chunks.offset())
    }
}

fn learn(known: &mut BTreeMap<u64, u64>, byte: u64, since: u64) {
    let noted = known.entry(byte).or_insert(since);
    *noted = since.min(*noted);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Cursor;

    use super::*;
    use crate::chunk::Limits;
    use crate::framing::Framing;
    use crate::pool::Pool;

    #[test]
    fn a_record_of_many_blocks_is_passed_over_once() {
        let text = format!("1,a\n2,\"{}\"\n3,c\n", "x\n".repeat(500));
        let (opened, starts) = (Cell::new(0), Starts::default());
        starts.begin(0);
        let open = |from: u64| {
            opened.set(opened.get() + 1);
            let rest = Cursor::new(text.as_bytes()[from as usize..].to_vec());
            let csv = Framing::Csv { delimiter: b',', quote: b'"' };
            Chunks::new(Box::new(rest), from, csv, Limits::default(), 0, &Pool::default())
        };
        let last = text.find("3,c").unwrap() as u64;
        let found: Vec<_> = (5..=last).rev().map(|byte| starts.find(byte, open).unwrap()).collect();
        assert!(found.iter().all(|found| *found == last));
        assert_eq!(starts.find(4, open).unwrap(), 4);
        assert_eq!(starts.find(last + 1, open).unwrap(), text.len() as u64);
        assert_eq!(opened.get(), 3);
    }
}
