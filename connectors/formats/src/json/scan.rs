//! A scanner over the bytes of one JSON text, which must be valid UTF-8.

use std::borrow::Cow;

use super::JsonFormat;
use super::shape::special_bytes;
use crate::column::{Bad, Fit, Key, clipped};
use crate::number;

/// How deep arrays and objects may be nested.
pub(super) const DEPTH_MAX: usize = 128;

/// So many digits are below 2^53, all of which a float holds exactly.
const FLOAT_DIGITS_MAX: usize = 15;

/// Where in a JSON text we are, and how it is meant.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) format: JsonFormat,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8], format: JsonFormat) -> Self {
        Self { bytes, at: 0, format }
    }

    /// A scanner that stands at `at`.
    pub(super) fn at(bytes: &'a [u8], at: usize, format: JsonFormat) -> Self {
        Self { bytes, at, format }
    }

    /// Where we are.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is no white space, without taking it; 0 at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    /// Takes the next byte that is no white space, which must be `wanted`.
    #[inline]
    pub(super) fn expect(&mut self, wanted: u8) -> Fit {
        if self.peek() == wanted && self.at < self.bytes.len() {
            self.at += 1;
            Ok(())
        } else {
            Err(self.unexpected(&format!("'{}'", char::from(wanted))))
        }
    }

    /// After an element: true where another follows, false where `close` ends them.
    #[inline]
    pub(super) fn more(&mut self, close: u8) -> Fit<bool> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.unexpected(&format!("',' or '{}'", char::from(close)))),
        }
    }

    /// Takes the opening byte (seen before); true where `close` follows at once.
    #[inline]
    pub(super) fn open(&mut self, close: u8) -> bool {
        self.at += 1;
        let empty = self.peek() == close;
        self.at += usize::from(empty);
        empty
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Fit {
        self.peek();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.unexpected("the end of the record"))
        }
    }

    /// What is wrong where we are, `wanted` being what should stand there.
    #[cold]
    pub(super) fn unexpected(&self, wanted: &str) -> Box<Bad> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let found = if rest.is_empty() {
            "the record ends".to_owned()
        } else {
            format!("'{}' stands", clipped(&rest[..rest.len().min(16)]))
        };
        Bad::new(format!("{found} at byte {} where {wanted} is expected", self.at))
    }

    /// Takes the next key with its quotes and the colon, if it is written as `key`.
    #[inline]
    pub(super) fn take_key(&mut self, key: &Key) -> bool {
        self.peek();
        let found = key.is_at(self.bytes, self.at);
        self.at += if found { key.len() } else { 0 };
        found
    }

    /// The key of the next field, and the colon behind it.
    #[inline]
    pub(super) fn key(&mut self) -> Fit<Cow<'a, [u8]>> {
        if self.peek() != b'"' {
            return Err(self.unexpected("a field name"));
        }
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// A string, unescaped; its opening quote is where we are.
    #[inline]
    pub(super) fn string(&mut self) -> Fit<Cow<'a, [u8]>> {
        let start = self.at + 1;
        let end = self.plain(start);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Cow::Borrowed(&self.bytes[start..end]));
        }
        self.escaped_string(start, end).map(Cow::Owned)
    }

    /// Where the first quote, backslash or control character is, from `at` on.
    #[inline]
    fn plain(&self, mut at: usize) -> usize {
        while let Some(word) = self.bytes.get(at..at + 8) {
            let word: [u8; 8] = word.try_into().expect("the slice has eight bytes");
            let special = special_bytes(u64::from_le_bytes(word));
            if special != 0 {
                return at + special.trailing_zeros() as usize / 8;
            }
            at += 8;
        }
        while let Some(byte) = self.bytes.get(at) {
            if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
                break;
            }
            at += 1;
        }
        at
    }

    fn escaped_string(&mut self, start: usize, first: usize) -> Fit<Vec<u8>> {
        let mut text = self.bytes[start..first].to_vec();
        self.at = first;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.escape(&mut text)?,
                Some(_) => {
                    return Err(Bad::new(format!(
                        "a control character at byte {} in a string must be escaped",
                        self.at
                    )));
                }
                None => return Err(self.unexpected("the closing quote of a string")),
            }
            let end = self.plain(self.at);
            text.extend_from_slice(&self.bytes[self.at..end]);
            self.at = end;
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Fit {
        let letter = self.bytes.get(self.at + 1).copied().unwrap_or(0);
        let plain = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(text),
            _ => return Err(self.unexpected("a valid escape")),
        };
        text.push(plain);
        self.at += 2;
        Ok(())
    }

    fn unicode_escape(&mut self, text: &mut Vec<u8>) -> Fit {
        let first = self.hex4(self.at)?;
        let (code, length) = match first {
            0xd800..=0xdbff => {
                let second = self.hex4(self.at + 6)?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(self.unexpected("a pair of surrogates"));
                }
                (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
            }
            code => (code, 6),
        };
        let Some(letter) = char::from_u32(code) else {
            return Err(self.unexpected("a pair of surrogates"));
        };
        text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += length;
        Ok(())
    }

    /// The number of `\uXXXX` at `at`.
    fn hex4(&self, at: usize) -> Fit<u32> {
        let escape = self.bytes.get(at..at + 6).filter(|escape| escape.starts_with(b"\\u"));
        let digits = escape.and_then(|escape| {
            escape[2..].iter().try_fold(0, |code, digit| {
                char::from(*digit).to_digit(16).map(|digit| code << 4 | digit)
            })
        });
        digits.ok_or_else(|| self.unexpected("'\\u' and four hexadecimal digits"))
    }

    /// Takes an integer of at most 18 digits; `None`, and nothing taken, where there is none or
    /// more belongs to it.
    #[inline]
    pub(super) fn short_integer(&mut self) -> Option<i64> {
        let (negative, start) = self.sign();
        let (value, end) = self.short_digits(start)?;
        if matches!(self.bytes.get(end), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        self.at = end;
        Some(if negative { -(value as i64) } else { value as i64 })
    }

    /// Takes a number of at most [`FLOAT_DIGITS_MAX`] digits without exponent, as the nearest float; `None`, and
    /// nothing taken, where there is none.
    #[inline]
    pub(super) fn short_float(&mut self) -> Option<f64> {
        let (negative, start) = self.sign();
        let (mut mantissa, mut end) = self.short_digits(start)?;
        let mut fraction = 0;
        if self.bytes.get(end) == Some(&b'.') {
            let point = end;
            while let Some(digit) = self.bytes.get(end + 1).filter(|b| b.is_ascii_digit()) {
                if end - start > FLOAT_DIGITS_MAX {
                    return None;
                }
                mantissa = mantissa * 10 + u64::from(digit - b'0');
                end += 1;
            }
            if end == point {
                return None;
            }
            fraction = end - point;
            end += 1;
        }
        let digits = end - start - usize::from(fraction > 0);
        if digits > FLOAT_DIGITS_MAX || matches!(self.bytes.get(end), Some(b'e' | b'E')) {
            return None;
        }
        self.at = end;
        Some(number::exact_quotient(mantissa, fraction, negative))
    }

    /// Whether a minus sign stands here, and where the digits begin.
    #[inline]
    fn sign(&self) -> (bool, usize) {
        let negative = self.bytes.get(self.at) == Some(&b'-');
        (negative, self.at + usize::from(negative))
    }

    /// The digits of a whole number from `start` on, at most 18 of them and without a leading
    /// zero, and where they end.
    #[inline]
    fn short_digits(&self, start: usize) -> Option<(u64, usize)> {
        let (mut value, mut end) = (0u64, start);
        while let Some(digit) = self.bytes.get(end).filter(|byte| byte.is_ascii_digit()) {
            if end - start == 18 {
                return None;
            }
            value = value * 10 + u64::from(digit - b'0');
            end += 1;
        }
        let leading_zero = end - start > 1 && self.bytes[start] == b'0';
        (end > start && !leading_zero).then_some((value, end))
    }

    /// A number, as it is written, and whether it has neither fraction nor exponent.
    #[inline]
    pub(super) fn number(&mut self) -> Fit<(&'a [u8], bool)> {
        let start = self.at;
        self.at += usize::from(self.bytes.get(start) == Some(&b'-'));
        let first = self.bytes.get(self.at).copied();
        let digits = self.digits();
        if digits == 0 || (digits > 1 && first == Some(b'0')) {
            self.at = start;
            return Err(self.unexpected("a value"));
        }
        let whole = self.at;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        Ok((&self.bytes[start..self.at], self.at == whole))
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    /// Takes `word` (`true`, `false`, `null`).
    #[inline]
    pub(super) fn literal(&mut self, word: &'static str) -> Fit {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.unexpected("a value"))
        }
    }

    /// Takes any value, `depth` arrays and objects deep, and returns its text.
    pub(super) fn any(&mut self, depth: usize) -> Fit<&'a [u8]> {
        let first = self.peek();
        let start = self.at;
        match first {
            b'"' => {
                self.string()?;
            }
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            b'{' => {
                check_depth(depth)?;
                let mut more = !self.open(b'}');
                while more {
                    self.key()?;
                    self.any(depth + 1)?;
                    more = self.more(b'}')?;
                }
            }
            b'[' => {
                check_depth(depth)?;
                let mut more = !self.open(b']');
                while more {
                    self.any(depth + 1)?;
                    more = self.more(b']')?;
                }
            }
            _ => {
                self.number()?;
            }
        }
        Ok(&self.bytes[start..self.at])
    }
}

/// Refuses an array or object that lies `depth` deep.
#[inline]
pub(super) fn check_depth(depth: usize) -> Fit {
    if depth < DEPTH_MAX {
        return Ok(());
    }
    Err(Bad::new(format!("arrays and objects are nested more than {DEPTH_MAX} deep")))
}
