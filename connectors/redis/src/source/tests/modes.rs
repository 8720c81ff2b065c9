//! Where a source starts and ends, and what the group is told.

use tidemill_core::source::Source;

use super::server::{Stream, open, read, read_to_end, source};
use crate::source::RedisStreamSource;

const BOUNDED: (&str, &str) = ("scan.bounded.mode", "latest-offset");

fn numbers(stream: &Stream, options: &[(&str, &str)]) -> Vec<i64> {
    read_to_end(&source(stream, options), stream, None).numbers()
}

fn checkpoint(source: &RedisStreamSource, stream: &Stream, offset: &str) {
    let offset = tidemill_core::source::Offset(offset.to_owned());
    source.checkpointed(1, &[(stream.split(), offset)]).unwrap();
}

#[test]
fn a_source_starts_where_it_is_told_to() {
    let stream = Stream::new();
    stream.add_numbers(1..=9);
    let of = |options: &[(&str, &str)]| numbers(&stream, &[options, &[BOUNDED]].concat());
    assert_eq!(of(&[]), (1..=9).collect::<Vec<_>>(), "a group that is not there");
    assert_eq!(of(&[("scan.startup.mode", "earliest-offset")]), (1..=9).collect::<Vec<_>>());
    assert_eq!(of(&[("scan.startup.mode", "latest-offset")]), Vec::<i64>::new());
    let time = [("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "7")];
    assert_eq!(of(&time), [7, 8, 9]);
    let offsets = ("scan.startup.specific-offsets", "partition:0,offset:5-0");
    assert_eq!(of(&[("scan.startup.mode", "specific-offsets"), offsets]), [5, 6, 7, 8, 9]);
    stream.run::<()>("XGROUP CREATE KEY mine 3-0 ENTRIESREAD 3");
    assert_eq!(of(&[("group", "mine")]), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_source_ends_where_it_is_told_to() {
    let stream = Stream::new();
    stream.add_numbers(1..=9);
    stream.run::<()>("XGROUP CREATE KEY mine 3-0");
    let start = ("scan.startup.mode", "earliest-offset");
    let of = |options: &[(&str, &str)]| numbers(&stream, &[options, &[start]].concat());
    assert_eq!(of(&[BOUNDED]), (1..=9).collect::<Vec<_>>());
    let time = ("scan.bounded.timestamp-millis", "4");
    assert_eq!(of(&[("scan.bounded.mode", "timestamp"), time]), [1, 2, 3]);
    let time = ("scan.bounded.timestamp-millis", "99");
    assert_eq!(of(&[("scan.bounded.mode", "timestamp"), time]).len(), 9);
    let offsets = ("scan.bounded.specific-offsets", "partition:0,offset:5-0");
    assert_eq!(of(&[("scan.bounded.mode", "specific-offsets"), offsets]), [1, 2, 3, 4]);
    assert_eq!(of(&[("scan.bounded.mode", "group-offsets"), ("group", "mine")]), [1, 2, 3]);
    let empty = Stream::new();
    assert_eq!(numbers(&empty, &[BOUNDED]), Vec::<i64>::new());
}

#[test]
fn a_bounded_job_ends_where_it_first_said() {
    let stream = Stream::new();
    stream.add_numbers(1..=5);
    let source = source(&stream, &[BOUNDED]);
    let mut reader = open(&source, &stream, None);
    assert_eq!(read(reader.as_mut(), 2).unwrap().numbers(), [1, 2]);
    let offset = reader.offset().0;
    assert!(offset.starts_with("2-0..5-0#2"), "{offset}");
    stream.add_numbers(6..=9);
    let rest = read_to_end(&source, &stream, Some(&reader.offset().0));
    assert_eq!(rest.numbers(), [3, 4, 5]);
}

#[test]
fn what_comes_is_read_from_any_offset_in_the_same_order() {
    let stream = Stream::new();
    let mut reader = open(&source(&stream, &[]), &stream, None);
    stream.add_numbers(1..=1000);
    let mut offsets = vec![reader.offset().0];
    for n in 1..=1000 {
        assert_eq!(read(reader.as_mut(), 1).unwrap().numbers(), [n]);
        offsets.push(reader.offset().0);
    }
    assert!(offsets[1000].starts_with("1000-0#1000"), "{}", offsets[1000]);
    for from in [0, 1, 499, 998] {
        let mut again = open(&source(&stream, &[]), &stream, Some(&offsets[from]));
        let got = read(again.as_mut(), 1000 - from).unwrap();
        assert_eq!(got.numbers(), (from as i64 + 1..=1000).collect::<Vec<_>>());
    }
    stream.add_numbers([1001]);
    assert_eq!(read(reader.as_mut(), 1).unwrap().numbers(), [1001], "it goes on");
}

#[test]
fn the_group_is_told_what_a_checkpoint_holds() {
    let stream = Stream::new();
    let group = |options: &[(&str, &str)]| {
        let source = source(&stream, options);
        let mut reader = open(&source, &stream, None);
        stream.add_numbers(1..=9);
        read(reader.as_mut(), 4).unwrap();
        checkpoint(&source, &stream, &reader.offset().0);
        let told: Vec<Vec<(String, redis::Value)>> = stream.run("XINFO GROUPS KEY");
        let number =
            |name: &str| told[0].iter().find(|(other, _)| other == name).unwrap().1.clone();
        assert_eq!(number("name"), redis::Value::BulkString(b"tidemill-job".to_vec()));
        assert_eq!(number("entries-read"), redis::Value::Int(4));
        assert_eq!(number("lag"), redis::Value::Int(5));
        let lag = reader.lag().unwrap();
        assert_eq!(lag.committed.unwrap().records, 5);
    };
    group(&[]);
    // And a group that is there is moved on.
    let other = source(&stream, &[]);
    checkpoint(&other, &stream, "1-0#1");
    let mut reader = open(&other, &stream, None);
    checkpoint(&other, &stream, "6-0#6");
    assert_eq!(read(reader.as_mut(), 1).unwrap().numbers(), [5], "from where the group was");
    assert_eq!(read_to_end(&source(&stream, &[BOUNDED]), &stream, None).numbers(), [7, 8, 9]);
}
