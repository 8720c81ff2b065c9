//! Job files run on rows: what Flink would answer, worked out by hand.

use crate::support::{plan, run};

const TABLES: &str = "
CREATE TABLE t (k STRING, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' DAY)
WITH ('connector' = 'datagen');
CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), k STRING, n BIGINT) WITH ('connector' = 'print');
";

const ROWS: &str = r#"
{"k": "a", "v": 1, "ts": "2024-01-01T00:00:10"}
{"k": "b", "v": 2, "ts": "2024-01-01T00:00:20"}
{"k": "a", "v": 3, "ts": "2024-01-01T00:01:30"}
{"k": "a", "v": 4, "ts": "2024-01-01T00:02:00"}
"#;

/// The results of a query over `t`, sorted; times without their date.
fn results(query: &str) -> Vec<String> {
    let job = match plan(&format!("{TABLES} INSERT INTO o {query};")) {
        Ok(job) => job,
        Err(errors) => panic!("{errors}"),
    };
    let mut rows = run(&job, &[("t", ROWS)]).remove("o").unwrap();
    rows.iter_mut().for_each(|row| *row = row.replace("2024-01-01T", ""));
    rows.sort();
    rows
}

#[test]
fn tumbling_windows_in_both_spellings_agree() {
    let expected = [
        "00:00:00 | 00:01:00 | a | 1",
        "00:00:00 | 00:01:00 | b | 1",
        "00:01:00 | 00:02:00 | a | 1",
        "00:02:00 | 00:03:00 | a | 1",
    ];
    let table_function = "SELECT window_start, window_end, k, COUNT(*)
        FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
        GROUP BY window_start, window_end, k";
    let group_window = "SELECT TUMBLE_START(ts, INTERVAL '1' MINUTE),
        TUMBLE_END(ts, INTERVAL '1' MINUTE), k, COUNT(*)
        FROM t GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), k";
    assert_eq!(results(table_function), expected);
    assert_eq!(results(group_window), expected);
}

#[test]
fn hopping_cumulating_and_session_windows_have_flinks_bounds() {
    let of = |window: &str| {
        results(&format!(
            "SELECT window_start, window_end, 'all', SUM(v) FROM TABLE({window})
             GROUP BY window_start, window_end"
        ))
    };
    let hop = of("HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE)");
    let expected = [
        "00:00:00 | 00:02:00 | all | 6",
        "00:01:00 | 00:03:00 | all | 7",
        "00:02:00 | 00:04:00 | all | 4",
        "2023-12-31T23:59:00 | 00:01:00 | all | 3",
    ];
    assert_eq!(hop, expected);
    let cumulate =
        of("CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '3' MINUTE)");
    let expected = [
        "00:00:00 | 00:01:00 | all | 3",
        "00:00:00 | 00:02:00 | all | 6",
        "00:00:00 | 00:03:00 | all | 10",
    ];
    assert_eq!(cumulate, expected);
    let session = of("SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '40' SECOND)");
    assert_eq!(session, ["00:00:10 | 00:01:00 | all | 3", "00:01:30 | 00:02:40 | all | 7"]);
}

#[test]
fn sessions_are_told_apart_by_their_partition() {
    let expected = [
        "00:00:10 | 00:00:50 | a | 1",
        "00:00:20 | 00:01:00 | b | 1",
        "00:01:30 | 00:02:40 | a | 2",
    ];
    let table_function = "SELECT window_start, window_end, k, COUNT(*)
        FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '40' SECOND))
        GROUP BY window_start, window_end, k";
    let group_window = "SELECT SESSION_START(ts, INTERVAL '40' SECOND),
        SESSION_END(ts, INTERVAL '40' SECOND), k, COUNT(*)
        FROM t GROUP BY SESSION(ts, INTERVAL '40' SECOND), k";
    assert_eq!(results(table_function), expected);
    assert_eq!(results(group_window), expected);
}

#[test]
fn the_same_window_again_keeps_its_bounds() {
    let again = |window: &str| {
        results(&format!(
            "SELECT window_start, window_end, 'max', MAX(n) FROM (
               SELECT window_start, window_end, k, COUNT(*) AS n FROM TABLE({window})
               GROUP BY window_start, window_end, k) WHERE n > 0
             GROUP BY window_start, window_end"
        ))
    };
    let hop = again("HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE)");
    let expected = [
        "00:00:00 | 00:02:00 | max | 2",
        "00:01:00 | 00:03:00 | max | 2",
        "00:02:00 | 00:04:00 | max | 1",
        "2023-12-31T23:59:00 | 00:01:00 | max | 1",
    ];
    assert_eq!(hop, expected);
    let cumulate =
        again("CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '3' MINUTE)");
    let expected = [
        "00:00:00 | 00:01:00 | max | 1",
        "00:00:00 | 00:02:00 | max | 2",
        "00:00:00 | 00:03:00 | max | 3",
    ];
    assert_eq!(cumulate, expected);
    let offset =
        again("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' MINUTE, INTERVAL '30' SECOND)");
    let expected = ["00:00:30 | 00:02:30 | max | 2", "2023-12-31T23:58:30 | 00:00:30 | max | 1"];
    assert_eq!(offset, expected);
}

#[test]
fn a_larger_window_over_the_results_of_a_smaller_one() {
    let found = results(
        "SELECT s, e, 'sum', SUM(n) FROM (
           SELECT window_start AS s, window_end AS e, n FROM TABLE(TUMBLE(
             (SELECT window_time AS rowtime, COUNT(*) AS n
              FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
              GROUP BY window_start, window_end, window_time),
             DESCRIPTOR(rowtime), INTERVAL '2' MINUTE)))
         GROUP BY s, e",
    );
    assert_eq!(found, ["00:00:00 | 00:02:00 | sum | 3", "00:02:00 | 00:04:00 | sum | 1"]);
}

#[test]
fn windows_of_plain_rows_follow_from_their_time() {
    let found = results(
        "SELECT window_start, window_time, k, v FROM
         TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE window_end > ts AND v < 3",
    );
    assert_eq!(found, ["00:00:00 | 00:00:59.999 | a | 1", "00:00:00 | 00:00:59.999 | b | 2"]);
}

#[test]
fn unions_filters_and_having() {
    let found = results(
        "SELECT window_start, window_end, k, SUM(w) FROM TABLE(TUMBLE(
           (SELECT k, v AS w, ts FROM t UNION ALL SELECT k, 10 * v, ts FROM t WHERE k <> 'b'),
           DESCRIPTOR(ts), INTERVAL '1' HOUR))
         GROUP BY window_start, window_end, k HAVING COUNT(*) > 1",
    );
    assert_eq!(found, ["00:00:00 | 01:00:00 | a | 88"]);
}

#[test]
fn aggregates_take_filter_distinct_and_expressions() {
    let found = results(
        "SELECT MIN(ts), window_end, LISTAGG(k), COUNT(DISTINCT k) + SUM(v) FILTER (WHERE k = 'a')
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR))
         GROUP BY window_start, window_end",
    );
    assert_eq!(found, ["00:00:10 | 01:00:00 | a,b,a,a | 10"]);
}

#[test]
fn branches_look_at_fields_of_rows_and_of_rows_in_them() {
    let job = plan(
        "CREATE TABLE t (kind INT, a ROW<x BIGINT, deep ROW<x BIGINT>>, b ROW<x BIGINT>,
           v AS CASE WHEN kind = 0 THEN a.x WHEN kind = 1 THEN b.x + a.x ELSE a.deep.x END)
         WITH ('connector' = 'datagen');
         CREATE TABLE o (v BIGINT, w BIGINT) WITH ('connector' = 'print');
         INSERT INTO o SELECT v, COALESCE(b.x, a.deep.x, -1) FROM t;",
    );
    let rows = r#"
        {"kind": 0, "a": {"x": 1, "deep": {"x": 2}}, "b": {"x": 3}}
        {"kind": 1, "a": {"x": 1, "deep": {"x": 2}}, "b": {"x": 3}}
        {"kind": 2, "a": {"x": 1, "deep": {"x": 2}}, "b": null}
        {"kind": 2, "a": {"x": 1, "deep": null}, "b": null}
        {"kind": 0, "a": null, "b": {"x": 3}}
        {"kind": null, "a": null, "b": null}
    "#;
    let Ok(job) = job else { panic!("it is a job") };
    let found = run(&job, &[("t", rows)]).remove("o").unwrap();
    let expected = ["1 | 3", "4 | 3", "2 | 2", "null | -1", "null | 3", "null | -1"];
    assert_eq!(found, expected);
}
