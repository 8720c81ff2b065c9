//! Reads one file of text records: CSV, JSON lines, raw lines.
//!
//! Offsets are `<byte>:<line>` of the next record where the file can be sought, and its number
//! (counting from 0) where it is compressed and must be read again from the start.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::SourceRecord;
use tidemill_core::source::{Offset, Read, ReadBatch, SplitId, SplitReader};
use tidemill_core::{Error, Result};
use tidemill_formats::{Decoder, Format};

use crate::chunk::{Chunks, Frame, Limits};
use crate::constants::Constants;
use crate::framing::Framing;
use crate::records::{TextRecords, position};

/// Bytes of records after which a batch is handed over, however few rows it has.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// What a reader needs to know of its split.
pub(crate) struct TextSplit<'a> {
    pub(crate) split: &'a SplitId,
    pub(crate) path: PathBuf,
    pub(crate) format: &'a Format,
    /// The columns that stand in the records.
    pub(crate) stored: SchemaRef,
    pub(crate) constants: Constants,
    pub(crate) limits: Limits,
}

/// Reads one split.
pub(crate) struct TextReader {
    split: SplitId,
    path: PathBuf,
    chunks: Chunks,
    decoder: Box<dyn Decoder>,
    constants: Constants,
    record_bytes_max: usize,
    /// Lines without anything on them are no records.
    skips_blank: bool,
    /// The next record's line, counting from 1.
    line: u64,
    /// The next record's number, counting from 0; what a compressed file's offsets are.
    number: u64,
    compressed: bool,
    bytes_read: Arc<AtomicU64>,
    size: u64,
    /// Where the lines end that the decoder has taken of late.
    line_ends: Vec<u32>,
}

impl TextReader {
    /// A reader that starts at `from`, or at the first record.
    pub(crate) fn open(split: TextSplit, from: Option<&Offset>) -> Result<Self> {
        let place = split.path.display().to_string();
        Self::open_at(split, from).map_err(|error| error.at(place))
    }

    fn open_at(split: TextSplit, from: Option<&Offset>) -> Result<Self> {
        let TextSplit { split: id, path, format, stored, constants, limits } = split;
        let compressed = compression(&path).is_some();
        let framing = match format {
            Format::Csv(csv) => Framing::Csv { delimiter: csv.delimiter, quote: csv.quote },
            _ => Framing::Lines,
        };
        let skips_blank = match format {
            Format::Csv(_) => stored.fields().len() > 1,
            Format::Json(_) => true,
            _ => false,
        };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let (input, size) = open_file(&path, 0, &bytes_read)?;
        let mut chunks = Chunks::new(input, 0, framing, limits)?;
        let mut line = 1;
        let decoder = match format {
            Format::Csv(csv) if csv.header => {
                let header = next_record(&mut chunks, &mut line, true)?;
                match header {
                    Some(header) => Box::new(csv.decoder_with_header(stored, &header)?),
                    None => format.decoder(stored)?,
                }
            }
            _ => format.decoder(stored)?,
        };
        let mut reader = Self {
            split: id.clone(),
            path,
            chunks,
            decoder,
            constants,
            record_bytes_max: limits.record_bytes_max,
            skips_blank,
            line,
            number: 0,
            compressed,
            bytes_read,
            size,
            line_ends: Vec::new(),
        };
        match from {
            Some(from) if compressed => reader.skip_records(parse_number(from)?)?,
            Some(from) => {
                let (byte, line) = parse_position(from)?;
                reader.seek(byte, line, framing, limits)?;
            }
            None => {}
        }
        Ok(reader)
    }

    fn seek(&mut self, byte: u64, line: u64, framing: Framing, limits: Limits) -> Result<()> {
        if byte > self.size {
            return Err(Error::external(format!(
                "the file has {} bytes, but a checkpoint says that {byte} were read: it was cut \
                 or replaced; restore it, or start the job afresh",
                self.size
            )));
        }
        if byte > self.chunks.offset() {
            let (input, _) = open_file(&self.path, byte, &self.bytes_read)?;
            self.chunks = Chunks::new(input, byte, framing, limits)?;
            self.line = line;
        }
        Ok(())
    }

    fn skip_records(&mut self, records: u64) -> Result<()> {
        while self.number < records {
            if next_record(&mut self.chunks, &mut self.line, self.skips_blank)?.is_none() {
                return Err(Error::external(format!(
                    "the file has {} records, but a checkpoint says that {records} were read: it \
                     was cut or replaced; restore it, or start the job afresh",
                    self.number
                )));
            }
            self.number += 1;
        }
        Ok(())
    }

    /// Takes records until there are `max_rows`, or enough bytes, or no more.
    fn fill(&mut self, max_rows: usize) -> Result<Filled> {
        let start = self.chunks.offset();
        let mut filled = Filled::default();
        while filled.records < max_rows && self.chunks.offset() - start < BATCH_BYTES_MAX {
            self.take_lines(&mut filled, max_rows);
            if filled.records == max_rows {
                break;
            }
            let Some(frame) = self.chunks.next()? else { break };
            self.take_record(&frame, &mut filled);
        }
        self.number += filled.records as u64;
        Ok(filled)
    }

    /// Takes the lines ahead that the decoder is quick at.
    fn take_lines(&mut self, filled: &mut Filled, max_rows: usize) {
        let (ahead, start) = self.chunks.ahead();
        let ends = &mut self.line_ends;
        ends.clear();
        self.decoder.decode_lines(ahead, max_rows - filled.records, ends);
        let Some(length) = ends.last().copied() else { return };
        filled.rows.begin(self.chunks.chunk(), start, self.line);
        filled.rows.ends.extend_from_slice(ends);
        filled.records += ends.len();
        self.line += ends.len() as u64;
        self.chunks.consume(length as usize);
    }

    /// Takes a record that is cut out, whatever it is like.
    fn take_record(&mut self, frame: &Frame, filled: &mut Filled) {
        let line = self.line;
        let (payload, outcome) = match frame {
            Frame::Record { range, lines } => {
                self.line += lines;
                let payload = &self.chunks.chunk()[range.clone()];
                if payload.is_empty() && self.skips_blank {
                    return;
                }
                (payload, self.decoder.decode(payload))
            }
            Frame::TooLong { head, lines } => {
                self.line += lines;
                let limit = self.record_bytes_max;
                let kept = head.len();
                let reason = format!("longer than {limit} bytes; its first {kept} bytes are kept");
                (head.as_slice(), Err(reason))
            }
        };
        filled.records += 1;
        match (outcome, frame) {
            (Err(reason), _) => filled.dead_letters.push(DeadLetter::new(
                self.split.clone(),
                SourceRecord::new(position(line), payload),
                reason,
            )),
            (Ok(()), Frame::Record { range, .. }) => {
                let bytes = range.start..self.chunks.position();
                filled.rows.add(self.chunks.chunk(), bytes, line);
            }
            (Ok(()), Frame::TooLong { .. }) => {}
        }
    }
}

/// The records of one batch.
#[derive(Default)]
struct Filled {
    records: usize,
    dead_letters: Vec<DeadLetter>,
    rows: TextRecords,
}

impl SplitReader for TextReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        let filled = self.fill(max_rows).map_err(|error| error.at(self.path.display()))?;
        if filled.records == 0 && max_rows > 0 {
            return Ok(Read::End);
        }
        let rows = self.constants.complete(self.decoder.finish()?)?;
        Ok(Read::Batch(ReadBatch {
            rows,
            dead_letters: filled.dead_letters,
            skipped: 0,
            records: Some(Arc::new(filled.rows)),
        }))
    }

    fn offset(&self) -> Offset {
        Offset(if self.compressed {
            self.number.to_string()
        } else {
            format!("{}:{}", self.chunks.offset(), self.line)
        })
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let read = if self.compressed {
            self.bytes_read.load(Ordering::Relaxed)
        } else {
            self.chunks.offset()
        };
        Some((read.min(self.size), self.size))
    }
}

/// The next record's bytes (the start of them where it is too long).
fn next_record(chunks: &mut Chunks, line: &mut u64, skips_blank: bool) -> Result<Option<Vec<u8>>> {
    loop {
        let payload = match chunks.next()? {
            None => return Ok(None),
            Some(Frame::Record { range, lines }) => {
                *line += lines;
                chunks.chunk()[range].to_vec()
            }
            Some(Frame::TooLong { head, lines }) => {
                *line += lines;
                head
            }
        };
        if !(payload.is_empty() && skips_blank) {
            return Ok(Some(payload));
        }
    }
}

fn bad_offset(offset: &Offset) -> Error {
    Error::corrupt(format!("'{offset}' is no offset of this file: was its name given to another?"))
}

fn parse_number(offset: &Offset) -> Result<u64> {
    offset.0.parse().map_err(|_| bad_offset(offset))
}

fn parse_position(offset: &Offset) -> Result<(u64, u64)> {
    let (byte, line) = offset.0.split_once(':').ok_or_else(|| bad_offset(offset))?;
    match (byte.parse(), line.parse()) {
        (Ok(byte), Ok(line)) => Ok((byte, line)),
        _ => Err(bad_offset(offset)),
    }
}

/// How a file is compressed, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Gzip,
    Zstd,
}

fn compression(path: &Path) -> Option<Compression> {
    match path.extension()?.to_str()? {
        "gz" => Some(Compression::Gzip),
        "zst" => Some(Compression::Zstd),
        _ => None,
    }
}

/// The file's content from `byte` on, and the file's size.
fn open_file(
    path: &Path,
    byte: u64,
    bytes_read: &Arc<AtomicU64>,
) -> Result<(Box<dyn std::io::Read + Send>, u64)> {
    let failed = |error: std::io::Error| Error::external("cannot be opened").caused_by(error);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if byte > 0 {
        file.seek(SeekFrom::Start(byte)).map_err(failed)?;
    }
    let counted = Counted { file, bytes_read: bytes_read.clone() };
    Ok(match compression(path) {
        Some(Compression::Gzip) => (Box::new(flate2::read::MultiGzDecoder::new(counted)), size),
        Some(Compression::Zstd) => (Box::new(zstd::Decoder::new(counted).map_err(failed)?), size),
        None => (Box::new(counted.file), size),
    })
}

/// Counts what is read of a compressed file.
struct Counted {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl std::io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
