//! Writes as they wait in a checkpoint: between `poll_stage` and the transaction.
//!
//! ```text
//! "TMRS" version:u8 writes:u64 bytes:u64 | zstd( write* )
//! write = commands:u8 length:varint commands as they go over the wire
//! ```
//!
//! Invariant: what is read back equals what was pushed, or reading says that it is damaged. Old
//! checkpoints hold this: a change of the layout is a new version beside the old one.

use std::io::{Read, Write as _};

use tidemill_core::sink::Staged;
use tidemill_core::{Error, Result};

use super::writes::{Write, Writes};

const MAGIC: &[u8; 4] = b"TMRS";
const VERSION: u8 = 1;
const PREFIX: usize = 4 + 1 + 8 + 8;

/// Fast; the protocol's own lengths cost next to nothing behind it.
const LEVEL: i32 = 1;

/// Collects the writes of one epoch of one shard.
#[derive(Default)]
pub(crate) struct StagedWrites {
    writes: u64,
    bytes: u64,
    compressed: Option<zstd::Encoder<'static, Vec<u8>>>,
}

impl StagedWrites {
    /// Adds a write.
    pub fn push(&mut self, write: Write<'_>) -> Result<()> {
        let mut head = vec![write.commands];
        put_varint(write.bytes.len() as u64, &mut head);
        let compressed = match &mut self.compressed {
            Some(compressed) => compressed,
            empty => empty.insert(zstd::Encoder::new(Vec::new(), LEVEL)?),
        };
        compressed.write_all(&head)?;
        compressed.write_all(write.bytes)?;
        self.writes += 1;
        self.bytes += (head.len() + write.bytes.len()) as u64;
        Ok(())
    }

    /// Bytes that are collected, compressed.
    pub fn size(&self) -> usize {
        self.compressed.as_ref().map_or(0, |compressed| compressed.get_ref().len())
    }

    /// The bytes for the checkpoint, empty where there is no write. It is empty afterwards.
    pub fn finish(&mut self) -> Result<Staged> {
        let Some(compressed) = self.compressed.take() else { return Ok(Staged::default()) };
        let compressed = compressed.finish()?;
        let mut out = Vec::with_capacity(PREFIX + compressed.len());
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&std::mem::take(&mut self.writes).to_le_bytes());
        out.extend_from_slice(&std::mem::take(&mut self.bytes).to_le_bytes());
        out.extend_from_slice(&compressed);
        Ok(Staged(out))
    }
}

/// Appends the writes of `staged`, in order.
///
/// # Errors
/// `Corrupt` where the bytes are not what [`StagedWrites`] makes.
pub(crate) fn read(staged: &Staged, writes: &mut Writes) -> Result<()> {
    if staged.0.is_empty() {
        return Ok(());
    }
    let Some((prefix, compressed)) = staged.0.split_at_checked(PREFIX) else {
        return Err(corrupt("its beginning is missing"));
    };
    if &prefix[..4] != MAGIC {
        return Err(corrupt("it does not begin as such"));
    }
    if prefix[4] != VERSION {
        return Err(Error::configuration(format!(
            "staged Redis output has version {}, and this build reads {VERSION}: restore the checkpoint with \
             the release that wrote it",
            prefix[4]
        )));
    }
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&prefix[at..at + 8]);
        u64::from_le_bytes(number)
    };
    let (count, length) = (number(5), number(13));
    let mut bytes = Vec::new();
    // One more than there should be, so that too much shows; a torn length allocates nothing.
    zstd::Decoder::new(compressed)
        .and_then(|decoder| decoder.take(length.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| corrupt("it does not decompress").caused_by(error))?;
    if bytes.len() as u64 != length {
        return Err(corrupt("its length is wrong"));
    }
    let mut rest = bytes.as_slice();
    for _ in 0..count {
        writes.push(take_write(&mut rest).ok_or_else(|| corrupt("a write is torn"))?);
    }
    if rest.is_empty() { Ok(()) } else { Err(corrupt("bytes follow its last write")) }
}

fn corrupt(what: &str) -> Error {
    Error::corrupt(format!("staged Redis output in the checkpoint: {what}"))
}

fn take_write<'a>(bytes: &mut &'a [u8]) -> Option<Write<'a>> {
    let commands = take(bytes, 1)?[0];
    let length = take_varint(bytes)?;
    let bytes = take(bytes, usize::try_from(length).ok()?)?;
    Some(Write { bytes, commands })
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(writes: &[(Vec<u8>, u8)]) -> Staged {
        let mut staged = StagedWrites::default();
        for (bytes, commands) in writes {
            staged.push(Write { bytes, commands: *commands }).unwrap();
        }
        staged.finish().unwrap()
    }

    #[test]
    fn writes_come_back_as_they_were() {
        let written = [(b"*1\r\n$4\r\nPING\r\n".to_vec(), 1), (vec![7; 70_000], 3), (vec![], 0)];
        let mut writes = Writes::default();
        read(&stage(&written), &mut writes).unwrap();
        let back: Vec<_> = writes.iter().map(|w| (w.bytes.to_vec(), w.commands)).collect();
        assert_eq!(back, written);
        assert!(stage(&[]).0.is_empty(), "an epoch without writes stages nothing");
        read(&Staged::default(), &mut writes).unwrap();
        assert_eq!(writes.len(), 3);
    }

    #[test]
    fn damage_is_said_and_never_read_over() {
        let good = stage(&vec![(b"*1\r\n$4\r\nPING\r\n".to_vec(), 1); 5]);
        let refused = |staged: &Staged| read(staged, &mut Writes::default()).unwrap_err();
        read(&good, &mut Writes::default()).unwrap();
        for length in 1..good.0.len() {
            refused(&Staged(good.0[..length].to_vec()));
        }
        for (byte, what) in [(0, "begin"), (4, "version 2"), (5, "torn"), (13, "length")] {
            let mut bad = good.clone();
            bad.0[byte] = if byte == 4 { 2 } else { bad.0[byte] + 1 };
            let error = refused(&bad);
            assert!(error.to_string().contains(what), "byte {byte}: {error}");
        }
        let mut fewer = good;
        fewer.0[5] -= 1;
        assert!(refused(&fewer).to_string().contains("follow"));
    }
}
