//! Values as people read them.
//!
//! A column has one style: how precisely its times and its fractions are shown follows from the
//! values seen so far and only ever grows, so that neighbouring rows can be compared at a glance.

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type};
use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::temporal_conversions::timestamp_s_to_datetime;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tidemill_core::Result;

/// What a null looks like.
const NULL: &str = "NULL";

/// How the values of one column are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// As Arrow shows them.
    Plain,
    /// As date and time.
    Time { unit: TimeUnit, zoned: bool, precision: Precision },
    /// With a fixed number of decimals.
    Float { needed: usize, below_one: bool },
}

/// The smallest unit of time that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Precision {
    Minute,
    Second,
    Milli,
    Micro,
    Nano,
}

impl Style {
    pub(crate) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Timestamp(unit, zone) => {
                Self::Time { unit: *unit, zoned: zone.is_some(), precision: Precision::Minute }
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Self::Float { needed: 1, below_one: true }
            }
            _ => Self::Plain,
        }
    }

    /// Takes note of how precisely these values need to be shown.
    pub(crate) fn learn(&mut self, array: &ArrayRef) -> Result<()> {
        match self {
            Self::Plain => {}
            Self::Time { unit, precision, .. } => {
                let times = cast(array, &DataType::Int64)?;
                for time in times.as_primitive::<Int64Type>().iter().flatten() {
                    *precision = (*precision).max(Precision::of(time, *unit));
                }
            }
            Self::Float { needed, below_one } => {
                let floats = cast(array, &DataType::Float64)?;
                for float in floats.as_primitive::<Float64Type>().iter().flatten() {
                    *needed = (*needed).max(decimals_needed(float));
                    *below_one &= float.abs() < 1.0;
                }
            }
        }
        Ok(())
    }

    /// The column's values, nulls included.
    pub(crate) fn texts(&self, array: &ArrayRef) -> Result<Vec<String>> {
        let or_null = |text: Option<String>| text.unwrap_or_else(|| NULL.to_owned());
        match *self {
            Self::Plain => plain_texts(array),
            Self::Time { unit, zoned, precision } => {
                let times = cast(array, &DataType::Int64)?;
                let times = times.as_primitive::<Int64Type>().iter();
                let text = |time| time_text(time, unit, zoned, precision);
                Ok(times.map(|time| or_null(time.map(text))).collect())
            }
            Self::Float { needed, below_one } => {
                let decimals = needed.min(if below_one { 4 } else { 2 });
                let floats = cast(array, &DataType::Float64)?;
                let floats = floats.as_primitive::<Float64Type>().iter();
                let text = |float| float_text(float, decimals);
                Ok(floats.map(|float| or_null(float.map(text))).collect())
            }
        }
    }
}

fn plain_texts(array: &ArrayRef) -> Result<Vec<String>> {
    const OPTIONS: FormatOptions<'static> = FormatOptions::new()
        .with_null(NULL)
        .with_datetime_format(Some("%Y-%m-%d %H:%M:%S"))
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
    let formatter = ArrayFormatter::try_new(array.as_ref(), &OPTIONS)?;
    Ok((0..array.len()).map(|row| one_line(formatter.value(row).to_string())).collect())
}

/// Control characters would break the row or steer the terminal.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

impl Precision {
    /// What it takes to show this time exactly.
    pub(crate) fn of(time: i64, unit: TimeUnit) -> Self {
        let (second, nanos) = seconds(time, unit);
        match nanos {
            0 if second % 60 == 0 => Self::Minute,
            0 => Self::Second,
            n if n % 1_000_000 == 0 => Self::Milli,
            n if n % 1_000 == 0 => Self::Micro,
            _ => Self::Nano,
        }
    }
}

/// Whole seconds (floored) and nanoseconds of a timestamp.
fn seconds(time: i64, unit: TimeUnit) -> (i64, i64) {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    (time.div_euclid(per_second), time.rem_euclid(per_second) * (1_000_000_000 / per_second))
}

/// A timestamp in SQL's style, with a `Z` behind it where it is an instant (`TIMESTAMP_LTZ`). One
/// beyond the calendar is shown as the number that it is.
pub(crate) fn time_text(time: i64, unit: TimeUnit, zoned: bool, precision: Precision) -> String {
    let (second, nanos) = seconds(time, unit);
    let Some(moment) = timestamp_s_to_datetime(second) else {
        return time.to_string();
    };
    let mut text = match precision {
        Precision::Minute => moment.format("%Y-%m-%d %H:%M").to_string(),
        _ => moment.format("%Y-%m-%d %H:%M:%S").to_string(),
    };
    match precision {
        Precision::Minute | Precision::Second => {}
        Precision::Milli => text += &format!(".{:03}", nanos / 1_000_000),
        Precision::Micro => text += &format!(".{:06}", nanos / 1_000),
        Precision::Nano => text += &format!(".{nanos:09}"),
    }
    if zoned {
        text.push('Z');
    }
    text
}

/// How many decimals (1 to 4) show a float exactly, or 4.
fn decimals_needed(float: f64) -> usize {
    let exact = |decimals: &usize| {
        let scaled = float * 10f64.powi(*decimals as i32);
        (scaled - scaled.round()).abs() <= 1e-9 * scaled.abs().max(1.0)
    };
    (1..4).find(exact).unwrap_or(4)
}

/// A float with so many decimals; in scientific notation where that would show nothing of it, or
/// digits that it does not have.
fn float_text(float: f64, decimals: usize) -> String {
    let magnitude = float.abs();
    if float.is_nan() {
        "NaN".to_owned()
    } else if float.is_infinite() {
        if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if magnitude >= 1e15
        || (magnitude > 0.0 && magnitude < 0.5 * 0.1f64.powi(decimals as i32))
    {
        format!("{float:.2e}")
    } else {
        // Adding zero turns -0.0 into 0.0.
        format!("{:.decimals$}", float + 0.0)
    }
}
