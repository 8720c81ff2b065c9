//! `tidemill bench` on few rows: who takes part, that all agree, and what becomes of the figures.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{Ended, file, tidemill};

/// Enough for some windows of a tenth of a second.
const ROWS: &str = "30000";

/// Measures so many times and returns what was said.
fn bench(what: &str, runs: &str, flags: &[&str]) -> Ended {
    let fixed = ["bench", what, "--runs", runs, "--warm-up", "0"];
    let rows: &[&str] = if what.ends_with(".sql") { &[] } else { &["--rows", ROWS] };
    tidemill(fixed.iter().chain(rows).chain(flags))
}

/// The report of one run over windows of a tenth of a second, or sessions of a millisecond, by a
/// hundred keys.
fn report(what: &str, flags: &[&str]) -> Value {
    let windows = match what {
        "tumbling" => &["--size", "100ms"][..],
        "hopping" => &["--size", "100ms", "--slide", "20ms"],
        "session" => &["--gap", "1ms"],
        _ => &[],
    };
    let rows: &[&str] =
        if windows.is_empty() { &[] } else { &["--keys", "100", "--disorder", "10ms"] };
    let flags = [flags, rows, windows, &["-o", "json"]].concat();
    parsed(&bench(what, "1", &flags).expect(0))
}

fn parsed(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// Who ran, and on how many threads. All gave the same results, or there would be no report.
fn contenders(report: &Value) -> BTreeSet<(String, u64)> {
    let contenders = report["contenders"].as_array().unwrap().iter();
    let name =
        |of: &Value| (of["name"].as_str().unwrap().to_owned(), of["threads"].as_u64().unwrap());
    contenders.map(name).collect()
}

fn on(threads: &[u64], names: &[&str]) -> BTreeSet<(String, u64)> {
    let all =
        |threads: &u64| names.iter().map(|name| ((*name).to_owned(), *threads)).collect::<Vec<_>>();
    threads.iter().flat_map(all).collect()
}

/// Tidemill's speed beside another's on as many threads.
fn ratio(report: &Value, to: &str) -> f64 {
    let ratios = report["ratios"].as_array().unwrap();
    let beside = |ratio: &&Value| ratio["of"] == "Tidemill" && ratio["to"] == to;
    let ratio = ratios.iter().find(beside).unwrap_or_else(|| panic!("none to {to}: {ratios:?}"));
    ratio["speed"]["median"].as_f64().unwrap()
}

#[test]
fn windows_that_overlap_and_sessions_are_measured_beside_a_loop() {
    for what in ["hopping", "session"] {
        let report = report(what, &["--parallelism", "1,2"]);
        assert_eq!(contenders(&report), on(&[1, 2], &["hand-written loop", "Tidemill"]));
        assert!(ratio(&report, "hand-written loop") > 0.0);
        let figures = &report["contenders"][0];
        assert_eq!((&report["name"], &figures["rows"]), (&json!(what), &json!(30_000)));
        assert!(figures["seconds"][0].as_f64().unwrap() > 0.0 && figures["peak_bytes"].is_u64());
    }
}

#[test]
fn keys_may_be_text_and_of_any_frequency() {
    let flags = ["--key-type", "text", "--skew", "zipf:1.1", "--parallelism", "1", "--keys", "100"];
    let ended = bench("tumbling", "1", &flags).expect(0);
    let headline = ended.stdout.lines().next().unwrap();
    assert!(
        headline.contains("100 16-byte text keys (zipf:1.1); 30000 rows from memory"),
        "{headline}"
    );
    assert!(ended.stdout.contains("DataFusion's group table"), "{}", ended.stdout);
    assert!(ended.stderr.contains("round 1 of 1"), "{}", ended.stderr);
}

#[test]
fn rows_come_from_files_too() {
    for (source, flags, scanners) in [
        (
            "json",
            &["--one-file"][..],
            &["hand-written scanner and loop", "hand-written scanner, any order"][..],
        ),
        ("csv", &["--one-file"], &["hand-written scanner and loop"]),
        (
            "parquet",
            &[],
            &["hand-written loop", "hand-written columns", "DataFusion's group table"],
        ),
    ] {
        let report =
            report("tumbling", &[&["--source", source, "--parallelism", "1,2"], flags].concat());
        let expected = [scanners, &["DataFusion batch", "Tidemill"]].concat();
        assert_eq!(contenders(&report), on(&[1, 2], &expected), "{source}");
    }
    let refused = bench("tumbling", "1", &["--source", "parquet", "--one-file"]).expect(78);
    assert!(refused.stderr.contains("--one-file is for one file of text"), "{}", refused.stderr);
}

#[test]
fn queries_of_nexmark_are_measured_beside_their_generator() {
    for query in ["nexmark:q0", "nexmark:q5", "nexmark:q12"] {
        let report = report(query, &["--parallelism", "1,2"]);
        assert_eq!(contenders(&report), on(&[1, 2], &["generator alone", "Tidemill"]), "{query}");
        assert!(report["contenders"].as_array().unwrap().iter().all(|of| of["rows"] == 30_000));
        assert!(ratio(&report, "generator alone") > 0.0);
    }
    let unknown = bench("nexmark:q4", "1", &[]).expect(2);
    assert!(unknown.stderr.contains("write one of q0, q1, q2, q5"), "{}", unknown.stderr);
}

#[test]
fn options_that_say_nothing_about_what_is_measured_are_refused() {
    for (what, option, means) in [
        ("nexmark:q5", ["--keys", "7"], "--keys is for windows over rows that are made for them"),
        (
            "job.sql",
            ["--source", "csv"],
            "--source is for windows over rows that are made for them",
        ),
        ("job.sql", ["--rows", "7"], "--rows is for rows that are made"),
        ("tumbling", ["--brokers", "localhost:1"], "--brokers is for rows from a topic"),
        ("tumbling", ["--redis", "redis://localhost"], "--redis is for rows from streams"),
        ("nexmark:q5", ["--beside", "keys=7"], "--beside is for windows over rows"),
        ("tumbling", ["--slide", "1s"], "--slide is for hopping windows: leave it out"),
        ("hopping", ["--gap", "1s"], "--gap is for sessions: leave it out"),
        ("session", ["--size", "1s"], "--size is for tumbling and hopping windows: leave it out"),
    ] {
        let refused = bench(what, "1", &option).expect(78);
        assert!(refused.stderr.contains(means), "{what} {option:?}: {}", refused.stderr);
    }
}

#[test]
fn checkpoints_are_measured_beside_none() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = folder.path().display().to_string();
    let flags = ["--checkpoints", &checkpoints, "--parallelism", "1"];
    let nexmark = report("nexmark:q7", &flags);
    let names = ["generator alone", "Tidemill", "Tidemill, checkpoints"];
    assert_eq!(contenders(&nexmark), on(&[1], &names));
    assert!(std::fs::read_dir(folder.path()).unwrap().count() > 0, "they were made");
}

#[test]
fn delays_by_a_schedule_and_figures_of_others_stand_in_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let peers = r#"[{"name":"Some <peer>","threads":1,"rows":10,"seconds":[2],"checked":true},
                    {"name":"Another","threads":1,"note":"no Java here"}]"#;
    let peers = file(folder.path(), "peers.json", peers);
    let report = report(
        "tumbling",
        &[
            "--parallelism",
            "1",
            "--rate",
            "500000",
            "--rate-for",
            "1s",
            "--html",
            page.to_str().unwrap(),
            "--peers",
            peers.to_str().unwrap(),
        ],
    );
    let run = &report["open_loop"][0];
    assert_eq!(run["rows_per_second"], 500_000.0);
    assert!(run["windows"].as_u64().unwrap() > 10, "{run}");
    assert!(run["delay"]["p50_us"].as_u64() <= run["delay"]["p99_us"].as_u64(), "{run}");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 2, "bars, and curves of delays");
    assert!(page.contains("Some &lt;peer&gt;") && page.contains("no Java here"));
    assert!(!page.contains("<script") && !page.contains("src="), "it needs no other file");
    let elsewhere = ["--source", "csv", "--rate", "half"];
    let refused = bench("tumbling", "1", &elsewhere).expect(78);
    assert!(refused.stderr.contains("--rate measures"), "{}", refused.stderr);
}

/// A report of five runs, and one in which Tidemill was fifty times as fast.
fn old_reports(folder: &Path) -> [String; 2] {
    let flags = ["--parallelism", "1", "--keys", "100", "-o", "json"];
    let report = parsed(&bench("tumbling", "5", &flags).expect(0));
    let mut faster = report.clone();
    let contenders = faster["contenders"].as_array_mut().unwrap();
    let tidemill = contenders.iter_mut().find(|of| of["name"] == "Tidemill").unwrap();
    for seconds in tidemill["seconds"].as_array_mut().unwrap() {
        *seconds = json!(seconds.as_f64().unwrap() / 50.0);
    }
    let write =
        |name: &str, report: &Value| file(folder, name, report.to_string()).display().to_string();
    [write("same.json", &report), write("faster.json", &faster)]
}

#[test]
fn a_loss_is_told_with_its_interval_and_other_work_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [same, faster] = old_reports(folder.path());
    let compare = |what, old: &str, more: &[&str]| {
        let flags = ["--parallelism", "1", "--keys", "100", "--compare", old];
        bench(what, "5", &[&flags, more].concat())
    };
    let slower = compare("tumbling", &faster, &[]).expect(1);
    assert!(slower.stderr.contains("slower than in the old report"), "{}", slower.stderr);
    let lines: Vec<_> =
        slower.stdout.lines().filter(|line| line.contains("beside yardsticks")).collect();
    let [line] = lines.as_slice() else { panic!("{}", slower.stdout) };
    assert!(
        line.trim_start().starts_with("Tidemill") && line.trim_end().ends_with("slower"),
        "{line}"
    );
    let other = compare("tumbling", &same, &["--disorder", "3s"]).expect(78);
    assert!(other.stderr.contains("different workloads"), "{}", other.stderr);
    assert!(!other.stderr.contains("round 1"), "refused before anything is measured");
    let other = compare("hopping", &same, &[]).expect(78);
    assert!(other.stderr.contains("then tumbling, now hopping"), "{}", other.stderr);
    let other = compare("tumbling", "Cargo.toml", &[]).expect(78);
    assert!(other.stderr.contains("this is no report"), "{}", other.stderr);
}

#[test]
fn a_job_file_is_measured_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let job = file(
        folder.path(),
        "job.sql",
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '5000');
         CREATE TABLE out (n BIGINT) WITH ('connector' = 'print');
         INSERT INTO out SELECT n FROM numbers;",
    );
    let ended = bench(job.to_str().unwrap(), "1", &["--parallelism", "1"]).expect(0);
    assert!(
        ended.stdout.contains("5000 rows, results to blackholes"),
        "nothing is printed: {}",
        ended.stdout
    );
}

#[test]
fn rows_come_from_kafka_and_redis_too() {
    for source in ["kafka", "redis"] {
        let report = report("tumbling", &["--source", source, "--parallelism", "1,2"]);
        let names = ["bare reader", "hand-written reader and loop", "Tidemill"];
        assert_eq!(contenders(&report), on(&[1, 2], &names), "{source}");
    }
    let unreachable = ["--source", "redis", "--redis", "redis://127.0.0.1:1"];
    let refused = bench("tumbling", "1", &unreachable);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("127.0.0.1:1"), "{}", refused.stderr);
}
