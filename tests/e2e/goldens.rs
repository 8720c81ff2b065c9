//! The example jobs give what they gave, and `departures.sql` gives what plain Rust computes from the
//! same file.
//!
//! `TIDEMILL_BLESS=1` writes the goldens anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{command, finish, tidemill};

const HOUR: i64 = 3_600_000_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n") + "\n"
}

/// Compares with a golden file, line by line.
fn equals_golden(name: &str, output: &str) {
    let path: PathBuf = root().join("tests/goldens").join(name);
    if std::env::var_os("TIDEMILL_BLESS").is_some() {
        std::fs::write(&path, output).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (ours, theirs)) in output.lines().zip(golden.lines()).enumerate() {
        assert_eq!(ours, theirs, "{name} line {}", number + 1);
    }
    assert_eq!(output.lines().count(), golden.lines().count(), "lines of {name}");
}

fn run(job: &str, shards: usize) -> crate::command::Ended {
    let path = format!("examples/jobs/{job}.sql");
    tidemill(["run", &path, "-o", "json", "--parallelism", &shards.to_string()]).expect(0)
}

#[test]
fn example_jobs_give_their_goldens_on_any_number_of_shards() {
    for job in ["departures", "delays_hopping", "delays_cumulating"] {
        for shards in [1, 2, 3] {
            let ended = run(job, shards);
            ended.sums();
            equals_golden(&format!("{job}.ndjson"), &sorted(&ended.stdout));
        }
    }
}

#[test]
fn the_job_with_two_sinks_gives_both_goldens() {
    for shards in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let shards = shards.to_string();
        let path = "examples/jobs/two_sinks.sql";
        let mut command = command(["run", path, "-o", "json", "--parallelism", &shards]);
        let ended = finish(command.env("OUT", folder.path())).expect(0);
        equals_golden("two_sinks.per_hour.ndjson", &sorted(&ended.stdout));
        let mut routes = String::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("part-") {
                routes += &std::fs::read_to_string(path).unwrap();
            }
        }
        equals_golden("two_sinks.busy_routes.ndjson", &sorted(&routes));
    }
}

#[derive(Default)]
struct Group {
    delays: Vec<f64>,
    rows: usize,
}

/// Microseconds since 1970 of a time such as `2013-01-01T10:17:00Z`, in 2013 or 2014.
fn micros(text: &str) -> i64 {
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let digits = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let years = digits(0, 4) - 2013;
    assert!((0..2).contains(&years) && text.ends_with('Z'), "{text}");
    let months: i64 = DAYS[..digits(5, 7) as usize - 1].iter().sum();
    let days = 15_706 + 365 * years + months + digits(8, 10) - 1;
    ((days * 24 + digits(11, 13)) * 60 + digits(14, 16)) * 60_000_000 + digits(17, 19) * 1_000_000
}

/// What the job computes, by hand: groups by hour and carrier, and how many rows are late.
fn by_hand() -> (BTreeMap<(i64, String), Group>, u64, u64) {
    let text = std::fs::read_to_string(root().join("examples/data/flights-2013-01.csv")).unwrap();
    let (mut groups, mut newest) = (BTreeMap::<(i64, String), Group>::new(), i64::MIN / 2);
    let (mut late, mut cancelled) = (0, 0);
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        if fields[1].is_empty() {
            cancelled += 1;
            continue;
        }
        let at = micros(fields[1]);
        let start = at.div_euclid(HOUR) * HOUR;
        let watermark = newest - 6 * HOUR;
        newest = newest.max(at);
        if start + HOUR <= watermark {
            late += 1;
            continue;
        }
        let group = groups.entry((start, fields[2].to_owned())).or_default();
        group.rows += 1;
        group.delays.extend(fields[7].parse::<f64>().ok());
    }
    (groups, late, cancelled)
}

#[test]
fn departures_equal_what_is_computed_by_hand() {
    let (mut groups, late, cancelled) = by_hand();
    assert!(late > 1000 && cancelled > 0);
    let ended = run("departures", 2);
    let [records_in, counted, job_late, dead, filtered] = ended.sums();
    assert_eq!((records_in, job_late, dead, filtered), (26_953, late, 0, cancelled));
    let rows: usize = groups.values().map(|group| group.rows).sum();
    assert_eq!(counted, rows as u64);
    for result in ended.results() {
        let hour = result["hour"].as_str().unwrap().replace(' ', "T") + "Z";
        let carrier = result["carrier"].as_str().unwrap().to_owned();
        let group = groups.remove(&(micros(&hour), carrier));
        compare(&result, group.unwrap_or_else(|| panic!("no such group: {result}")));
    }
    assert!(groups.is_empty(), "{} groups are missing", groups.len());
}

fn compare(result: &Value, mut group: Group) {
    let number = |name: &str| result[name].as_f64().unwrap();
    assert_eq!(number("departures") as usize, group.rows, "{result}");
    let mean = group.delays.iter().sum::<f64>() / group.delays.len() as f64;
    assert!((number("mean_delay") - mean).abs() <= 0.0501, "{result}: mean {mean}");
    let delayed = group.delays.iter().filter(|delay| **delay > 15.0).count();
    let share = delayed as f64 / group.rows as f64;
    assert!((number("share_late") - share).abs() <= 0.000_501, "{result}: share {share}");
    // An approximation lies between the exact values next to the rank that it aims at.
    group.delays.sort_by(f64::total_cmp);
    let rank = 0.95 * (group.delays.len() - 1) as f64;
    let low = group.delays[(rank.floor() as usize).saturating_sub(1)];
    let high = group.delays[(rank.ceil() as usize + 1).min(group.delays.len() - 1)];
    let p95 = number("p95_delay");
    assert!((low - 0.05..=high + 0.05).contains(&p95), "{result}: p95 in {low}..{high}");
}
