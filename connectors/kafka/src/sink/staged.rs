//! Records as they wait in a checkpoint: between `poll_stage` and the transaction.
//!
//! ```text
//! "TMKS" version:u8 shard:u32 records:u64 bytes:u64 | zstd( record* )
//! record = flags:u8 [key] [payload] [timestamp] [partition] [count header*]     lengths are varints
//! ```
//!
//! Invariant: what is read back equals what was pushed, or reading says that it is damaged. Old
//! checkpoints hold this: a change of the layout is a new version beside the old one.

use std::io::{Read, Write};

use tidemill_core::record::Header;
use tidemill_core::sink::Staged;
use tidemill_core::{Error, Result};

use super::record::Outgoing;

const MAGIC: &[u8; 4] = b"TMKS";
const VERSION: u8 = 1;
const PREFIX: usize = 4 + 1 + 4 + 8 + 8;

const KEY: u8 = 1;
const PAYLOAD: u8 = 2;
const TIMESTAMP: u8 = 4;
const PARTITION: u8 = 8;
const HEADERS: u8 = 16;

/// Fast, and a third of the size for JSON.
const LEVEL: i32 = 1;

/// Collects the records of one epoch of one shard.
pub(crate) struct StagedRecords {
    shard: usize,
    records: u64,
    bytes: u64,
    compressed: Option<zstd::Encoder<'static, Vec<u8>>>,
    record: Vec<u8>,
}

impl StagedRecords {
    pub fn new(shard: usize) -> Self {
        Self { shard, records: 0, bytes: 0, compressed: None, record: Vec::new() }
    }

    pub fn push(&mut self, record: &Outgoing<'_>) -> Result<()> {
        self.record.clear();
        put_record(record, &mut self.record);
        let compressed = match &mut self.compressed {
            Some(compressed) => compressed,
            empty => empty.insert(zstd::Encoder::new(Vec::new(), LEVEL)?),
        };
        compressed.write_all(&self.record)?;
        self.records += 1;
        self.bytes += self.record.len() as u64;
        Ok(())
    }

    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        self.compressed.as_ref().map_or(0, |compressed| compressed.get_ref().capacity())
    }

    /// The bytes for the checkpoint, empty where there is no record. It is empty afterwards.
    pub fn finish(&mut self) -> Result<Staged> {
        let Some(compressed) = self.compressed.take() else { return Ok(Staged::default()) };
        let compressed = compressed.finish()?;
        let mut out = Vec::with_capacity(PREFIX + compressed.len());
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&(self.shard as u32).to_le_bytes());
        out.extend_from_slice(&std::mem::take(&mut self.records).to_le_bytes());
        out.extend_from_slice(&std::mem::take(&mut self.bytes).to_le_bytes());
        out.extend_from_slice(&compressed);
        Ok(Staged(out))
    }
}

/// Staged records, read back.
#[derive(Debug)]
pub(crate) struct StagedReader {
    /// The shard that wrote them.
    pub shard: usize,
    records: u64,
    bytes: Vec<u8>,
}

impl StagedReader {
    /// # Errors
    /// `Corrupt` where the bytes are not what [`StagedRecords`] makes.
    pub fn new(staged: &Staged) -> Result<Self> {
        let Some((prefix, compressed)) = staged.0.split_at_checked(PREFIX) else {
            return Err(corrupt("its beginning is missing"));
        };
        if &prefix[..4] != MAGIC {
            return Err(corrupt("it does not begin as such"));
        }
        if prefix[4] != VERSION {
            return Err(Error::configuration(format!(
                "staged Kafka output has version {}, and this build reads {VERSION}: restore the \
                 checkpoint with the release that wrote it",
                prefix[4]
            )));
        }
        let (mut shard, mut records, mut length) = ([0; 4], [0; 8], [0; 8]);
        shard.copy_from_slice(&prefix[5..9]);
        records.copy_from_slice(&prefix[9..17]);
        length.copy_from_slice(&prefix[17..25]);
        let length = u64::from_le_bytes(length);
        let mut bytes = Vec::new();
        // One more than there should be, so that too much shows; a torn length allocates nothing.
        zstd::Decoder::new(compressed)
            .and_then(|decoder| decoder.take(length.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(|error| corrupt("it does not decompress").caused_by(error))?;
        if bytes.len() as u64 != length {
            return Err(corrupt("its length is wrong"));
        }
        let shard = u32::from_le_bytes(shard) as usize;
        Ok(Self { shard, records: u64::from_le_bytes(records), bytes })
    }

    /// How many records there are.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Calls `each` for every record, in order.
    pub fn each(&self, mut each: impl FnMut(Outgoing<'_>) -> Result<()>) -> Result<()> {
        let mut bytes = self.bytes.as_slice();
        let mut headers = Vec::new();
        for _ in 0..self.records {
            let record =
                take_record(&mut bytes, &mut headers).ok_or_else(|| corrupt("a record is torn"))?;
            each(Outgoing { headers: &headers, ..record })?;
        }
        if bytes.is_empty() { Ok(()) } else { Err(corrupt("bytes follow its last record")) }
    }
}

fn corrupt(what: &str) -> Error {
    Error::corrupt(format!("staged Kafka output in the checkpoint: {what}"))
}

fn put_record(record: &Outgoing<'_>, out: &mut Vec<u8>) {
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    out.push(
        flag(record.key.is_some(), KEY)
            | flag(record.payload.is_some(), PAYLOAD)
            | flag(record.timestamp.is_some(), TIMESTAMP)
            | flag(record.partition.is_some(), PARTITION)
            | flag(!record.headers.is_empty(), HEADERS),
    );
    [record.key, record.payload].into_iter().flatten().for_each(|bytes| put_bytes(bytes, out));
    if let Some(timestamp) = record.timestamp {
        out.extend_from_slice(&timestamp.to_le_bytes());
    }
    if let Some(partition) = record.partition {
        out.extend_from_slice(&partition.to_le_bytes());
    }
    if record.headers.is_empty() {
        return;
    }
    put_varint(record.headers.len() as u64, out);
    for header in record.headers {
        put_bytes(header.name.as_bytes(), out);
        // Zero is no value, so that an empty value is something else.
        match &header.value {
            None => put_varint(0, out),
            Some(value) => {
                put_varint(value.len() as u64 + 1, out);
                out.extend_from_slice(value);
            }
        }
    }
}

fn take_record<'a>(bytes: &mut &'a [u8], headers: &mut Vec<Header>) -> Option<Outgoing<'a>> {
    headers.clear();
    let flags = take(bytes, 1)?[0];
    let has = |flag: u8| flags & flag != 0;
    let key = if has(KEY) { Some(take_bytes(bytes)?) } else { None };
    let payload = if has(PAYLOAD) { Some(take_bytes(bytes)?) } else { None };
    let timestamp = if has(TIMESTAMP) {
        Some(i64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))
    } else {
        None
    };
    let partition = if has(PARTITION) {
        Some(i32::from_le_bytes(take(bytes, 4)?.try_into().ok()?))
    } else {
        None
    };
    if has(HEADERS) {
        for _ in 0..take_varint(bytes)? {
            let name = String::from_utf8(take_bytes(bytes)?.to_vec()).ok()?;
            let value = match take_varint(bytes)? {
                0 => None,
                length => Some(take(bytes, usize::try_from(length - 1).ok()?)?.to_vec()),
            };
            headers.push(Header { name, value });
        }
    }
    Some(Outgoing { partition, key, payload, headers: &[], timestamp })
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
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

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_varint(bytes)?;
    take(bytes, usize::try_from(length).ok()?)
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

    fn stage(records: &[Outgoing<'_>]) -> Staged {
        let mut staged = StagedRecords::new(3);
        records.iter().for_each(|record| staged.push(record).unwrap());
        staged.finish().unwrap()
    }

    fn headers() -> Vec<Header> {
        vec![
            Header::new("correlation-id", "42"),
            Header { name: "absent".into(), value: None },
            Header::new("empty", ""),
        ]
    }

    #[test]
    fn records_come_back_as_they_were_and_absent_is_not_empty() {
        let headers = headers();
        let long = vec![7; 70_000];
        let records = [
            Outgoing::default(),
            Outgoing { key: Some(b""), payload: Some(b""), ..Outgoing::default() },
            Outgoing { payload: Some(&long), timestamp: Some(-1), ..Outgoing::default() },
            Outgoing {
                partition: Some(7),
                key: Some(b"k"),
                payload: None,
                headers: &headers,
                timestamp: Some(i64::MAX),
            },
        ];
        let reader = StagedReader::new(&stage(&records)).unwrap();
        assert_eq!((reader.shard, reader.len()), (3, 4));
        let mut n = 0;
        reader
            .each(|record| {
                assert_eq!(record, records[n]);
                n += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(n, 4);
        assert!(stage(&[]).0.is_empty(), "an epoch without records stages nothing");
    }

    #[test]
    fn damage_is_said_and_never_read_over() {
        let headers = headers();
        let record = Outgoing {
            key: Some(b"key"),
            payload: Some(b"x"),
            headers: &headers,
            ..Outgoing::default()
        };
        let good = stage(&[record; 5]);
        let read = |staged: &Staged| StagedReader::new(staged)?.each(|_| Ok(()));
        read(&good).unwrap();
        for length in 0..good.0.len() {
            assert!(read(&Staged(good.0[..length].to_vec())).is_err(), "cut to {length} bytes");
        }
        for (byte, what) in [(0, "begin"), (4, "version 2"), (17, "length"), (9, "torn")] {
            let mut bad = good.clone();
            bad.0[byte] = if byte == 4 { 2 } else { bad.0[byte] + 1 };
            let error = read(&bad).unwrap_err();
            assert!(error.to_string().contains(what), "byte {byte}: {error}");
        }
    }
}
