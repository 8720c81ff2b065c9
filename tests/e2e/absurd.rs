//! Absurd input, through job files: nothing panics, nothing is silent, the sums add up.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::command::{Ended, file, run_job};

const BAD: &str = "a,1,2013-01-01 00:00:01\nb,x,2013-01-01 00:00:02\nc,3,yesterday\nd,4\n\
                   e,5,2013-01-01 00:00:03\n";

/// Sums by key and minute over a file of the folder, with further options of its table.
fn sums_by_key(input: &str, format: &str, options: &str) -> String {
    format!(
        "SET 'pipeline.name' = 'absurd';
         CREATE TABLE t (k STRING, n BIGINT, ts TIMESTAMP(6), WATERMARK FOR ts AS ts)
         WITH ('connector' = 'filesystem', 'path' = '{{folder}}/{input}', 'format' = '{format}'{options});
         CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
         INSERT INTO o SELECT k, SUM(n)
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
         GROUP BY window_start, window_end, k;"
    )
}

fn sorted(ended: &Ended) -> Vec<String> {
    let mut lines: Vec<String> = ended.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The dead letters in a checkpoint folder, in the order of their positions.
fn dead_letters(checkpoints: &Path) -> Vec<Value> {
    let mut letters: Vec<Value> = Vec::new();
    for entry in std::fs::read_dir(checkpoints.join("dead-letters/absurd")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("part-") {
            let text = std::fs::read_to_string(path).unwrap();
            letters.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    letters.sort_by_key(|letter| letter["position"].as_str().unwrap().to_owned());
    letters
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            let digit = if digit <= three.len() { DIGITS[value as usize] } else { b'=' };
            text.push(char::from(digit));
        }
    }
    text
}

#[test]
fn a_bad_record_ends_a_job_that_says_fail_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "in.csv", BAD);
    for options in ["", ", 'on-error' = 'fail'"] {
        let ended = run_job(folder.path(), &sums_by_key("in.csv", "csv", options), &[]).expect(1);
        for part in ["in.csv, line 2", "n: 'x' is not a valid BIGINT", "'dead-letter' or 'skip'"] {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    }
}

#[test]
fn bad_records_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "in.csv", BAD);
    let sql = sums_by_key("in.csv", "csv", ", 'on-error' = 'skip'");
    let ended = run_job(folder.path(), &sql, &[]).expect(0);
    assert_eq!(ended.sums(), [5, 2, 0, 3, 0]);
    assert_eq!(sorted(&ended), [r#"{"k":"a","n":1}"#, r#"{"k":"e","n":5}"#]);
    assert!(!folder.path().join("dead-letters").exists());
}

#[test]
fn bad_records_are_kept_byte_for_byte_where_there_are_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "in.csv", BAD);
    let checkpoints = folder.path().join("checkpoints");
    let flags = ["--checkpoint-dir", checkpoints.to_str().unwrap()];
    let ended = run_job(folder.path(), &sums_by_key("in.csv", "csv", ""), &flags).expect(0);
    assert_eq!(ended.sums(), [5, 2, 0, 3, 0]);
    let letters = dead_letters(&checkpoints);
    let expected = [
        ("line 2", "n: 'x' is not a valid BIGINT", "b,x,2013-01-01 00:00:02"),
        ("line 3", "ts: 'yesterday' is not a valid TIMESTAMP", "c,3,yesterday"),
        ("line 4", "2 fields where 3 are expected", "d,4"),
    ];
    assert_eq!(letters.len(), expected.len());
    for (letter, (position, reason, payload)) in letters.iter().zip(expected) {
        assert_eq!((&letter["position"], &letter["reason"]), (&position.into(), &reason.into()));
        assert_eq!(letter["payload"], base64(payload.as_bytes()), "{letter}");
        assert!(letter["split"].as_str().unwrap().ends_with("in.csv"), "{letter}");
        assert_eq!((&letter["job"], &letter["source"]), (&"absurd".into(), &"t".into()));
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_crash_neither_loses_nor_doubles_dead_letters() {
    use crate::command::{command, finish};
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for n in 0..4000 {
        let second = n / 100;
        let number = if n % 5 == 0 { "x".to_owned() } else { n.to_string() };
        writeln!(rows, "k{},{number},2013-01-01 00:00:{second:02}", n % 3).unwrap();
    }
    file(folder.path(), "in.csv", &rows);
    let checkpoints = folder.path().join("checkpoints");
    let sql = sums_by_key("in.csv", "csv", ", 'rate-limit' = '8000'");
    let sql = sql.replace("{folder}", &folder.path().display().to_string());
    let job = file(folder.path(), "job.sql", sql);
    let run = |crash: bool| {
        let mut command = command(["run", job.to_str().unwrap(), "-o", "json"]);
        command.args(["--checkpoint-interval", "50ms", "--checkpoint-dir"]).arg(&checkpoints);
        if crash {
            command.env("FAILPOINTS", "checkpoint::before_commit=3*off->return(abort)");
        }
        finish(&mut command)
    };
    let first = run(true);
    assert_eq!(first.code, -1, "it was told to abort: {}", first.stderr);
    let before = dead_letters(&checkpoints).len();
    assert!(before < 800, "all letters were there before the crash");
    let ended = run(false).expect(0);
    assert_eq!(ended.sums(), [4000, 3200, 0, 800, 0]);
    let mut lines: Vec<usize> = Vec::new();
    for letter in dead_letters(&checkpoints) {
        lines.push(letter["position"].as_str().unwrap()["line ".len()..].parse().unwrap());
    }
    lines.sort_unstable();
    let expected: Vec<usize> = (1..=4000).filter(|line| line % 5 == 1).collect();
    assert_eq!(lines, expected);
}

#[test]
fn times_at_the_ends_of_the_range_before_1970_and_null() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "old,1,0001-01-01 00:00:00\nolder,2,1969-12-31 23:59:59.999999\nnone,3,\n\
                epoch,4,1970-01-01 00:00:00\nnew,5,9999-12-31 23:59:59.999999\n";
    file(folder.path(), "in.csv", rows);
    let sql = sums_by_key("in.csv", "csv", ", 'on-error' = 'skip', 'max-future' = '4000000 d'");
    let ended = run_job(folder.path(), &sql, &[]).expect(0);
    let [records_in, counted, late, dead, filtered] = ended.sums();
    // What has no time is a dead letter; what is too far from today may be one.
    assert_eq!((records_in, late, filtered), (5, 0, 0));
    assert_eq!(counted as usize, ended.stdout.lines().count());
    assert!(dead >= 1, "{dead}");
    for line in [r#"{"k":"epoch","n":4}"#, r#"{"k":"old","n":1}"#, r#"{"k":"older","n":2}"#] {
        assert!(sorted(&ended).contains(&line.to_owned()), "{line}: {}", ended.stdout);
    }
}

#[test]
fn times_at_the_limits_of_64_bits_are_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for time in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
        writeln!(rows, "k,1,{time}").unwrap();
    }
    file(folder.path(), "in.csv", rows);
    let sql = "CREATE TABLE t (k STRING, n BIGINT, us BIGINT, ts AS TO_TIMESTAMP_LTZ(us, 6),
                               WATERMARK FOR ts AS ts - INTERVAL '1' DAY)
               WITH ('connector' = 'filesystem', 'path' = '{folder}/in.csv', 'format' = 'csv', 'on-error' = 'skip');
               CREATE TABLE o (n BIGINT) WITH ('connector' = 'print');
               INSERT INTO o SELECT COUNT(*)
               FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY))
               GROUP BY window_start, window_end;";
    let ended = run_job(folder.path(), sql, &[]).expect(0);
    assert_eq!(ended.sums(), [7, 3, 0, 4, 0]);
}

#[test]
fn lines_of_ten_megabytes_and_deep_json_pass_or_are_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(10 << 20);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let row = |k: &str| format!(r#"{{"k":"{k}","n":1,"ts":"2013-01-01 00:00:00"}}"#);
    let bad = format!(r#"{{"k":"deep","n":{deep},"ts":"2013-01-01 00:00:00"}}"#);
    let rows = [row("first"), row(&long), bad, row("last")].join("\n");
    file(folder.path(), "in.json", rows);
    let sql = sums_by_key("in.json", "json", ", 'on-error' = 'skip'");
    let ended = run_job(folder.path(), &sql, &[]).expect(0);
    assert_eq!(ended.sums(), [4, 3, 0, 1, 0]);
    let longest = ended.stdout.lines().map(str::len).max();
    assert_eq!(longest, Some(long.len() + r#"{"k":"","n":1}"#.len()));
}

#[test]
fn empty_files_and_batches_without_rows_give_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    std::fs::create_dir(&input).unwrap();
    file(&input, "empty.csv", "");
    file(&input, "all-bad.csv", "a\nb\n".repeat(10_000));
    let sql = sums_by_key("in", "csv", ", 'on-error' = 'skip'");
    let ended = run_job(folder.path(), &sql, &[]).expect(0);
    assert_eq!((ended.sums(), ended.stdout.as_str()), ([20_000, 0, 0, 20_000, 0], ""));
}

#[test]
fn a_million_windows_a_row_are_refused_where_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let sql =
        "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE o (n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT COUNT(*)
FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '0.001' SECOND, INTERVAL '1000' SECOND(4)))
GROUP BY window_start, window_end;";
    let ended = run_job(folder.path(), sql, &[]).expect(78);
    let error: Value = serde_json::from_str(ended.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(error["line"], 4, "{error}");
    assert!(error["message"].as_str().unwrap().contains("1000000 windows"), "{error}");
}
