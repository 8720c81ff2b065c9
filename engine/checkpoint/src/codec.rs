//! Rows and staged output as bytes: Arrow IPC streams with zstd, checksums, hex.
//!
//! Pure. Invariant: decoding happens only behind a check of length and checksum, so that the
//! decoders never see bytes that this crate did not write.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use tidemill_core::error::{Error, Result};
use xxhash_rust::xxh3::xxh3_128;

use crate::manifest::FileRef;

/// XXH3-128 with seed 0, as 32 hex digits. Persisted: never changes.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// What a manifest says of a file with these bytes.
pub(crate) fn file_ref(path: String, bytes: &[u8]) -> FileRef {
    FileRef { path, bytes: bytes.len() as u64, checksum: checksum(bytes) }
}

/// What is wrong with the bytes of a file, in words; `None` where they are what was written.
pub(crate) fn damage(file: &FileRef, found: Option<&[u8]>) -> Option<String> {
    let path = &file.path;
    let Some(found) = found else { return Some(format!("{path} is missing")) };
    let length = found.len() as u64;
    if length != file.bytes {
        return Some(format!("{path} has {length} bytes instead of {}", file.bytes));
    }
    (checksum(found) != file.checksum)
        .then(|| format!("{path} is damaged: its checksum is not the one written"))
}

/// Batches of one schema as an Arrow IPC stream; of no batches, a stream without columns.
pub(crate) fn encode_rows(rows: &[RecordBatch]) -> Result<Vec<u8>> {
    let schema = rows.first().map_or_else(|| Arc::new(Schema::empty()), |batch| batch.schema());
    if rows.iter().any(|batch| batch.schema() != schema) {
        return Err(Error::internal("the batches of one state file have different schemas"));
    }
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)?;
    for batch in rows {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

/// Reads what [`encode_rows`] wrote.
pub(crate) fn decode_rows(bytes: Vec<u8>) -> Result<Vec<RecordBatch>> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    Ok(reader.collect::<Result<Vec<_>, _>>()?)
}

/// Two lower-case hex digits a byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Reads what [`to_hex`] wrote.
pub(crate) fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digit = |pair: &[u8], at: usize| {
        pair.get(at).and_then(|c| char::from(*c).to_digit(16)).map(|value| value as u8)
    };
    let byte = |pair: &[u8]| Some(digit(pair, 0)? << 4 | digit(pair, 1)?);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| Error::corrupt("staged output in the manifest is not hexadecimal"))
}
