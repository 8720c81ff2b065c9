//! A cursor over one Avro datum in binary encoding.

use crate::column::{Bad, Fit};

/// Where in a datum we are.
pub(super) struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Wire<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are left.
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `length` bytes.
    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Fit<&'a [u8]> {
        if length > self.left() {
            return Err(self.ends());
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    /// The next bytes, as many as there are in a `T`.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Fit<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many bytes were taken"))
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Fit<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [byte] => Err(Bad::new(format!("{byte} at byte {} is no boolean", self.at - 1))),
        }
    }

    /// An `int` or `long`: zigzag, seven bits a byte, the lowest first.
    #[inline]
    pub(super) fn long(&mut self) -> Fit<i64> {
        let Some(first) = self.bytes.get(self.at) else { return Err(self.ends()) };
        if *first < 0x80 {
            self.at += 1;
            return Ok(zigzag(u64::from(*first)));
        }
        self.long_of_many()
    }

    fn long_of_many(&mut self) -> Fit<i64> {
        let mut value = 0u64;
        for (n, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * n);
            if *byte < 0x80 {
                if n == 9 && *byte > 1 {
                    break;
                }
                self.at += n + 1;
                return Ok(zigzag(value));
            }
        }
        if self.left() < 10 {
            return Err(self.ends());
        }
        Err(Bad::new(format!("the number at byte {} is longer than 64 bits", self.at)))
    }

    /// Bytes with their length in front.
    #[inline]
    pub(super) fn prefixed(&mut self) -> Fit<&'a [u8]> {
        let at = self.at;
        match usize::try_from(self.long()?) {
            Ok(length) => self.take(length),
            Err(_) => Err(Bad::new(format!("the length at byte {at} is negative"))),
        }
    }

    /// How many items the next block of an array or map has; 0 where there is none.
    pub(super) fn block(&mut self) -> Fit<usize> {
        let at = self.at;
        let mut count = self.long()?;
        if count < 0 {
            // The block's size in bytes follows, for readers that skip it.
            count = count.checked_neg().unwrap_or(i64::MAX);
            self.long()?;
        }
        // An item takes a byte at least, but for types that hold nothing.
        match usize::try_from(count).ok().filter(|count| *count <= self.left()) {
            Some(count) => Ok(count),
            None => Err(Bad::new(format!(
                "the block at byte {at} says that it has {count} items, and {} bytes follow",
                self.left()
            ))),
        }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Fit {
        match self.left() {
            0 => Ok(()),
            left => Err(Bad::new(format!("{left} bytes follow the end of the record"))),
        }
    }

    #[cold]
    fn ends(&self) -> Box<Bad> {
        Bad::new(format!("the record ends at byte {}, in the middle of a value", self.bytes.len()))
    }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends an `int` or `long`.
pub(super) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes with their length in front.
pub(super) fn write_prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}
