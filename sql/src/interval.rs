//! `INTERVAL` literals as microseconds: `'90' SECOND`, `'1:30' MINUTE TO SECOND`, `'10' SECOND(3)`.

use datafusion_sql::sqlparser::ast::{DateTimeField, Expr, Interval, Spanned, Value};

use crate::diagnostic::{Fallible, Problem};

const SECOND: i64 = 1_000_000;

/// Fields from the longest to the shortest: name, microseconds, and how many make the next longer.
const FIELDS: [(&str, i64, i64); 4] = [
    ("DAY", 86_400 * SECOND, i64::MAX),
    ("HOUR", 3_600 * SECOND, 24),
    ("MINUTE", 60 * SECOND, 60),
    ("SECOND", SECOND, 60),
];

/// The interval in microseconds; `None` where it is made of months or years, whose length varies.
pub(crate) fn micros(interval: &Interval) -> Fallible<Option<i64>> {
    let span = interval.value.span();
    let Some(leading) = &interval.leading_field else {
        return Err(Problem::new(span, "this INTERVAL has no unit")
            .help("write INTERVAL '10' SECOND, or MINUTE, HOUR, DAY"));
    };
    let Some(first) = field_index(leading) else {
        return Ok(None);
    };
    let Expr::Value(value) = interval.value.as_ref() else {
        return Err(Problem::new(span, "an INTERVAL's length must be a literal in quotes"));
    };
    let Value::SingleQuotedString(text) = &value.value else {
        return Err(Problem::new(
            span,
            "an INTERVAL's length stands in quotes: INTERVAL '10' SECOND",
        ));
    };
    let last = match &interval.last_field {
        None => first,
        Some(field) => match field_index(field) {
            Some(last) if last > first => last,
            _ => return Err(Problem::new(span, "this INTERVAL's units are in the wrong order")),
        },
    };
    match parse(text.trim(), first, last) {
        Some(micros) => Ok(Some(micros)),
        None => {
            let units = if first == last {
                FIELDS[first].0.to_owned()
            } else {
                format!("{} TO {}", FIELDS[first].0, FIELDS[last].0)
            };
            Err(Problem::new(span, format!("'{text}' is no length in {units}"))
                .help("write for example INTERVAL '90' SECOND or INTERVAL '1:30' MINUTE TO SECOND"))
        }
    }
}

fn field_index(field: &DateTimeField) -> Option<usize> {
    let name = field.to_string().to_ascii_uppercase();
    FIELDS.iter().position(|(singular, _, _)| name.trim_end_matches('S') == *singular)
}

fn parse(text: &str, first: usize, last: usize) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let parts: Vec<&str> = digits.split([' ', ':']).collect();
    if parts.len() != last - first + 1 {
        return None;
    }
    let mut total = 0i64;
    for (number, (part, (name, unit, limit))) in parts.iter().zip(&FIELDS[first..=last]).enumerate()
    {
        let micros =
            if *name == "SECOND" { seconds(part)? } else { whole(part)?.checked_mul(*unit)? };
        if number > 0 && micros >= limit.checked_mul(*unit)? {
            return None;
        }
        total = total.checked_add(micros)?;
    }
    Some(sign * total)
}

fn whole(text: &str) -> Option<i64> {
    let valid = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| text.parse().ok()).flatten()
}

/// Seconds with up to six digits behind the point, in microseconds.
fn seconds(text: &str) -> Option<i64> {
    let (whole_part, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 6 {
        return None;
    }
    let scale = 10i64.pow(6 - fraction.len() as u32);
    whole(whole_part)?.checked_mul(SECOND)?.checked_add(whole(fraction)? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Problems;
    use crate::token::{parse_expr, tokenize};

    fn of(text: &str) -> Fallible<Option<i64>> {
        let tokens = tokenize(text, &|_| None, &mut Problems::default());
        match parse_expr(&tokens).unwrap() {
            Expr::Interval(interval) => micros(&interval),
            other => panic!("{text} was read as {other:?}"),
        }
    }

    #[test]
    fn every_form_of_flink_is_read() {
        let seconds = |text: &str| of(text).unwrap().unwrap() as f64 / 1e6;
        assert_eq!(seconds("INTERVAL '1' MINUTE"), 60.0);
        assert_eq!(seconds("INTERVAL '5' MINUTES"), 300.0);
        assert_eq!(seconds("INTERVAL '90' SECOND"), 90.0);
        assert_eq!(seconds("INTERVAL '10' SECOND(3)"), 10.0);
        assert_eq!(seconds("INTERVAL '0.25' SECOND"), 0.25);
        assert_eq!(seconds("INTERVAL '1:30' MINUTE TO SECOND"), 90.0);
        assert_eq!(seconds("INTERVAL '1 02:03:04.5' DAY TO SECOND"), 93_784.5);
        assert_eq!(seconds("INTERVAL '-2' HOUR"), -7_200.0);
        assert_eq!(of("INTERVAL '2' MONTH").unwrap(), None);
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in
            ["INTERVAL 'x' MINUTE", "INTERVAL '1:70' MINUTE TO SECOND", "INTERVAL '1:2' HOUR"]
        {
            assert!(of(text).is_err(), "{text}");
        }
        assert!(of("INTERVAL '10'").unwrap_err().message.contains("no unit"));
    }
}
