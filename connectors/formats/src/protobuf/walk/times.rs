//! `Timestamp` and `Duration`: two numbers that are one value of a column.

use super::super::wire::{Reader, WireType};
use super::{expect, unsuited};
use crate::column::{Bad, Column, Fit, Temporal, Values};
use crate::temporal;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// `seconds` and `nanos`, on top of those of an earlier piece.
fn seconds_and_nanos(
    mut inner: Reader<'_>,
    (mut seconds, mut nanos): (i64, i64),
    depth: usize,
) -> Fit<(i64, i64)> {
    while !inner.is_empty() {
        let (number, wire_type) = inner.tag()?;
        match number {
            1 | 2 => {
                expect(wire_type, WireType::Varint)?;
                let value = inner.varint()?;
                if number == 1 { seconds = value as i64 } else { nanos = (value as i32).into() }
            }
            _ => inner.skip(number, wire_type, depth + 1)?,
        }
    }
    Ok((seconds, nanos))
}

pub(super) fn timestamp(inner: Reader<'_>, column: &mut Column, again: bool, depth: usize) -> Fit {
    let Values::Temporal { values, kind: Temporal::Timestamp(unit) } = &mut column.values else {
        return Err(unsuited());
    };
    let per_second = temporal::per_second(*unit);
    let nanos_each = NANOS_PER_SECOND / per_second;
    let before = match values.last().filter(|_| again) {
        Some(value) => (value.div_euclid(per_second), value.rem_euclid(per_second) * nanos_each),
        None => (0, 0),
    };
    let (seconds, nanos) = seconds_and_nanos(inner, before, depth)?;
    if !(0..NANOS_PER_SECOND).contains(&nanos) {
        return Err(Bad::new(format!("{nanos} nanos are no fraction of a second")));
    }
    let value = i128::from(seconds) * i128::from(per_second) + i128::from(nanos / nanos_each);
    let Ok(value) = i64::try_from(value) else {
        return Err(column.mismatch(&format!("{seconds} seconds since 1970")));
    };
    if again {
        values.pop();
    }
    values.push(value);
    if !again {
        column.appended();
    }
    Ok(())
}

pub(super) fn duration(inner: Reader<'_>, column: &mut Column, again: bool, depth: usize) -> Fit {
    let split = |nanos: i128| {
        let second = i128::from(NANOS_PER_SECOND);
        // What was a duration of `seconds` in 64 bits is one again.
        ((nanos / second) as i64, (nanos % second) as i64)
    };
    let before = match &column.values {
        _ if !again => (0, 0),
        Values::Integer { values, .. } => {
            split(values.last().map_or(0, |micros| i128::from(*micros) * 1_000))
        }
        Values::Decimal { values, scale, .. } => {
            split(values.last().map_or(0, |value| value * power_of_ten(9 - *scale)))
        }
        _ => return Err(unsuited()),
    };
    let (seconds, nanos) = seconds_and_nanos(inner, before, depth)?;
    if nanos.abs() >= NANOS_PER_SECOND || seconds.signum() * nanos.signum() < 0 {
        return Err(Bad::new(format!("{seconds} seconds and {nanos} nanos are no duration")));
    }
    let total = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    if again {
        column.truncate(column.len() - 1);
    }
    let fits = match &mut column.values {
        Values::Integer { values, .. } => {
            i64::try_from(total / 1_000).map(|micros| values.push(micros)).is_ok()
        }
        Values::Decimal { values, precision, scale } => {
            let value = total / power_of_ten(9 - *scale);
            let fits = value.abs() < power_of_ten(*precision as i8);
            if fits {
                values.push(value);
            }
            fits
        }
        _ => return Err(unsuited()),
    };
    if !fits {
        return Err(column.mismatch(&format!("a duration of {seconds} seconds")));
    }
    column.appended();
    Ok(())
}

/// Ten to the power of at most 38.
fn power_of_ten(exponent: i8) -> i128 {
    10i128.pow(exponent.unsigned_abs().into())
}
