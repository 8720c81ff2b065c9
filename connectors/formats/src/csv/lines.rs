//! Lines of a file without quoted fields, read where they stand.
//!
//! Numbers and times are read word by word where they end at a delimiter, all other fields as the
//! general way reads them. Invariant: a line that is read here ends where [RFC 4180](super) ends the
//! record, and the general way reads it too, with the same values.

use memchr::memchr2;

use super::CsvFormat;
use super::decode::{FieldReader, put_text};
use crate::column::{Column, Temporal, Values};
use crate::patience::Patience;
use crate::word::{self, LastDate};

/// Reads lines.
pub(super) struct LineReader {
    /// Nothing that ends a field can stand in a number or a time, and none of these is null.
    words: bool,
    /// For each field.
    dates: Vec<LastDate>,
    patience: Patience,
}

impl LineReader {
    pub(super) fn new(format: &CsvFormat, fields: usize) -> Self {
        let in_words = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.: ".contains(&byte);
        let null = format.null_literal.bytes().next();
        let is_number = |byte: u8| byte.is_ascii_digit() || b"+-. ".contains(&byte);
        let words = !in_words(format.delimiter) && !null.is_some_and(is_number);
        let dates = (0..fields).map(|_| LastDate::default()).collect();
        Self { words, dates, patience: Patience::default() }
    }

    /// Takes the line at `at`: where the next one begins. Where it is of another shape, columns may
    /// hold parts of it.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        at: usize,
        fields: &mut FieldReader,
    ) -> Option<usize> {
        if !self.patience.tries() {
            return None;
        }
        let next = self.line(text, at, fields);
        self.patience.tried(next.is_some());
        next
    }

    #[inline]
    fn line(&mut self, text: &[u8], mut at: usize, fields: &mut FieldReader) -> Option<usize> {
        let FieldReader { format, record, targets, absent, .. } = fields;
        // A blank line may be no record at all.
        if matches!(text.get(at), Some(b'\n' | b'\r')) {
            return None;
        }
        let last = targets.len().checked_sub(1)?;
        for (n, (target, date)) in targets.iter().zip(&mut self.dates).enumerate() {
            if text.get(at) == Some(&format.quote) {
                return None;
            }
            let column = target.map(|column| &mut record.columns[column]);
            let delimiter = (n < last).then_some(format.delimiter);
            let end = match column {
                Some(column) => {
                    let taken = self.words.then(|| take(text, at, column, date, delimiter));
                    match taken.flatten() {
                        Some(end) => end,
                        None => field(text, at, Some(column), delimiter, format)?,
                    }
                }
                None => field(text, at, None, delimiter, format)?,
            };
            at = end + 1;
        }
        // The last field ends at the line end, or at the return in front of it.
        at += usize::from(text[at - 1] == b'\r');
        for column in absent {
            record.columns[*column].append_null().ok()?;
        }
        Some(at)
    }
}

/// Takes a number or a time that ends at the delimiter, or at the line end where there is none.
#[inline]
fn take(
    text: &[u8],
    at: usize,
    column: &mut Column,
    date: &mut LastDate,
    delimiter: Option<u8>,
) -> Option<usize> {
    let ends = |end: usize| match delimiter {
        Some(delimiter) => text.get(end) == Some(&delimiter),
        None => match text.get(end) {
            Some(b'\r') => text.get(end + 1) == Some(&b'\n'),
            byte => byte == Some(&b'\n'),
        },
    };
    let end = match &mut column.values {
        Values::Integer { values, min, max } => {
            let (value, end) = word::integer::<true>(text, at).filter(|(_, end)| ends(*end))?;
            if !(*min..=*max).contains(&value) {
                return None;
            }
            values.push(value);
            end
        }
        Values::Float { values, single: false } => {
            let (value, end) = word::float::<true>(text, at).filter(|(_, end)| ends(*end))?;
            values.push(value);
            end
        }
        Values::Temporal { values, kind: Temporal::Timestamp(unit) } => {
            let time = word::timestamp(text, at, *unit, date);
            let (value, end) = time.filter(|(_, end)| ends(*end))?;
            values.push(value);
            end
        }
        _ => return None,
    };
    column.appended();
    Some(end)
}

/// Puts a field of any kind into its column, if it has one: where it ends.
fn field(
    text: &[u8],
    at: usize,
    column: Option<&mut Column>,
    delimiter: Option<u8>,
    format: &CsvFormat,
) -> Option<usize> {
    let found = at + memchr2(format.delimiter, b'\n', text.get(at..)?)?;
    if text[found] != delimiter.unwrap_or(b'\n') {
        return None;
    }
    let mut value = &text[at..found];
    if delimiter.is_none() {
        value = value.strip_suffix(b"\r").unwrap_or(value);
        // What becomes of more returns is not for here.
        if value.ends_with(b"\r") {
            return None;
        }
    }
    if let Some(column) = column {
        put_text(column, value, false, format).ok()?;
    }
    Some(at + value.len())
}
