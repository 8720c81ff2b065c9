//! Yardstick: scanners written by hand for the benchmark's lines of text, feeding the row-at-a-time
//! loop.
//!
//! They know the order of fields and nothing is escaped: less than any real reader must be ready
//! for. What they cannot read they refuse.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tidemill_core::{Error, Result};

use super::checksum::Checksum;
use super::hand::{Slices, run};
use super::input::{TextFiles, TextFormat};
use super::table::RowTable;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Scans and aggregates the files row by row, one thread for each.
///
/// # Errors
/// A file that cannot be read, or a line that is not of the benchmark's shape.
pub fn rows(files: &TextFiles) -> Result<Checksum> {
    let failed = parking_lot::Mutex::new(None);
    let checksum = run(files.paths(), |path: &PathBuf, slices: &mut Slices<'_, RowTable>| {
        let mut each = |(key, time, value)| slices.add(key, time, value);
        if let Err(error) = scan(path, files.format, &mut each) {
            failed.lock().get_or_insert(error.at(path.display()));
        }
    });
    failed.into_inner().map_or(Ok(checksum), Err)
}

/// A key, a time in microseconds and a value.
type Row = (i64, i64, f64);

/// Reads a file in chunks and hands over each line's row.
fn scan(path: &Path, format: TextFormat, each: &mut impl FnMut(Row)) -> Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; CHUNK];
    let mut kept = 0;
    loop {
        let read = file.read(&mut buffer[kept..])?;
        let filled = kept + read;
        if read == 0 {
            return if kept == 0 { Ok(()) } else { Err(unreadable(&buffer[..kept])) };
        }
        let rest = match format {
            TextFormat::Csv => lines(&buffer[..filled], csv_row, each)?,
            TextFormat::Json => lines(&buffer[..filled], json_row, each)?,
        };
        if rest == 0 && filled == buffer.len() {
            return Err(unreadable(&buffer[..80]));
        }
        buffer.copy_within(rest..filled, 0);
        kept = filled - rest;
    }
}

/// Hands over the rows of all whole lines, and says where they end.
#[inline]
fn lines(
    bytes: &[u8],
    row: impl Fn(&[u8]) -> Option<(Row, &[u8])>,
    each: &mut impl FnMut(Row),
) -> Result<usize> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut rest = &bytes[..whole];
    while !rest.is_empty() {
        let (read, behind) = row(rest).ok_or_else(|| unreadable(rest))?;
        each(read);
        rest = behind;
    }
    Ok(whole)
}

fn unreadable(bytes: &[u8]) -> Error {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    Error::internal(format!("not a line of the benchmark: {line}"))
}

/// `17,1970-01-01 00:00:12.345678,57.38`, and what follows the line.
#[inline]
fn csv_row(line: &[u8]) -> Option<(Row, &[u8])> {
    let (key, rest) = integer(line)?;
    let (time, rest) = timestamp(rest.strip_prefix(b",")?)?;
    let (value, rest) = decimal(rest.strip_prefix(b",")?)?;
    Some(((key, time, value), rest.strip_prefix(b"\n")?))
}

/// `{"key":17,"ts":"1970-01-01 00:00:12.345678","value":57.38}`, and what follows the line.
#[inline]
fn json_row(line: &[u8]) -> Option<(Row, &[u8])> {
    let (key, rest) = integer(line.strip_prefix(b"{\"key\":")?)?;
    let (time, rest) = timestamp(rest.strip_prefix(b",\"ts\":\"")?)?;
    let (value, rest) = decimal(rest.strip_prefix(b"\",\"value\":")?)?;
    Some(((key, time, value), rest.strip_prefix(b"}\n")?))
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
        assert_eq!(csv_row(csv), Some(((17, 12_345_678, 57.38), &b"5,"[..])));
        let json = b"{\"key\":17,\"ts\":\"1969-12-31 23:59:59.5\",\"value\":4}\n";
        assert_eq!(json_row(json), Some(((17, -500_000, 4.0), &b""[..])));
        assert_eq!(timestamp(b"2024-02-29 00:00:00"), Some((1_709_164_800_000_000, &b""[..])));
        assert_eq!(csv_row(b"17;1970-01-01 00:00:12,1\n"), None);
        assert_eq!(csv_row(b"17,1970-01-01 00:00:12,1"), None, "the line must end");
    }
}
