//! `user_activity.sql` and `06_user_activity.rs`.

use std::collections::BTreeMap;

use super::stage::{Record, Stage, records, stop, until_records};
use super::windows::{Windows, millis, minute};
use crate::kafka::broker::{Broker, Topic};

const MINUTE: i64 = 60_000;

/// Events, and the revenue in cents.
type Sums = (u64, u64);

/// What the records amount to: windows by event type, and the records that are no JSON.
fn expected(events: &[Record]) -> (Windows<String, Sums>, Vec<&Record>) {
    let mut windows = Windows::new(MINUTE, 3);
    let mut malformed = Vec::new();
    for record in events {
        let Some(event) = record.json() else {
            malformed.push(record);
            continue;
        };
        let cents = event["amount"].as_f64().map_or(0, |amount| (amount * 100.0).round() as u64);
        let event_type = event["event_type"].as_str().unwrap().to_owned();
        let time = millis(event["ts"].as_str().unwrap());
        windows.add(record.partition, time, Some(event_type), |(events, revenue): &mut Sums| {
            *events += 1;
            *revenue += cents;
        });
    }
    (windows, malformed)
}

/// The results in a topic, each of which comes once.
fn results(topic: &Topic) -> BTreeMap<(String, String), Sums> {
    let mut results = BTreeMap::new();
    for record in records(topic) {
        let row = record.json().unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let revenue = row["revenue"].as_f64().unwrap_or(0.0);
        let sums = (row["events"].as_u64().unwrap(), (revenue * 100.0).round() as u64);
        let before = results.insert((text("window_start"), text("event_type")), sums);
        assert_eq!(before, None, "a result comes twice: {row}");
    }
    results
}

fn written(windows: BTreeMap<(i64, String), Sums>) -> BTreeMap<(String, String), Sums> {
    windows.into_iter().map(|((start, name), sums)| ((minute(start), name), sums)).collect()
}

#[test]
fn the_job_file_counts_exactly_across_ctrl_c_and_keeps_what_is_no_json() {
    let mut stage = Stage::new("user_activity", Broker::shared());
    let events = stage.topic("USER_EVENTS", 3);
    let per_minute = stage.topic("PER_MINUTE", 3);
    let dead_letters = stage.topic("DEAD_LETTERS", 1);
    stage.set("GROUP", events.name());
    let fill = |start: &str, seed: &str| {
        let shape = ["user-events", "--events", "20000", "--keys", "200", "--interval", "10ms"];
        let shares = ["--malformed", "1%", "--late", "2%", "--duplicates", "1%"];
        let arguments = [&shape[..], &shares, &["--start", start, "--seed", seed]].concat();
        stage.generate(&arguments, &events)
    };

    fill("2026-01-01 00:00:00", "1");
    let mut running = stage.start(2, "first");
    until_records(&mut running, &per_minute, 1);
    let first = stop(running);
    assert_eq!(first["phase"], "stopped", "{first}");

    // It was stopped in the middle of a window, which goes on with what comes now.
    fill("2026-01-01 00:03:20", "2");
    let held = records(&events);
    let (windows, malformed) = expected(&held);
    let late = windows.late;
    let expected = written(windows.fired());
    let mut running = stage.start(3, "second");
    until_records(&mut running, &per_minute, expected.len());
    running.until("all dead letters", || records(&dead_letters).len() >= malformed.len());
    let second = stop(running);
    assert_eq!(results(&per_minute), expected);

    let sums = &second["ledgers"][0];
    let counts = ["records_in", "late", "dead_letters"].map(|name| sums[name].as_u64().unwrap());
    assert_eq!(counts, [40_000, late, 400], "over both runs: {sums}");
    assert!(late >= 790, "{late}");
    assert_kept(&malformed, &records(&dead_letters));
}

/// That dead letters are the malformed records: key, payload and headers byte for byte, and where they
/// were read.
fn assert_kept(malformed: &[&Record], letters: &[Record]) {
    let sorted = |records: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>| {
        let mut records: Vec<_> = records.collect();
        records.sort();
        records
    };
    let pair = |record: &Record| (record.key.clone(), record.value.clone());
    let kept = sorted(&mut letters.iter().map(pair));
    assert_eq!(kept, sorted(&mut malformed.iter().map(|record| pair(record))));
    for letter in letters {
        assert!(letter.header("__connect.errors.topic").is_some(), "{:?}", letter.headers);
        let id = letter.header("event-id").unwrap();
        let original = malformed.iter().find(|record| record.header("event-id") == Some(id));
        let original = original.unwrap_or_else(|| panic!("no malformed record has the id {id}"));
        for (name, value) in &original.headers {
            assert_eq!(letter.headers.get(name), Some(value), "header {name}");
        }
    }
}

#[test]
fn the_rust_example_counts_what_the_topic_holds() {
    let mut stage = Stage::new("user_activity", Broker::shared());
    let events = stage.topic("USER_EVENTS", 3);
    let per_minute = stage.topic("PER_MINUTE", 2);
    let arguments = ["user-events", "--events", "10000", "--interval", "20ms", "--malformed", "1%"];
    stage.generate(&arguments, &events);
    let summary = crate::examples::user_activity::run(&crate::examples::user_activity::Places {
        brokers: events.broker().addresses(),
        user_events: events.name(),
        per_minute: per_minute.name(),
        checkpoints: &stage.checkpoints(),
    });
    let summary = summary.unwrap();
    assert!(summary.ledgers[0].balances() && summary.ledgers[0].dead_letters == 100);
    let (windows, _) = expected(&records(&events));
    assert_eq!(results(&per_minute), written(windows.all()));
}
