//! How a split's objects are laid out: what stands between their values, learned from one of them.
//!
//! Producers write the same fields in the same order, with the same white space, record after record.
//! Where the next one does so too, its values are read where they must stand, and it need not be cut
//! out of its text before; the general way reads all others, and says what is wrong with them.
//!
//! ```text
//! {"key":  17  ,"ts":  "1970-01-01 00:00:12"  ,"value":  57.38  }
//! └ lead ┘     └lead─┘                        └─ lead ─┘        tail
//! ```
//!
//! Invariant: what is read here the general way reads too, with the same values. Bytes between values
//! are those of a valid object, and so need no second look; strings are looked at for valid UTF-8.

use arrow::datatypes::TimeUnit;

use super::JsonFormat;
use super::decode::read_value;
use super::scan::Scanner;
use crate::column::{Column, Key, Record, Temporal, Values};
use crate::patience::Patience;
use crate::word::{self, LastDate, word};

/// The layout that is expected, if any.
#[derive(Default)]
pub(super) struct Usual {
    shape: Option<Shape>,
    patience: Patience,
    /// The payload of late was not of the layout.
    missed: bool,
}

/// One layout.
struct Shape {
    steps: Vec<Step>,
    /// What follows the last value.
    tail: Key,
    /// Columns without a field, all of which may be null.
    absent: Vec<usize>,
    /// Some value is an object or an array, so that line ends may stand in it which end the record.
    nested: bool,
    /// Line ends stand between values.
    spans_lines: bool,
}

/// One field.
struct Step {
    /// What stands between the value before and this one's.
    lead: Key,
    /// `None` where the field is not asked for.
    column: Option<usize>,
    date: LastDate,
}

impl Usual {
    /// Takes a payload of the usual layout into `record`: whether it was one. If not, columns may
    /// hold parts of it.
    pub(super) fn read(&mut self, payload: &[u8], record: &mut Record, format: JsonFormat) -> bool {
        if !self.patience.tries() {
            return false;
        }
        let read = |shape: &mut Shape| shape.read(payload, 0, record, format);
        let hit = self.shape.as_mut().and_then(read) == Some(payload.len());
        self.patience.tried(hit);
        self.missed = !hit;
        hit
    }

    /// The general way has read `payload`: where it was no hit, the next ones may look like it.
    pub(super) fn learn(&mut self, payload: &[u8], record: &Record, format: JsonFormat) {
        if std::mem::take(&mut self.missed) {
            self.shape = Shape::of(payload, record, format);
        }
    }

    /// As [`Usual::read`], for the line that begins at `at`: where the next one does.
    pub(super) fn read_line(
        &mut self,
        text: &[u8],
        at: usize,
        record: &mut Record,
        format: JsonFormat,
    ) -> Option<usize> {
        let shape = self.shape.as_mut().filter(|_| self.patience.tries())?;
        let next = shape.read_line(text, at, record, format);
        self.patience.tried(next.is_some());
        next
    }
}

impl Shape {
    /// The layout of `payload`, a valid object, unless it is an odd one.
    fn of(payload: &[u8], record: &Record, format: JsonFormat) -> Option<Self> {
        let mut scanner = Scanner::new(payload, format);
        let (mut steps, mut nested, mut start) = (Vec::<Step>::new(), false, 0);
        let mut spans_lines = false;
        let mut lead = |start: usize, end: usize| {
            spans_lines |= payload[start..end].contains(&b'\n');
            Key::of(&payload[start..end])
        };
        scanner.peek();
        let mut more = !scanner.open(b'}');
        while more {
            let name = scanner.key().ok()?;
            nested |= matches!(scanner.peek(), b'{' | b'[');
            let lead = lead(start, scanner.position());
            let column = record.names.iter().position(|other| other.as_bytes() == &*name);
            if column.is_some() && steps.iter().any(|step| step.column == column) {
                return None;
            }
            steps.push(Step { lead, column, date: LastDate::default() });
            scanner.any(1).ok()?;
            start = scanner.position();
            more = scanner.more(b'}').ok()?;
        }
        let tail = lead(start, payload.len());
        let is_absent = |column: &usize| steps.iter().all(|step| step.column != Some(*column));
        let absent: Vec<usize> = (0..record.columns.len()).filter(is_absent).collect();
        let needed = |column: &usize| !record.columns[*column].field().is_nullable();
        if absent.iter().any(needed) || format.needs_all_fields && !absent.is_empty() {
            return None;
        }
        Some(Self { steps, tail, absent, nested, spans_lines })
    }

    fn read_line(
        &mut self,
        text: &[u8],
        at: usize,
        record: &mut Record,
        format: JsonFormat,
    ) -> Option<usize> {
        if self.spans_lines {
            return None;
        }
        if self.nested {
            let end = at + memchr::memchr(b'\n', &text[at..])?;
            let line = &text[at..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            return (self.read(line, 0, record, format)? == line.len()).then_some(end + 1);
        }
        let end = self.read(text, at, record, format)?;
        match text.get(end)? {
            b'\n' => Some(end + 1),
            b'\r' if text.get(end + 1) == Some(&b'\n') => Some(end + 2),
            _ => None,
        }
    }

    /// Takes the object at `at`: where it ends.
    #[inline]
    fn read(
        &mut self,
        text: &[u8],
        mut at: usize,
        record: &mut Record,
        format: JsonFormat,
    ) -> Option<usize> {
        let may_nest = self.nested;
        for step in &mut self.steps {
            if !step.lead.is_at(text, at) {
                return None;
            }
            at += step.lead.len();
            at = match step.column {
                None => skip(text, at, format, may_nest)?,
                Some(column) => {
                    let column = &mut record.columns[column];
                    match take(text, at, column, &mut step.date) {
                        Some(end) => end,
                        None => take_any(text, at, column, format, may_nest)?,
                    }
                }
            };
        }
        if !self.tail.is_at(text, at) {
            return None;
        }
        for column in &self.absent {
            record.columns[*column].append_null().ok()?;
        }
        Some(at + self.tail.len())
    }
}

/// Takes a value of a usual kind.
#[inline]
fn take(text: &[u8], at: usize, column: &mut Column, date: &mut LastDate) -> Option<usize> {
    let end = match &mut column.values {
        Values::Integer { values, min, max } => {
            let (value, end) = word::integer::<false>(text, at)?;
            if !(*min..=*max).contains(&value) {
                return None;
            }
            values.push(value);
            end
        }
        Values::Float { values, single: false } => {
            let (value, end) = word::float::<false>(text, at)?;
            values.push(value);
            end
        }
        Values::Temporal { values, kind: Temporal::Timestamp(unit) } => {
            let (value, end) = quoted_timestamp(text, at, *unit, date)?;
            values.push(value);
            end
        }
        Values::Text(_) => {
            let end = plain_string(text, at)?;
            column.append_bytes(&text[at + 1..end - 1]);
            return Some(end);
        }
        _ => return None,
    };
    column.appended();
    Some(end)
}

#[inline]
fn quoted_timestamp(
    text: &[u8],
    at: usize,
    unit: TimeUnit,
    date: &mut LastDate,
) -> Option<(i64, usize)> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let (value, end) = word::timestamp(text, at + 1, unit, date)?;
    (text.get(end) == Some(&b'"')).then_some((value, end + 1))
}

/// Where the string at `at` ends, unless something in it is escaped, or it is not valid UTF-8.
#[inline]
fn plain_string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let (start, mut end, mut all) = (at + 1, at + 1, 0);
    loop {
        let next = word(text, end);
        let special = special_bytes(next);
        if special != 0 {
            let before = special.trailing_zeros() / 8;
            end += before as usize;
            // Only the bytes in front of the special one; there are at most seven.
            all |= next & ((1 << (8 * before)) - 1);
            break;
        }
        all |= next;
        end += 8;
    }
    let is_valid = all & HIGHS == 0 || std::str::from_utf8(&text[start..end]).is_ok();
    (text.get(end) == Some(&b'"') && is_valid).then_some(end + 1)
}

/// Takes a value as the general way does.
#[inline(never)]
fn take_any(
    text: &[u8],
    at: usize,
    column: &mut Column,
    format: JsonFormat,
    may_nest: bool,
) -> Option<usize> {
    let mut scanner = scanner_at(text, at, format, may_nest)?;
    read_value(&mut scanner, column, 1).ok()?;
    let end = scanner.position();
    std::str::from_utf8(&text[at..end]).ok().map(|_| end)
}

/// Where the value at `at` ends, which nobody asks for.
#[inline]
fn skip(text: &[u8], at: usize, format: JsonFormat, may_nest: bool) -> Option<usize> {
    if let Some(end) = plain_string(text, at) {
        return Some(end);
    }
    let mut scanner = scanner_at(text, at, format, may_nest)?;
    scanner.any(1).ok()?;
    let end = scanner.position();
    std::str::from_utf8(&text[at..end]).ok().map(|_| end)
}

/// A scanner in front of a value; white space belongs to what stands between values, and an object or array
/// is expected or might reach over the end of the line.
fn scanner_at(text: &[u8], at: usize, format: JsonFormat, may_nest: bool) -> Option<Scanner<'_>> {
    let first = *text.get(at)?;
    let nests = matches!(first, b'{' | b'[');
    (first > b' ' && (may_nest || !nests)).then(|| Scanner::at(text, at, format))
}

const HIGHS: u64 = 0x8080_8080_8080_8080;

/// For eight bytes the high bits of those that are a quote, a backslash or a control character;
/// exact up to and including the lowest of them ("Determine if a word has a zero byte", S. E.
/// Anderson, Bit Twiddling Hacks).
#[inline]
pub(super) fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let quote = zero_in(word ^ (ONES * b'"' as u64));
    let backslash = zero_in(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    quote | backslash | control
}
