//! The wire: varints, tags, lengths, and what is stepped over.
//!
//! Source: the encoding as protobuf.dev describes it. Invariant: a reader never looks beyond its
//! end, whatever the bytes say.

use crate::column::{Bad, Fit};

/// Messages and groups are nested at most so deep, as in Google's own parsers.
pub(super) const DEPTH_MAX: usize = 100;

/// How a field's value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    StartGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

impl WireType {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Varint,
            1 => Self::Fixed64,
            2 => Self::Length,
            3 => Self::StartGroup,
            4 => Self::EndGroup,
            5 => Self::Fixed32,
            _ => return None,
        })
    }
}

/// Reads a message, which may lie within another.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    /// The payload as a whole.
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, end: bytes.len() }
    }

    /// A part of the same payload, as [`Reader::position`] gave it.
    pub(super) fn part(&self, (at, end): (usize, usize)) -> Self {
        Self { bytes: self.bytes, at, end }
    }

    /// What is left, as a part of the payload.
    pub(super) fn position(&self) -> (usize, usize) {
        (self.at, self.end)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// A field's number and how its value is laid out.
    pub(super) fn tag(&mut self) -> Fit<(u32, WireType)> {
        let tag = self.varint()?;
        self.split_tag(tag)
    }

    /// What [`Reader::tag`] makes of a varint that was just read.
    #[inline]
    pub(super) fn split_tag(&self, tag: u64) -> Fit<(u32, WireType)> {
        let number = tag >> 3;
        match WireType::of((tag & 7) as u8) {
            Some(wire_type) if number > 0 && tag <= u64::from(u32::MAX) => {
                Ok((number as u32, wire_type))
            }
            _ => Err(Bad::new(format!("byte {}: {tag} is no field's tag", self.at))),
        }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Fit<u64> {
        if self.at < self.end {
            let byte = self.bytes[self.at];
            if byte < 0x80 {
                self.at += 1;
                return Ok(u64::from(byte));
            }
        }
        self.long_varint()
    }

    /// A varint of 2 to 8 bytes from a word, where that many are left; else byte by byte.
    fn long_varint(&mut self) -> Fit<u64> {
        const ENDS: u64 = 0x8080_8080_8080_8080;
        if let Some(word) = self.bytes[self.at..self.end].first_chunk::<8>() {
            let word = u64::from_le_bytes(*word);
            let ends = !word & ENDS;
            if ends != 0 {
                self.at += ends.trailing_zeros() as usize / 8 + 1;
                // The bytes up to the first that says it is the last, seven bits of each.
                return Ok(packed(word & (ends ^ (ends - 1)) & !ENDS));
            }
        }
        self.longest_varint()
    }

    fn longest_varint(&mut self) -> Fit<u64> {
        let mut value = 0u64;
        for (n, byte) in self.bytes[self.at..self.end].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * n);
            if *byte < 0x80 {
                if n == 9 && *byte > 1 {
                    break;
                }
                self.at += n + 1;
                return Ok(value);
            }
        }
        let what = match self.end - self.at {
            0..10 => "the payload ends within a varint",
            _ => "64 bits hold no varint of this length",
        };
        Err(Bad::new(format!("byte {}: {what}", self.at)))
    }

    #[inline]
    pub(super) fn fixed32(&mut self) -> Fit<[u8; 4]> {
        self.fixed()
    }

    #[inline]
    pub(super) fn fixed64(&mut self) -> Fit<[u8; 8]> {
        self.fixed()
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Fit<[u8; N]> {
        match self.bytes[self.at..self.end].first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.truncated(N as u64)),
        }
    }

    /// A length, and a reader of so many bytes.
    #[inline]
    pub(super) fn message(&mut self) -> Fit<Reader<'a>> {
        let length = self.varint()?;
        if length > (self.end - self.at) as u64 {
            return Err(self.truncated(length));
        }
        let end = self.at + length as usize;
        let inner = Reader { bytes: self.bytes, at: self.at, end };
        self.at = end;
        Ok(inner)
    }

    /// A length, and so many bytes.
    #[inline]
    pub(super) fn length_delimited(&mut self) -> Fit<&'a [u8]> {
        let inner = self.message()?;
        Ok(&self.bytes[inner.at..inner.end])
    }

    /// Steps over a value.
    pub(super) fn skip(&mut self, number: u32, wire_type: WireType, depth: usize) -> Fit {
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.fixed64().map(drop),
            WireType::Fixed32 => self.fixed32().map(drop),
            WireType::Length => self.message().map(drop),
            WireType::EndGroup => {
                Err(Bad::new(format!("byte {}: a group ends that never began", self.at)))
            }
            WireType::StartGroup => self.skip_group(number, depth + 1),
        }
    }

    fn skip_group(&mut self, group: u32, depth: usize) -> Fit {
        check_depth(depth)?;
        loop {
            match self.tag()? {
                (number, WireType::EndGroup) if number == group => return Ok(()),
                (number, wire_type) => self.skip(number, wire_type, depth)?,
            }
        }
    }

    #[cold]
    fn truncated(&self, wanted: u64) -> Box<Bad> {
        let left = self.end - self.at;
        Bad::new(format!("byte {}: {wanted} bytes are wanted where {left} are left", self.at))
    }
}

/// The seven low bits of each byte, without the gaps between them.
fn packed(word: u64) -> u64 {
    let pairs = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4
}

pub(super) fn check_depth(depth: usize) -> Fit {
    if depth > DEPTH_MAX {
        return Err(Bad::new(format!("messages are nested more than {DEPTH_MAX} deep")));
    }
    Ok(())
}

/// The number that a zigzag varint stands for.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_tag(number: u32, wire_type: WireType, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | wire_type as u64, out);
}

pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length_read_back_wherever_they_end() {
        for bits in 0..64 {
            for value in [1u64 << bits, u64::MAX >> bits, 0x0123_4567_89ab_cdef >> bits] {
                for behind in 0..12 {
                    let mut bytes = Vec::new();
                    put_varint(value, &mut bytes);
                    let length = bytes.len();
                    bytes.extend(std::iter::repeat_n(0xff, behind));
                    let mut reader = Reader::new(&bytes);
                    assert_eq!(reader.varint().ok(), Some(value));
                    assert_eq!(reader.position().0, length);
                }
            }
        }
    }

    #[test]
    fn a_varint_does_not_end_behind_its_message() {
        // A message of three bytes, all of which say that more follow; what follows is not theirs.
        let bytes = [3, 0x80, 0x80, 0x80, 1, 0, 0, 0, 0, 0, 0, 0];
        let mut outer = Reader::new(&bytes);
        let mut inner = outer.message().unwrap_or_else(|bad| panic!("{bad:?}"));
        assert!(inner.varint().is_err());
        assert_eq!(outer.varint().ok(), Some(1));
    }
}
