//! Yardstick: scanners written by hand for the benchmark's lines of text, feeding the row-at-a-time
//! loop.
//!
//! One knows the order of fields, the other takes a JSON object's fields in any order and passes over
//! those it does not know. Nothing is escaped: less than any real reader must be ready for. What they
//! cannot read they refuse.

use std::io::Read;

use tidemill_core::{Error, Result};

use super::checksum::Checksum;
use super::hand::{Slices, Windows, run};
use super::scan::{Piece, Place, Scan};
use super::served::Split;
use super::table::{Group, GroupKey, RowTable};
use super::workload::RowSource;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Which scanner reads JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fields {
    /// Fields come in the order of the benchmark's columns, without blanks.
    InOrder,
    /// They come in any order, others among them.
    InAnyOrder,
}

/// Scans and aggregates files of text row by row, one thread for each.
pub(super) fn rows<K: TextKey, G: Group>(
    scans: &[Scan],
    windows: Windows,
    fields: Fields,
) -> Result<Checksum> {
    run(scans, windows, &(), |scan, slices: &mut Slices<'_, RowTable<K, G>>| {
        let Place::File(format, piece) = &scan.place else {
            return Err(Error::internal("rows in memory are no lines of text"));
        };
        let each = |key: K::Ref<'_>, time, value| slices.add(key, time, value);
        let scanned = match (format, fields) {
            (RowSource::Csv, _) => scan_piece::<K>(piece, csv_row::<K>, each),
            (_, Fields::InOrder) => scan_piece::<K>(piece, json_row::<K>, each),
            (_, Fields::InAnyOrder) => scan_piece::<K>(piece, json_row_in_any_order::<K>, each),
        };
        scanned.map_err(|error| error.at(piece.path.display()))
    })
}

/// Scans and aggregates records of JSON, one thread for each split.
pub(super) fn records<K: TextKey, G: Group, S: Split>(
    splits: &[S],
    windows: Windows,
) -> Result<Checksum> {
    run(splits, windows, &(), |split, slices: &mut Slices<'_, RowTable<K, G>>| {
        split.read(|record| match json_object::<K>(record) {
            Some(((key, time, value), [])) => slices.add(key, time, value),
            _ => Err(unreadable(record)),
        })
    })
}

/// A key, a time in microseconds and a value.
type Row<'a, K> = (<K as GroupKey>::Ref<'a>, i64, f64);

/// What was read, and what follows it; `None` where it is something else.
type Parsed<'a, T> = Option<(T, &'a [u8])>;

/// A key that stands in a line of text.
pub(super) trait TextKey: GroupKey {
    /// Reads a key from a field of CSV.
    fn csv(text: &[u8]) -> Parsed<'_, Self::Ref<'_>>;

    /// Reads a key from a value of JSON.
    fn json(text: &[u8]) -> Parsed<'_, Self::Ref<'_>>;
}

impl TextKey for i64 {
    #[inline]
    fn csv(text: &[u8]) -> Parsed<'_, i64> {
        integer(text)
    }

    #[inline]
    fn json(text: &[u8]) -> Parsed<'_, i64> {
        integer(text)
    }
}

impl TextKey for Box<[u8]> {
    #[inline]
    fn csv(text: &[u8]) -> Parsed<'_, &[u8]> {
        text.split_at_checked(text.iter().position(|byte| *byte == b',')?)
    }

    #[inline]
    fn json(text: &[u8]) -> Parsed<'_, &[u8]> {
        quoted(text)
    }
}

/// Reads a piece of a file in chunks and hands over each line's row.
fn scan_piece<K: TextKey>(
    piece: &Piece,
    row: impl for<'a> Fn(&'a [u8]) -> Parsed<'a, Row<'a, K>>,
    mut each: impl FnMut(K::Ref<'_>, i64, f64) -> Result<()>,
) -> Result<()> {
    let mut bytes = piece.open()?;
    let mut buffer = vec![0; CHUNK];
    let mut kept = 0;
    loop {
        let read = bytes.read(&mut buffer[kept..])?;
        let filled = kept + read;
        if read == 0 {
            return if kept == 0 { Ok(()) } else { Err(unreadable(&buffer[..kept])) };
        }
        let whole = buffer[..filled].iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |end| end + 1);
        let mut rest = &buffer[..whole];
        while !rest.is_empty() {
            let ((key, time, value), behind) = row(rest).ok_or_else(|| unreadable(rest))?;
            each(key, time, value)?;
            rest = behind;
        }
        if whole == 0 && filled == buffer.len() {
            return Err(unreadable(&buffer[..80]));
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}

fn unreadable(bytes: &[u8]) -> Error {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    Error::internal(format!("not a line of the benchmark: {line}"))
}

/// `17,1970-01-01 00:00:12.345678,57.38`, and what follows the line.
#[inline]
fn csv_row<K: TextKey>(line: &[u8]) -> Parsed<'_, Row<'_, K>> {
    let (key, rest) = K::csv(line)?;
    let (time, rest) = timestamp(rest.strip_prefix(b",")?)?;
    let (value, rest) = decimal(rest.strip_prefix(b",")?)?;
    Some(((key, time, value), rest.strip_prefix(b"\n")?))
}

/// `{"key":17,"ts":"1970-01-01 00:00:12.345678","value":57.38}`, and what follows the line.
#[inline]
fn json_row<K: TextKey>(line: &[u8]) -> Parsed<'_, Row<'_, K>> {
    let (row, rest) = json_object::<K>(line)?;
    Some((row, rest.strip_prefix(b"\n")?))
}

/// The same without the end of the line.
#[inline]
fn json_object<K: TextKey>(line: &[u8]) -> Parsed<'_, Row<'_, K>> {
    let (key, rest) = K::json(line.strip_prefix(b"{\"key\":")?)?;
    let (time, rest) = timestamp(rest.strip_prefix(b",\"ts\":\"")?)?;
    let (value, rest) = decimal(rest.strip_prefix(b"\",\"value\":")?)?;
    Some(((key, time, value), rest.strip_prefix(b"}")?))
}

/// An object with these three fields and perhaps others that are no objects or arrays, and what follows
/// the line.
#[inline]
fn json_row_in_any_order<K: TextKey>(line: &[u8]) -> Parsed<'_, Row<'_, K>> {
    let (mut key, mut time, mut value) = (None, None, None);
    let mut rest = line;
    let mut before = b'{';
    loop {
        let (name, after) = quoted(blanks(blanks(rest).strip_prefix(&[before])?))?;
        let field = blanks(blanks(after).strip_prefix(b":")?);
        rest = match name {
            b"key" => take(&mut key, K::json(field)?),
            b"ts" => take(&mut time, timestamp(field.strip_prefix(b"\"")?)?).strip_prefix(b"\"")?,
            b"value" => take(&mut value, decimal(field)?),
            _ => unknown(field)?,
        };
        rest = blanks(rest);
        if let Some(behind) = rest.strip_prefix(b"}") {
            return Some(((key?, time?, value?), blanks(behind).strip_prefix(b"\n")?));
        }
        before = b',';
    }
}

/// Keeps what was read and says what follows it.
#[inline]
fn take<'a, T>(kept: &mut Option<T>, (read, rest): (T, &'a [u8])) -> &'a [u8] {
    *kept = Some(read);
    rest
}

#[inline]
fn blanks(text: &[u8]) -> &[u8] {
    match text {
        [b' ' | b'\t', ..] => text.trim_ascii_start(),
        _ => text,
    }
}

#[inline]
fn quoted(text: &[u8]) -> Parsed<'_, &[u8]> {
    let text = text.strip_prefix(b"\"")?;
    let (quoted, rest) = text.split_at_checked(text.iter().position(|byte| *byte == b'"')?)?;
    Some((quoted, &rest[1..]))
}

/// What follows a value that nobody asked for.
#[inline]
fn unknown(text: &[u8]) -> Option<&[u8]> {
    match text.first()? {
        b'"' => quoted(text).map(|(_, rest)| rest),
        b'{' | b'[' => None,
        _ => Some(&text[text.iter().position(|byte| matches!(byte, b',' | b'}'))?..]),
    }
}

/// The number of the digits in front, how many there are, and what follows.
#[inline]
fn digits(text: &[u8]) -> (i64, usize, &[u8]) {
    let mut number = 0i64;
    let mut count = 0;
    while let Some(digit) = text.get(count).map(|byte| byte.wrapping_sub(b'0')).filter(|d| *d < 10)
    {
        number = number.wrapping_mul(10).wrapping_add(i64::from(digit));
        count += 1;
    }
    (number, count, &text[count..])
}

#[inline]
fn integer(text: &[u8]) -> Option<(i64, &[u8])> {
    let (number, count, rest) = digits(text);
    (1..=18).contains(&count).then_some((number, rest))
}

/// A decimal number of at most 15 digits: those are exact in a double, and so is their scale.
#[inline]
fn decimal(text: &[u8]) -> Option<(f64, &[u8])> {
    const SCALES: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (whole, whole_digits, rest) = digits(text);
    let (fraction, scale, rest) = match rest.strip_prefix(b".") {
        Some(rest) => digits(rest),
        None => (0, 0, rest),
    };
    if whole_digits == 0 || whole_digits + scale > 15 {
        return None;
    }
    Some((((whole as f64) * SCALES[scale] + fraction as f64) / SCALES[scale], rest))
}

/// `1970-01-01 00:00:12.345678` in microseconds, the fraction being optional.
#[inline]
fn timestamp(text: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest) = text.split_at_checked(19)?;
    let pair = |at: usize| {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
    };
    let days = days(pair(0)? * 100 + pair(2)?, pair(5)?, pair(8)?);
    let seconds = ((days * 24 + pair(11)?) * 60 + pair(14)?) * 60 + pair(17)?;
    let (fraction, scale, rest) = match rest.strip_prefix(b".") {
        Some(rest) => digits(rest),
        None => (0, 0, rest),
    };
    let micros = (0..6usize.checked_sub(scale)?).fold(fraction, |fraction, _| fraction * 10);
    Some((seconds * 1_000_000 + micros, rest))
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, counting years from March on.
#[inline]
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    const DAYS_BEFORE_1970: i64 = 719_468;
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_BEFORE_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_meant() {
        let csv = b"17,1970-01-01 00:00:12.345678,57.38\n5,";
        assert_eq!(csv_row::<i64>(csv), Some(((17, 12_345_678, 57.38), &b"5,"[..])));
        let json = b"{\"key\":17,\"ts\":\"1969-12-31 23:59:59.5\",\"value\":4}\n";
        assert_eq!(json_row::<i64>(json), Some(((17, -500_000, 4.0), &b""[..])));
        assert_eq!(timestamp(b"2024-02-29 00:00:00"), Some((1_709_164_800_000_000, &b""[..])));
        assert_eq!(csv_row::<i64>(b"17;1970-01-01 00:00:12,1\n"), None);
        assert_eq!(csv_row::<i64>(b"17,1970-01-01 00:00:12,1"), None, "the line must end");
        let text = csv_row::<Box<[u8]>>(b"ab,1970-01-01 00:00:00,1\n");
        assert_eq!(text, Some(((&b"ab"[..], 0, 1.0), &b""[..])));
    }

    #[test]
    fn fields_may_come_in_any_order_and_others_among_them() {
        let read = json_row_in_any_order::<Box<[u8]>>;
        let row = Some(((&b"ab"[..], 500_000, 4.0), &b"{"[..]));
        let line = "{\"value\":4,\"x\":true,\"key\":\"ab\",\"ts\":\"1970-01-01 00:00:00.5\"}\n{";
        assert_eq!(read(line.as_bytes()), row);
        let line = "{ \"ts\" : \"1970-01-01 00:00:00.5\", \"y\": \"z\", \"key\": \"ab\", \"value\": 4 }\n{";
        assert_eq!(read(line.as_bytes()), row);
        assert_eq!(read(b"{\"key\":\"ab\",\"value\":4}\n"), None, "a field is missing");
    }
}
