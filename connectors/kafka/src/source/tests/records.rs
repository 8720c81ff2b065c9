//! What becomes of a record: rows, metadata, tombstones, dead letters.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Field, Fields, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use tidemill_core::source::Source;
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;

use super::broker::{Sent, Topic, brokers, context, numbers, read, read_to_end, source, table};
use crate::source::KafkaSource;
use crate::{Kafka, StartAt, StopAt};

const BOUNDED: (&str, &str) = ("scan.bounded.mode", "latest-offset");

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8View, true)
}

#[test]
fn a_record_has_its_metadata_beside_its_value() {
    let topic = Topic::new(2);
    topic.send([Sent {
        partition: 1,
        key: Some(b"k\xff"),
        payload: Some(br#"{"n": 7}"#),
        headers: &[("trace", Some(b"first")), ("trace", Some(b"last")), ("empty", None)],
        timestamp: Some(1_700_000_000_123),
    }]);
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8View, false),
        Field::new("value", DataType::BinaryView, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entries), false);
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = vec![
        Field::new("n", DataType::Int64, true),
        text("topic"),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("at", utc, true),
        text("kind"),
        Field::new("headers", DataType::Map(entries.into(), false), true),
        Field::new("key", DataType::BinaryView, true),
        text("trace"),
        Field::new("epoch", DataType::Int32, true),
    ];
    let metadata = [
        (1, "topic"),
        (2, "partition"),
        (3, "offset"),
        (4, "timestamp"),
        (5, "timestamp-type"),
        (6, "headers"),
        (7, "key"),
        (8, "header.trace"),
        (9, "leader-epoch"),
    ];
    let table = table(columns, &metadata, &topic.name, &[BOUNDED]);
    let source = KafkaSource::of_table(&table).unwrap();
    assert_eq!(source.splits().unwrap(), [topic.split(0), topic.split(1)]);
    let got = read_to_end(&source, &topic.split(1), None).unwrap();
    let rows = got.batch(&source.schema());
    let texts = |column: usize| rows.column(column).as_string_view().value(0);
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 7);
    assert_eq!(texts(1), topic.name);
    assert_eq!(rows.column(2).as_primitive::<Int32Type>().value(0), 1);
    assert_eq!(rows.column(3).as_primitive::<Int64Type>().value(0), 0);
    let at = rows.column(4).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(at.value(0), 1_700_000_000_123_000);
    assert_eq!(texts(5), "CreateTime");
    let headers = rows.column(6).as_map();
    let names: Vec<_> = headers.keys().as_string_view().iter().flatten().collect();
    assert_eq!(names, ["trace", "empty"]);
    let values = headers.values().as_binary_view();
    assert_eq!((values.value(0), values.is_null(1)), (&b"last"[..], true));
    assert_eq!(rows.column(7).as_binary_view().value(0), b"k\xff");
    assert_eq!(texts(8), "last");
    assert_eq!(rows.column(9).as_primitive::<Int32Type>().value(0), 0);
    assert!(read_to_end(&source, &topic.split(0), None).unwrap().rows.is_empty());
}

#[test]
fn tombstones_are_skipped_and_bad_records_are_kept_byte_for_byte() {
    let topic = Topic::new(1);
    let bad = Sent {
        key: Some(b"\x00key"),
        payload: Some(b"{\"n\": \"x\"}\xff"),
        headers: &[("id", Some(b"\x01\x02")), ("none", None)],
        timestamp: Some(1_700_000_000_000),
        ..Sent::default()
    };
    topic.send([
        Sent::json("{\"n\": 1}"),
        Sent { key: Some(b"gone"), ..Sent::default() },
        bad,
        Sent { headers: &[("id", Some(b"4"))], ..Sent::json("{\"n\": 2}") },
    ]);
    let got = read_to_end(&source(&topic, &[BOUNDED]), &topic.split(0), None).unwrap();
    assert_eq!((got.numbers(), got.skipped), (vec![1, 2], 1));
    let [letter] = &got.letters[..] else { panic!("{:?}", got.letters) };
    assert_eq!(letter.split, topic.split(0));
    let record = &letter.record;
    assert_eq!(record.position, "offset 2");
    assert_eq!(record.payload.as_deref(), bad.payload);
    assert_eq!(record.key.as_deref(), bad.key);
    assert_eq!(record.timestamp, Some(1_700_000_000_000_000));
    let headers = record.headers.iter().map(|h| (h.name.as_str(), h.value.as_deref()));
    assert_eq!(headers.collect::<Vec<_>>(), bad.headers);
    // Rows still know their own records, though others stood between them.
    let last = got.records.last().unwrap().as_ref().unwrap();
    let row = got.rows.last().unwrap().num_rows() - 1;
    assert_eq!(last.record(row).payload.as_deref(), Some(&b"{\"n\": 2}"[..]));
    assert_eq!(last.headers(row)[0].value.as_deref(), Some(&b"4"[..]));
}

#[test]
fn a_raw_record_without_a_payload_is_a_null() {
    let topic = Topic::new(1);
    topic.send([Sent::json("a"), Sent::default(), Sent::json("")]);
    let table = table(vec![text("line")], &[], &topic.name, &[BOUNDED, ("format", "raw")]);
    let source = KafkaSource::of_table(&table).unwrap();
    let got = read_to_end(&source, &topic.split(0), None).unwrap();
    let rows = got.batch(&source.schema());
    let lines: Vec<_> = rows.column(0).as_string_view().iter().collect();
    assert_eq!(lines, [Some("a"), None, Some("")]);
}

#[test]
fn key_columns_come_from_the_key_and_a_bad_key_costs_only_its_record() {
    let topic = Topic::new(1);
    let sent = |key: &'static str, payload: &'static str| Sent {
        key: Some(key.as_bytes()),
        ..Sent::json(payload)
    };
    topic.send([
        sent(r#"{"id": 1}"#, r#"{"v": "a"}"#),
        sent("broken", r#"{"v": "b"}"#),
        sent(r#"{"id": 3}"#, "broken"),
        sent(r#"{"id": 4}"#, r#"{"v": "d"}"#),
        Sent::json(r#"{"v": "e"}"#),
    ]);
    let columns = vec![text("v"), Field::new("k_id", DataType::Int64, true)];
    let options = [
        BOUNDED,
        ("key.format", "json"),
        ("key.fields", "k_id"),
        ("key.fields-prefix", "k_"),
        ("value.fields-include", "EXCEPT_KEY"),
    ];
    let source = KafkaSource::of_table(&table(columns, &[], &topic.name, &options)).unwrap();
    let got = read_to_end(&source, &topic.split(0), None).unwrap();
    let rows = got.batch(&source.schema());
    let values: Vec<_> = rows.column(0).as_string_view().iter().flatten().collect();
    assert_eq!(values, ["a", "d"]);
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[1, 4]);
    let built = Kafka::topic(&topic.name)
        .brokers(brokers())
        .start_at(StartAt::Earliest)
        .stop_at(StopAt::Latest)
        .key(Format::Json(JsonFormat::default()), ["k_id"])
        .key_prefix("k_")
        .json(source.schema());
    let same = read_to_end(&built, &topic.split(0), None).unwrap();
    assert_eq!(same.batch(&built.schema()), rows);
    let reasons: Vec<_> = got.letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].starts_with("key: "), "{reasons:?}");
    assert!(!reasons[1].starts_with("key: "), "{reasons:?}");
}

#[test]
fn aborted_records_are_not_read_and_markers_do_not_hold_the_end() {
    let topic = Topic::new(1);
    let rows = [Sent::json("{\"n\": 1}"), Sent::json("{\"n\": 2}")];
    topic.transact(rows, true);
    topic.transact([Sent::json("{\"n\": 3}")], false);
    let source = source(&topic, &[BOUNDED]);
    let mut reader = source.open(&topic.split(0), None, &context()).unwrap();
    let got = read(reader.as_mut(), usize::MAX).unwrap();
    assert_eq!(got.numbers(), [1, 2]);
    // Two records, a marker, an aborted record, its marker: all are behind.
    assert!(reader.offset().0.starts_with("5..5@"), "{}", reader.offset());
    assert_eq!(reader.progress(), Some((5, 5)));
}

#[test]
fn a_reader_with_nothing_wakes_its_shard_when_something_comes() {
    let topic = Topic::new(1);
    let source = source(&topic, &[]);
    let mut reader = source.open(&topic.split(0), None, &context()).unwrap();
    for n in 0..20 {
        topic.send_numbers([n]);
        // `read` parks until it is woken.
        assert_eq!(read(reader.as_mut(), 1).unwrap().numbers(), [n]);
    }
    assert!(reader.progress().is_none());
}

#[test]
fn reading_again_from_an_offset_gives_the_same_records() {
    let topic = Topic::new(1);
    topic.send_numbers(0..500);
    let all: Vec<i64> = (0..500).collect();
    let source = source(&topic, &[BOUNDED]);
    let mut reader = source.open(&topic.split(0), None, &context()).unwrap();
    let first = read(reader.as_mut(), 123).unwrap().numbers();
    let offset = reader.offset();
    let rest = read(reader.as_mut(), usize::MAX).unwrap().numbers();
    assert_eq!([&first[..], &rest[..]].concat(), all);
    drop(reader);
    let again = read_to_end(&source, &topic.split(0), Some(&offset)).unwrap().numbers();
    assert_eq!(again, rest);
}

#[test]
fn a_column_of_a_wrong_type_is_refused_by_name() {
    let columns = vec![Field::new("at", DataType::Boolean, true)];
    let error = KafkaSource::of_table(&table(columns, &[(0, "offset")], "t", &[])).err().unwrap();
    assert!(error.to_string().contains("'at'") && error.to_string().contains("BIGINT"), "{error}");
    let mistakes = [
        (("key.format", "json"), "'key.fields'"),
        (("key.fields", "n"), "'key.format'"),
        (("value.format", "json"), "'format'"),
        (("value.jsn.timestamp-format.standard", "SQL"), "'value.json.timestamp-format.standard'"),
        (("scan.startup.timestamp-millis", "5"), "'timestamp'"),
        (("scan.bounded.mode", "sometimes"), "latest-offset"),
        (("topic-pattern", "a.*"), "'topic'"),
    ];
    for (option, expected) in mistakes {
        let error = KafkaSource::of_table(&table(numbers(), &[], "t", &[option])).err().unwrap();
        assert!(error.to_string().contains(expected), "{option:?}: {error}");
    }
}
