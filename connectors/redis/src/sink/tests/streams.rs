//! Entries of streams, read back field by field.

use tidemill_core::Batch;
use tidemill_core::element::Origin;
use tidemill_core::record::{Header, Records, SourceRecord};
use tidemill_core::source::SplitId;

use super::server::{ask, prefix, url};
use super::*;
use crate::RedisStream;
use crate::streams::partition_of;

/// The entries of a stream: fields and values in order.
fn entries(stream: &str) -> Vec<Vec<(String, String)>> {
    type Entry = (String, Vec<(String, String)>);
    let entries: Vec<Entry> = ask(&url(), &["XRANGE", stream, "-", "+"]);
    entries.into_iter().map(|(_, fields)| fields).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn without_a_format_every_column_is_a_field() {
    let stream = prefix();
    let sink = RedisStream::to(stream.as_str()).url(url());
    let batch = rows(&[(Some("ann"), 60, Some(3), None), (Some("bob"), 0, None, Some(0.5))]);
    assert!(deliver(&sink, &[batch]).unwrap().is_empty());
    let ann = [("user_id", "ann"), ("window_start", "1970-01-01T00:01:00"), ("n", "3")];
    let bob = [("user_id", "bob"), ("window_start", "1970-01-01T00:00:00"), ("revenue", "0.5")];
    assert_eq!(entries(&stream), [pairs(&ann), pairs(&bob)]);
}

#[derive(Debug)]
struct WithHeader;

impl Records for WithHeader {
    fn record(&self, index: usize) -> SourceRecord {
        let headers = vec![
            Header::new("trace", format!("t{index}")),
            Header::new("kafka_dlt-exception-message", "of an earlier life"),
        ];
        SourceRecord { headers, ..SourceRecord::default() }
    }
}

#[test]
fn with_a_format_payload_key_and_headers_are_fields() {
    let stream = prefix();
    let sink = RedisStream::to(stream.as_str()).json().key_fields(["user_id"]).url(url());
    let mut batch = rows(&[(Some("ann"), 60, Some(3), None), (None, 60, Some(4), None)]);
    let records: Arc<dyn Records> = Arc::new(WithHeader);
    let split = SplitId::new("s");
    batch.origin = Some(Origin { split, records: Some(records), rows: None });
    deliver(&sink, &[batch]).unwrap();
    let row = |user: &str, n: u8| {
        format!(
            r#"{{"user_id":{user},"window_start":"1970-01-01 00:01:00","n":{n},"revenue":null}}"#
        )
    };
    let (ann, nobody) = (row("\"ann\"", 3), row("null", 4));
    let ann = [("payload", ann.as_str()), ("key", "ann"), ("h.trace", "t0")];
    let nobody = [("payload", nobody.as_str()), ("h.trace", "t1")];
    assert_eq!(entries(&stream), [pairs(&ann), pairs(&nobody)]);
}

#[test]
fn entries_of_a_key_go_to_one_stream_in_their_order() {
    let prefix = prefix();
    let sink = RedisStream::to(format!("{prefix}:{{0..7}}")).key_fields(["user_id"]).url(url());
    let batches: Vec<Batch> = (0..5).map(|n| users(0..100, n)).collect();
    deliver(&sink, &batches).unwrap();
    let mut total = 0;
    for partition in 0..8 {
        let entries = entries(&format!("{prefix}:{partition}"));
        total += entries.len();
        let mut last = std::collections::HashMap::new();
        for entry in &entries {
            let (user, n): (&str, i64) = (&entry[0].1, entry[2].1.parse().unwrap());
            assert_eq!(partition_of(user.as_bytes(), 8), partition);
            assert_eq!(last.insert(user.to_owned(), n).unwrap_or(-1), n - 1, "{user}");
        }
    }
    assert_eq!(total, 500);
}

#[test]
fn without_a_key_streams_take_turns_and_a_row_of_nulls_is_refused() {
    let prefix = prefix();
    let sink = RedisStream::to(format!("{prefix}:{{0..3}}")).url(url());
    deliver(&sink, &[users(0..100, 1)]).unwrap();
    let lengths: Vec<usize> =
        (0..4).map(|n| ask(&url(), &["XLEN", &format!("{prefix}:{n}")])).collect();
    assert_eq!(lengths, [25; 4]);
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let nothing = Batch::new(RecordBatch::try_new(schema, vec![column]).unwrap());
    let letters = deliver(&sink, &[nothing]).unwrap();
    assert!(letters[0].reason.contains("NULL"), "{}", letters[0].reason);
}

#[test]
fn a_stream_keeps_about_as_many_as_it_should() {
    let stream = prefix();
    let sink = RedisStream::to(stream.as_str()).max_len(1_000).url(url());
    deliver(&sink, &[users(0..10_000, 1)]).unwrap();
    let length: usize = ask(&url(), &["XLEN", &stream]);
    assert!((1_000..2_000).contains(&length), "{length}");
}

#[test]
fn several_columns_make_a_key_that_is_json() {
    let stream = prefix();
    let sink = RedisStream::to(stream.as_str()).json().key_fields(["user_id", "n"]).url(url());
    deliver(&sink, &[rows(&[(Some("a"), 60, Some(3), None)])]).unwrap();
    assert_eq!(entries(&stream)[0][1], ("key".into(), r#"{"user_id":"a","n":3}"#.into()));
}

#[test]
fn metadata_columns_become_key_and_headers() {
    let stream = prefix();
    let sink = RedisStream::to(stream.as_str())
        .metadata("user_id", "key")
        .metadata("window", "header.window")
        .url(url());
    let batch = rows(&[(Some("ann"), 60, Some(3), None)]);
    let window: ArrayRef = Arc::new(StringArray::from(vec!["w1"]));
    let mut fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("window", DataType::Utf8, true));
    let columns = batch.rows.columns().iter().cloned().chain([window]).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    deliver(&sink, &[Batch::new(rows)]).unwrap();
    let entry =
        [("window_start", "1970-01-01T00:01:00"), ("n", "3"), ("key", "ann"), ("h.window", "w1")];
    assert_eq!(entries(&stream), [pairs(&entry)]);
}
