//! Flink's spellings of functions: their values on one row, as Flink's documentation gives them.

use crate::support::{plan, run};

const ROW: &str = r#"{"s": "a,b,c", "n": 7, "d": 2.5, "ts": "2013-01-02T15:04:05.060", "x": null}"#;

/// The value of an expression over one row, cast to text.
fn value(expression: &str) -> String {
    let job = plan(&format!(
        "CREATE TABLE t (s STRING, n INT, d DOUBLE, ts TIMESTAMP(3), x STRING,
                         WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
         CREATE TABLE o (v STRING) WITH ('connector' = 'print');
         INSERT INTO o SELECT CAST({expression} AS STRING) FROM t;"
    ));
    match job {
        Ok(job) => run(&job, &[("t", ROW)]).remove("o").unwrap().remove(0),
        Err(errors) => errors.errors[0].message.clone(),
    }
}

#[test]
fn functions_give_what_flink_gives() {
    let cases = [
        ("DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm')", "2013-01-02 15:04"),
        ("DATE_FORMAT(ts, 'yyyyMMdd')", "20130102"),
        ("TO_TIMESTAMP('2013-01-02 15:04:05')", "2013-01-02T15:04:05"),
        ("TO_TIMESTAMP('02.01.2013', 'dd.MM.yyyy')", "2013-01-02T00:00:00"),
        ("TO_TIMESTAMP('no time')", "null"),
        ("TO_TIMESTAMP_LTZ(1357139045060, 3)", "2013-01-02T15:04:05.060Z"),
        ("TO_TIMESTAMP_LTZ(1357139045, 0)", "2013-01-02T15:04:05Z"),
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
        ("CONCAT_WS('+', 'a', 'b')", "a+b"),
        ("s || '!'", "a,b,c!"),
        ("SUBSTRING(s FROM 3 FOR 1)", "b"),
        ("SUBSTRING(s, 3)", "b,c"),
        ("UPPER(s)", "A,B,C"),
        ("TRIM(BOTH ' ' FROM '  x ')", "x"),
        ("LPAD('7', 3, '0')", "007"),
        ("REPLACE(s, ',', '')", "abc"),
        ("POSITION('b' IN s)", "3"),
        ("MD5('')", "d41d8cd98f00b204e9800998ecf8427e"),
        ("n / 2", "3"),
        ("MOD(n, 4)", "3"),
        ("n * 1.5", "10.5"),
        ("ROUND(d * 1.1, 1)", "2.8"),
        ("CASE WHEN n BETWEEN 1 AND 9 THEN 'digit' ELSE 'more' END", "digit"),
        ("TRY_CAST('x' AS INT)", "null"),
        ("CAST('2013-01-02 01:02:03' AS TIMESTAMP(3))", "2013-01-02T01:02:03"),
        ("CAST(d AS DECIMAL(10, 2))", "2.50"),
        ("CAST(n AS TINYINT)", "7"),
        ("ARRAY['x', 'y'][2]", "y"),
        ("CARDINALITY(ARRAY[1, 2, 3])", "3"),
        ("GREATEST(1, n, 3)", "7"),
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
