//! A file's bytes in large pieces, cut into records.
//!
//! Memory is bounded: one piece, and what is left of the record at its end. A record longer than
//! the limit is not kept: its start is, and reading goes on behind the first line end after the
//! limit, whatever the sizes of the pieces.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::sync::Arc;

use memchr::memchr;
use tidemill_core::{Error, Result};

use crate::framing::Framing;

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of one read.
    pub(crate) chunk_bytes: usize,
    /// Bytes of the longest record.
    pub(crate) record_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { chunk_bytes: 1 << 20, record_bytes_max: 64 << 20 }
    }
}

/// How much of an overlong record is kept.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// So many chunks are kept for their memory.
const SPENT_MAX: usize = 4;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Cuts an input into records.
pub(crate) struct Chunks {
    input: Box<dyn Read + Send>,
    framing: Framing,
    limits: Limits,
    chunk: Arc<Vec<u8>>,
    /// Chunks before it, to be filled again when no batch refers to them any more.
    spent: Vec<Arc<Vec<u8>>>,
    /// Where in the chunk the next record begins.
    at: usize,
    /// Where in the input the next record begins.
    offset: u64,
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
    /// Records of `input`, which stands at `offset`.
    pub(crate) fn new(
        input: Box<dyn Read + Send>,
        offset: u64,
        framing: Framing,
        limits: Limits,
    ) -> Result<Self> {
        let chunk = Arc::new(Vec::new());
        let spent = Vec::new();
        let mut chunks = Self { input, framing, limits, chunk, spent, at: 0, offset, ended: false };
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
    /// none is too long.
    pub(crate) fn ahead(&self) -> (&[u8], usize) {
        let ahead = &self.chunk[self.at..];
        let line_bytes_max = self.limits.record_bytes_max.saturating_add(1);
        (&ahead[..ahead.len().min(line_bytes_max)], self.at)
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
        loop {
            let rest = &self.chunk[self.at..];
            if let Some(end) = memchr(b'\n', rest) {
                self.consume(end + 1);
                return Ok(Frame::TooLong { head, lines });
            }
            let length = rest.len();
            self.consume(length);
            if self.ended {
                return Ok(Frame::TooLong { head, lines });
            }
            self.fill()?;
        }
    }

    /// Room for the next chunk: that of one before it, whose memory is warm, if it is free.
    fn empty_chunk(&mut self) -> Vec<u8> {
        let free = self.spent.iter_mut().position(|chunk| Arc::get_mut(chunk).is_some());
        let free = free.and_then(|free| Arc::into_inner(self.spent.swap_remove(free)));
        let mut chunk = free.unwrap_or_default();
        chunk.clear();
        chunk
    }

    /// Reads on; the record that is not complete moves to the front of another chunk, since a batch
    /// may still refer to this one.
    fn fill(&mut self) -> Result<()> {
        let rest = self.chunk.len() - self.at;
        let wanted = self.limits.chunk_bytes.max(rest);
        let mut next = self.empty_chunk();
        next.extend_from_slice(&self.chunk[self.at..]);
        next.reserve(wanted);
        let read = self.input.by_ref().take(wanted as u64).read_to_end(&mut next);
        let last = std::mem::replace(&mut self.chunk, Arc::new(next));
        if self.spent.len() < SPENT_MAX && last.capacity() <= 2 * self.limits.chunk_bytes {
            self.spent.push(last);
        }
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

fn trim_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
