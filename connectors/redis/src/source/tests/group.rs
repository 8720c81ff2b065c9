//! Reading as a consumer of a group: what is acknowledged when, what is taken over, what is lost.

use std::time::{Duration, Instant};

use redis::Value;
use tidemill_core::source::{Offset, Read, Source, SplitReader};

use super::proxy::Proxy;
use super::server::{PATIENCE, Stream, open, read, refused, source};
use crate::source::RedisStreamSource;

const GROUP: [(&str, &str); 3] = [("read", "group"), ("group", "g"), ("consumer", "me")];

fn member(stream: &Stream, more: &[(&str, &str)]) -> RedisStreamSource {
    source(stream, &[&GROUP[..], more].concat())
}

fn checkpoint(source: &RedisStreamSource, stream: &Stream, reader: &dyn SplitReader) -> String {
    let offset = reader.offset();
    source.checkpointed(1, &[(stream.split(), offset.clone())]).unwrap();
    offset.0
}

fn pending(stream: &Stream) -> i64 {
    let summary: Vec<Value> = stream.run("XPENDING KEY g");
    match summary.first() {
        Some(Value::Int(count)) => *count,
        other => panic!("{other:?}"),
    }
}

/// What another consumer has got, the entries from 1 on, and died an hour ago.
fn lose(stream: &Stream, count: usize) {
    let _: Value = stream.run(&format!("XREADGROUP GROUP g other COUNT {count} STREAMS KEY >"));
    let ids: Vec<String> = (1..=count).map(|n| format!("{n}-0")).collect();
    let ids = ids.join(" ");
    let _: Value = stream.run(&format!("XCLAIM KEY g other 0 {ids} IDLE 3600000 JUSTID"));
}

fn numbers(range: std::ops::RangeInclusive<i64>) -> Vec<i64> {
    range.collect()
}

#[test]
fn entries_are_acknowledged_when_a_checkpoint_holds_them() {
    let stream = Stream::new();
    stream.add_numbers(1..=10);
    let source = member(&stream, &[]);
    let mut reader = open(&source, &stream, None);
    assert_eq!(read(reader.as_mut(), 4).unwrap().numbers(), numbers(1..=4));
    checkpoint(&source, &stream, reader.as_ref());
    assert_eq!(pending(&stream), 6, "the reader has fetched all ten, and four are acknowledged");
    assert_eq!(read(reader.as_mut(), 6).unwrap().numbers(), numbers(5..=10));
    assert_eq!(pending(&stream), 6);
    checkpoint(&source, &stream, reader.as_ref());
    assert_eq!(pending(&stream), 0);
}

#[test]
fn after_a_crash_what_the_checkpoint_holds_does_not_come_again_and_the_rest_does() {
    let stream = Stream::new();
    stream.add_numbers(1..=10);
    let crashed = member(&stream, &[]);
    let mut reader = open(&crashed, &stream, None);
    read(reader.as_mut(), 4).unwrap();
    let offset = reader.offset().0;
    read(reader.as_mut(), 3).unwrap();
    drop((reader, crashed));
    // The checkpoint exists; nobody was told of it.
    assert_eq!(pending(&stream), 10);
    stream.add_numbers(11..=12);
    let again = member(&stream, &[]);
    let mut reader = open(&again, &stream, Some(&offset));
    assert_eq!(read(reader.as_mut(), 8).unwrap().numbers(), numbers(5..=12));
    assert_eq!(pending(&stream), 8, "the four are acknowledged, and not read again");
    checkpoint(&again, &stream, reader.as_ref());
    assert_eq!(pending(&stream), 0);
}

#[test]
fn without_a_checkpoint_everything_that_is_pending_comes_again() {
    let stream = Stream::new();
    stream.add_numbers(1..=5);
    read(open(&member(&stream, &[]), &stream, None).as_mut(), 5).unwrap();
    stream.add_numbers(6..=7);
    let mut reader = open(&member(&stream, &[]), &stream, None);
    assert_eq!(read(reader.as_mut(), 7).unwrap().numbers(), numbers(1..=7));
}

#[test]
fn what_a_dead_consumer_left_is_taken_over_all_of_it() {
    const ENTRIES: i64 = 10_000;
    let stream = Stream::new();
    stream.add_numbers(1..=ENTRIES);
    stream.run::<()>("XGROUP CREATE KEY g 0");
    lose(&stream, ENTRIES as usize);
    stream.add_numbers(ENTRIES + 1..=ENTRIES + 100);
    let source = member(&stream, &[]);
    let mut reader = open(&source, &stream, None);
    let all = ENTRIES as usize + 100;
    let mut got = read(reader.as_mut(), all).unwrap().numbers();
    got.sort_unstable();
    assert_eq!(got, numbers(1..=ENTRIES + 100));
    checkpoint(&source, &stream, reader.as_ref());
    assert_eq!(pending(&stream), 0);
}

#[test]
fn a_crash_while_entries_are_taken_over_loses_and_doubles_none() {
    let stream = Stream::new();
    stream.add_numbers(1..=3000);
    stream.run::<()>("XGROUP CREATE KEY g 0");
    lose(&stream, 3000);
    let crashed = member(&stream, &[]);
    let mut reader = open(&crashed, &stream, None);
    let mut got = read(reader.as_mut(), 1500).unwrap().numbers();
    let offset = checkpoint(&crashed, &stream, reader.as_ref());
    assert!(offset.ends_with("~1500-0"), "{offset}");
    read(reader.as_mut(), 700).unwrap();
    drop((reader, crashed));
    let again = member(&stream, &[]);
    let mut reader = open(&again, &stream, Some(&offset));
    got.extend(read(reader.as_mut(), 1500).unwrap().numbers());
    got.sort_unstable();
    assert_eq!(got, numbers(1..=3000));
    checkpoint(&again, &stream, reader.as_ref());
    assert_eq!(pending(&stream), 0);
}

/// What is read by a connection that breaks again and again while answers are under way.
fn read_by_cut_connections(stream: &Stream, part: &'static str, count: usize) -> Vec<i64> {
    let proxy = Proxy::cutting(&stream.url, part, 3);
    let source = member(stream, &[("url", &proxy.url)]);
    let mut reader = open(&source, stream, None);
    let got = read(reader.as_mut(), count).unwrap().numbers();
    assert!(proxy.is_done(), "too few answers were cut off");
    checkpoint(&source, stream, reader.as_ref());
    assert_eq!(pending(stream), 0, "nothing is left that nobody will read");
    got
}

#[test]
fn new_entries_whose_answer_is_lost_come_all_the_same() {
    let stream = Stream::new();
    stream.add_numbers(1..=50_000);
    let got = read_by_cut_connections(&stream, "\r\n>\r\n", 50_000);
    assert_eq!(got, numbers(1..=50_000), "in order, each once");
}

#[test]
fn entries_that_are_taken_over_with_an_answer_that_is_lost_come_all_the_same() {
    let stream = Stream::new();
    stream.add_numbers(1..=10_000);
    stream.run::<()>("XGROUP CREATE KEY g 0");
    lose(&stream, 10_000);
    let got = read_by_cut_connections(&stream, "XAUTOCLAIM", 10_000);
    assert_eq!(got, numbers(1..=10_000), "in order, each once");
}

#[test]
fn consumers_that_die_one_after_the_other_are_all_taken_over() {
    let stream = Stream::new();
    stream.run::<()>("XGROUP CREATE KEY g 0 MKSTREAM");
    let source = member(&stream, &[("claim.min-idle", "1 s")]);
    let mut reader = open(&source, &stream, None);
    assert!(matches!(reader.read(1).unwrap(), Read::Pending));
    for round in 0..3 {
        let ids = numbers(10 * round + 1..=10 * round + 10);
        // Between two looks of the reader, so that the other consumer gets some.
        let adds = ids.iter().map(|n| format!("XADD KEY {n}-0 payload {{\"n\":{n}}}"));
        let words = adds.chain(["XREADGROUP GROUP g other COUNT 10 STREAMS KEY >".to_owned()]);
        stream.run_together(words);
        let mut got = Vec::new();
        let start = Instant::now();
        while got.len() < 10 {
            got.extend(read_some(reader.as_mut()));
            checkpoint(&source, &stream, reader.as_ref());
            assert!(start.elapsed() < PATIENCE, "{got:?}");
        }
        got.sort_unstable();
        assert_eq!(got, ids, "round {round}");
    }
    checkpoint(&source, &stream, reader.as_ref());
    assert_eq!(pending(&stream), 0);
}

fn read_some(reader: &mut dyn SplitReader) -> Vec<i64> {
    match reader.read(100).unwrap() {
        Read::Batch(batch) => {
            super::server::Got { batches: vec![batch.rows], ..Default::default() }.numbers()
        }
        _ => {
            std::thread::park_timeout(Duration::from_millis(50));
            Vec::new()
        }
    }
}

#[test]
fn two_consumers_share_a_stream() {
    let stream = Stream::new();
    stream.add_numbers(1..=20_000);
    let (one, two) = (member(&stream, &[]), member(&stream, &[("consumer", "you")]));
    let mut one = open(&one, &stream, None);
    let mut two = open(&two, &stream, None);
    let mut got = Vec::new();
    let start = Instant::now();
    while got.len() < 20_000 {
        got.extend(read_some(one.as_mut()));
        got.extend(read_some(two.as_mut()));
        assert!(start.elapsed() < PATIENCE, "{}", got.len());
    }
    got.sort_unstable();
    assert_eq!(got, numbers(1..=20_000));
}

#[test]
fn entries_that_are_trimmed_while_they_are_pending_end_the_job_or_are_counted() {
    let lossy = |what: &str| {
        let stream = Stream::new();
        stream.add_numbers(1..=10);
        stream.run::<()>("XGROUP CREATE KEY g 0");
        if what == "own" {
            let _: Value = stream.run("XREADGROUP GROUP g me COUNT 10 STREAMS KEY >");
        } else {
            lose(&stream, 10);
        }
        stream.run::<()>("XTRIM KEY MAXLEN 4");
        stream
    };
    for what in ["own", "others"] {
        let stream = lossy(what);
        let mut reader = open(&member(&stream, &[]), &stream, None);
        let error = refused(read(reader.as_mut(), 10)).to_string();
        for part in ["6 entries", &stream.key, "scan.out-of-range"] {
            assert!(error.contains(part), "{error}");
        }
        let stream = lossy(what);
        let source = member(&stream, &[("scan.out-of-range", "earliest")]);
        let mut reader = open(&source, &stream, None);
        assert_eq!(read(reader.as_mut(), 4).unwrap().numbers(), numbers(7..=10), "{what}");
        checkpoint(&source, &stream, reader.as_ref());
        assert_eq!(pending(&stream), 0);
    }
}

#[test]
fn entries_that_are_trimmed_before_anybody_got_them_end_the_job() {
    let stream = Stream::new();
    stream.add_numbers(1..=10);
    stream.run::<()>("XGROUP CREATE KEY g 2-0 ENTRIESREAD 2");
    stream.run::<()>("XTRIM KEY MAXLEN 5");
    let error = refused(read(open(&member(&stream, &[]), &stream, None).as_mut(), 5)).to_string();
    assert!(error.contains("3 entries"), "{error}");
    let source = member(&stream, &[("scan.out-of-range", "earliest")]);
    let got = read(open(&source, &stream, None).as_mut(), 5).unwrap().numbers();
    assert_eq!(got, numbers(6..=10));
}

#[test]
fn a_bounded_source_ends_with_what_there_was() {
    let stream = Stream::new();
    stream.add_numbers(1..=10);
    stream.run::<()>("XGROUP CREATE KEY g 0");
    lose(&stream, 3);
    let _: Value = stream.run("XREADGROUP GROUP g me COUNT 3 STREAMS KEY >");
    let source = member(&stream, &[("scan.bounded.mode", "latest-offset")]);
    assert!(source.is_bounded());
    let got = super::server::read_to_end(&source, &stream, None).numbers();
    assert_eq!(got, [4, 5, 6, 1, 2, 3, 7, 8, 9, 10], "its own, what was left, what is new");
}

#[test]
fn a_group_that_is_gone_is_said() {
    let stream = Stream::new();
    stream.add_numbers(1..=10);
    let source = member(&stream, &[]);
    let mut reader = open(&source, &stream, None);
    read(reader.as_mut(), 10).unwrap();
    let offset = reader.offset();
    stream.run::<()>("XGROUP DESTROY KEY g");
    let error = refused(read(reader.as_mut(), 1)).to_string();
    assert!(error.contains("NOGROUP") && error.contains(&stream.key), "{error}");
    let again = member(&stream, &[]);
    let opened = again.open(&stream.split(), Some(&offset), &super::server::context());
    let error = refused(opened).to_string();
    assert!(error.contains("is gone") && error.contains("scan.out-of-range"), "{error}");
    let going_on = member(&stream, &[("scan.out-of-range", "earliest")]);
    stream.add_numbers([11]);
    let mut reader = open(&going_on, &stream, Some(&Offset(offset.0).0));
    assert_eq!(read(reader.as_mut(), 1).unwrap().numbers(), [11], "behind the checkpoint");
}

#[test]
fn the_lag_is_the_groups() {
    let stream = Stream::new();
    stream.add_numbers(1..=10);
    let source = member(&stream, &[]);
    let mut reader = open(&source, &stream, None);
    read(reader.as_mut(), 4).unwrap();
    let start = Instant::now();
    loop {
        let lag = reader.lag().filter(|lag| lag.position.records == 6);
        if lag.and_then(|lag| lag.committed).is_some_and(|behind| behind.records == 10) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{:?}", reader.lag());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
