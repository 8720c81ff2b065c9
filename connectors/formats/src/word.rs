//! Numbers and times from text, eight bytes at a time: the short way of the text decoders.
//!
//! Each function reads what stands at a place of a longer text and says where it ends, or `None` where
//! it is not of the usual kind: not that it is wrong, but that [`number`](crate::number) and
//! [`temporal`](crate::temporal) must judge it. Invariant: what is read here, they read the same, bit
//! for bit. What follows a value is for the caller to judge.

use arrow::datatypes::TimeUnit;

use crate::number::exact_quotient;
use crate::temporal;

/// So many digits fit a `u64` and an `i64`.
const DIGITS_MAX: usize = 18;

/// Whole numbers up to here are exact in an `f64`.
const FLOAT_MANTISSA_MAX: u64 = 1 << 53;

const HIGHS: u64 = 0x8080_8080_8080_8080;

const POWERS: [u64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut n = 1;
    while n <= DIGITS_MAX {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

/// The eight bytes at `at`, the first the lowest; zeros behind the end.
#[inline(always)]
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(word) => u64::from_le_bytes(*word),
        None => last_word(bytes, at),
    }
}

#[inline(never)]
fn last_word(bytes: &[u8], at: usize) -> u64 {
    let left = bytes.len().saturating_sub(at) as u32;
    if let Some(word) = bytes.last_chunk::<8>() {
        // What stands before `at` is shifted out.
        return u64::from_le_bytes(*word).checked_shr(64 - 8 * left).unwrap_or(0);
    }
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The high bits of bytes above 9: exact up to and including the lowest of them.
#[inline(always)]
fn above_nine(digits: u64) -> u64 {
    const TO_HIGH: u64 = 0x7676_7676_7676_7676;
    (digits.wrapping_add(TO_HIGH) | digits) & HIGHS
}

/// How many digits a word begins with, and their number (D. Lemire, "Quickly parsing eight digits",
/// 2018, for the three multiplications).
#[inline(always)]
fn eight_digits(word: u64) -> (u64, usize) {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let digits = word ^ ZEROS;
    let count = above_nine(digits).trailing_zeros() as usize / 8;
    // What follows the digits is shifted out, and zeros come in front of them.
    let digits = if count == 0 { 0 } else { digits << (64 - 8 * count) };
    let pairs = (digits.wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000 << 32 | 1) >> 32, count)
}

/// The number of the digits at `at` and how many there are; more than [`DIGITS_MAX`] are not counted
/// to their end, and the number is none.
#[inline(always)]
fn digits(bytes: &[u8], at: usize) -> (u64, usize) {
    let (value, count) = eight_digits(word(bytes, at));
    if count < 8 { (value, count) } else { more_digits(value, bytes, at) }
}

#[inline(never)]
fn more_digits(first: u64, bytes: &[u8], at: usize) -> (u64, usize) {
    let (second, more) = eight_digits(word(bytes, at + 8));
    let value = first * POWERS[more] + second;
    if more < 8 {
        return (value, 8 + more);
    }
    let (third, more) = eight_digits(word(bytes, at + 16));
    if 16 + more > DIGITS_MAX {
        return (0, DIGITS_MAX + 1);
    }
    (value * POWERS[more] + third, 16 + more)
}

/// Whether a minus sign stands at `at`, the number of the digits behind it, where they begin and how
/// many there are: at least one, at most [`DIGITS_MAX`]. `ZEROS` in front are none of JSON's numbers.
#[inline(always)]
fn signed<const ZEROS: bool>(bytes: &[u8], at: usize) -> Option<(bool, u64, usize, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (value, count) = digits(bytes, start);
    let leading_zero = !ZEROS && count > 1 && bytes[start] == b'0';
    ((1..=DIGITS_MAX).contains(&count) && !leading_zero).then_some((negative, value, start, count))
}

/// The integer of at most 18 digits at `at`, and where it ends. With `ZEROS` it may begin with some.
#[inline(always)]
pub(crate) fn integer<const ZEROS: bool>(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let (negative, value, start, count) = signed::<ZEROS>(bytes, at)?;
    let value = value as i64;
    Some((if negative { -value } else { value }, start + count))
}

/// The decimal number at `at` as the nearest float, where one division makes it, and where it ends.
/// With `ZEROS` it may begin with some. An exponent is left for the caller to stumble over.
#[inline(always)]
pub(crate) fn float<const ZEROS: bool>(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let (negative, mut mantissa, start, count) = signed::<ZEROS>(bytes, at)?;
    let (mut end, mut scale) = (start + count, 0);
    if bytes.get(end) == Some(&b'.') {
        let fraction;
        (fraction, scale) = digits(bytes, end + 1);
        if scale == 0 || count + scale > DIGITS_MAX {
            return None;
        }
        mantissa = mantissa * POWERS[scale] + fraction;
        end += 1 + scale;
    }
    (mantissa <= FLOAT_MANTISSA_MAX).then(|| (exact_quotient(mantissa, scale, negative), end))
}

/// The date that was read last: most times have that of the time before.
#[derive(Default)]
pub(crate) struct LastDate {
    text: (u64, u64),
    days: i64,
}

impl LastDate {
    /// Days since the epoch of the `2013-01-31` that `time` begins with.
    #[inline(always)]
    fn days(&mut self, time: &TimeText) -> Option<i64> {
        let text = (word_of::<0>(time), word_of::<8>(time) & 0xffff);
        if text == self.text { Some(self.days) } else { self.read(text, time) }
    }

    #[inline(never)]
    fn read(&mut self, text: (u64, u64), time: &TimeText) -> Option<i64> {
        let days = temporal::parse_date(&time[..10])?;
        *self = Self { text, days };
        Some(days)
    }
}

/// More than a time takes: what is read of it lies within, so that one look at the text's length does.
type TimeText = [u8; 32];

/// The eight bytes at `AT`, at most 24.
#[inline(always)]
fn word_of<const AT: usize>(text: &TimeText) -> u64 {
    text[AT..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The time of `2013-01-31 10:15:00`, a `T` between date and time perhaps, a fraction of at most nine
/// digits and a `Z` behind it perhaps, in `unit` since the epoch; and where it ends.
#[inline(always)]
pub(crate) fn timestamp(
    bytes: &[u8],
    at: usize,
    unit: TimeUnit,
    last: &mut LastDate,
) -> Option<(i64, usize)> {
    let (time, length) = match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(text) => time_of(text, unit, last)?,
        None => last_time(bytes, at, unit, last)?,
    };
    Some((time, at + length))
}

/// The time that the text ends behind; zeros follow it.
#[inline(never)]
fn last_time(bytes: &[u8], at: usize, unit: TimeUnit, last: &mut LastDate) -> Option<(i64, usize)> {
    let rest = bytes.get(at..)?;
    let mut text = [0; size_of::<TimeText>()];
    text[..rest.len()].copy_from_slice(rest);
    time_of(&text, unit, last)
}

/// As [`timestamp`], with how long it is.
#[inline(always)]
fn time_of(text: &TimeText, unit: TimeUnit, last: &mut LastDate) -> Option<(i64, usize)> {
    let days = last.days(text)?;
    if !matches!(text[10], b' ' | b'T' | b't') {
        return None;
    }
    let seconds = days * 86_400 + second_of_day(word_of::<11>(text))?;
    let (mut length, mut fraction) = (19, 0);
    if text[19] == b'.' {
        let (mut value, mut count) = eight_digits(word_of::<20>(text));
        if count == 8 && text[28].is_ascii_digit() {
            (value, count) = (value * 10 + u64::from(text[28] - b'0'), 9);
        }
        if count == 0 || count == 9 && text[29].is_ascii_digit() {
            return None;
        }
        fraction = scaled(value, count, unit);
        length += 1 + count;
    }
    length += usize::from(matches!(text[length], b'Z' | b'z'));
    let whole = seconds.checked_mul(temporal::per_second(unit))?;
    Some((whole.checked_add(fraction)?, length))
}

/// The second of the day of `10:15:00`.
#[inline(always)]
fn second_of_day(word: u64) -> Option<i64> {
    const MIDNIGHT: u64 = u64::from_le_bytes(*b"00:00:00");
    const COLONS: u64 = 0x0000_ff00_00ff_0000;
    const PAIRS: u64 = 0x00ff_0000_ff00_00ff;
    // What lifts an hour of 24, a minute or a second of 60 to the highest bit of its byte.
    const TO_HIGH: u64 = 0x0044_0000_4400_0068;
    let digits = word ^ MIDNIGHT;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & PAIRS;
    let wrong = above_nine(digits) | digits & COLONS | pairs.wrapping_add(TO_HIGH) & HIGHS;
    let (hour, minute, second) = (pairs & 0xff, pairs >> 24 & 0xff, pairs >> 48);
    (wrong == 0).then_some(((hour * 60 + minute) * 60 + second) as i64)
}

/// A fraction of a second of `count` digits in `unit`; finer digits are cut off.
#[inline(always)]
fn scaled(fraction: u64, count: usize, unit: TimeUnit) -> i64 {
    let digits = match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    let scaled = match digits >= count {
        true => fraction * POWERS[digits - count],
        false => fraction / POWERS[count - digits],
    };
    scaled as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::number::{parse_f64, parse_integer};

    /// What is taken of a text that stands behind something and in front of something else.
    fn within<T>(
        text: &str,
        tail: &str,
        take: impl Fn(&[u8], usize) -> Option<(T, usize)>,
    ) -> Option<(T, usize)> {
        let whole = format!("12:{text}{tail}");
        take(whole.as_bytes(), 3).map(|(value, end)| (value, end - 3))
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_the_long_way(
            text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?", tail in "([,}\"e a\n\u{fe}][0-9a-z]{0,20})?"
        ) {
            let whole = text.split('.').next().unwrap();
            match within(&text, &tail, integer::<true>) {
                Some((value, end)) => {
                    prop_assert_eq!(&text[..end], whole);
                    prop_assert_eq!(Some(value), parse_integer(whole.as_bytes()));
                }
                None => {
                    let digits = whole.trim_start_matches('-').len();
                    prop_assert!(digits == 0 || digits > DIGITS_MAX, "{}", text);
                }
            }
            if let Some((value, end)) = within(&text, &tail, float::<true>) {
                prop_assert_eq!(end, text.len());
                let expected = parse_f64(text.as_bytes()).map(f64::to_bits);
                prop_assert_eq!(Some(value.to_bits()), expected);
            }
            let zeros = whole.trim_start_matches('-').starts_with('0') && whole.trim_start_matches('-').len() > 1;
            prop_assert!(!zeros || within(&text, &tail, integer::<false>).is_none());
            prop_assert!(!zeros || within(&text, &tail, float::<false>).is_none());
        }

        #[test]
        fn short_numbers_need_no_long_way(whole in 0u64..1_000_000_000, part in "[0-9]{1,6}") {
            let text = format!("{whole}.{part}");
            let taken = within(&text, "}", float::<false>);
            prop_assert!(taken.is_some());
        }

        #[test]
        fn times_are_those_of_the_long_way(
            text in "[0-9]{4}-(0[1-9]|1[0-3])-[0-3][0-9][ Tt;][0-2][0-9]:[0-6][0-9][:;][0-6][0-9]([.,][0-9]{0,11})?[Zz]?",
            damage in prop::option::of((0usize..19, 0u8..128)),
            tail in "[\"}, +-]?[a-z0-9]{0,9}",
        ) {
            let mut text = text.into_bytes();
            if let Some((at, byte)) = damage {
                text[at] = byte;
            }
            let text = String::from_utf8(text).unwrap();
            for unit in [
                TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond,
            ] {
                let mut last = LastDate::default();
                for _ in 0..2 {
                    let mut whole = text.clone();
                    whole.push_str(&tail);
                    let Some((value, end)) = timestamp(whole.as_bytes(), 0, unit, &mut last) else {
                        continue;
                    };
                    let expected = temporal::parse_timestamp(&whole.as_bytes()[..end], unit);
                    prop_assert_eq!(Some(value), expected, "{}", whole);
                }
            }
        }
    }

    #[test]
    fn usual_times_need_no_long_way() {
        let mut last = LastDate::default();
        for text in ["1970-01-01 00:00:12.345678", "2024-02-29T23:59:59Z", "0000-01-01 00:00:00.1"]
        {
            for unit in [TimeUnit::Millisecond, TimeUnit::Microsecond] {
                let expected = temporal::parse_timestamp(text.as_bytes(), unit).unwrap();
                let taken = timestamp(text.as_bytes(), 0, unit, &mut last);
                assert_eq!(taken, Some((expected, text.len())), "{text}");
            }
        }
        assert_eq!(timestamp(b"2023-02-29 00:00:00", 0, TimeUnit::Second, &mut last), None);
    }
}
