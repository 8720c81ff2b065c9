//! Flink's functions of time: patterns in Java's letters, microseconds throughout, UTC as the
//! session's zone.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray, StringViewBuilder,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use jiff::civil::DateTime;

use super::pattern::Pattern;
use crate::types::{timestamp, timestamp_ltz};

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";
const SECOND: i64 = 1_000_000;

/// Which function it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    DateFormat,
    ToTimestamp,
    ToTimestampLtz,
    ToDate,
    UnixTimestamp,
    FromUnixtime,
    TimestampDiff,
    TimestampAdd,
}

use Kind::*;

const KINDS: [(Kind, &str, std::ops::RangeInclusive<usize>); 8] = [
    (DateFormat, "date_format", 2..=2),
    (ToTimestamp, "to_timestamp", 1..=2),
    (ToTimestampLtz, "to_timestamp_ltz", 1..=2),
    (ToDate, "to_date", 1..=2),
    (UnixTimestamp, "unix_timestamp", 1..=2),
    (FromUnixtime, "from_unixtime", 1..=2),
    (TimestampDiff, "timestampdiff", 3..=3),
    (TimestampAdd, "timestampadd", 3..=3),
];

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeFunction {
    kind: Kind,
    name: &'static str,
    signature: Signature,
}

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    KINDS
        .iter()
        .map(|(kind, name, _)| {
            let signature = Signature::user_defined(Volatility::Immutable);
            Arc::new(ScalarUDF::from(TimeFunction { kind: *kind, name, signature }))
        })
        .collect()
}

impl TimeFunction {
    /// The literal pattern, or the default where none is given.
    fn pattern(&self, literal: Option<&ScalarValue>) -> Result<Pattern> {
        let text = match literal {
            None if self.kind == ToDate => "yyyy-MM-dd".to_owned(),
            None => DEFAULT_PATTERN.to_owned(),
            Some(value) => match value.try_as_str() {
                Some(Some(text)) => text.to_owned(),
                _ => return plan_err!("the pattern of {} must be a literal", self.shown()),
            },
        };
        Pattern::parse(&text).map_err(DataFusionError::Plan)
    }

    fn shown(&self) -> String {
        self.name.to_uppercase()
    }

    /// Where the pattern stands, for those that take one.
    fn pattern_argument(&self, arguments: usize) -> Option<usize> {
        let takes = matches!(self.kind, DateFormat | ToTimestamp | ToDate | UnixTimestamp)
            || self.kind == FromUnixtime;
        (takes && arguments == 2).then_some(1)
    }

    fn result_type(&self, arguments: &[DataType]) -> DataType {
        match self.kind {
            DateFormat | FromUnixtime => DataType::Utf8View,
            ToTimestamp => timestamp(),
            ToTimestampLtz => timestamp_ltz(),
            ToDate => DataType::Date32,
            UnixTimestamp | TimestampDiff => DataType::Int64,
            TimestampAdd => arguments[2].clone(),
        }
    }

    fn coerced(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let moment = |data_type: &DataType| match data_type {
            DataType::Timestamp(_, Some(_)) => timestamp_ltz(),
            _ => timestamp(),
        };
        let text = DataType::Utf8;
        let first = &arguments[0];
        Ok(match self.kind {
            DateFormat => vec![moment(first), text],
            ToTimestampLtz if first.is_numeric() => {
                let number = if first.is_floating() { DataType::Float64 } else { DataType::Int64 };
                vec![number, DataType::Int64][..arguments.len()].to_vec()
            }
            ToTimestamp | ToTimestampLtz | ToDate | UnixTimestamp => {
                vec![text; arguments.len()]
            }
            FromUnixtime => vec![DataType::Int64, text][..arguments.len()].to_vec(),
            TimestampDiff => vec![text, moment(&arguments[1]), moment(&arguments[2])],
            TimestampAdd => vec![text, DataType::Int64, moment(&arguments[2])],
        })
    }
}

impl ScalarUDFImpl for TimeFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let (_, _, count) = KINDS.iter().find(|(kind, ..)| *kind == self.kind).expect("listed");
        if !count.contains(&arguments.len()) {
            let (least, most) = (count.start(), count.end());
            let wanted =
                if least == most { format!("{least}") } else { format!("{least} or {most}") };
            let given = arguments.len();
            return plan_err!("{} takes {wanted} arguments, not {given}", self.shown());
        }
        self.coerced(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(self.result_type(arguments))
    }

    fn return_field_from_args(
        &self,
        args: ReturnFieldArgs<'_>,
    ) -> Result<arrow::datatypes::FieldRef> {
        if let Some(at) = self.pattern_argument(args.arg_fields.len()) {
            match args.scalar_arguments[at] {
                Some(literal) => self.pattern(Some(literal)).map(|_| ())?,
                None => return plan_err!("the pattern of {} must be a literal", self.shown()),
            }
        }
        if let (TimestampDiff | TimestampAdd, Some(Some(unit))) =
            (self.kind, args.scalar_arguments.first())
        {
            Unit::parse(unit.try_as_str().flatten().unwrap_or_default())?;
        }
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let field = arrow::datatypes::Field::new(self.name, self.result_type(&types), true);
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let literal = |at: usize| match args.args.get(at) {
            Some(ColumnarValue::Scalar(value)) => Some(value.clone()),
            _ => None,
        };
        let array = |at: usize| args.args[at].to_array(rows);
        let pattern = || self.pattern(literal(1).as_ref());
        let result: ArrayRef = match self.kind {
            DateFormat => format_times(&array(0)?, &pattern()?),
            FromUnixtime => {
                let seconds = array(0)?;
                let seconds = seconds.as_primitive::<Int64Type>();
                let times: TimestampMicrosecondArray =
                    seconds.iter().map(|s| s.and_then(|s| s.checked_mul(SECOND))).collect();
                format_times(&(Arc::new(times) as ArrayRef), &pattern()?)
            }
            ToTimestamp => Arc::new(read_times(&array(0)?, &pattern()?, args.args.len() == 1)),
            ToDate => {
                let times = read_times(&array(0)?, &pattern()?, args.args.len() == 1);
                Arc::new(dates(&times))
            }
            UnixTimestamp => {
                let times = read_times(&array(0)?, &pattern()?, args.args.len() == 1);
                let seconds = times.iter().map(|t| t.map(|t| t.div_euclid(SECOND)));
                Arc::new(seconds.collect::<Int64Array>())
            }
            ToTimestampLtz => {
                Arc::new(to_ltz(&array(0)?, literal(1).as_ref())?.with_timezone("UTC"))
            }
            TimestampDiff => difference(unit(literal(0).as_ref())?, &array(1)?, &array(2)?),
            TimestampAdd => {
                let sum = add(unit(literal(0).as_ref())?, &array(1)?, &array(2)?);
                cast(&sum, args.return_field.data_type())?
            }
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn datetime(micros: i64) -> Option<DateTime> {
    let moment = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(moment.to_zoned(jiff::tz::TimeZone::UTC).datetime())
}

fn micros(at: DateTime) -> Option<i64> {
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

fn format_times(times: &ArrayRef, pattern: &Pattern) -> ArrayRef {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut builder = StringViewBuilder::with_capacity(times.len());
    for time in times {
        builder.append_option(time.and_then(datetime).map(|at| pattern.format(at)));
    }
    Arc::new(builder.finish())
}

/// Texts as moments; null where one does not follow the pattern, as in Flink. The default pattern
/// takes a fraction of a second, and a date alone.
fn read_times(texts: &ArrayRef, pattern: &Pattern, is_default: bool) -> TimestampMicrosecondArray {
    let texts: &StringArray = texts.as_string();
    let lenient = |text: &str| text.trim().parse::<DateTime>().ok().filter(|_| is_default);
    let read = |text: &str| pattern.read(text).or_else(|| lenient(text)).and_then(micros);
    texts.iter().map(|text| text.and_then(read)).collect()
}

fn dates(times: &TimestampMicrosecondArray) -> Date32Array {
    let day = |time: i64| i32::try_from(time.div_euclid(86_400 * SECOND)).ok();
    let days = times.iter().map(|time| time.and_then(day));
    days.collect::<arrow::array::PrimitiveArray<Date32Type>>()
}

/// Seconds (precision 0) or milliseconds (3) since 1970, or text.
fn to_ltz(values: &ArrayRef, precision: Option<&ScalarValue>) -> Result<TimestampMicrosecondArray> {
    if values.data_type() == &DataType::Utf8 {
        let pattern = match precision.and_then(|p| p.try_as_str().flatten().map(str::to_owned)) {
            Some(text) => Pattern::parse(&text).map_err(DataFusionError::Execution)?,
            None => Pattern::parse(DEFAULT_PATTERN).map_err(DataFusionError::Execution)?,
        };
        return Ok(read_times(values, &pattern, precision.is_none()));
    }
    let scale = match precision {
        None | Some(ScalarValue::Int64(Some(3))) => 1_000,
        Some(ScalarValue::Int64(Some(0))) => SECOND,
        Some(ScalarValue::Int64(Some(6))) => 1,
        _ => {
            return exec_err!(
                "the precision of TO_TIMESTAMP_LTZ must be 0 (seconds), 3 (milliseconds) or 6"
            );
        }
    };
    Ok(match values.as_primitive_opt::<Float64Type>() {
        Some(numbers) => {
            numbers.iter().map(|n| n.map(|n| (n * scale as f64).round() as i64)).collect()
        }
        None => {
            let numbers = values.as_primitive::<Int64Type>();
            numbers.iter().map(|n| n.and_then(|n| n.checked_mul(scale))).collect()
        }
    })
}

/// A unit of `TIMESTAMPADD` and `TIMESTAMPDIFF`.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Micros(i64),
    Months(i64),
}

impl Unit {
    fn parse(text: &str) -> Result<Self> {
        let text = text.to_uppercase();
        Ok(match text.trim_start_matches("SQL_TSI_") {
            "SECOND" => Self::Micros(SECOND),
            "MINUTE" => Self::Micros(60 * SECOND),
            "HOUR" => Self::Micros(3_600 * SECOND),
            "DAY" => Self::Micros(86_400 * SECOND),
            "WEEK" => Self::Micros(7 * 86_400 * SECOND),
            "MONTH" => Self::Months(1),
            "QUARTER" => Self::Months(3),
            "YEAR" => Self::Months(12),
            _ => {
                return plan_err!(
                    "'{text}' is no unit: there are SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, \
                     QUARTER and YEAR"
                );
            }
        })
    }
}

fn unit(literal: Option<&ScalarValue>) -> Result<Unit> {
    Unit::parse(literal.and_then(|value| value.try_as_str().flatten()).unwrap_or_default())
}

/// Whole units from `from` to `to`, towards zero.
fn difference(unit: Unit, from: &ArrayRef, to: &ArrayRef) -> ArrayRef {
    let from = from.as_primitive::<TimestampMicrosecondType>();
    let to = to.as_primitive::<TimestampMicrosecondType>();
    let one = |from: i64, to: i64| -> Option<i64> {
        match unit {
            Unit::Micros(length) => Some(to.checked_sub(from)? / length),
            Unit::Months(length) => Some(months_between(from, to)? / length),
        }
    };
    let pairs = from.iter().zip(to.iter());
    Arc::new(pairs.map(|(from, to)| one(from?, to?)).collect::<Int64Array>())
}

fn months_between(from: i64, to: i64) -> Option<i64> {
    if to < from {
        return months_between(to, from).map(|months| -months);
    }
    let (start, end) = (datetime(from)?, datetime(to)?);
    let index = |at: DateTime| i64::from(at.year()) * 12 + i64::from(at.month());
    let incomplete = (end.day(), end.time()) < (start.day(), start.time());
    Some(index(end) - index(start) - i64::from(incomplete))
}

fn add(unit: Unit, numbers: &ArrayRef, times: &ArrayRef) -> ArrayRef {
    let numbers = numbers.as_primitive::<Int64Type>();
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let one = |number: i64, time: i64| -> Option<i64> {
        match unit {
            Unit::Micros(length) => time.checked_add(number.checked_mul(length)?),
            Unit::Months(length) => {
                let months = jiff::Span::new().try_months(number.checked_mul(length)?).ok()?;
                micros(datetime(time)?.checked_add(months).ok()?)
            }
        }
    };
    let pairs = numbers.iter().zip(times.iter());
    let sums: TimestampMicrosecondArray = pairs.map(|(n, t)| one(n?, t?)).collect();
    Arc::new(sums)
}
