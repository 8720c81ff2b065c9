//! Lines of a file, and payloads, without quoted fields, read where they stand.
//!
//! Numbers and times are read word by word where they end at a delimiter, all other fields as the
//! general way reads them. Invariant: a line that is read here ends where [RFC 4180](super) ends the
//! record, and the general way reads it too, with the same values.

use memchr::{memchr, memchr2};

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
    /// The line of late was of another shape.
    missed: bool,
}

/// Where the last field of a record ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// With its line.
    Line,
    /// With the text.
    Text,
}

/// What a field ends at: a delimiter, or the end of its record.
#[derive(Clone, Copy)]
enum End {
    Delimiter(u8),
    Record(Ends),
}

impl End {
    /// Whether it is at `at`.
    #[inline(always)]
    fn is_at(self, text: &[u8], at: usize) -> bool {
        match self {
            Self::Delimiter(delimiter) => text.get(at) == Some(&delimiter),
            Self::Record(Ends::Text) => at == text.len(),
            Self::Record(Ends::Line) => match text.get(at) {
                Some(b'\r') => text.get(at + 1) == Some(&b'\n'),
                byte => byte == Some(&b'\n'),
            },
        }
    }
}

impl LineReader {
    pub(super) fn new(format: &CsvFormat, fields: usize) -> Self {
        let in_words = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.: ".contains(&byte);
        let null = format.null_literal.bytes().next();
        let is_number = |byte: u8| byte.is_ascii_digit() || b"+-. ".contains(&byte);
        let words = !in_words(format.delimiter) && !null.is_some_and(is_number);
        let dates = (0..fields).map(|_| LastDate::default()).collect();
        Self { words, dates, patience: Patience::default(), missed: false }
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
        let next = self.record(text, at, fields, Ends::Line);
        self.patience.tried(next.is_some());
        self.missed = next.is_none();
        next
    }

    /// Takes a payload: whether it was of the shape. If not, columns may hold parts of it.
    pub(super) fn read_payload(&mut self, payload: &[u8], fields: &mut FieldReader) -> bool {
        if std::mem::take(&mut self.missed) || !self.patience.tries() {
            return false;
        }
        let hit = self.record(payload, 0, fields, Ends::Text).is_some();
        self.patience.tried(hit);
        hit
    }

    #[inline(always)]
    fn record(
        &mut self,
        text: &[u8],
        mut at: usize,
        fields: &mut FieldReader,
        ends: Ends,
    ) -> Option<usize> {
        let FieldReader { format, record, targets, absent, .. } = fields;
        // A blank line may be no record at all.
        if ends == Ends::Line && matches!(text.get(at), Some(b'\n' | b'\r')) {
            return None;
        }
        let last = targets.len().checked_sub(1)?;
        for (n, (target, date)) in targets.iter().zip(&mut self.dates).enumerate() {
            if text.get(at) == Some(&format.quote) {
                return None;
            }
            let column = target.map(|column| &mut record.columns[column]);
            let end = if n < last { End::Delimiter(format.delimiter) } else { End::Record(ends) };
            at = 1 + match column {
                Some(column) => {
                    let taken = self.words.then(|| take(text, at, column, date, end));
                    match taken.flatten() {
                        Some(end) => end,
                        None => field(text, at, Some(column), end, format)?,
                    }
                }
                None => field(text, at, None, end, format)?,
            };
        }
        for column in absent {
            record.columns[*column].append_null().ok()?;
        }
        // The last field ends at the line end, or at the return in front of it.
        let ends_with_return = ends == Ends::Line && text[at - 1] == b'\r';
        Some(at + usize::from(ends_with_return))
    }
}

/// Takes a number or a time that ends where it must.
#[inline(always)]
fn take(
    text: &[u8],
    at: usize,
    column: &mut Column,
    date: &mut LastDate,
    end: End,
) -> Option<usize> {
    let ends = |at: usize| end.is_at(text, at);
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
    end: End,
    format: &CsvFormat,
) -> Option<usize> {
    let rest = text.get(at..)?;
    let value = match end {
        End::Record(Ends::Text) if memchr(format.delimiter, rest).is_some() => return None,
        End::Record(Ends::Text) => rest,
        End::Delimiter(_) | End::Record(Ends::Line) => {
            let found = memchr2(format.delimiter, b'\n', rest)?;
            let value = &rest[..found];
            match (end, rest[found]) {
                (End::Delimiter(delimiter), byte) if byte == delimiter => value,
                (End::Record(_), b'\n') => value.strip_suffix(b"\r").unwrap_or(value),
                _ => return None,
            }
        }
    };
    // What becomes of more returns is not for here.
    if matches!(end, End::Record(_)) && value.ends_with(b"\r") {
        return None;
    }
    if let Some(column) = column {
        put_text(column, value, false, format).ok()?;
    }
    Some(at + value.len())
}
