//! Flink's data types and the Arrow types that carry them.

use std::sync::Arc;

use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit,
};
use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::diagnostic::{Fallible, Problem};
use crate::token::{Cursor, FlinkDialect};

/// A data type as declared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SqlType {
    pub data_type: DataType,
    pub nullable: bool,
}

const NAMES: [&str; 26] = [
    "ARRAY",
    "BIGINT",
    "BINARY",
    "BOOLEAN",
    "BYTES",
    "CHAR",
    "DATE",
    "DEC",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "INTEGER",
    "INTERVAL",
    "MAP",
    "NUMERIC",
    "REAL",
    "ROW",
    "SMALLINT",
    "STRING",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TINYINT",
    "VARBINARY",
    "VARCHAR",
];

/// A timestamp in microseconds without zone: what event time and window bounds are made of.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// A timestamp in microseconds on the UTC time line (`TIMESTAMP_LTZ`).
pub(crate) fn timestamp_ltz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Reads a type, with `NOT NULL` or `NULL` behind it.
pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Fallible<SqlType> {
    let data_type = parse_data_type(cursor)?;
    let nullable = !cursor.accept_words(&["NOT", "NULL"]);
    if nullable {
        cursor.accept_words(&["NULL"]);
    }
    Ok(SqlType { data_type, nullable })
}

/// The type that the parser of expressions read in a `CAST`, where Flink knows it.
pub(crate) fn parse_text(text: &str) -> Option<DataType> {
    let tokens = Tokenizer::new(&FlinkDialect, text).tokenize_with_location().ok()?;
    let tokens: Vec<_> =
        tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let mut cursor = Cursor::new(&tokens);
    let parsed = parse(&mut cursor).ok()?;
    cursor.is_at_end().then_some(parsed.data_type)
}

fn parse_data_type(cursor: &mut Cursor<'_>) -> Fallible<DataType> {
    let name = cursor.name("a data type")?;
    Ok(match name.text.to_ascii_uppercase().as_str() {
        "STRING" => DataType::Utf8View,
        "VARCHAR" | "CHAR" => {
            precision(cursor)?;
            DataType::Utf8View
        }
        "BYTES" => DataType::BinaryView,
        "VARBINARY" | "BINARY" => {
            precision(cursor)?;
            DataType::BinaryView
        }
        "BOOLEAN" => DataType::Boolean,
        "TINYINT" => DataType::Int8,
        "SMALLINT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => {
            cursor.accept_words(&["PRECISION"]);
            DataType::Float64
        }
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(cursor)?,
        "DATE" => DataType::Date32,
        "TIME" => time(cursor)?,
        "TIMESTAMP" => timestamp_type(cursor)?,
        "TIMESTAMP_LTZ" => of_precision(cursor, true)?,
        "INTERVAL" => interval(cursor)?,
        "ARRAY" => {
            let element = in_angles(cursor, parse)?;
            DataType::List(Arc::new(Field::new("item", element.data_type, element.nullable)))
        }
        "MAP" => in_angles(cursor, map)?,
        "ROW" => row(cursor)?,
        "MULTISET" => {
            return Err(Problem::new(name.span, "MULTISET is not supported")
                .help("declare ARRAY<…> or MAP<…, INT>"));
        }
        _ => {
            return Err(Problem::new(name.span, format!("'{}' is not a data type", name.text))
                .suggest_or_list(&name.text, "data types", NAMES));
        }
    })
}

fn precision(cursor: &mut Cursor<'_>) -> Fallible<Option<u32>> {
    if !cursor.accept(&Token::LParen) {
        return Ok(None);
    }
    let precision = cursor.number("a number")?;
    cursor.expect(&Token::RParen)?;
    Ok(Some(precision))
}

fn decimal(cursor: &mut Cursor<'_>) -> Fallible<DataType> {
    let span = cursor.span();
    let (mut precision, mut scale) = (10, 0);
    if cursor.accept(&Token::LParen) {
        precision = cursor.number("the number of digits")?;
        if cursor.accept(&Token::Comma) {
            scale = cursor.number("the number of digits behind the point")?;
        }
        cursor.expect(&Token::RParen)?;
    }
    let maximum = u32::from(DECIMAL128_MAX_PRECISION);
    if precision == 0 || precision > maximum || scale > precision {
        let message = format!("DECIMAL({precision}, {scale}) is out of range");
        return Err(Problem::new(span, message)
            .help(format!("1 to {maximum} digits, at most as many behind the point")));
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

fn time(cursor: &mut Cursor<'_>) -> Fallible<DataType> {
    let span = cursor.span();
    match precision(cursor)?.unwrap_or(0) {
        0..=3 => Ok(DataType::Time32(TimeUnit::Millisecond)),
        4..=6 => Ok(DataType::Time64(TimeUnit::Microsecond)),
        7..=9 => Ok(DataType::Time64(TimeUnit::Nanosecond)),
        _ => Err(Problem::new(span, "TIME has at most 9 digits of a second")),
    }
}

fn timestamp_type(cursor: &mut Cursor<'_>) -> Fallible<DataType> {
    let start = cursor.clone();
    let plain = of_precision(cursor, false)?;
    if cursor.accept_words(&["WITH", "LOCAL", "TIME", "ZONE"]) {
        return of_precision(&mut start.clone(), true);
    }
    let span = cursor.span();
    if cursor.accept_words(&["WITH", "TIME", "ZONE"]) {
        return Err(Problem::new(span, "TIMESTAMP WITH TIME ZONE is not supported")
            .help("declare TIMESTAMP_LTZ(3): a point on the UTC time line"));
    }
    cursor.accept_words(&["WITHOUT", "TIME", "ZONE"]);
    Ok(plain)
}

fn of_precision(cursor: &mut Cursor<'_>, local: bool) -> Fallible<DataType> {
    let span = cursor.span();
    let unit = match precision(cursor)?.unwrap_or(6) {
        0..=6 => TimeUnit::Microsecond,
        7..=9 => TimeUnit::Nanosecond,
        _ => return Err(Problem::new(span, "TIMESTAMP has at most 9 digits of a second")),
    };
    Ok(DataType::Timestamp(unit, local.then(|| "UTC".into())))
}

fn interval(cursor: &mut Cursor<'_>) -> Fallible<DataType> {
    let mut field = || -> Fallible<String> {
        let name = cursor.name("YEAR, MONTH, DAY, HOUR, MINUTE or SECOND")?;
        precision(cursor)?;
        let upper = name.text.to_ascii_uppercase();
        match upper.as_str() {
            "YEAR" | "MONTH" | "DAY" | "HOUR" | "MINUTE" | "SECOND" => Ok(upper),
            _ => Err(Problem::new(name.span, format!("'{}' is no unit of time", name.text))),
        }
    };
    let first = field()?;
    if cursor.accept_words(&["TO"]) {
        cursor.name("a unit of time")?;
        precision(cursor)?;
    }
    let months = matches!(first.as_str(), "YEAR" | "MONTH");
    Ok(DataType::Interval(if months {
        IntervalUnit::YearMonth
    } else {
        IntervalUnit::MonthDayNano
    }))
}

fn in_angles<T>(
    cursor: &mut Cursor<'_>,
    inner: impl Fn(&mut Cursor<'_>) -> Fallible<T>,
) -> Fallible<T> {
    cursor.expect(&Token::Lt)?;
    let parsed = inner(cursor)?;
    cursor.expect(&Token::Gt)?;
    Ok(parsed)
}

fn map(cursor: &mut Cursor<'_>) -> Fallible<DataType> {
    let key = parse(cursor)?;
    cursor.expect(&Token::Comma)?;
    let value = parse(cursor)?;
    let entries = Fields::from(vec![
        Field::new("key", key.data_type, false),
        Field::new("value", value.data_type, value.nullable),
    ]);
    Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false))
}

fn row(cursor: &mut Cursor<'_>) -> Fallible<DataType> {
    let close = if cursor.accept(&Token::Lt) {
        Token::Gt
    } else {
        cursor.expect(&Token::LParen)?;
        Token::RParen
    };
    let mut fields: Vec<FieldRef> = Vec::new();
    loop {
        let name = cursor.name("a field's name")?;
        let field = parse(cursor)?;
        if cursor.peek().is_some_and(|token| matches!(token, Token::SingleQuotedString(_))) {
            cursor.advance(); // the field's comment
        }
        fields.push(Arc::new(Field::new(name.text, field.data_type, field.nullable)));
        if !cursor.accept(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&close)?;
    Ok(DataType::Struct(fields.into()))
}

/// The type in Flink's words, for errors.
pub(crate) fn sql_name(data_type: &DataType) -> String {
    use DataType::*;
    match data_type {
        Utf8 | Utf8View | LargeUtf8 => "STRING".to_owned(),
        Binary | BinaryView | LargeBinary | FixedSizeBinary(_) => "BYTES".to_owned(),
        Boolean => "BOOLEAN".to_owned(),
        Int8 => "TINYINT".to_owned(),
        Int16 => "SMALLINT".to_owned(),
        Int32 => "INT".to_owned(),
        Int64 => "BIGINT".to_owned(),
        Float32 => "FLOAT".to_owned(),
        Float64 => "DOUBLE".to_owned(),
        Decimal128(precision, scale) | Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        Date32 | Date64 => "DATE".to_owned(),
        Time32(_) | Time64(_) => "TIME".to_owned(),
        Timestamp(unit, zone) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let name = if zone.is_some() { "TIMESTAMP_LTZ" } else { "TIMESTAMP" };
            format!("{name}({digits})")
        }
        Interval(_) | Duration(_) => "INTERVAL".to_owned(),
        List(item) | LargeList(item) | ListView(item) | FixedSizeList(item, _) => {
            format!("ARRAY<{}>", sql_name(item.data_type()))
        }
        Map(entries, _) => match entries.data_type() {
            Struct(fields) if fields.len() == 2 => {
                let name = |i: usize| sql_name(fields[i].data_type());
                format!("MAP<{}, {}>", name(0), name(1))
            }
            _ => "MAP".to_owned(),
        },
        Struct(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| format!("{} {}", field.name(), sql_name(field.data_type())))
                .collect();
            format!("ROW<{}>", fields.join(", "))
        }
        Null => "NULL".to_owned(),
        UInt8 | UInt16 | UInt32 | UInt64 => "an unsigned BIGINT".to_owned(),
        other => format!("{other}"),
    }
}

/// Rewrites the names of Arrow types in a planner's message into Flink's.
pub(crate) fn in_sql_words(message: &str) -> String {
    let mut result = message.to_owned();
    let names = [
        ("Timestamp(Microsecond, Some(\"UTC\"))", "TIMESTAMP_LTZ(6)"),
        ("Timestamp(µs, \"UTC\")", "TIMESTAMP_LTZ(6)"),
        ("Timestamp(Microsecond, None)", "TIMESTAMP(6)"),
        ("Timestamp(µs)", "TIMESTAMP(6)"),
        ("Interval(MonthDayNano)", "INTERVAL"),
        ("LargeUtf8", "STRING"),
        ("Utf8View", "STRING"),
        ("Utf8", "STRING"),
        ("BinaryView", "BYTES"),
        ("UInt64", "BIGINT"),
        ("Float64", "DOUBLE"),
        ("Float32", "FLOAT"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Int16", "SMALLINT"),
        ("Int8", "TINYINT"),
        ("Boolean", "BOOLEAN"),
        ("Date32", "DATE"),
        ("Decimal128", "DECIMAL"),
    ];
    for (arrow, sql) in names {
        result = result.replace(arrow, sql);
    }
    result
}

/// Notes an error unless `tokens` are exactly one type; for tests of this module's callers.
#[cfg(test)]
pub(crate) fn parse_for_test(text: &str) -> Fallible<SqlType> {
    let mut problems = crate::diagnostic::Problems::default();
    let tokens = crate::token::tokenize(text, &|_| None, &mut problems);
    assert_eq!(problems.len(), 0);
    let mut cursor = Cursor::new(&tokens);
    let parsed = parse(&mut cursor)?;
    assert!(cursor.is_at_end(), "all of '{text}' is read");
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_flink_writes_them() {
        let of = |text: &str| parse_for_test(text).unwrap();
        assert_eq!(
            of("STRING NOT NULL"),
            SqlType { data_type: DataType::Utf8View, nullable: false }
        );
        assert_eq!(of("VARCHAR(20)").data_type, DataType::Utf8View);
        assert_eq!(of("DECIMAL(10, 2)").data_type, DataType::Decimal128(10, 2));
        assert_eq!(of("TIMESTAMP(3)").data_type, timestamp());
        assert_eq!(of("TIMESTAMP_LTZ(3)").data_type, timestamp_ltz());
        assert_eq!(of("TIMESTAMP(3) WITH LOCAL TIME ZONE").data_type, timestamp_ltz());
        assert_eq!(of("TIMESTAMP(9)").data_type, DataType::Timestamp(TimeUnit::Nanosecond, None));
        assert_eq!(of("TIME(3)").data_type, DataType::Time32(TimeUnit::Millisecond));
        let nested = of("ARRAY<ARRAY<INT NOT NULL>>").data_type;
        assert_eq!(sql_name(&nested), "ARRAY<ARRAY<INT>>");
        let nested = of("MAP<STRING, ROW<a INT 'note', b ROW(c DOUBLE)>>").data_type;
        assert_eq!(sql_name(&nested), "MAP<STRING, ROW<a INT, b ROW<c DOUBLE>>>");
        assert_eq!(
            of("INTERVAL DAY TO SECOND(3)").data_type,
            DataType::Interval(IntervalUnit::MonthDayNano)
        );
    }

    #[test]
    fn what_is_no_type_is_refused_with_a_suggestion() {
        let error = parse_for_test("STRNG").unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean 'STRING'?"));
        assert!(parse_for_test("MULTISET<INT>").unwrap_err().message.contains("MULTISET"));
        assert!(parse_for_test("DECIMAL(50, 2)").unwrap_err().message.contains("out of range"));
    }
}
