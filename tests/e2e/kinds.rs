//! What job files can say, against plain Rust: every window, spelling and combination of queries gives the
//! rows that a loop over the input gives, on one shard and on several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    BooleanArray, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use tidemill::core::table::ConnectorFactory;
use tidemill::memory::MemoryTables;
use tidemill::prelude::*;
use tidemill::runtime::JobSummary;
use tidemill::sql::Registry;

use crate::pipelines::sorted_rows;

/// Seconds of input; each has one row.
const SECONDS: i64 = 1800;

const KEYS: [&str; 3] = ["a", "b", "a-key-longer-than-twelve-bytes"];

/// A row of input; its time in seconds is unique.
#[derive(Debug, Clone, Copy)]
struct Row {
    k: Option<&'static str>,
    n: i64,
    v: Option<f64>,
    b: bool,
    at: i64,
}

/// Rows in the order of time. Values are quarters, so that sums are exact in any order.
fn rows() -> Vec<Row> {
    let row = |at: i64| {
        let mixed = at.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64) >> 33;
        Row {
            k: (at % 11 != 0).then(|| KEYS[mixed.rem_euclid(3) as usize]),
            n: mixed.rem_euclid(1000) + 1,
            v: (at % 7 != 0).then(|| mixed.rem_euclid(400) as f64 / 4.0),
            b: mixed % 5 != 0,
            at,
        }
    };
    // Gaps in the input make sessions.
    (0..SECONDS).filter(|at| at % 100 < 80 && at % 13 > 1).map(row).collect()
}

fn columns() -> SchemaRef {
    schema([
        ("k", DataType::Utf8View),
        ("n", DataType::Int64),
        ("v", DataType::Float64),
        ("b", DataType::Boolean),
        ("ts", TIMESTAMP),
    ])
}

/// Two splits: even and odd seconds, each out of order by less than its watermark allows.
fn splits() -> Vec<Vec<RecordBatch>> {
    let split = |odd: i64| {
        let mut rows: Vec<Row> = rows().into_iter().filter(|row| row.at % 2 == odd).collect();
        rows.chunks_mut(8).for_each(<[Row]>::reverse);
        let times = rows.iter().map(|row| row.at * 1_000_000);
        let columns_: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.k).collect::<StringViewArray>()),
            Arc::new(rows.iter().map(|row| Some(row.n)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.v).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.b)).collect::<BooleanArray>()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
        ];
        vec![RecordBatch::try_new(columns(), columns_).unwrap()]
    };
    vec![split(0), split(1)]
}

/// Runs a job over `t` into the sinks; their rows, sorted, are the same on any number of shards.
fn run(sinks: &[(&str, &str)], queries: &str) -> (BTreeMap<String, Vec<String>>, JobSummary) {
    let mut text = "CREATE TABLE t (k STRING, n BIGINT, v DOUBLE, b BOOLEAN, ts TIMESTAMP(3),
         p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH ('connector' = 'memory');"
        .to_owned();
    for (name, columns) in sinks {
        text += &format!("CREATE TABLE {name} ({columns}) WITH ('connector' = 'memory');");
    }
    text += queries;
    let once = |shards: usize| {
        let tables = MemoryTables::new().with_source("t", columns(), splits());
        let mut connectors: Vec<Arc<dyn ConnectorFactory>> = tidemill::cli::connectors();
        connectors.push(Arc::new(tables.clone()));
        let handles: Vec<_> = sinks.iter().map(|(name, _)| (*name, tables.sink(*name))).collect();
        let mut job = Job::from_sql("kinds.sql", &text, &Registry::new(connectors)).unwrap();
        let summary = job.parallelism(shards).run_blocking().unwrap();
        assert!(summary.ledgers.iter().all(|ledger| ledger.balances()), "{:?}", summary.ledgers);
        let read = |(name, handle): (&str, tidemill::memory::MemoryHandle)| {
            (name.to_owned(), sorted_rows(&handle.batches()))
        };
        let results: BTreeMap<String, Vec<String>> = handles.into_iter().map(read).collect();
        (results, summary)
    };
    let first = once(1);
    for shards in [2, 3] {
        assert_eq!(once(shards).0, first.0, "{shards} shards");
    }
    first
}

const COUNTS: &str = "s TIMESTAMP(3), e TIMESTAMP(3), k STRING, n BIGINT, v DOUBLE";

/// Runs one query into a table of counts.
fn counts(query: &str) -> Vec<String> {
    run(&[("o", COUNTS)], &format!("INSERT INTO o {query};")).0.remove("o").unwrap()
}

fn time(second: i64) -> String {
    let (hour, minute) = (second.div_euclid(3600), second.div_euclid(60).rem_euclid(60));
    match hour {
        -1 => format!("1969-12-31T23:{minute:02}:{:02}", second.rem_euclid(60)),
        _ => format!("1970-01-01T{hour:02}:{minute:02}:{:02}", second.rem_euclid(60)),
    }
}

fn text<T: std::fmt::Debug>(value: Option<T>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| format!("{value:?}").replace('"', ""))
}

type Groups = BTreeMap<(i64, i64, Option<&'static str>), Vec<Row>>;

/// Rows by window and key.
fn grouped(rows: &[Row], windows: impl Fn(i64) -> Vec<(i64, i64)>) -> Groups {
    let mut groups = Groups::new();
    for row in rows {
        for (start, end) in windows(row.at) {
            groups.entry((start, end, row.k)).or_default().push(*row);
        }
    }
    groups
}

/// What `COUNTS` holds of each group.
fn expected(groups: &Groups) -> Vec<String> {
    let line = |((start, end, k), rows): (&(i64, i64, Option<&str>), &Vec<Row>)| {
        let values: Vec<f64> = rows.iter().filter_map(|row| row.v).collect();
        let sum = (!values.is_empty()).then(|| values.iter().sum::<f64>());
        format!("{}|{}|{}|{}|{}", time(*start), time(*end), text(*k), rows.len(), text(sum))
    };
    let mut lines: Vec<String> = groups.iter().map(line).collect();
    lines.sort();
    lines
}

fn tumbling(size: i64) -> impl Fn(i64) -> Vec<(i64, i64)> {
    move |at| vec![(at / size * size, at / size * size + size)]
}

fn hopping(size: i64, slide: i64) -> impl Fn(i64) -> Vec<(i64, i64)> {
    move |at| {
        let starts = (-size..=at).filter(|start| start % slide == 0 && *start + size > at);
        starts.map(|start| (start, start + size)).collect()
    }
}

const SELECT: &str = "SELECT window_start, window_end, k, COUNT(*), SUM(v)";

#[test]
fn hopping_and_cumulating_windows() {
    let query = format!(
        "{SELECT} FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE))
         GROUP BY window_start, window_end, k"
    );
    assert_eq!(counts(&query), expected(&grouped(&rows(), hopping(300, 60))));
    let query = format!(
        "{SELECT} FROM TABLE(CUMULATE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts),
                             STEP => INTERVAL '1' MINUTE, SIZE => INTERVAL '10' MINUTE))
         GROUP BY window_start, window_end, k"
    );
    let cumulating = |at: i64| {
        let start = at / 600 * 600;
        (at / 60 * 60 + 60..=start + 600).step_by(60).map(|end| (start, end)).collect()
    };
    assert_eq!(counts(&query), expected(&grouped(&rows(), cumulating)));
}

#[test]
fn session_windows_of_each_key() {
    let query = format!(
        "{SELECT} FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '4' SECOND))
         GROUP BY window_start, window_end, k"
    );
    let mut groups = Groups::new();
    let keys = rows().iter().map(|row| row.k).collect::<BTreeSet<_>>();
    for key in keys {
        let of_key: Vec<Row> = rows().into_iter().filter(|row| row.k == key).collect();
        for session in of_key.chunk_by(|a, b| b.at - a.at <= 4) {
            let bounds = (session[0].at, session[session.len() - 1].at + 4, key);
            groups.insert(bounds, session.to_vec());
        }
    }
    assert!(groups.len() > 60, "the input has sessions");
    assert_eq!(counts(&query), expected(&groups));
}

#[test]
fn the_older_spelling_of_windows_means_the_same() {
    let query =
        "SELECT TUMBLE_START(ts, INTERVAL '5' MINUTE), TUMBLE_END(ts, INTERVAL '5' MINUTE), k,
                        COUNT(*), SUM(v)
                 FROM t GROUP BY TUMBLE(ts, INTERVAL '5' MINUTE), k";
    assert_eq!(counts(query), expected(&grouped(&rows(), tumbling(300))));
    let query = "SELECT HOP_START(ts, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE),
                        HOP_END(ts, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE), k, COUNT(*), SUM(v)
                 FROM t GROUP BY HOP(ts, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE), k";
    assert_eq!(counts(query), expected(&grouped(&rows(), hopping(300, 60))));
}

#[test]
fn windows_over_windows() {
    let queries = "CREATE VIEW per_minute AS
         SELECT window_start, window_end, window_time AS at, k, COUNT(*) AS c
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
         GROUP BY window_start, window_end, window_time, k;
         INSERT INTO highest
         SELECT window_start, window_end, MAX(c) FROM per_minute GROUP BY window_start, window_end;
         CREATE VIEW timed AS SELECT at, k, c FROM per_minute;
         INSERT INTO busiest
         SELECT window_start, k, MAX(c)
         FROM TABLE(TUMBLE(TABLE timed, DESCRIPTOR(at), INTERVAL '10' MINUTE))
         GROUP BY window_start, window_end, k;";
    let sinks = [
        ("highest", "s TIMESTAMP(3), e TIMESTAMP(3), c BIGINT"),
        ("busiest", "s TIMESTAMP(3), k STRING, c BIGINT"),
    ];
    let (results, _) = run(&sinks, queries);
    let (mut highest, mut busiest) = (BTreeMap::new(), BTreeMap::new());
    for ((start, _, k), rows) in grouped(&rows(), tumbling(60)) {
        let best: &mut usize = highest.entry(start).or_default();
        *best = rows.len().max(*best);
        let best: &mut usize = busiest.entry((start / 600 * 600, k)).or_default();
        *best = rows.len().max(*best);
    }
    let lines = highest.iter().map(|(s, c)| format!("{}|{}|{c}", time(*s), time(s + 60)));
    assert_eq!(results["highest"], lines.collect::<Vec<_>>());
    let lines = busiest.iter().map(|((s, k), c)| format!("{}|{}|{c}", time(*s), text(*k)));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    assert_eq!(results["busiest"], lines);
}

#[test]
fn views_ctes_unions_having_and_where() {
    let query = "WITH named AS (SELECT ts, k, v, n FROM t WHERE k IS NOT NULL),
              both_halves AS (SELECT * FROM named WHERE n <= 500 UNION ALL
                              SELECT ts, UPPER(k), v, n FROM named WHERE n > 500)
         SELECT window_start, window_end, k, COUNT(*), SUM(v)
         FROM TABLE(TUMBLE(TABLE both_halves, DESCRIPTOR(ts), INTERVAL '5' MINUTE))
         GROUP BY window_start, window_end, k HAVING COUNT(*) > 30";
    const UPPER: [&str; 3] = ["A", "B", "A-KEY-LONGER-THAN-TWELVE-BYTES"];
    let mut named: Vec<Row> = rows().into_iter().filter(|row| row.k.is_some()).collect();
    for row in named.iter_mut().filter(|row| row.n > 500) {
        let key = KEYS.iter().position(|key| Some(*key) == row.k).unwrap();
        row.k = Some(UPPER[key]);
    }
    let mut groups = grouped(&named, tumbling(300));
    let all = groups.len();
    groups.retain(|_, rows| rows.len() > 30);
    assert!(!groups.is_empty() && groups.len() < all, "HAVING keeps some");
    assert_eq!(counts(query), expected(&groups));
}

#[test]
fn two_inserts_share_a_source_and_windows_need_no_key() {
    let queries = "EXECUTE STATEMENT SET BEGIN
         INSERT INTO o SELECT window_start, window_end, CAST(NULL AS STRING), COUNT(*), SUM(v)
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE))
         GROUP BY window_start, window_end;
         INSERT INTO large SELECT n FROM t WHERE n > 900;
         END;";
    let (results, summary) = run(&[("o", COUNTS), ("large", "n BIGINT")], queries);
    let rows = rows();
    assert_eq!(summary.records_in, rows.len() as u64, "the source is read once");
    let without_key: Vec<Row> = rows.iter().map(|row| Row { k: None, ..*row }).collect();
    assert_eq!(results["o"], expected(&grouped(&without_key, tumbling(300))));
    assert_eq!(results["large"].len(), rows.iter().filter(|row| row.n > 900).count());
}

#[test]
fn tumbling_windows_of_processing_time_count_every_row_once() {
    let table = MemoryTables::new().with_source("t", columns(), splits());
    let text = "CREATE TABLE t (n BIGINT, p AS PROCTIME()) WITH ('connector' = 'memory');
         CREATE TABLE o (c BIGINT, n BIGINT) WITH ('connector' = 'memory');
         INSERT INTO o SELECT COUNT(*), SUM(n)
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(p), INTERVAL '1' SECOND))
         GROUP BY window_start, window_end;";
    let results = table.sink("o");
    let registry = Registry::new(vec![Arc::new(table)]);
    Job::from_sql("t.sql", text, &registry).unwrap().run_blocking().unwrap();
    let mut sums = [0i64; 2];
    for line in sorted_rows(&results.batches()) {
        let (count, sum) = line.split_once('|').unwrap();
        sums[0] += count.parse::<i64>().unwrap();
        sums[1] += sum.parse::<i64>().unwrap();
    }
    let rows = rows();
    assert_eq!(sums, [rows.len() as i64, rows.iter().map(|row| row.n).sum()]);
}

#[test]
fn generated_input_is_bounded_and_counted() {
    let queries = "CREATE TABLE bids (auction BIGINT, price BIGINT, `dateTime` TIMESTAMP(3),
             WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND)
         WITH ('connector' = 'nexmark', 'nexmark.table' = 'bid', 'events.num' = '50000', 'splits' = '3');
         CREATE TABLE made (n BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at)
         WITH ('connector' = 'datagen', 'number-of-rows' = '7000', 'base-time' = '2013-01-01 00:00:00',
               'rows-per-second' = '1000000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1',
               'fields.n.end' = '7000');
         INSERT INTO hot SELECT window_start, auction, COUNT(*), MAX(price)
         FROM TABLE(HOP(TABLE bids, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '4' SECOND))
         GROUP BY window_start, window_end, auction;
         INSERT INTO sums SELECT COUNT(*), SUM(n)
         FROM TABLE(TUMBLE(TABLE made, DESCRIPTOR(at), INTERVAL '1' DAY))
         GROUP BY window_start, window_end;";
    let sinks = [
        ("hot", "s TIMESTAMP(3), auction BIGINT, c BIGINT, highest BIGINT"),
        ("sums", "c BIGINT, n BIGINT"),
    ];
    let (results, _) = run(&sinks, queries);
    assert_eq!(results["sums"], [format!("7000|{}", 7000 * 7001 / 2)]);
    let count = |line: &String| line.split('|').nth(2).unwrap().parse::<u64>().unwrap();
    let bids: u64 = results["hot"].iter().map(count).sum();
    assert_eq!(bids, 2 * 50_000 / 50 * 46, "each bid is in two windows");
}

/// A naive aggregate over the rows of a group, in the order of time.
type Naive = fn(&[Row]) -> String;

fn values(rows: &[Row]) -> Vec<f64> {
    rows.iter().filter_map(|row| row.v).collect()
}

fn variance(rows: &[Row], without: f64) -> f64 {
    let values = values(rows);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() as f64 - without)
}

fn distinct(rows: &[Row]) -> usize {
    rows.iter().filter_map(|row| row.k).collect::<BTreeSet<_>>().len()
}

fn median(rows: &[Row]) -> f64 {
    let mut values = values(rows);
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

/// Call, type of the result, and the naive computation.
const AGGREGATES: [(&str, &str, Naive); 21] = [
    ("COUNT(*)", "BIGINT", |rows| rows.len().to_string()),
    ("COUNT(v)", "BIGINT", |rows| values(rows).len().to_string()),
    ("SUM(n)", "BIGINT", |rows| rows.iter().map(|row| row.n).sum::<i64>().to_string()),
    ("SUM(v)", "DOUBLE", |rows| format!("{:?}", values(rows).iter().sum::<f64>())),
    ("MIN(v)", "DOUBLE", |rows| format!("{:?}", values(rows).into_iter().fold(f64::MAX, f64::min))),
    ("MAX(k)", "STRING", |rows| text(rows.iter().filter_map(|row| row.k).max())),
    ("AVG(v)", "DOUBLE", |rows| {
        format!("{:?}", values(rows).iter().sum::<f64>() / values(rows).len() as f64)
    }),
    ("ROUND(STDDEV_SAMP(v), 6)", "DOUBLE", |rows| rounded(variance(rows, 1.0).sqrt())),
    ("ROUND(STDDEV_POP(v), 6)", "DOUBLE", |rows| rounded(variance(rows, 0.0).sqrt())),
    ("ROUND(VAR_POP(v), 6)", "DOUBLE", |rows| rounded(variance(rows, 0.0))),
    ("COUNT(DISTINCT k)", "BIGINT", |rows| distinct(rows).to_string()),
    ("CAST(APPROX_DISTINCT(k) AS BIGINT)", "BIGINT", |rows| distinct(rows).to_string()),
    ("COUNT(*) FILTER (WHERE n > 500)", "BIGINT", |rows| {
        rows.iter().filter(|row| row.n > 500).count().to_string()
    }),
    ("MEDIAN(v)", "DOUBLE", |rows| format!("{:?}", median(rows))),
    ("FIRST_VALUE(n)", "BIGINT", |rows| rows[0].n.to_string()),
    ("LAST_VALUE(n)", "BIGINT", |rows| rows[rows.len() - 1].n.to_string()),
    ("ARRAY_AGG(n)", "ARRAY<BIGINT>", |rows| {
        format!("{:?}", rows.iter().map(|row| row.n).collect::<Vec<_>>())
    }),
    ("BIT_AND(n)", "BIGINT", |rows| rows.iter().fold(-1, |bits, row| bits & row.n).to_string()),
    ("BIT_OR(n)", "BIGINT", |rows| rows.iter().fold(0, |bits, row| bits | row.n).to_string()),
    ("BIT_XOR(n)", "BIGINT", |rows| rows.iter().fold(0, |bits, row| bits ^ row.n).to_string()),
    ("BOOL_AND(b)", "BOOLEAN", |rows| rows.iter().all(|row| row.b).to_string()),
];

fn rounded(value: f64) -> String {
    format!("{:?}", (value * 1e6).round() / 1e6)
}

#[test]
fn every_aggregate_equals_a_loop_over_the_rows() {
    for (call, data_type, naive) in AGGREGATES {
        let queries = format!(
            "INSERT INTO o SELECT window_start, {call}
             FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE))
             GROUP BY window_start, window_end;"
        );
        let columns = format!("s TIMESTAMP(3), x {data_type}");
        let results = run(&[("o", &columns)], &queries).0.remove("o").unwrap();
        let mut windows = BTreeMap::<i64, Vec<Row>>::new();
        for row in rows() {
            windows.entry(row.at / 300 * 300).or_default().push(row);
        }
        let line = |(start, rows): (i64, Vec<Row>)| format!("{}|{}", time(start), naive(&rows));
        let expected: Vec<String> = windows.into_iter().map(line).collect();
        assert_eq!(results, expected, "{call}");
    }
}

#[test]
fn approximate_percentiles_lie_near_the_exact_ones() {
    let queries = "INSERT INTO o SELECT APPROX_PERCENTILE_CONT(v, 0.9), BOOL_OR(NOT b)
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;";
    let results = run(&[("o", "p DOUBLE, some BOOLEAN")], queries).0.remove("o").unwrap();
    let (percentile, some) = results[0].split_once('|').unwrap();
    let rows = rows();
    let mut values = values(&rows);
    values.sort_by(f64::total_cmp);
    let rank = |p: f64| values[(p * (values.len() - 1) as f64) as usize];
    let percentile: f64 = percentile.parse().unwrap();
    assert!((rank(0.88)..=rank(0.92)).contains(&percentile), "{percentile}");
    assert_eq!((results.len(), some), (1, "true"));
}
