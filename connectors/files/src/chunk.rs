//! A file's bytes in large pieces, cut into records.
//!
//! Memory is bounded: one piece, and what is left of the record at its end. A record longer than
//! the limit is not kept: its start is, and reading goes on behind the first line end after the
//! limit, whatever the sizes of the pieces.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::sync::Arc;

use memchr::{memchr, memrchr};
use tidemill_core::{Error, Result};

use crate::framing::Framing;
use crate::lanes::Cut;
use crate::pool::Pool;

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of one read.
    pub(crate) chunk_bytes: usize,
    /// Bytes of the longest record.
    pub(crate) record_bytes_max: usize,
    /// How large files are cut.
    pub(crate) cut: Cut,
}

impl Default for Limits {
    fn default() -> Self {
        Self { chunk_bytes: 256 << 10, record_bytes_max: 64 << 20, cut: Cut::default() }
    }
}

/// How much of an overlong record is kept.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// Bytes of a read that looks for the end of the last record of interest.
const TAIL_BYTES: usize = 4 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Cuts an input into records.
pub(crate) struct Chunks {
    input: Box<dyn Read + Send>,
    framing: Framing,
    limits: Limits,
    chunk: Arc<Vec<u8>>,
    pool: Pool,
    /// Where in the chunk the next record begins.
    at: usize,
    /// Where in the input the next record begins.
    offset: u64,
    /// Records that begin here or later are of no interest.
    until: u64,
    ended: bool,
}

/// A piece of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A record, without its line end, in [`Chunks::chunk`].
    Record {
        /// Where in the chunk.
        range: Range<usize>,
        /// How many lines it takes.
        lines: u64,
    },
    /// A record that is longer than the limit.
    TooLong {
        /// Its start.
        head: Vec<u8>,
        /// How many lines it takes.
        lines: u64,
    },
}

impl Chunks {
    /// Records of `input`, which stands at `offset`; those that begin at `until` or later are not going
    /// to be asked for.
    pub(crate) fn new(
        input: Box<dyn Read + Send>,
        offset: u64,
        framing: Framing,
        limits: Limits,
        until: u64,
        pool: &Pool,
    ) -> Result<Self> {
        let (chunk, pool) = (Arc::default(), pool.clone());
        let (at, ended) = (0, false);
        let mut chunks = Self { input, framing, limits, chunk, pool, at, offset, until, ended };
        if offset == 0 {
            while !chunks.ended && chunks.chunk.len() < BYTE_ORDER_MARK.len() {
                chunks.fill()?;
            }
            if chunks.chunk.starts_with(BYTE_ORDER_MARK) {
                chunks.consume(BYTE_ORDER_MARK.len());
            }
        }
        Ok(chunks)
    }

    /// The bytes that the records of late are in.
    pub(crate) fn chunk(&self) -> &Arc<Vec<u8>> {
        &self.chunk
    }

    /// What of the chunk lies ahead, and where in the chunk it begins. Of the records that end in it
    /// none is too long or of no interest.
    pub(crate) fn ahead(&self) -> (&[u8], usize) {
        let ahead = &self.chunk[self.at..];
        let of_interest = usize::try_from(self.until.saturating_sub(self.offset));
        let line_bytes_max = self.limits.record_bytes_max.saturating_add(1);
        let bytes_max = line_bytes_max.min(of_interest.unwrap_or(usize::MAX));
        (&ahead[..ahead.len().min(bytes_max)], self.at)
    }

    /// Passes over the rest of the line, unless that goes beyond `until`: then over no less than what lies before.
    pub(crate) fn pass_line(&mut self, until: u64) -> Result<()> {
        while self.offset < until {
            let ahead = &self.chunk[self.at..];
            if let Some(end) = memchr(b'\n', ahead) {
                self.consume(end + 1);
                return Ok(());
            }
            self.consume(ahead.len());
            if self.ended {
                return Ok(());
            }
            self.fill()?;
        }
        Ok(())
    }

    /// Passes over all records that begin before `byte`. Returns a place from where on none begins up to
    /// where it has come.
    pub(crate) fn pass_to(&mut self, byte: u64) -> Result<u64> {
        self.until = byte;
        let mut since = byte;
        while self.offset < byte {
            let plain = self.framing.plain(self.ahead().0);
            if let Some(end) = memrchr(b'\n', plain) {
                self.consume(end + 1);
                since = byte;
                continue;
            }
            since = self.offset + 1;
            if self.next()?.is_none() {
                break;
            }
        }
        Ok(since)
    }

    /// Where in the chunk the next record begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Where in the input the next record begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            let rest = &self.chunk[self.at..];
            let end = self.framing.end(rest);
            let known = end.map_or(rest.len(), |end| end.at);
            if known > self.limits.record_bytes_max {
                return self.too_long().map(Some);
            }
            if let Some(end) = end {
                let record = trim_return(&rest[..end.at]).len();
                let range = self.at..self.at + record;
                self.consume(end.at + 1);
                return Ok(Some(Frame::Record { range, lines: end.inner_lines + 1 }));
            }
            if self.ended {
                if rest.is_empty() {
                    return Ok(None);
                }
                // A last record need not have a line end.
                let (record, length) = (trim_return(rest).len(), rest.len());
                let lines = memchr::memchr_iter(b'\n', rest).count() as u64 + 1;
                let range = self.at..self.at + record;
                self.consume(length);
                return Ok(Some(Frame::Record { range, lines }));
            }
            self.fill()?;
        }
    }

    /// Passes over so many bytes of [`Chunks::ahead`], which end with a record.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.at += bytes;
        self.offset += bytes as u64;
    }

    /// Takes the start of a record that is longer than the limit, and skips the rest of it.
    fn too_long(&mut self) -> Result<Frame> {
        let limit = self.limits.record_bytes_max;
        let rest = &self.chunk[self.at..];
        let head = rest[..limit.min(HEAD_BYTES_MAX)].to_vec();
        let lines = memchr::memchr_iter(b'\n', &rest[..limit]).count() as u64 + 1;
        self.consume(limit);
        self.pass_line(u64::MAX)?;
        Ok(Frame::TooLong { head, lines })
    }

    /// Reads on; the record that is not complete moves to the front of another chunk, since a batch
    /// may still refer to this one.
    fn fill(&mut self) -> Result<()> {
        let rest = self.chunk.len() - self.at;
        let input_at = self.offset + rest as u64;
        let of_interest = usize::try_from(self.until.saturating_sub(input_at));
        let piece = of_interest.unwrap_or(usize::MAX).max(TAIL_BYTES);
        let wanted = piece.min(self.limits.chunk_bytes).max(rest);
        let mut next = self.pool.take();
        next.extend_from_slice(&self.chunk[self.at..]);
        next.reserve(wanted);
        let read = self.input.by_ref().take(wanted as u64).read_to_end(&mut next);
        let last = std::mem::replace(&mut self.chunk, Arc::new(next));
        self.pool.give(last, self.limits.chunk_bytes);
        self.at = 0;
        let read = read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::corrupt("the compressed file is cut off"),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                Error::corrupt("the compressed file is damaged").caused_by(error)
            }
            _ => Error::external("reading failed").caused_by(error),
        })?;
        self.ended = read < wanted;
        Ok(())
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.chunk), self.limits.chunk_bytes);
    }
}

fn trim_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
