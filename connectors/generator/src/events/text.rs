//! Numbers, identifiers and times as text, appended to a buffer that is used again and again.

use arrow::temporal_conversions::timestamp_us_to_datetime;
use tidemill_core::{Error, EventTime, Result};

use crate::random::Random;

/// Length of an identifier.
pub(super) const ID_BYTES: usize = 36;

const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut hex = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        hex[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    hex
};

/// An identifier: a UUID whose bits are its own business (version 8 of RFC 9562).
pub(super) fn id(mut random: Random) -> [u8; ID_BYTES] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random.bits().to_be_bytes());
    bytes[8..].copy_from_slice(&random.bits().to_be_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; ID_BYTES];
    let mut at = 0;
    for (n, byte) in bytes.iter().enumerate() {
        at += usize::from(matches!(n, 4 | 6 | 8 | 10));
        text[at..at + 2].copy_from_slice(&HEX[usize::from(*byte)]);
        at += 2;
    }
    text
}

/// Appends a number in decimal.
pub(super) fn number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends hundredths as a number with two decimal places.
pub(super) fn cents(cents: u64, out: &mut Vec<u8>) {
    number(cents / 100, out);
    out.push(b'.');
    padded(cents % 100, 2, out);
}

fn padded(mut number: u64, digits: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + digits, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
}

/// Writes times, most of which lie in the same second as the one before.
#[derive(Debug)]
pub(super) struct Clockface {
    /// The second that `text` is, if any yet.
    second: Option<i64>,
    text: String,
    /// Digits behind the point: 3, or 6 where times are finer than milliseconds.
    digits: usize,
}

impl Clockface {
    /// For times that lie `interval_us` apart.
    pub(super) fn new(start: EventTime, interval_us: i64) -> Self {
        let whole = |micros: i64| micros % 1_000 == 0;
        let digits = if whole(start) && whole(interval_us) { 3 } else { 6 };
        Self { second: None, text: String::new(), digits }
    }

    /// Appends a time as SQL writes it: `2026-01-01 00:00:00.000`.
    ///
    /// # Errors
    /// A time outside the calendar.
    pub(super) fn write(&mut self, time: EventTime, out: &mut Vec<u8>) -> Result<()> {
        let second = time.div_euclid(1_000_000);
        if self.second != Some(second) {
            self.text = calendar(second)?;
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'.');
        let micros = time.rem_euclid(1_000_000).unsigned_abs();
        match self.digits {
            3 => padded(micros / 1_000, 3, out),
            digits => padded(micros, digits, out),
        }
        Ok(())
    }
}

fn calendar(second: i64) -> Result<String> {
    let time = second.checked_mul(1_000_000).and_then(timestamp_us_to_datetime);
    let text = time.map(|time| time.to_string());
    text.filter(|text| text.len() == "2026-01-01 00:00:00".len()).ok_or_else(|| {
        Error::configuration(
            "an event's time is not between the years 0 and 9999: start earlier, or put events closer",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_everywhere() {
        for value in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(written(|out| number(value, out)), value.to_string());
        }
        assert_eq!(written(|out| cents(5, out)), "0.05");
        assert_eq!(written(|out| cents(123_450, out)), "1234.50");
    }

    #[test]
    fn times_are_written_to_the_millisecond_or_finer_where_needed() {
        let mut face = Clockface::new(0, 1_000);
        let text = |face: &mut Clockface, time| written(|out| face.write(time, out).unwrap());
        assert_eq!(text(&mut face, 1_767_225_600_007_000), "2026-01-01 00:00:00.007");
        assert_eq!(text(&mut face, 1_767_225_601_000_000), "2026-01-01 00:00:01.000");
        assert_eq!(text(&mut face, -1_000), "1969-12-31 23:59:59.999");
        let mut fine = Clockface::new(0, 10);
        assert_eq!(text(&mut fine, 1_767_225_600_000_010), "2026-01-01 00:00:00.000010");
        for time in [i64::MIN, i64::MAX, 400_000_000_000_000_000] {
            assert!(face.write(time, &mut Vec::new()).is_err(), "{time}");
        }
    }

    #[test]
    fn identifiers_are_uuids() {
        let text = String::from_utf8(id(Stream::new(1, 2).at(3)).to_vec()).unwrap();
        let parts: Vec<&str> = text.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('8') && "89ab".contains(&parts[3][..1]), "{text}");
        assert!(parts.concat().chars().all(|c| c.is_ascii_hexdigit()));
    }
}
