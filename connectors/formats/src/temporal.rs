//! Dates, times and timestamps from text and back.
//!
//! Read: SQL (`2013-01-01 10:15:00.123`) and ISO 8601 (`2013-01-01T10:15:00Z`) alike, with `Z` or
//! an offset, which is taken into account; years beyond 9999 and before 0 with a sign, so that
//! every timestamp reads back as it was written.

use arrow::datatypes::TimeUnit;

const SECONDS_PER_DAY: i64 = 86_400;

/// How a timestamp is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampStyle {
    /// `2013-01-01 10:15:00`
    Sql,
    /// `2013-01-01T10:15:00`
    Iso8601,
}

/// Units per second.
pub(crate) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Days since 1970-01-01 of `2013-01-31`.
pub(crate) fn parse_date(text: &[u8]) -> Option<i64> {
    let (days, rest) = date(text)?;
    rest.is_empty().then_some(days)
}

/// Time of day in `unit` of `10:15`, `10:15:00` or `10:15:00.123`; finer digits are cut off.
pub(crate) fn parse_time(text: &[u8], unit: TimeUnit) -> Option<i64> {
    let (seconds, nanos, rest) = time(text)?;
    rest.is_empty().then(|| seconds * per_second(unit) + in_unit(nanos, unit))
}

/// Time since the epoch in `unit`, UTC; finer digits are cut off. A date alone is its midnight.
/// `None` where it is no timestamp, or out of the unit's range.
pub(crate) fn parse_timestamp(text: &[u8], unit: TimeUnit) -> Option<i64> {
    let (days, rest) = date(text)?;
    let (seconds, nanos) = match rest {
        [] => (0, 0),
        [b'T' | b't' | b' ', rest @ ..] => {
            let (seconds, nanos, rest) = time(rest)?;
            (seconds - zone(rest)?, nanos)
        }
        _ => return None,
    };
    let seconds = days.checked_mul(SECONDS_PER_DAY)?.checked_add(seconds)?;
    // Through i128: the first instants of the range are a second below it plus a fraction.
    let total =
        i128::from(seconds) * i128::from(per_second(unit)) + i128::from(in_unit(nanos, unit));
    i64::try_from(total).ok()
}

fn in_unit(nanos: i64, unit: TimeUnit) -> i64 {
    nanos / (1_000_000_000 / per_second(unit))
}

/// Days since the epoch, and what follows the date.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = year(text)?;
    let [b'-', m1, m2, b'-', d1, d2, rest @ ..] = rest else { return None };
    let (month, day) = (pair(*m1, *m2)?, pair(*d1, *d2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    Some((days_from_civil(year, month, day), rest))
}

fn year(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, text) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        [y1, y2, y3, y4, rest @ ..] => {
            return Some((pair(*y1, *y2)? * 100 + pair(*y3, *y4)?, rest));
        }
        _ => return None,
    };
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(4..=6).contains(&digits) {
        return None;
    }
    let (year, rest) = text.split_at(digits);
    Some((sign * crate::number::parse_integer(year)?, rest))
}

/// Seconds of the day, nanoseconds, and what follows the time.
fn time(text: &[u8]) -> Option<(i64, i64, &[u8])> {
    let [h1, h2, b':', m1, m2, rest @ ..] = text else { return None };
    let (hour, minute) = (pair(*h1, *h2)?, pair(*m1, *m2)?);
    let (second, rest) = match rest {
        [b':', s1, s2, rest @ ..] => (pair(*s1, *s2)?, rest),
        rest => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, rest) = match rest {
        [b'.' | b',', rest @ ..] => fraction(rest)?,
        rest => (0, rest),
    };
    Some((hour * 3600 + minute * 60 + second, nanos, rest))
}

/// Nanoseconds of the digits behind a point, cut off after nine, and what follows them.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let nanos = (0..9).fold(0, |nanos, at| {
        let digit = if at < digits { text[at] - b'0' } else { 0 };
        nanos * 10 + i64::from(digit)
    });
    Some((nanos, &text[digits..]))
}

/// Seconds east of UTC.
fn zone(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2] => (sign, pair(*h1, *h2)?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => {
            (sign, pair(*h1, *h2)?, pair(*m1, *m2)?)
        }
        _ => return None,
    };
    let seconds = (hours <= 18 && minutes <= 59).then(|| hours * 3600 + minutes * 60)?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// The number of two digits.
fn pair(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i64::from(tens * 10 + ones))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years begin in March, so that the
/// leap day is the last of its year (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`]; same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Appends a date given in days since the epoch.
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    write_digits(year.unsigned_abs(), if year.unsigned_abs() > 9999 { 6 } else { 4 }, out);
    out.push(b'-');
    write_digits(month.unsigned_abs(), 2, out);
    out.push(b'-');
    write_digits(day.unsigned_abs(), 2, out);
}

/// Appends a time of day given in `unit`.
pub(crate) fn write_time(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let seconds = value.div_euclid(per_second(unit)).unsigned_abs();
    for (at, part) in [seconds / 3600, seconds / 60 % 60, seconds % 60].into_iter().enumerate() {
        if at > 0 {
            out.push(b':');
        }
        write_digits(part, 2, out);
    }
    write_fraction(value, unit, out);
}

/// Appends a timestamp given in `unit`; `zulu` marks it as UTC. The fraction has 3, 6 or 9 digits,
/// or is left out where it is zero.
pub(crate) fn write_timestamp(
    value: i64,
    unit: TimeUnit,
    style: TimestampStyle,
    zulu: bool,
    out: &mut Vec<u8>,
) {
    let day = SECONDS_PER_DAY * per_second(unit);
    write_date(value.div_euclid(day), out);
    out.push(if style == TimestampStyle::Sql { b' ' } else { b'T' });
    write_time(value.rem_euclid(day), unit, out);
    if zulu {
        out.push(b'Z');
    }
}

fn write_fraction(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let parts = value.rem_euclid(per_second(unit)).unsigned_abs();
    let nanos = parts * (1_000_000_000 / per_second(unit).unsigned_abs());
    let (fraction, digits) = match nanos {
        0 => return,
        n if n % 1_000_000 == 0 => (n / 1_000_000, 3),
        n if n % 1_000 == 0 => (n / 1_000, 6),
        n => (n, 9),
    };
    out.push(b'.');
    write_digits(fraction, digits, out);
}

fn write_digits(mut value: u64, digits: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + digits, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> Option<i64> {
        parse_timestamp(text.as_bytes(), TimeUnit::Microsecond)
    }

    #[test]
    fn timestamps_in_every_usual_notation() {
        let expected = Some(1_357_035_300_000_000);
        for text in [
            "2013-01-01T10:15:00Z",
            "2013-01-01 10:15:00",
            "2013-01-01 10:15",
            "2013-01-01T10:15:00.000000",
            "2013-01-01T12:15:00+02:00",
            "2013-01-01T05:15:00-0500",
            "2013-01-01T11:15:00+01",
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
        assert_eq!(micros("2013-01-01 10:15:00.1234569"), Some(1_357_035_300_123_456));
        assert_eq!(micros("1969-12-31 23:59:59.5"), Some(-500_000));
        assert_eq!(micros("1970-01-02"), Some(86_400_000_000));
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "2013",
            "2013-13-01 00:00:00",
            "2013-02-29 00:00:00",
            "2013-01-01 24:00:00",
            "2013-01-01 00:60:00",
            "2013-01-01 00:00:60",
            "2013-01-01 00:00:00.",
            "2013-01-01 00:00:00 UTC",
            "2013-01-01T00:00:00+25:00",
            "+999999-01-01 00:00:00",
            "2013-01-0110:00:00",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_timestamp_reads_back_as_it_was_written(value in any::<i64>(), iso in any::<bool>()) {
            let style = if iso { TimestampStyle::Iso8601 } else { TimestampStyle::Sql };
            for unit in [TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
                // A year takes at most six digits.
                let value = if unit == TimeUnit::Millisecond { value / 1_000 } else { value };
                let mut text = Vec::new();
                write_timestamp(value, unit, style, iso, &mut text);
                prop_assert_eq!(parse_timestamp(&text, unit), Some(value));
            }
        }
    }

    #[test]
    fn the_ends_of_time_read_back_as_they_were_written() {
        for value in [i64::MIN, i64::MAX, 0, -1] {
            let mut text = Vec::new();
            write_timestamp(value, TimeUnit::Microsecond, TimestampStyle::Sql, false, &mut text);
            assert_eq!(parse_timestamp(&text, TimeUnit::Microsecond), Some(value));
        }
    }
}
