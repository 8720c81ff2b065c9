//! `tidemill generate`: the same events for the same seed, exact shares, and every delivery accounted
//! for.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::command::{Ended, command, finish, tidemill};

/// Generates with these arguments and returns how that ended.
fn generate(arguments: &[&str]) -> Ended {
    tidemill(["generate"].iter().chain(arguments).chain(&["-o", "json"]))
}

fn number(summary: &Value, name: &str) -> u64 {
    summary[name].as_u64().unwrap_or_else(|| panic!("{name}: {summary}"))
}

#[test]
fn the_same_seed_gives_the_same_file_and_another_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, arguments: &[&str]| {
        let path = folder.path().join(name);
        let to = ["--to", path.to_str().unwrap(), "--events", "5000"];
        let summary = generate(&[arguments, &to].concat()).expect(0).summary();
        assert_eq!(number(&summary, "acknowledged"), 5_000);
        std::fs::read(path).unwrap()
    };
    for kind in ["user-events", "customer-events", "bookings", "nexmark"] {
        let first = file("first", &[kind, "--duplicates", "10%"]);
        assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), 5_000, "{kind}");
        assert!(file("again", &[kind, "--duplicates", "10%"]) == first, "{kind}");
        assert!(file("other", &[kind, "--duplicates", "10%", "--seed", "1"]) != first, "{kind}");
        let stdout = generate(&[kind, "--duplicates", "10%", "--events", "5000"]).expect(0).stdout;
        assert!(stdout.as_bytes() == first, "{kind}: standard output differs from the file");
        let paced =
            file("paced", &[kind, "--duplicates", "10%", "--rate", "50000", "--interval", "1ms"]);
        assert!(paced == first, "{kind}: the pace changes the events");
    }
}

#[test]
fn the_summary_counts_what_is_wrong_as_the_lines_show_it() {
    let shares = ["--malformed", "1%", "--late", "2%", "--duplicates", "0.05"];
    let arguments = [&["user-events", "--events", "20000"][..], &shares].concat();
    let path = tempfile::NamedTempFile::new().unwrap();
    let to = ["--to", path.path().to_str().unwrap()];
    let summary = generate(&[&arguments[..], &to].concat()).expect(0).summary();
    let counts = ["generated", "malformed", "late", "duplicates", "acknowledged", "failed"];
    let counts = counts.map(|name| number(&summary, name));
    assert_eq!(counts, [20_000, 200, 400, 1_000, 20_000, 0], "{summary}");
    let (mut broken, mut repeated, mut late) = (0, 0, 0);
    let mut seen: HashMap<String, usize> = HashMap::new();
    let bytes = std::fs::read(path.path()).unwrap();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Value>(line) {
            Err(_) => broken += 1,
            Ok(event) => {
                late += u64::from(event["ts"].as_str().unwrap() < "2026-01-01 00:00:00");
                let times = seen.entry(event["event_id"].to_string()).or_default();
                repeated += u64::from(*times > 0);
                *times += 1;
            }
        }
    }
    // The first twenty seconds are over before the ten minutes that late events lie behind.
    assert_eq!((broken, late, repeated), (200, 400, 1_000));
    assert_eq!(number(&summary, "bytes"), bytes.len() as u64 - 20_000);
}

#[test]
fn a_job_reads_what_was_generated_and_counts_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.ndjson");
    let to = ["--to", events.to_str().unwrap(), "--events", "30000", "--keys", "50"];
    let shares = ["--malformed", "1%", "--late", "3%"];
    let summary = generate(&[&["user-events"][..], &to, &shares].concat()).expect(0).summary();
    assert_eq!((number(&summary, "malformed"), number(&summary, "late")), (300, 900));
    let sql = "
        CREATE TABLE events (event_type STRING, amount DOUBLE, ts TIMESTAMP(3),
                             WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
        WITH ('connector' = 'filesystem', 'path' = '{folder}/events.ndjson', 'format' = 'json',
              'on-error' = 'skip');
        CREATE TABLE o (event_type STRING, n BIGINT) WITH ('connector' = 'print');
        INSERT INTO o SELECT event_type, COUNT(*)
        FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))
        GROUP BY window_start, window_end, event_type;";
    let ended = crate::command::run_job(folder.path(), sql, &[]).expect(0);
    assert_eq!(ended.sums(), [30_000, 30_000 - 300 - 900, 900, 300, 0]);
}

#[test]
fn a_signal_ends_it_with_a_summary() {
    let mut child = command(["generate", "user-events", "--rate", "2000", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with('{'));
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let rest = lines.count() as u64;
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let summary: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(number(&summary, "generated"), rest + 1, "{summary}");
    assert_eq!(number(&summary, "acknowledged"), rest + 1, "{summary}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = command(["generate", "user-events", "--events", "100000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().is_ok());
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_means_nothing_together_is_refused() {
    let refused = |arguments: &[&str]| generate(arguments).expect(78).stderr;
    assert!(refused(&["user-events", "--partitions", "3"]).contains("only a topic"));
    assert!(refused(&["user-events", "--unknown-types", "1%"]).contains("customer-events"));
    assert!(refused(&["customer-events", "--format", "protobuf"]).contains("--format json"));
    assert!(refused(&["user-events", "--malformed", "60%", "--late", "60%"]).contains("add up"));
    assert!(refused(&["user-events", "--to", "no/such/folder/x"]).contains("no/such/folder/x"));
    let usage = |arguments: &[&str]| generate(arguments).expect(2).stderr;
    assert!(usage(&["user-events", "--malformed", "2"]).contains("1%"));
    let to = |target: &str| refused(&["user-events", "--to", target]);
    assert!(to("kafka://broker:9092").contains("names no topic"));
    assert!(to("s3://bucket/x").contains("kafka://"));
    let secret = to("kafka://me:canary@broker:9092/t");
    assert!(secret.contains("KAFKA_SASL_PASSWORD") && !secret.contains("canary"), "{secret}");
    let mut nowhere = command(["generate", "user-events", "--to", "kafka:///t"]);
    let ended = finish(nowhere.env_remove("KAFKA_BROKERS")).expect(78);
    assert!(ended.stderr.contains("KAFKA_BROKERS"), "{}", ended.stderr);
}
