//! Date patterns in Java's letters (`yyyy-MM-dd HH:mm:ss.SSS`): formatting and parsing.
//!
//! Only letters whose meaning does not depend on a locale are known; others are refused, so that
//! no result silently differs from Flink's.

use jiff::civil::{Date, DateTime, Time};

/// A pattern, ready to be used on every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(char, usize),
}

impl Pattern {
    /// Reads a pattern; an error says which letter is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            if c == '\'' {
                pieces.push(Piece::Text(quoted(&mut characters, text)?));
            } else if c.is_ascii_alphabetic() {
                let mut width = 1;
                while characters.next_if_eq(&c).is_some() {
                    width += 1;
                }
                check(c, width, text)?;
                pieces.push(Piece::Field(c, width));
            } else {
                pieces.push(Piece::Text(c.to_string()));
            }
        }
        Ok(Self(pieces))
    }

    pub fn format(&self, at: DateTime) -> String {
        let mut result = String::with_capacity(24);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => result.push_str(text),
                Piece::Field(letter, width) => format_field(*letter, *width, at, &mut result),
            }
        }
        result
    }

    /// The moment that `text` names; `None` where it does not follow the pattern. Fields that the
    /// pattern lacks are those of 1970-01-01 00:00:00.
    pub fn read(&self, text: &str) -> Option<DateTime> {
        let mut fields = Fields::default();
        let mut rest = text;
        for (at, piece) in self.0.iter().enumerate() {
            match piece {
                Piece::Text(expected) => rest = rest.strip_prefix(expected.as_str())?,
                Piece::Field(letter, width) => {
                    // Digits run on where the next piece is a field too.
                    let adjacent = matches!(self.0.get(at + 1), Some(Piece::Field(..)));
                    rest = fields.read(*letter, *width, adjacent, rest)?;
                }
            }
        }
        if rest.is_empty() { fields.into_datetime() } else { None }
    }
}

fn quoted(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    pattern: &str,
) -> Result<String, String> {
    if characters.next_if_eq(&'\'').is_some() {
        return Ok("'".to_owned());
    }
    let mut text = String::new();
    while let Some(c) = characters.next() {
        match c {
            '\'' if characters.next_if_eq(&'\'').is_some() => text.push('\''),
            '\'' => return Ok(text),
            c => text.push(c),
        }
    }
    Err(format!("a quote in the date pattern '{pattern}' is not closed"))
}

fn check(letter: char, width: usize, pattern: &str) -> Result<(), String> {
    let most = match letter {
        'y' | 'u' => 4,
        'M' | 'd' | 'H' | 'h' | 'm' | 's' => 2,
        'D' => 3,
        'S' => 9,
        'a' => 1,
        _ => 0,
    };
    if width <= most {
        return Ok(());
    }
    let field = letter.to_string().repeat(width);
    Err(format!(
        "'{field}' in the date pattern '{pattern}' is not supported: there are yyyy, yy, MM, dd, D, \
         HH, hh, a, mm, ss, SSS and text in single quotes"
    ))
}

fn format_field(letter: char, width: usize, at: DateTime, out: &mut String) {
    use std::fmt::Write;
    let number = match letter {
        'y' | 'u' if width == 2 => i64::from(at.year()).rem_euclid(100),
        'y' | 'u' => i64::from(at.year()),
        'M' => i64::from(at.month()),
        'd' => i64::from(at.day()),
        'D' => i64::from(at.day_of_year()),
        'H' => i64::from(at.hour()),
        'h' => (i64::from(at.hour()) + 11) % 12 + 1,
        'm' => i64::from(at.minute()),
        's' => i64::from(at.second()),
        'S' => {
            let digits = format!("{:09}", at.subsec_nanosecond());
            return out.push_str(&digits[..width]);
        }
        _ => return out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
    };
    write!(out, "{number:0width$}").expect("writing to a String cannot fail");
}

#[derive(Default)]
struct Fields {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    hour_of_half: Option<i64>,
    afternoon: bool,
    minute: i64,
    second: i64,
    nanosecond: i64,
}

impl Fields {
    fn read<'t>(
        &mut self,
        letter: char,
        width: usize,
        adjacent: bool,
        text: &'t str,
    ) -> Option<&'t str> {
        if letter == 'a' {
            let half = text.get(..2)?;
            self.afternoon = half.eq_ignore_ascii_case("PM");
            let known = self.afternoon || half.eq_ignore_ascii_case("AM");
            return known.then(|| &text[2..]);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let length =
            if adjacent || letter == 'S' || width > 1 { width.min(digits) } else { digits };
        if length == 0 || (length < width && letter != 'S') {
            return None;
        }
        let number: i64 = text[..length].parse().ok()?;
        match letter {
            'y' | 'u' if width == 2 => self.year = Some(2000 + number),
            'y' | 'u' => self.year = Some(number),
            'M' => self.month = Some(number),
            'd' => self.day = Some(number),
            'D' => self.day_of_year = Some(number),
            'H' => self.hour = Some(number),
            'h' => self.hour_of_half = Some(number),
            'm' => self.minute = number,
            's' => self.second = number,
            _ => self.nanosecond = number * 10i64.pow(9 - length as u32),
        }
        Some(&text[length..])
    }

    fn into_datetime(self) -> Option<DateTime> {
        let year = i16::try_from(self.year.unwrap_or(1970)).ok()?;
        let month = i8::try_from(self.month.unwrap_or(1)).ok()?;
        let day = i8::try_from(self.day.unwrap_or(1)).ok()?;
        let mut date = Date::new(year, month, day).ok()?;
        if let Some(day_of_year) = self.day_of_year {
            let day_of_year = i16::try_from(day_of_year).ok()?;
            date = date.with().day_of_year(day_of_year).build().ok()?;
        }
        let hour = match (self.hour, self.hour_of_half) {
            (Some(hour), _) => hour,
            (None, Some(hour @ 1..=12)) => hour % 12 + if self.afternoon { 12 } else { 0 },
            (None, Some(_)) => return None,
            (None, None) => 0,
        };
        let time = Time::new(
            i8::try_from(hour).ok()?,
            i8::try_from(self.minute).ok()?,
            i8::try_from(self.second).ok()?,
            i32::try_from(self.nanosecond).ok()?,
        );
        Some(date.to_datetime(time.ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn patterns_format_and_read_back() {
        let at = date(2013, 1, 2).at(15, 4, 5, 60_000_000);
        let cases = [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2013-01-02 15:04:05.060"),
            ("yyyyMMddHHmmssSSS", "20130102150405060"),
            ("dd/MM/yy 'at' hh:mm:ss.SS a", "02/01/13 at 03:04:05.06 PM"),
            ("yyyy''D H:m:s.SSSSSS", "2013'2 15:4:5.060000"),
        ];
        for (pattern, text) in cases {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.format(at), text);
            assert_eq!(pattern.read(text), Some(at), "{text}");
        }
    }

    #[test]
    fn what_does_not_follow_the_pattern_has_no_value() {
        let pattern = Pattern::parse("yyyy-MM-dd").unwrap();
        for text in ["", "2013-13-01", "2013-02-30", "2013-01-02 ", "13-01-02", "2013-1-2"] {
            assert_eq!(pattern.read(text), None, "{text}");
        }
        assert!(Pattern::parse("EEE").unwrap_err().contains("'EEE'"));
        assert!(Pattern::parse("yyyy'T").unwrap_err().contains("not closed"));
    }
}
