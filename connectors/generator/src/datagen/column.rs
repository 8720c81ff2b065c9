//! One generated column: what its options say, and its values.
//!
//! A column is made in the widest type of its family and cast to the declared one. Its value in
//! row `n` depends on the seed, the column's place in the table, and `n` alone.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    StringViewBuilder, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::compute::kernels::cast_utils::parse_decimal;
use arrow::compute::{cast, nullif};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Field};
use tidemill_core::table::Options;
use tidemill_core::time::micros;
use tidemill_core::{Error, EventTime, Result};

use crate::random::{Random, Stream};

/// Length of random text and bytes where `'length'` is not set, as in Flink.
const LENGTH: usize = 100;

/// Most characters or bytes of one value.
const LENGTH_MAX: usize = 1 << 24;

const DAY: i64 = 86_400_000_000;

/// A column and how its values come about.
pub(crate) struct Column {
    data_type: DataType,
    values: Values,
    random: Stream,
    /// The stream that decides on nulls, and their share.
    nulls: Option<(Stream, f64)>,
}

enum Values {
    Sequence { start: i64, rows: u64 },
    Boolean,
    Integer { min: i64, max: i64 },
    Decimal { min: i128, max: i128 },
    Float { min: f64, max: f64 },
    Text { length: usize },
    Bytes { length: usize },
    Date,
    TimeOfDay,
    Timestamp { max_past: i64 },
}

impl Column {
    /// Column `number` of its table.
    pub(crate) fn new(
        field: &Field,
        options: &FieldOptions<'_>,
        seed: u64,
        number: u64,
    ) -> Result<Self> {
        let data_type = field.data_type().clone();
        let sequence = options.is_sequence()?;
        let values =
            if sequence { sequence_of(field, options)? } else { random_of(field, options)? };
        let nulls = options.null_rate(field)?;
        Ok(Self {
            data_type,
            values,
            random: Stream::new(seed, 2 * number),
            nulls: nulls.map(|rate| (Stream::new(seed, 2 * number + 1), rate)),
        })
    }

    /// How many rows there are before the column runs out.
    pub(crate) fn rows(&self) -> Option<u64> {
        match self.values {
            Values::Sequence { rows, .. } => Some(rows),
            _ => None,
        }
    }

    /// The values of rows `numbers`, which are due at `times`.
    pub(crate) fn array(&self, numbers: &[u64], times: &[EventTime]) -> Result<ArrayRef> {
        let values = cast(&self.values(numbers, times)?, &self.data_type)?;
        Ok(match self.nulls {
            None => values,
            Some((stream, rate)) => {
                let is_null = |number: &u64| Some(stream.at(*number).unit() < rate);
                nullif(&values, &numbers.iter().map(is_null).collect::<BooleanArray>())?
            }
        })
    }

    fn values(&self, numbers: &[u64], times: &[EventTime]) -> Result<ArrayRef> {
        let random = numbers.iter().map(|number| self.random.at(*number));
        Ok(match self.values {
            Values::Sequence { start, .. } => {
                let value = |n: &u64| start.wrapping_add_unsigned(*n);
                Arc::new(Int64Array::from_iter_values(numbers.iter().map(value)))
            }
            Values::Boolean => {
                Arc::new(random.map(|mut r| Some(r.bits() & 1 == 1)).collect::<BooleanArray>())
            }
            Values::Integer { min, max } => Arc::new(Int64Array::from_iter_values(
                random.map(|mut r| integer(&mut r, min, max)),
            )),
            Values::Decimal { min, max } => {
                let values = random.map(|mut r| decimal(&mut r, min, max));
                let values: Decimal128Array = values.map(Some).collect();
                Arc::new(values.with_data_type(self.data_type.clone()))
            }
            Values::Float { min, max } => {
                let value = |mut r: Random| {
                    let share = r.unit();
                    min * (1.0 - share) + max * share
                };
                Arc::new(Float64Array::from_iter_values(random.map(value)))
            }
            Values::Text { length } => texts(random, length),
            Values::Bytes { length } => bytes(random, length),
            Values::Date => {
                let days = times.iter().map(|time| time.div_euclid(DAY));
                let midnights = days.map(|day| day.saturating_mul(DAY));
                Arc::new(TimestampMicrosecondArray::from_iter_values(midnights))
            }
            Values::TimeOfDay => {
                let times = times.iter().map(|time| time.rem_euclid(DAY));
                Arc::new(Time64MicrosecondArray::from_iter_values(times))
            }
            Values::Timestamp { max_past } => {
                let past = random.map(|mut r| integer(&mut r, 0, max_past));
                let times = times.iter().zip(past).map(|(time, past)| time.saturating_sub(past));
                Arc::new(TimestampMicrosecondArray::from_iter_values(times))
            }
        })
    }
}

/// A number in `min..=max`.
fn integer(random: &mut Random, min: i64, max: i64) -> i64 {
    match max.abs_diff(min).checked_add(1) {
        Some(values) => min.wrapping_add_unsigned(random.below(values)),
        None => random.bits() as i64,
    }
}

/// A number in `min..=max`, whose distance is less than 2^128.
fn decimal(random: &mut Random, min: i128, max: i128) -> i128 {
    let bits = u128::from(random.bits()) << 64 | u128::from(random.bits());
    let values = max.abs_diff(min).saturating_add(1);
    min.wrapping_add_unsigned(bits % values)
}

/// Hexadecimal text, as Flink's generator makes it.
fn texts(rows: impl Iterator<Item = Random>, length: usize) -> ArrayRef {
    let mut builder = StringViewBuilder::new();
    let mut text = String::with_capacity(length + 16);
    for mut random in rows {
        text.clear();
        while text.len() < length {
            text.push_str(&format!("{:016x}", random.bits()));
        }
        builder.append_value(&text[..length]);
    }
    Arc::new(builder.finish())
}

fn bytes(rows: impl Iterator<Item = Random>, length: usize) -> ArrayRef {
    let mut builder = BinaryViewBuilder::new();
    let mut value = Vec::with_capacity(length + 8);
    for mut random in rows {
        value.clear();
        while value.len() < length {
            value.extend(random.bits().to_le_bytes());
        }
        builder.append_value(&value[..length]);
    }
    Arc::new(builder.finish())
}

fn sequence_of(field: &Field, options: &FieldOptions<'_>) -> Result<Values> {
    options.allow(&["kind", "start", "end", "null-rate"], "of kind 'sequence'")?;
    let data_type = field.data_type();
    let ordered = data_type.is_numeric() || is_text(data_type);
    if !ordered {
        return Err(options.wrong("kind", format!("a sequence cannot be of type {data_type}")));
    }
    let start = options.required::<i64>("start")?;
    let end = options.required::<i64>("end")?;
    if start > end {
        return Err(options.wrong("end", "the sequence ends before it starts"));
    }
    if let Some((min, max)) = integer_range(data_type)
        && (start < min || end > max)
    {
        return Err(options.wrong("end", format!("the sequence leaves the range of {data_type}")));
    }
    Ok(Values::Sequence { start, rows: end.abs_diff(start).saturating_add(1) })
}

fn random_of(field: &Field, options: &FieldOptions<'_>) -> Result<Values> {
    let data_type = field.data_type();
    let (values, allowed): (_, &[&str]) = match data_type {
        DataType::Boolean => (Values::Boolean, &[]),
        DataType::Float32 => (float_range(options, f64::from(f32::MAX))?, &["min", "max"]),
        DataType::Float64 => (float_range(options, f64::MAX)?, &["min", "max"]),
        DataType::Decimal128(precision, scale) => {
            (decimal_range(options, *precision, *scale)?, &["min", "max"])
        }
        DataType::Date32 => (Values::Date, &[]),
        DataType::Time32(_) | DataType::Time64(_) => (Values::TimeOfDay, &[]),
        DataType::Timestamp(_, _) => (timestamps(options)?, &["max-past"]),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            (Values::Bytes { length: options.length()? }, &["length"])
        }
        text if is_text(text) => (Values::Text { length: options.length()? }, &["length"]),
        integer => match integer_range(integer) {
            Some(range) => (integers(options, range)?, &["min", "max"]),
            None => {
                return Err(Error::configuration(format!(
                    "datagen does not generate column '{}' of type {integer}: only scalar types",
                    field.name()
                )));
            }
        },
    };
    options.allow(&[allowed, &["kind", "null-rate"]].concat(), &format!("of type {data_type}"))?;
    Ok(values)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn integer_range(data_type: &DataType) -> Option<(i64, i64)> {
    Some(match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN, i64::MAX),
        _ => return None,
    })
}

fn integers(options: &FieldOptions<'_>, (lowest, highest): (i64, i64)) -> Result<Values> {
    let min = options.parsed("min")?.unwrap_or(lowest);
    let max = options.parsed("max")?.unwrap_or(highest);
    if min < lowest || max > highest || min > max {
        return Err(options.wrong("max", format!("the range must lie in {lowest}..={highest}")));
    }
    Ok(Values::Integer { min, max })
}

fn float_range(options: &FieldOptions<'_>, highest: f64) -> Result<Values> {
    let min: f64 = options.parsed("min")?.unwrap_or(0.0);
    let max: f64 = options.parsed("max")?.unwrap_or(highest);
    let inside = |float: f64| float.abs() <= highest;
    if !inside(min) || !inside(max) || min > max {
        return Err(options.wrong("max", "min must not be above max, and both must be finite"));
    }
    Ok(Values::Float { min, max })
}

fn decimal_range(options: &FieldOptions<'_>, precision: u8, scale: i8) -> Result<Values> {
    let highest = 10i128.saturating_pow(precision.into()) - 1;
    let bound = |name: &str, default: i128| match options.get(name) {
        None => Ok(default),
        Some(text) => parse_decimal::<Decimal128Type>(text.trim(), precision, scale)
            .map_err(|e| options.wrong(name, format!("'{text}' does not fit: {e}"))),
    };
    let (min, max) = (bound("min", -highest)?, bound("max", highest)?);
    if min > max {
        return Err(options.wrong("max", "min is above max"));
    }
    debug_assert!(precision <= Decimal128Type::MAX_PRECISION);
    Ok(Values::Decimal { min, max })
}

fn timestamps(options: &FieldOptions<'_>) -> Result<Values> {
    let name = options.option("max-past");
    let max_past = options.options.duration(&name)?.unwrap_or_default();
    let max_past = micros(max_past).ok_or_else(|| options.wrong("max-past", "it is too long"))?;
    Ok(Values::Timestamp { max_past })
}

/// The options `fields.<column>.*` of one column.
pub(crate) struct FieldOptions<'a> {
    options: &'a Options,
    column: &'a str,
}

impl<'a> FieldOptions<'a> {
    pub(crate) fn of(options: &'a Options, column: &'a str) -> Self {
        Self { options, column }
    }

    fn option(&self, name: &str) -> String {
        format!("fields.{}.{name}", self.column)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.options.get(&self.option(name))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.options.parsed(&self.option(name))
    }

    fn required<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let missing = || self.wrong(name, "a sequence needs 'start' and 'end'");
        self.parsed(name)?.ok_or_else(missing)
    }

    fn wrong(&self, name: &str, why: impl std::fmt::Display) -> Error {
        let option = self.option(name);
        let message = format!("option '{option}': {why}");
        Error::option(option, message)
    }

    /// Refuses options that have no effect on this column.
    fn allow(&self, allowed: &[&str], why: &str) -> Result<()> {
        let prefix = self.option("");
        for (option, _) in self.options.iter() {
            if let Some(name) = option.strip_prefix(prefix.as_str())
                && !name.contains('.')
                && !allowed.contains(&name)
            {
                let known = allowed.join("', '");
                return Err(self.wrong(name, format!("a column {why} only takes '{known}'")));
            }
        }
        Ok(())
    }

    fn is_sequence(&self) -> Result<bool> {
        Ok(self.options.choice(&self.option("kind"), &["random", "sequence"], 0)? == 1)
    }

    fn length(&self) -> Result<usize> {
        match self.parsed("length")?.unwrap_or(LENGTH) {
            length if length <= LENGTH_MAX => Ok(length),
            _ => Err(self.wrong("length", format!("at most {LENGTH_MAX}"))),
        }
    }

    fn null_rate(&self, field: &Field) -> Result<Option<f64>> {
        match self.parsed::<f64>("null-rate")? {
            None | Some(0.0) => Ok(None),
            Some(rate) if !(0.0..=1.0).contains(&rate) => {
                Err(self.wrong("null-rate", "it is a share from 0 to 1"))
            }
            Some(_) if !field.is_nullable() => {
                Err(self.wrong("null-rate", "the column is declared NOT NULL"))
            }
            rate => Ok(rate),
        }
    }
}
