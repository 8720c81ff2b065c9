//! Flink's spellings of functions: their values on one row, as Flink's documentation gives them.

use crate::support::{plan, run};

const ROW: &str = r#"{"s": "a,b,c", "n": 7, "d": 2.5, "ts": "2013-01-02T15:04:05.060", "x": null, "b": false, "k": 1}"#;

/// The value of an expression over one row, in a table with a column of a type that takes it.
fn value(expression: &str) -> String {
    const TYPES: [&str; 7] =
        ["STRING", "BIGINT", "DECIMAL(10, 2)", "DATE", "TIMESTAMP(3)", "BOOLEAN", "DOUBLE"];
    let mut errors = Vec::new();
    for column in TYPES.map(|name| format!("v {name}")) {
        match plan(&job(&column, expression)) {
            Ok(job) => return run(&job, &[("t", ROW)]).remove("o").unwrap().remove(0),
            Err(found) => errors.push(found.errors[0].message.clone()),
        }
    }
    errors.remove(0)
}

fn job(column: &str, expression: &str) -> String {
    format!(
        "CREATE TABLE t (s STRING, n INT, d DOUBLE, ts TIMESTAMP(3), x STRING, b BOOLEAN,
                         k INT NOT NULL, WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
         CREATE TABLE o ({column}) WITH ('connector' = 'print');
         INSERT INTO o SELECT {expression} FROM t;"
    )
}

/// The error for an expression, and what to do about it.
fn refusal(column: &str, expression: &str) -> String {
    let Err(found) = plan(&job(column, expression)) else { return "none".to_owned() };
    let error = &found.errors[0];
    format!("{}; {}", error.message, error.help.as_deref().unwrap_or_default())
}

#[test]
fn functions_give_what_flink_gives() {
    let cases = [
        ("DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm')", "2013-01-02 15:04"),
        ("DATE_FORMAT(ts, 'yyyyMMdd')", "20130102"),
        ("TO_TIMESTAMP('2013-01-02 15:04:05')", "2013-01-02T15:04:05"),
        ("TO_TIMESTAMP('02.01.2013', 'dd.MM.yyyy')", "2013-01-02T00:00:00"),
        ("TO_TIMESTAMP('no time')", "null"),
        ("TO_TIMESTAMP_LTZ(1357139045060, 3)", "2013-01-02T15:04:05.060"),
        ("TO_TIMESTAMP_LTZ(1357139045, 0)", "2013-01-02T15:04:05"),
        ("TO_DATE('2013-01-02')", "2013-01-02"),
        ("UNIX_TIMESTAMP('1970-01-01 00:01:00')", "60"),
        ("FROM_UNIXTIME(60)", "1970-01-01 00:01:00"),
        ("TIMESTAMPDIFF(HOUR, TIMESTAMP '2013-01-02 00:00:00', ts)", "15"),
        ("TIMESTAMPDIFF(MONTH, TIMESTAMP '2012-12-03 00:00:00', ts)", "0"),
        ("TIMESTAMPADD(MONTH, 1, TIMESTAMP '2013-01-31 00:00:00')", "2013-02-28T00:00:00"),
        ("FLOOR(ts TO HOUR)", "2013-01-02T15:00:00"),
        ("CEIL(ts TO HOUR)", "2013-01-02T16:00:00"),
        ("CEIL(TIMESTAMP '2013-01-02 15:00:00' TO HOUR)", "2013-01-02T15:00:00"),
        ("FLOOR(ts TO MONTH)", "2013-01-01T00:00:00"),
        ("FLOOR(d)", "2.0"),
        ("EXTRACT(DAY FROM ts)", "2"),
        ("ts + INTERVAL '1:30' MINUTE TO SECOND", "2013-01-02T15:05:35.060"),
        ("CHAR_LENGTH(s)", "5"),
        ("CHARACTER_LENGTH(s)", "5"),
        ("CHAR_LENGTH(x)", "null"),
        ("SPLIT_INDEX(s, ',', 1)", "b"),
        ("SPLIT_INDEX(s, ',', 9)", "null"),
        ("REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 2)", "bar"),
        ("REGEXP_EXTRACT('foothebar', 'the')", "the"),
        ("REGEXP('foothebar', '^foo')", "true"),
        ("REGEXP_REPLACE('foobar', 'oo|ar', '')", "fb"),
        ("IF(n > 5, 'big', 'small')", "big"),
        ("IFNULL(x, 'none')", "none"),
        ("COALESCE(x, s)", "a,b,c"),
        ("CONCAT(s, '-', CAST(n AS STRING))", "a,b,c-7"),
        ("CONCAT(s, x)", "null"),
        ("CONCAT(s, NULL)", "null"),
        ("CONCAT_WS('+', 'a', 'b')", "a+b"),
        ("s || '!'", "a,b,c!"),
        ("SUBSTRING(s FROM 3 FOR 1)", "b"),
        ("SUBSTRING(s, 3)", "b,c"),
        ("SUBSTRING(s, -3)", "b,c"),
        ("SUBSTRING(s, -3, 1)", "b"),
        ("SUBSTRING(s, -9)", ""),
        ("SUBSTRING(s, 9)", ""),
        ("SUBSTR(s, 0, 2)", "a,"),
        ("SUBSTRING('äöü' FROM -2)", "öü"),
        ("SUBSTRING(x, 1)", "null"),
        ("UPPER(s)", "A,B,C"),
        ("TRIM(BOTH ' ' FROM '  x ')", "x"),
        ("LPAD('7', 3, '0')", "007"),
        ("REPLACE(s, ',', '')", "abc"),
        ("POSITION('b' IN s)", "3"),
        ("MD5('')", "d41d8cd98f00b204e9800998ecf8427e"),
        ("n / 2", "3"),
        ("MOD(n, 4)", "3"),
        ("n * 1.5", "10.50"),
        ("ROUND(d * 1.1, 1)", "2.8"),
        ("CASE WHEN n BETWEEN 1 AND 9 THEN 'digit' ELSE 'more' END", "digit"),
        ("TRY_CAST('x' AS INT)", "null"),
        ("CAST('2013-01-02 01:02:03' AS TIMESTAMP(3))", "2013-01-02T01:02:03"),
        ("CAST(d AS DECIMAL(10, 2))", "2.50"),
        ("CAST(n AS TINYINT)", "7"),
        ("ARRAY['x', 'y'][2]", "y"),
        ("CARDINALITY(ARRAY[1, 2, 3])", "3"),
        ("GREATEST(1, n, 3)", "7"),
        ("GREATEST('a', x)", "null"),
        ("LEAST('a', x, 'b')", "null"),
        ("LEAST('b', 'a')", "a"),
        ("ROUND(LOG(EXP(2)), 3)", "2.0"),
        ("LOG(2, 8)", "3.0"),
        ("EXTRACT(DOW FROM ts)", "4"),
        ("DAYOFWEEK(TO_DATE('2013-01-06'))", "1"),
        ("CAST(b AS STRING)", "FALSE"),
        ("CONCAT('is ', CAST(n = 7 AS VARCHAR))", "is TRUE"),
        ("CAST(CAST(NULL AS BOOLEAN) AS STRING)", "null"),
        ("CAST(s AS VARCHAR(3))", "a,b"),
        ("CAST(n AS CHAR(3)) || '!'", "7  !"),
        ("TRY_CAST(s AS CHAR(2))", "a,"),
        ("NULLIF(n, 7)", "null"),
    ];
    let mut wrong = Vec::new();
    for (expression, expected) in cases {
        let found = value(expression);
        if found != expected {
            wrong.push(format!("{expression} = {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn text_that_flink_would_write_otherwise_is_refused() {
    let texts = ["CAST(ts AS STRING)", "s || CAST(ts AS VARCHAR(10))", "s || ts"];
    for expression in texts {
        assert_eq!(
            refusal("v STRING", expression),
            "TIMESTAMP(6) cannot become text: Flink writes as many digits as its precision has; \
             write DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss')",
            "{expression}"
        );
    }
    for expression in ["CAST(d AS STRING)", "CONCAT(s, d)", "TRY_CAST(d * 2 AS VARCHAR(3))"] {
        let found = refusal("v STRING", expression);
        assert!(found.starts_with("DOUBLE cannot become text"), "{expression}: {found}");
    }
}

#[test]
fn a_not_null_column_takes_only_what_is_never_null() {
    let refused = "column 'v' is NOT NULL and may be given NULL; declare the column without \
                   NOT NULL, or write COALESCE(…, 0) or WHERE … IS NOT NULL";
    assert_eq!(refusal("v INT NOT NULL", "n"), refused);
    assert_eq!(refusal("v STRING NOT NULL", "NULLIF(s, 'a')"), refused);
    assert_eq!(refusal("v BIGINT NOT NULL", "k + n"), refused);
    for taken in ["k", "COALESCE(n, 0)", "k + 1", "GREATEST(k, 2)"] {
        assert_eq!(refusal("v BIGINT NOT NULL", taken), "none", "{taken}");
    }
    let from = |query: &str| {
        let job = job("w TIMESTAMP(3) NOT NULL, v BIGINT NOT NULL", query);
        plan(&job.replace(" FROM t;", ";")).map(|_| ()).map_err(|e| e.errors[0].message.clone())
    };
    let windows =
        "FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '5' SECOND))
                   GROUP BY window_start, window_end";
    assert_eq!(from(&format!("window_end, COUNT(*) {windows}")), Ok(()));
    assert_eq!(from("ts, n FROM t WHERE n IS NOT NULL AND ts IS NOT NULL"), Ok(()));
    let sum = from(&format!("window_end, SUM(n) {windows}"));
    assert_eq!(sum, Err("column 'v' is NOT NULL and may be given NULL".to_owned()));
}
