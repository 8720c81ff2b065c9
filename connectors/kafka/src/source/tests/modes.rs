//! Where a source starts and where it ends; what its group is told.

use std::time::{Duration, Instant};

use tidemill_core::source::{Offset, Source, SplitReader};

use super::broker::{
    Sent, Topic, context, numbers, read, read_to_end, refused, source, table, unique,
};
use crate::lag;

const BOUNDED: (&str, &str) = ("scan.bounded.mode", "latest-offset");

/// A topic with records 0 to 9, written at 1 000 000, 1 000 010 and so on.
fn ten() -> Topic {
    let topic = Topic::new(1);
    let payloads: Vec<String> = (0..10).map(|n| format!("{{\"n\": {n}}}")).collect();
    topic.send(payloads.iter().enumerate().map(|(n, payload)| Sent {
        timestamp: Some(1_000_000 + 10 * n as i64),
        ..Sent::json(payload)
    }));
    topic
}

fn read_with(topic: &Topic, options: &[(&str, &str)]) -> Vec<i64> {
    read_to_end(&source(topic, options), &topic.split(0), None).unwrap().numbers()
}

#[test]
fn every_startup_mode_starts_where_it_says() {
    let topic = ten();
    let mode = |mode: &'static str| ("scan.startup.mode", mode);
    let from = |first: i64| (first..10).collect::<Vec<_>>();
    assert_eq!(read_with(&topic, &[BOUNDED, mode("earliest-offset")]), from(0));
    assert_eq!(read_with(&topic, &[BOUNDED, mode("latest-offset")]), from(10));
    let at = ("scan.startup.timestamp-millis", "1000035");
    assert_eq!(read_with(&topic, &[BOUNDED, mode("timestamp"), at]), from(4));
    let at = ("scan.startup.timestamp-millis", "2000000");
    assert_eq!(read_with(&topic, &[BOUNDED, mode("timestamp"), at]), from(10));
    let at = ("scan.startup.specific-offsets", "partition:0,offset:7");
    assert_eq!(read_with(&topic, &[BOUNDED, mode("specific-offsets"), at]), from(7));
}

#[test]
fn group_offsets_fall_back_as_they_are_told() {
    let topic = ten();
    let group = unique("group");
    let options =
        [BOUNDED, ("scan.startup.mode", "group-offsets"), ("properties.group.id", &group)];
    let with =
        |reset: &'static str| [&options[..], &[("properties.auto.offset.reset", reset)]].concat();
    assert_eq!(read_with(&topic, &options), (0..10).collect::<Vec<_>>());
    assert!(read_with(&topic, &with("latest")).is_empty());
    let none = source(&topic, &with("none"));
    let error = refused(none.open(&topic.split(0), None, &context())).to_string();
    assert!(error.contains("'properties.auto.offset.reset'"), "{error}");
    topic.commit(&group, 6);
    assert_eq!(read_with(&topic, &with("none")), [6, 7, 8, 9]);
}

#[test]
fn every_bounded_mode_ends_where_it_says() {
    let topic = ten();
    let group = unique("group");
    topic.commit(&group, 3);
    let mode = |mode: &'static str| ("scan.bounded.mode", mode);
    let to = |end: i64| (0..end).collect::<Vec<_>>();
    let of_group = [mode("group-offsets"), ("properties.group.id", &group)];
    assert_eq!(read_with(&topic, &of_group), to(3));
    let at = ("scan.bounded.timestamp-millis", "1000035");
    assert_eq!(read_with(&topic, &[mode("timestamp"), at]), to(4));
    let at = ("scan.bounded.timestamp-millis", "2000000");
    assert_eq!(read_with(&topic, &[mode("timestamp"), at]), to(10));
    let at = ("scan.bounded.specific-offsets", "partition:0,offset:5");
    assert_eq!(read_with(&topic, &[mode("specific-offsets"), at]), to(5));
    let at = ("scan.bounded.specific-offsets", "partition:1,offset:5");
    let unnamed = source(&topic, &[mode("specific-offsets"), at]);
    let error = refused(unnamed.open(&topic.split(0), None, &context())).to_string();
    assert!(error.contains("'scan.bounded.specific-offsets'"), "{error}");
}

#[test]
fn a_bounded_source_ends_where_its_first_start_said() {
    let topic = ten();
    let source = source(&topic, &[BOUNDED]);
    let mut reader = source.open(&topic.split(0), None, &context()).unwrap();
    assert_eq!(reader.progress(), Some((0, 10)));
    let beginning = reader.offset();
    topic.send_numbers(10..20);
    assert_eq!(read(reader.as_mut(), usize::MAX).unwrap().numbers().len(), 10);
    drop(reader);
    let again = read_to_end(&source, &topic.split(0), Some(&beginning)).unwrap();
    assert_eq!(again.numbers().len(), 10);
}

/// Asks the reader until it has heard from the broker what it must have heard.
fn wait_for(what: &str, reader: &mut dyn SplitReader, until: impl Fn(&dyn SplitReader) -> bool) {
    let start = Instant::now();
    while !until(reader) {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::park_timeout(Duration::from_millis(10));
        assert_eq!(read(reader, 0).unwrap().count(), 0);
    }
}

#[test]
fn a_checkpoint_is_told_to_the_group_and_lag_is_measured_from_it() {
    let topic = ten();
    let group = unique("group");
    let source = source(&topic, &[("properties.group.id", &group)]);
    let split = topic.split(0);
    let mut reader = source.open(&split, None, &context()).unwrap();
    read(reader.as_mut(), 4).unwrap();
    let lag = reader.lag().unwrap();
    assert_eq!((lag.position.records, lag.committed), (6, None));
    assert!(lag.position.time > Duration::from_secs(3600), "they are from 1970: {lag:?}");
    let offset = reader.offset();
    read(reader.as_mut(), 6).unwrap();
    source.checkpointed(1, &[(split, offset)]).unwrap();
    let committed = |reader: &dyn SplitReader| reader.lag().unwrap().committed;
    wait_for("a commit", reader.as_mut(), |reader| committed(reader).is_some());
    let lag = reader.lag().unwrap();
    assert_eq!((lag.position.records, lag.position.time), (0, Duration::ZERO));
    let behind = lag.committed.unwrap();
    assert_eq!(behind.records, 6);
    assert!(behind.time > Duration::from_secs(3600), "{behind:?}");
    assert_eq!(topic.committed(&group, 1).get(&0), Some(&4));
}

#[test]
fn a_last_commit_is_not_lost_when_the_source_goes() {
    let topic = ten();
    let source = source(&topic, &[BOUNDED]);
    let split = topic.split(0);
    let mut reader = source.open(&split, None, &context()).unwrap();
    read(reader.as_mut(), usize::MAX).unwrap();
    source.checkpointed(1, &[(split, reader.offset())]).unwrap();
    drop(reader);
    drop(source);
    let group = format!("tidemill-test-{}", topic.name);
    assert_eq!(topic.committed(&group, 1).get(&0), Some(&10));
}

#[test]
fn text_that_is_no_offset_is_refused() {
    let topic = ten();
    let source = source(&topic, &[]);
    let text = Offset("line 7".to_owned());
    let error = refused(source.open(&topic.split(0), Some(&text), &context()));
    assert!(error.to_string().contains("'line 7'"), "{error}");
}

#[test]
fn lag_is_told_without_the_job() {
    let topic = ten();
    let group = unique("group");
    let options = [("properties.group.id", group.as_str())];
    let table = table(numbers(), &[], &topic.name, &options);
    let before = lag::of_table(&table, "job").unwrap();
    assert_eq!((before.group.as_str(), &before.splits[0].committed), (group.as_str(), &None));
    topic.commit(&group, 4);
    let lag = lag::of_table(&table, "job").unwrap();
    let [lag] = &lag.splits[..] else { panic!("{lag:?}") };
    assert_eq!((lag.start.as_str(), lag.end.as_str(), lag.records), ("0", "10", Some(6)));
    assert_eq!(lag.committed.as_deref(), Some("4"));
    assert!(lag.seconds.unwrap() > 3600.0, "it is from 1970: {lag:?}");
    topic.commit(&group, 10);
    let none = lag::of_table(&table, "job").unwrap();
    assert_eq!((none.splits[0].records, none.splits[0].seconds), (Some(0), Some(0.0)));
}
