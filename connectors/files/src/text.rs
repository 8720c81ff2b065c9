//! Reads one file of text records: CSV, JSON lines, raw lines.
//!
//! Offsets are `<byte>:<line>` of the next record where the file can be sought, its number (counting
//! from 0) where it is compressed and must be read again from the start, and `<byte>/<bytes of a block>`
//! in a [lane](crate::lanes): of its next record, or of the block in which that is to be looked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::need::Need;
use tidemill_core::record::SourceRecord;
use tidemill_core::source::{Offset, Read, ReadBatch, SplitId, SplitReader};
use tidemill_core::{Error, Result};
use tidemill_formats::csv::CsvDecoder;
use tidemill_formats::{Decoder, Format};

use crate::chunk::{Chunks, Frame, Limits};
use crate::constants::Constants;
use crate::framing::Framing;
use crate::input::{compression, open_file};
use crate::lanes::{Blocks, Lane, Place};
use crate::pool::Pool;
use crate::records::{TextRecords, Unit};
use crate::starts::Starts;

/// Bytes of records after which a batch is handed over, however few rows it has.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// What a reader needs to know of its split.
pub(crate) struct TextSplit<'a> {
    pub(crate) split: &'a SplitId,
    pub(crate) path: PathBuf,
    /// Which lane of the file, where it is cut.
    pub(crate) lane: Option<Lane>,
    pub(crate) format: &'a Format,
    /// The columns that stand in the records.
    pub(crate) stored: SchemaRef,
    /// What the job looks at of them.
    pub(crate) needs: &'a [Need],
    pub(crate) constants: Constants,
    pub(crate) limits: Limits,
    pub(crate) starts: Arc<Starts>,
    pub(crate) pool: Pool,
}

/// Reads one split.
pub(crate) struct TextReader {
    split: SplitId,
    file: TextFile,
    chunks: Chunks,
    decoder: Box<dyn Decoder>,
    constants: Constants,
    /// Lines without anything on them are no records.
    skips_blank: bool,
    /// The next record's line, counting from 1; not known in a lane.
    line: u64,
    /// The next record's number, counting from 0; what a compressed file's offsets are.
    number: u64,
    compressed: bool,
    blocks: Option<Blocks>,
    starts: Arc<Starts>,
    /// Where the lines end that the decoder has taken of late.
    line_ends: Vec<u32>,
}

/// How to read a file from anywhere.
struct TextFile {
    path: PathBuf,
    framing: Framing,
    limits: Limits,
    pool: Pool,
    bytes_read: Arc<AtomicU64>,
    size: u64,
}

impl TextFile {
    /// Records from `byte` on, of which those from `until` on are of no interest.
    fn chunks(&self, byte: u64, until: u64) -> Result<Chunks> {
        let (input, _) = open_file(&self.path, byte, &self.bytes_read)?;
        Chunks::new(input, byte, self.framing, self.limits, until, &self.pool)
    }
}

impl TextReader {
    /// A reader that starts at `from`, or at the first record.
    pub(crate) fn open(split: TextSplit, from: Option<&Offset>) -> Result<Self> {
        let place = split.path.display().to_string();
        Self::open_at(split, from).map_err(|error| error.at(place))
    }

    fn open_at(split: TextSplit, from: Option<&Offset>) -> Result<Self> {
        let TextSplit { split: id, path, lane, format, constants, limits, starts, pool, .. } =
            split;
        let (stored, needs) = (split.stored, split.needs);
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
        let blocks = match (lane, from) {
            (Some(lane), Some(from)) => Some(restored(lane, from)?),
            (Some(lane), None) => Some(Blocks::new(lane, limits.cut.block_bytes)),
            (None, _) => None,
        };
        let until = match &blocks {
            Some(Blocks { place: Place::Within(end), .. }) => *end,
            Some(_) => 0,
            None => u64::MAX,
        };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let (input, size) = open_file(&path, 0, &bytes_read)?;
        let mut chunks = Chunks::new(input, 0, framing, limits, until, &pool)?;
        let file = TextFile { path, framing, limits, pool, bytes_read, size };
        let mut line = 1;
        let decoder = match format {
            Format::Csv(csv) if csv.header => {
                let header = next_record(&mut chunks, &mut line, true)?;
                match header {
                    Some(header) => {
                        let decoder = csv.decoder_with_header(stored, &header)?.reading(needs)?;
                        if lane.is_none_or(|lane| lane.number == 0) {
                            tell_missing(&file.path, &decoder, &header);
                        }
                        Box::new(decoder)
                    }
                    None => format.decoder_reading(stored, needs)?,
                }
            }
            _ => format.decoder_reading(stored, needs)?,
        };
        starts.begin(chunks.offset());
        let mut reader = Self {
            split: id.clone(),
            file,
            chunks,
            decoder,
            constants,
            skips_blank,
            line,
            number: 0,
            compressed,
            blocks,
            starts,
            line_ends: Vec::new(),
        };
        if let Some(from) = from {
            reader.go_to(from)?;
        }
        Ok(reader)
    }

    /// Goes on from an offset of the split.
    fn go_to(&mut self, from: &Offset) -> Result<()> {
        if self.blocks.is_some() {
            return self.go_to_lane(pair(from, Some('/'))?.0);
        }
        if self.compressed {
            return self.skip_records(pair(from, None)?.0);
        }
        let (byte, line) = pair(from, Some(':'))?;
        if byte > self.file.size {
            return Err(self.was_cut(byte));
        }
        if byte > self.chunks.offset() {
            self.chunks = self.file.chunks(byte, u64::MAX)?;
            self.line = line;
        }
        Ok(())
    }

    fn go_to_lane(&mut self, byte: u64) -> Result<()> {
        let Some(blocks) = &self.blocks else { return Ok(()) };
        if !blocks.can_be(byte, self.file.size) {
            return Err(self.was_cut(byte));
        }
        if let Place::Within(end) = blocks.place
            && byte > self.chunks.offset()
        {
            self.starts.add(byte);
            self.chunks = self.file.chunks(byte, end)?;
        }
        Ok(())
    }

    fn was_cut(&self, byte: u64) -> Error {
        Error::external(format!(
            "the file has {} bytes, but a checkpoint says that {byte} were read: it was cut or \
             replaced; restore it, or start the job afresh",
            self.file.size
        ))
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

    /// Makes the next record to be read one of a block of its lane, where the file is cut; false where
    /// there are no more.
    fn enter_block(&mut self) -> Result<bool> {
        let Some(blocks) = &mut self.blocks else { return Ok(true) };
        loop {
            match blocks.place {
                Place::Within(end) if self.chunks.offset() < end => return Ok(true),
                Place::Within(end) => {
                    if let Framing::Csv { .. } = self.file.framing {
                        self.starts.add(self.chunks.offset());
                    }
                    blocks.leave(end);
                }
                Place::Before(start) => {
                    let end = start + blocks.block_bytes;
                    let Some(chunks) = first_of_block(&mut self.file, &self.starts, start, end)?
                    else {
                        return Ok(false);
                    };
                    self.chunks = chunks;
                    blocks.place = Place::Within(end);
                }
            }
        }
    }

    /// Whether the next record is none of the block.
    fn is_behind_block(&self) -> bool {
        let place = self.blocks.as_ref().map(|blocks| blocks.place);
        matches!(place, Some(Place::Within(end)) if self.chunks.offset() >= end)
    }

    fn unit(&self) -> Unit {
        if self.blocks.is_some() { Unit::Byte } else { Unit::Line }
    }

    /// The place of the next record, for people.
    fn place(&self) -> u64 {
        if self.blocks.is_some() { self.chunks.offset() } else { self.line }
    }

    /// Takes records until there are `max_rows`, or enough bytes, or no more.
    fn fill(&mut self, max_rows: usize) -> Result<Filled> {
        let mut filled = Filled::default();
        filled.rows.unit = self.unit();
        while filled.records < max_rows && filled.bytes < BATCH_BYTES_MAX && self.enter_block()? {
            let before = self.chunks.offset();
            self.take_lines(&mut filled, max_rows);
            if filled.records < max_rows && !self.is_behind_block() {
                let place = self.place();
                match self.chunks.next()? {
                    Some(frame) => self.take_record(&frame, place, &mut filled),
                    None => break,
                }
            }
            filled.bytes += self.chunks.offset() - before;
        }
        self.number += filled.records as u64;
        Ok(filled)
    }

    /// Takes the lines ahead that the decoder is quick at.
    fn take_lines(&mut self, filled: &mut Filled, max_rows: usize) {
        let place = self.place();
        let (ahead, start) = self.chunks.ahead();
        let ends = &mut self.line_ends;
        ends.clear();
        self.decoder.decode_lines(ahead, max_rows - filled.records, ends);
        let Some(length) = ends.last().copied() else { return };
        filled.rows.begin(self.chunks.chunk(), start, place);
        filled.rows.ends.extend_from_slice(ends);
        filled.records += ends.len();
        self.line += ends.len() as u64;
        self.chunks.consume(length as usize);
    }

    /// Takes a record that is cut out, whatever it is like.
    fn take_record(&mut self, frame: &Frame, place: u64, filled: &mut Filled) {
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
                let limit = self.file.limits.record_bytes_max;
                let kept = head.len();
                let reason = format!("longer than {limit} bytes; its first {kept} bytes are kept");
                (head.as_slice(), Err(reason))
            }
        };
        filled.records += 1;
        match (outcome, frame) {
            (Err(reason), _) => filled.dead_letters.push(DeadLetter::new(
                self.split.clone(),
                SourceRecord::new(filled.rows.unit.position(place), payload),
                reason,
            )),
            (Ok(()), Frame::Record { range, .. }) => {
                let bytes = range.start..self.chunks.position();
                filled.rows.add(self.chunks.chunk(), bytes, place);
            }
            (Ok(()), Frame::TooLong { .. }) => {}
        }
    }
}

/// The records of one batch.
#[derive(Default)]
struct Filled {
    records: usize,
    /// Of the file.
    bytes: u64,
    dead_letters: Vec<DeadLetter>,
    rows: TextRecords,
}

impl SplitReader for TextReader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        let filled = self.fill(max_rows).map_err(|error| error.at(self.file.path.display()))?;
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
        let byte = self.chunks.offset();
        Offset(match &self.blocks {
            Some(blocks) => format!("{}/{}", blocks.next(byte), blocks.block_bytes),
            None if self.compressed => self.number.to_string(),
            None => format!("{byte}:{}", self.line),
        })
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let size = self.file.size;
        if let Some(blocks) = &self.blocks {
            return Some(blocks.progress(blocks.next(self.chunks.offset()), size));
        }
        let read = if self.compressed {
            self.file.bytes_read.load(Ordering::Relaxed)
        } else {
            self.chunks.offset()
        };
        Some((read.min(size), size))
    }

    fn is_at_hand(&self) -> bool {
        true
    }
}

/// The records of the block from `start` to `end`, from the first one that begins in it, or behind all of it;
/// `None` where the file ends before.
fn first_of_block(
    file: &mut TextFile,
    starts: &Starts,
    start: u64,
    end: u64,
) -> Result<Option<Chunks>> {
    // The file may have grown.
    file.size = std::fs::metadata(&file.path).map_or(file.size, |facts| facts.len());
    if start >= file.size {
        return Ok(None);
    }
    if let Framing::Csv { .. } = file.framing {
        let first = starts.find(start, |from| file.chunks(from, start))?;
        return file.chunks(first, end.max(first)).map(Some);
    }
    // Behind the line end in front of the block, or the first one within; where there is none, no record begins in it.
    let mut chunks = file.chunks(start - 1, end)?;
    chunks.pass_line(end)?;
    Ok(Some(chunks))
}

/// Says which columns a file does not have: their names may be misspelt.
fn tell_missing(path: &Path, decoder: &CsvDecoder, header: &[u8]) {
    let missing: Vec<_> = decoder.missing().map(|name| format!("`{name}`")).collect();
    if !missing.is_empty() {
        tracing::warn!(
            "{}: the header does not name {}, which is null in every row: it says {}",
            path.display(),
            missing.join(", "),
            String::from_utf8_lossy(header).trim_end()
        );
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

/// A lane's place at an offset of it.
fn restored(lane: Lane, offset: &Offset) -> Result<Blocks> {
    let (byte, block_bytes) = pair(offset, Some('/'))?;
    Blocks::at(lane, block_bytes, byte).ok_or_else(|| bad_offset(offset))
}

/// The number of an offset, and that behind `mark` where there is one.
fn pair(offset: &Offset, mark: Option<char>) -> Result<(u64, u64)> {
    let (first, second) = match mark {
        Some(mark) => offset.0.split_once(mark).ok_or_else(|| bad_offset(offset))?,
        None => (offset.0.as_str(), "0"),
    };
    match (first.parse(), second.parse()) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        _ => Err(bad_offset(offset)),
    }
}
