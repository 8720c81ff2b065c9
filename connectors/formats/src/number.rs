//! Numbers from text and back: integers, floats and decimals, exactly.

use std::io::Write;

/// A signed integer: an optional sign and decimal digits. `None` where it is none, or overflows.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() {
        return None;
    }
    if digits.len() <= 18 {
        let mut value = 0i64;
        for digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + i64::from(digit);
        }
        return Some(if negative { -value } else { value });
    }
    digits.iter().try_fold(0i64, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        let value = value.checked_mul(10)?;
        let digit = i64::from(digit);
        if negative { value.checked_sub(digit) } else { value.checked_add(digit) }
    })
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

/// Powers of ten that an f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The nearest f64. Where digits and power of ten are both exact in an f64, one operation rounds
/// correctly (W. D. Clinger, "How to read floating point numbers accurately", 1990); the rest is
/// left to the standard library.
pub(crate) fn parse_f64(text: &[u8]) -> Option<f64> {
    match simple_float(text) {
        Some(value) => Some(value),
        None => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}

fn simple_float(text: &[u8]) -> Option<f64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let (mut mantissa, mut point) = (0u64, None);
    for (at, digit) in digits.iter().enumerate() {
        match digit {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(digit - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let fraction = point.map_or(0, |point| digits.len() - point - 1);
    if mantissa > 1 << 53 || digits.len() == usize::from(point.is_some()) {
        return None;
    }
    Some(exact_quotient(mantissa, fraction, negative))
}

/// The float nearest to `mantissa / 10^fraction`; exact where the mantissa has at most 53 bits and
/// the fraction at most 22 digits.
#[inline]
pub(crate) fn exact_quotient(mantissa: u64, fraction: usize, negative: bool) -> f64 {
    let value = mantissa as f64 / POWERS[fraction];
    if negative { -value } else { value }
}

/// The nearest f32, widened.
pub(crate) fn parse_f32(text: &[u8]) -> Option<f64> {
    let value: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(f64::from(value))
}

/// A decimal of `scale` digits behind the point as an integer of its last digit, further digits
/// rounded half up. `None` where the text is no number or needs more than `precision` digits.
pub(crate) fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, rest) = split_sign(text);
    let (digits, exponent) = match rest.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&rest[..at], parse_integer(&rest[at + 1..])?),
        None => (rest, 0),
    };
    let (mut value, mut point, mut seen, mut dropped) = (0i128, None, 0i64, 0i64);
    for digit in digits {
        match digit {
            b'0'..=b'9' => {
                seen += 1;
                // 38 digits fit an i128; what follows cannot change the rounding of a decimal.
                if value < 10i128.pow(37) {
                    value = value * 10 + i128::from(digit - b'0');
                } else {
                    dropped += 1;
                }
            }
            b'.' if point.is_none() => point = Some(seen),
            _ => return None,
        }
    }
    if seen == 0 {
        return None;
    }
    let fraction = point.map_or(0, |point| seen - point);
    let shift = i64::from(scale).checked_add(exponent)?.checked_sub(fraction - dropped)?;
    let value = if value == 0 { 0 } else { shifted(value, shift)? };
    let limit = 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    (value < limit).then_some(if negative { -value } else { value })
}

/// `value * 10^shift`, rounded half up.
fn shifted(value: i128, shift: i64) -> Option<i128> {
    let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|n| 10i128.checked_pow(n));
    match (power, shift >= 0) {
        (Some(power), true) => value.checked_mul(power),
        (Some(power), false) => Some(value / power + i128::from(value % power >= power / 2)),
        (None, true) => None,
        (None, false) => Some(0),
    }
}

/// Appends a decimal whose last digit stands `scale` places behind the point.
pub(crate) fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let digits = value.unsigned_abs().to_string();
    match usize::try_from(scale) {
        Ok(0) => out.extend_from_slice(digits.as_bytes()),
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            out.extend_from_slice(whole.as_bytes());
            out.push(b'.');
            out.extend_from_slice(fraction.as_bytes());
        }
        Err(_) => {
            out.extend_from_slice(digits.as_bytes());
            if value != 0 {
                out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
            }
        }
    }
}

/// Appends the shortest text that reads back as the same float; Java's names for the rest.
pub(crate) fn write_f64(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        write!(out, "{value:?}").expect("a Vec takes every write");
    } else {
        write_non_finite(value, out);
    }
}

/// As [`write_f64`], for an f32.
pub(crate) fn write_f32(value: f32, out: &mut Vec<u8>) {
    if value.is_finite() {
        write!(out, "{value:?}").expect("a Vec takes every write");
    } else {
        write_non_finite(f64::from(value), out);
    }
}

fn write_non_finite(value: f64, out: &mut Vec<u8>) {
    let name: &[u8] = match value {
        v if v.is_nan() => b"NaN",
        v if v > 0.0 => b"Infinity",
        _ => b"-Infinity",
    };
    out.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_read_as_the_standard_library_reads_them(text in "[+-]?[0-9]{0,21}x?") {
            prop_assert_eq!(parse_integer(text.as_bytes()), text.parse().ok());
        }

        #[test]
        fn floats_read_as_the_standard_library_reads_them(
            text in "[+-]?[0-9]{0,20}\\.?[0-9]{0,20}([eE][+-]?[0-9]{1,3})?"
        ) {
            let bits = |f: f64| f.to_bits();
            let expected = text.parse().ok().map(bits);
            prop_assert_eq!(parse_f64(text.as_bytes()).map(bits), expected);
        }

        #[test]
        fn decimals_read_back_as_they_were_written(value in any::<i64>(), scale in 0i8..20) {
            let mut text = Vec::new();
            write_decimal(i128::from(value), scale, &mut text);
            prop_assert_eq!(parse_decimal(&text, 38, scale), Some(i128::from(value)));
        }
    }

    #[test]
    fn decimals_are_rounded_half_up_and_bounded() {
        let parse = |text: &str| parse_decimal(text.as_bytes(), 5, 2);
        assert_eq!(parse("1.005"), Some(101));
        assert_eq!(parse("-1.005"), Some(-101));
        assert_eq!(parse("1.0049"), Some(100));
        assert_eq!(parse("1.5e2"), Some(15_000));
        assert_eq!(parse("15e-1"), Some(150));
        assert_eq!(parse("999.99"), Some(99_999));
        assert_eq!(parse("999.995"), None);
        assert_eq!(parse("1000"), None);
        assert_eq!(parse("1e400"), None);
        assert_eq!(parse("0e400"), Some(0));
        assert_eq!(parse("1e-400"), Some(0));
        assert_eq!(parse("0.33333333333333333333333333333333333333333333333333"), Some(33));
        assert_eq!(parse("."), None);
        assert_eq!(parse("1.2.3"), None);
        assert_eq!(parse(""), None);
    }
}
