//! What rows, dead letters and headers hold, against the entries as the test has added them.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use tidemill_core::record::Header;
use tidemill_core::source::Source;
use tidemill_core::table::TableSpec;

use super::server::{Got, Stream, json, read_to_end, refused, table};
use crate::source::RedisStreamSource;

fn read_table(table: &TableSpec, stream: &Stream) -> Got {
    read_to_end(&RedisStreamSource::of_table(table).unwrap(), stream, None)
}

const BOUNDED: (&str, &str) = ("scan.bounded.mode", "latest-offset");

fn entry<'a>(id: &str, fields: &[(&'a str, &[u8])]) -> (String, Vec<(&'a str, Vec<u8>)>) {
    (id.to_owned(), fields.iter().map(|(name, value)| (*name, value.to_vec())).collect())
}

#[test]
fn metadata_is_what_redis_says() {
    let mut stream = Stream::new();
    let prefix = stream.key.clone();
    stream.key = format!("{prefix}:5");
    stream.add([
        entry(
            "1700000000123-4",
            &[
                ("payload", b"{\"n\":1}"),
                ("key", b"k\xff"),
                ("h.a", b"x"),
                ("h.a", b"y"),
                ("h.b", b""),
            ],
        ),
        entry("1700000000124-0", &[("payload", b"{\"n\":2}")]),
    ]);
    let text = |name: &str| Field::new(name, DataType::Utf8View, true);
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let pairs = vec![
        Field::new("key", DataType::Utf8View, false),
        Field::new("value", DataType::BinaryView, true),
    ];
    let entries = Field::new("entries", DataType::Struct(pairs.into()), false);
    let fields = vec![
        text("id"),
        Field::new("n", DataType::Int64, false),
        text("stream"),
        Field::new("partition", DataType::Int32, false),
        Field::new("at", utc, true),
        Field::new("key", DataType::BinaryView, true),
        text("a"),
        Field::new("headers", DataType::Map(Arc::new(entries), false), true),
    ];
    let metadata = [
        (0, "id"),
        (2, "stream"),
        (3, "partition"),
        (4, "timestamp"),
        (5, "key"),
        (6, "header.a"),
        (7, "headers"),
    ];
    let names = format!("{prefix}:{{5..5}}");
    let options = [("format", "json"), BOUNDED, ("stream", names.as_str())];
    let table = table(&stream, fields, &metadata, &options);
    let got = read_table(&table, &stream);
    let rows = got.batch(&table.schema);
    let ids: Vec<_> = rows.column(0).as_string_view().iter().flatten().collect();
    assert_eq!(ids, ["1700000000123-4", "1700000000124-0"]);
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert_eq!(rows.column(2).as_string_view().value(0), stream.key);
    assert_eq!(rows.column(3).as_primitive::<Int32Type>().values(), &[5, 5]);
    let times = rows.column(4).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[1_700_000_000_123_000, 1_700_000_000_124_000]);
    let keys: Vec<_> = rows.column(5).as_binary_view().iter().collect();
    assert_eq!(keys, [Some(&b"k\xff"[..]), None]);
    let last: Vec<_> = rows.column(6).as_string_view().iter().collect();
    assert_eq!(last, [Some("y"), None]);
    let headers = rows.column(7).as_map();
    assert_eq!((headers.value_length(0), headers.value_length(1)), (2, 0));
    let travelling = got.records[0].headers(0);
    assert_eq!(travelling, [Header::new("a", "x"), Header::new("a", "y"), Header::new("b", "")]);
}

#[test]
fn without_a_format_each_field_is_a_column() {
    let stream = Stream::new();
    stream.add([
        entry("1-0", &[("n", b"1"), ("name", b"a"), ("extra", b"?")]),
        entry("2-0", &[("name", b""), ("n", b"2")]),
        entry("3-0", &[("n", b"x"), ("name", b"bad"), ("h.trace", b"7")]),
        entry("4-0", &[("name", b"none")]),
    ]);
    let fields =
        vec![Field::new("n", DataType::Int64, false), Field::new("name", DataType::Utf8View, true)];
    let table = table(&stream, fields, &[], &[BOUNDED]);
    let got = read_table(&table, &stream);
    assert_eq!(got.numbers(), [1, 2]);
    let names: Vec<_> = got.batches[0].column(1).as_string_view().iter().flatten().collect();
    assert_eq!(names, ["a", ""]);
    assert_eq!(got.letters.len(), 2);
    let letter = &got.letters[0];
    assert_eq!(letter.record.position, "id 3-0");
    let kept = [Header::new("n", "x"), Header::new("name", "bad"), Header::new("trace", "7")];
    assert_eq!(letter.record.headers, kept);
    assert!(letter.reason.contains("n: 'x'"), "{}", letter.reason);
}

#[test]
fn dead_letters_keep_the_entry_byte_for_byte() {
    let stream = Stream::new();
    let bad = b"{\"n\":\xff}";
    stream.add([
        entry("17-0", &[("payload", bad), ("key", b"k"), ("h.a", b"1"), ("other", b"2")]),
        entry("18-0", &[("body", b"{\"n\":1}")]),
        entry("19-0", &[("payload", &json(3))]),
    ]);
    let got = read_to_end(&super::server::source(&stream, &[BOUNDED]), &stream, None);
    assert_eq!(got.numbers(), [3]);
    let record = &got.letters[0].record;
    assert_eq!((record.position.as_str(), record.timestamp), ("id 17-0", Some(17_000)));
    assert_eq!(record.payload.as_deref(), Some(&bad[..]));
    assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(record.headers, [Header::new("a", "1"), Header::new("other", "2")]);
    let missing = &got.letters[1];
    assert!(missing.reason.contains("'payload'"), "{}", missing.reason);
    assert_eq!(missing.record.headers, [Header::new("body", "{\"n\":1}")]);
    let renamed = [BOUNDED, ("value.field", "body")];
    let got = read_to_end(&super::server::source(&stream, &renamed), &stream, None);
    assert_eq!(got.numbers(), [1]);
}

#[test]
fn mistakes_name_their_option() {
    let stream = Stream::new();
    let numbers = || vec![Field::new("n", DataType::Int64, false)];
    let wrong: [(&[(&str, &str)], &str); 10] = [
        (&[("stream", "a;a")], "stream"),
        (&[("format", "jsn")], "format"),
        (&[("value.field", "v")], "value.field"),
        (&[("read", "both")], "read"),
        (&[("consumer", "me")], "consumer"),
        (&[("read", "group"), ("claim.min-idle", "999 ms")], "claim.min-idle"),
        (&[("scan.startup.mode", "timestamp")], "scan.startup.timestamp-millis"),
        (&[("scan.startup.timestamp-millis", "1")], "scan.startup.timestamp-millis"),
        (
            &[
                ("scan.startup.mode", "specific-offsets"),
                ("scan.startup.specific-offsets", "partition:1,offset:1-0"),
            ],
            "scan.startup.specific-offsets",
        ),
        (&[("scan.out-of-range", "ignore")], "scan.out-of-range"),
    ];
    for (options, option) in wrong {
        let error = refused(RedisStreamSource::of_table(&table(&stream, numbers(), &[], options)));
        assert_eq!(error.wrong_option(), Some(option), "{error}");
    }
    let error =
        refused(RedisStreamSource::of_table(&table(&stream, numbers(), &[(0, "offset")], &[])));
    assert!(error.to_string().contains("there are id, stream"), "{error}");
    let source = super::server::source(&stream, &[("url", "redis://u:canary@localhost:1")]);
    assert!(!source.describe().contains("canary") && source.describe().contains("localhost:1"));
}
