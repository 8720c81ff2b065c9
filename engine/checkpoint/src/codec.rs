//! Rows and staged output as bytes: Arrow IPC streams with LZ4, checksums, hex.
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

use crate::columns;
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

/// Batches of one schema as an Arrow IPC stream; of no batches, a stream without columns. LZ4, since state is
/// written far more often than it is read, and zstd takes five times as long for a third less.
pub(crate) fn encode_rows(rows: &[RecordBatch]) -> Result<Vec<u8>> {
    let schema = rows.first().map_or_else(|| Arc::new(Schema::empty()), |batch| batch.schema());
    if rows.iter().any(|batch| batch.schema() != schema) {
        return Err(Error::internal("the batches of one state file have different schemas"));
    }
    let rows = columns::shared(rows)?;
    let schema = rows.first().map_or(schema, |batch| batch.schema());
    let codec = Some(CompressionType::LZ4_FRAME);
    let options = IpcWriteOptions::default().try_with_compression(codec)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)?;
    for batch in &rows {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

/// Reads what [`encode_rows`] wrote, or its elder with zstd.
pub(crate) fn decode_rows(bytes: Vec<u8>) -> Result<Vec<RecordBatch>> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    columns::restored(reader.collect::<Result<Vec<_>, _>>()?)
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn rows() -> RecordBatch {
        let column = |from: i64| Arc::new((from..from + 5_000).collect::<Int64Array>()) as ArrayRef;
        RecordBatch::try_from_iter([("a", column(1)), ("b", column(2)), ("a again", column(1))])
            .unwrap()
    }

    #[test]
    fn a_state_file_of_an_elder_version_is_read() {
        let zstd = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD));
        let options = zstd.unwrap();
        let mut elder =
            StreamWriter::try_new_with_options(Vec::new(), &rows().schema(), options).unwrap();
        elder.write(&rows()).unwrap();
        assert_eq!(decode_rows(elder.into_inner().unwrap()).unwrap(), [rows()]);
    }

    #[test]
    fn a_column_that_equals_another_takes_no_room() {
        let with = encode_rows(&[rows()]).unwrap();
        let without = encode_rows(&[rows().project(&[0, 1]).unwrap()]).unwrap();
        assert!(with.len() < without.len() + 400, "{} and {}", with.len(), without.len());
        assert_eq!(decode_rows(with).unwrap(), [rows()]);
    }
}
