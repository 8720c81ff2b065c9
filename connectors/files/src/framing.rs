//! Where a record ends.

use memchr::{memchr, memchr_iter, memchr2};

/// How records lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One a line.
    Lines,
    /// One a line, but for line ends inside quotes.
    Csv {
        /// Between fields.
        delimiter: u8,
        /// Around fields.
        quote: u8,
    },
}

/// Where a record ends: at a line end that belongs to no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordEnd {
    /// Index of the line end.
    pub(crate) at: usize,
    /// Line ends before it, inside quotes.
    pub(crate) inner_lines: u64,
}

impl Framing {
    /// The end of the record that begins with `bytes`, or `None` where it lies beyond.
    #[inline]
    pub(crate) fn end(self, bytes: &[u8]) -> Option<RecordEnd> {
        match self {
            Self::Lines => memchr(b'\n', bytes).map(|at| RecordEnd { at, inner_lines: 0 }),
            Self::Csv { delimiter, quote } => csv_end(bytes, delimiter, quote),
        }
    }

    /// The first of these bytes, of which the very first begins a record: every line end among them
    /// ends one.
    pub(crate) fn plain(self, bytes: &[u8]) -> &[u8] {
        match self {
            Self::Lines => bytes,
            Self::Csv { quote, .. } => &bytes[..memchr(quote, bytes).unwrap_or(bytes.len())],
        }
    }
}

/// A quote opens only where a field begins, as for the decoder, so that a stray one (`5" pipe`)
/// does not swallow what follows.
fn csv_end(bytes: &[u8], delimiter: u8, quote: u8) -> Option<RecordEnd> {
    let (mut at, mut inner_lines) = (0, 0);
    loop {
        let found = at + memchr2(b'\n', quote, &bytes[at..])?;
        if bytes[found] == b'\n' {
            return Some(RecordEnd { at: found, inner_lines });
        }
        let opens = found == 0 || bytes[found - 1] == delimiter;
        at = found + 1;
        if opens {
            let close = closing_quote(bytes, at, quote)?;
            inner_lines += memchr_iter(b'\n', &bytes[at..close]).count() as u64;
            at = close + 1;
        }
    }
}

/// The quote that closes the field whose text begins at `at`. A quote at the very end may yet turn
/// out to be half of a doubled one.
fn closing_quote(bytes: &[u8], mut at: usize, quote: u8) -> Option<usize> {
    loop {
        let close = at + memchr(quote, &bytes[at..])?;
        match bytes.get(close + 1) {
            Some(next) if *next == quote => at = close + 2,
            Some(_) => return Some(close),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_inside_quotes_end_nothing() {
        let csv = Framing::Csv { delimiter: b',', quote: b'"' };
        let end = |text: &str| csv.end(text.as_bytes()).map(|end| (end.at, end.inner_lines));
        assert_eq!(end("a,b\nc"), Some((3, 0)));
        assert_eq!(end("\"a\nb\",c\nd"), Some((7, 1)));
        assert_eq!(end("\"a\"\"\n\"\"b\"\nd"), Some((9, 1)));
        assert_eq!(end("5\" pipe\nx\""), Some((7, 0)));
        assert_eq!(end("\"\"\nx"), Some((2, 0)));
        assert_eq!(end("\"a\n"), None);
        assert_eq!(end("\"a\""), None);
        assert_eq!(Framing::Lines.end(b"\"a\nb\"").map(|end| end.at), Some(2));
    }
}
