//! What a record holds: key, value, metadata, headers; and rows that cannot be records.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BinaryViewArray, MapBuilder, RecordBatch, StringBuilder,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use tidemill_core::element::Origin;
use tidemill_core::record::{Header, Records, SourceRecord};
use tidemill_core::sink::{Delivery, Sink};
use tidemill_core::source::SplitId;
use tidemill_core::table::{ConnectorFactory, TableSpec};
use tidemill_core::time::{Clock as _, SystemClock};
use tidemill_core::{Batch, Error};
use tidemill_formats::Format;

use super::broker::{Seen, brokers, committed, context, rows, topic, write_epoch};
use crate::{KafkaFactory, KafkaSink, UpsertKafkaFactory};

/// Writes a batch as the only epoch; what arrived, and why the rest did not.
fn write(sink: &dyn Sink, topic: &str, batch: &Batch) -> (Vec<Seen>, Vec<String>) {
    let mut writer = sink.writer(&context("records", 0, 1, batch.rows.schema())).unwrap();
    write_epoch(writer.as_mut(), 1, batch);
    let refused = writer.take_refused().into_iter().map(|letter| letter.reason).collect();
    (committed(topic), refused)
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringViewArray::from(values.to_vec()))
}

#[derive(Debug)]
struct Incoming;

impl Records for Incoming {
    fn record(&self, index: usize) -> SourceRecord {
        let headers = vec![
            Header::new("correlation-id", format!("c{index}")),
            Header::new("event-type", "old"),
            Header::new("__connect.errors.topic", "orders"),
            Header::new("tidemill-epoch", "3 someone-else"),
        ];
        SourceRecord { headers, ..SourceRecord::new(format!("offset {index}"), "{}") }
    }
}

#[test]
fn headers_go_with_the_record_that_a_row_still_is_and_columns_win() {
    let topic = topic(1, &[]);
    let mut headers = MapBuilder::new(None, StringBuilder::new(), BinaryBuilder::new());
    headers.keys().append_value("trace");
    headers.values().append_value("t1");
    headers.keys().append_value("nothing");
    headers.values().append_null();
    headers.append(true).unwrap();
    headers.append(false).unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("text", texts(&[Some("a"), Some("b")])),
        ("all", Arc::new(headers.finish())),
        ("kind", texts(&[Some("new"), None])),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_999), None]))),
    ];
    let origin = Origin {
        split: SplitId::new("orders/0"),
        records: Some(Arc::new(Incoming)),
        rows: Some(vec![7, 8].into()),
    };
    let batch =
        Batch { origin: Some(origin), ..Batch::new(RecordBatch::try_from_iter(columns).unwrap()) };
    let sink = |topic: &str| {
        KafkaSink::topic(topic)
            .brokers(brokers())
            .metadata("all", "headers")
            .metadata("kind", "header.event-type")
            .metadata("at", "timestamp")
    };
    let (seen, refused) = write(&sink(&topic), &topic, &batch);
    assert_eq!(refused, [""; 0]);
    let pair = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let first = [
        pair("correlation-id", "c7"),
        pair("trace", "t1"),
        ("nothing".to_owned(), None),
        pair("event-type", "new"),
    ];
    assert_eq!(seen[0].headers, first);
    assert_eq!(seen[0].payload.as_deref(), Some(r#"{"text":"a"}"#));
    assert_eq!(seen[0].timestamp, 1_700_000_000_123);
    assert_eq!(seen[1].headers, [pair("correlation-id", "c8"), pair("event-type", "old")]);

    let (seen, _) = write(&sink(&topic).without_header_propagation(), &topic, &batch);
    assert_eq!(seen[3].headers, []);
}

#[test]
fn rows_that_the_topic_cannot_take_are_refused_with_their_bytes() {
    for exactly_once in [false, true] {
        let topic = topic(1, &[("max.message.bytes", "2000")]);
        let sink = KafkaSink::topic(&topic).brokers(brokers()).key(["user"]);
        let sink = if exactly_once { sink.exactly_once() } else { sink };
        let long = "x".repeat(3_000);
        let batch = rows(&["a", &long, "b"], 0..3);
        let mut writer = sink.writer(&context(&topic, 0, 1, batch.rows.schema())).unwrap();
        let staged = write_epoch(writer.as_mut(), 1, &batch);
        let refused = writer.take_refused();
        assert_eq!(refused.len(), 1);
        assert!(refused[0].reason.contains("max.message.bytes"), "{}", refused[0].reason);
        let payload = format!(r#"{{"user":"{long}","n":1}}"#);
        assert_eq!(refused[0].record.payload.as_deref(), Some(payload.as_bytes()));
        if exactly_once {
            let context = context(&topic, 0, 1, batch.rows.schema());
            sink.committer(&context).unwrap().commit(1, &[staged]).unwrap();
        }
        assert_eq!(committed(&topic).len(), 2, "rows in = records + refused");
    }
}

/// Rows with a header and a time of their own: `after` milliseconds from now.
pub fn timed(after: &[i64]) -> (Batch, i64) {
    let now = SystemClock::default().now() / 1000;
    let times = after.iter().map(|after| (now + after) * 1000);
    let numbers: Vec<String> = (0..after.len()).map(|n| n.to_string()).collect();
    let numbers: Vec<_> = numbers.iter().map(|n| Some(n.as_str())).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("n", texts(&numbers)),
        ("id", texts(&numbers)),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(times))),
    ];
    (Batch::new(RecordBatch::try_from_iter(columns).unwrap()), now)
}

pub fn timed_sink(topic: &str) -> KafkaSink {
    let sink = KafkaSink::topic(topic).brokers(brokers());
    sink.metadata("id", "header.correlation-id").metadata("at", "timestamp")
}

pub const HOUR: i64 = 3_600_000;

#[test]
fn a_record_with_an_absurd_time_takes_nothing_from_those_beside_it() {
    let after = ("message.timestamp.after.max.ms", "3600000");
    let before = ("message.timestamp.before.max.ms", "36000000");
    for exactly_once in [false, true] {
        let topic = topic(1, &[after, before]);
        let (batch, now) = timed(&[-HOUR, 5 * HOUR, -2 * HOUR, -11 * HOUR]);
        let sink = timed_sink(&topic);
        let sink = if exactly_once { sink.exactly_once() } else { sink };
        let context = || context(&topic, 0, 1, batch.rows.schema());
        let mut writer = sink.writer(&context()).unwrap();
        let staged = write_epoch(writer.as_mut(), 1, &batch);
        sink.committer(&context()).unwrap().commit(1, &[staged]).unwrap();
        let mut seen = Vec::new();
        for record in committed(&topic) {
            seen.push((record.timestamp, record.headers[0].1.clone().unwrap()));
        }
        assert_eq!(seen, [(now - HOUR, "0".to_owned()), (now - 2 * HOUR, "2".to_owned())]);
        let refused = writer.take_refused();
        let times: Vec<_> = refused.iter().map(|refused| refused.record.timestamp).collect();
        assert_eq!(times, [now + 5 * HOUR, now - 11 * HOUR].map(|millis| Some(millis * 1000)));
        assert_eq!(refused[0].record.headers, [Header::new("correlation-id", "1")]);
    }
}

#[test]
fn a_topic_with_times_of_its_own_takes_any() {
    let settings =
        [("message.timestamp.type", "LogAppendTime"), ("message.timestamp.after.max.ms", "1000")];
    let topic = topic(1, &settings);
    let (batch, _) = timed(&[0, 5 * HOUR]);
    let sink = timed_sink(&topic).exactly_once();
    let context = || context(&topic, 0, 1, batch.rows.schema());
    let mut writer = sink.writer(&context()).unwrap();
    let staged = write_epoch(writer.as_mut(), 1, &batch);
    assert_eq!(writer.take_refused(), []);
    sink.committer(&context()).unwrap().commit(1, &[staged]).unwrap();
    assert_eq!(committed(&topic).len(), 2);
}

#[test]
fn a_row_that_is_no_record_is_refused_as_it_came_in() {
    let topic = topic(1, &[]);
    let columns = [("k", texts(&[Some("a"), Some("b")])), ("v", texts(&[None, Some("b")]))];
    let origin = Origin {
        split: SplitId::new("orders/0"),
        records: Some(Arc::new(Incoming)),
        rows: Some(vec![7, 8].into()),
    };
    let batch =
        Batch { origin: Some(origin), ..Batch::new(RecordBatch::try_from_iter(columns).unwrap()) };
    // What an interceptor in front of the sink adds.
    let batch = batch.with_headers(vec![vec![Header::new("event-type", "new")]; 2]);
    let raw = || Format::parse("raw", &Default::default()).unwrap();
    let sink = KafkaSink::topic(&topic).brokers(brokers()).upsert(["k"]).key_format(raw());
    let sink = sink.values_without_key().format(raw());
    let mut writer = sink.writer(&context("refused", 0, 1, batch.rows.schema())).unwrap();
    write_epoch(writer.as_mut(), 1, &batch);
    let refused = writer.take_refused();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].split.as_str(), &refused[0].record), ("orders/0", &Incoming.record(7)));
    let kinds: Vec<_> = committed(&topic)
        .into_iter()
        .flat_map(|seen| seen.headers)
        .filter(|(name, _)| name == "event-type")
        .collect();
    assert_eq!(kinds, [("event-type".to_owned(), Some("new".to_owned()))]);
}

#[test]
fn many_small_records_fit_into_a_topic_for_small_ones() {
    let topic = topic(1, &[("max.message.bytes", "2000")]);
    let sink = KafkaSink::topic(&topic).brokers(brokers());
    let (seen, refused) = write(&sink, &topic, &rows(&["somebody"; 5_000], 0..5_000));
    assert_eq!((seen.len(), refused.len()), (5_000, 0));
}

#[test]
fn a_compacted_topic_takes_nothing_without_a_key() {
    let topic = topic(1, &[("cleanup.policy", "compact")]);
    let sink = KafkaSink::topic(&topic).brokers(brokers());
    let (seen, refused) = write(&sink, &topic, &rows(&["a"], [1]));
    assert_eq!(seen, []);
    assert!(refused[0].contains("no key"), "{refused:?}");
}

#[test]
fn raw_keys_and_values_are_bytes_and_null_is_none() {
    let topic = topic(1, &[]);
    let raw = || Format::parse("raw", &Default::default()).unwrap();
    let columns: [(&str, ArrayRef); 2] = [
        ("k", texts(&[Some("key"), None, Some("")])),
        ("v", Arc::new(BinaryViewArray::from(vec![Some(&b"value"[..]), Some(b""), None]))),
    ];
    let batch = Batch::new(RecordBatch::try_from_iter(columns).unwrap());
    let sink = KafkaSink::topic(&topic).brokers(brokers()).key(["k"]).key_format(raw());
    let sink = sink.values_without_key().format(raw());
    let (mut seen, refused) = write(&sink, &topic, &batch);
    seen.sort_by(|a, b| (&a.key, &a.payload).cmp(&(&b.key, &b.payload)));
    let pairs: Vec<_> = seen.iter().map(|s| (s.key.as_deref(), s.payload.as_deref())).collect();
    assert_eq!(pairs, [(None, Some("")), (Some(""), None), (Some("key"), Some("value"))]);
    assert_eq!(refused.len(), 0);
    let (_, refused) = write(&sink.upsert(["k"]), &topic, &batch);
    assert!(refused.len() == 1 && refused[0].contains("NULL"), "{refused:?}");
}

fn table(options: &[(&str, &str)], primary_key: Vec<usize>) -> TableSpec {
    let fields = ["user_id", "n"].map(|name| Field::new(name, DataType::Utf8View, true));
    let brokers = ("properties.bootstrap.servers", "127.0.0.1:1");
    TableSpec {
        name: "out".into(),
        schema: Arc::new(Schema::new(fields.to_vec())),
        metadata: Vec::new(),
        primary_key,
        partitioned_by: Vec::new(),
        options: options.iter().copied().chain([brokers]).collect(),
    }
}

#[test]
fn an_upsert_table_writes_its_primary_key_as_key() {
    let topic = topic(2, &[("cleanup.policy", "compact")]);
    let brokers = brokers();
    let options = [
        ("topic", topic.as_str()),
        ("key.format", "json"),
        ("value.format", "json"),
        ("value.fields-include", "EXCEPT_KEY"),
        ("properties.bootstrap.servers", &brokers),
    ];
    let mut table = table(&[], vec![0]);
    table.options = options.into_iter().collect();
    let sink = UpsertKafkaFactory.sink(&table).unwrap();
    assert_eq!(sink.guarantee(true).delivery, Delivery::EffectivelyOnce);
    let columns = [
        ("user_id", texts(&[Some("u"), Some("v"), Some("u")])),
        ("n", texts(&[Some("1"), Some("2"), Some("3")])),
    ];
    let batch = Batch::new(RecordBatch::try_from_iter(columns).unwrap());
    let (seen, _) = write(sink.as_ref(), &topic, &batch);
    let of_u: Vec<_> =
        seen.iter().filter(|s| s.key.as_deref() == Some(r#"{"user_id":"u"}"#)).collect();
    let payloads: Vec<_> = of_u.iter().map(|seen| seen.payload.as_deref().unwrap()).collect();
    assert_eq!(payloads, [r#"{"n":"1"}"#, r#"{"n":"3"}"#], "the last one of a key wins");
}

#[test]
fn wrong_options_are_refused_by_name() {
    let wrong = |factory: &dyn ConnectorFactory, table: &TableSpec| -> (String, Error) {
        let error = factory.sink(table).err().expect("the options are wrong");
        (error.wrong_option().unwrap_or_default().to_owned(), error)
    };
    let kafka = |options: &[(&str, &str)]| wrong(&KafkaFactory, &table(options, vec![])).0;
    let base = [("topic", "t"), ("format", "json")];
    let with = |more: &[(&'static str, &'static str)]| kafka(&[&base[..], more].concat());
    KafkaFactory.sink(&table(&base, vec![])).unwrap();
    assert_eq!(kafka(&[("format", "json")]), "topic");
    assert_eq!(kafka(&[("topic", "t")]), "format");
    assert_eq!(kafka(&[("topic", "a;b"), ("format", "json")]), "topic");
    assert_eq!(with(&[("sink.delivery-guarantee", "twice")]), "sink.delivery-guarantee");
    assert_eq!(with(&[("sink.partitioner", "mine")]), "sink.partitioner");
    assert_eq!(with(&[("sink.parallelism", "2")]), "sink.parallelism");
    assert_eq!(with(&[("key.fields", "user_id")]), "key.format");
    assert_eq!(with(&[("key.fields", "nobody"), ("key.format", "json")]), "key.fields");
    assert_eq!(with(&[("key.format", "json")]), "key.fields");
    assert_eq!(with(&[("properties.acks", "0")]), "properties.acks");
    assert_eq!(with(&[("properties.transactional.id", "x")]), "properties.transactional.id");
    let key = [("key.fields", "user_id"), ("key.format", "json"), ("key.fields-prefix", "k_")];
    assert_eq!(with(&key), "key.fields-prefix");
    let append = wrong(&KafkaFactory, &table(&base, vec![0]));
    assert!(append.1.to_string().contains("upsert-kafka"), "{}", append.1);
    let without_key = wrong(&UpsertKafkaFactory, &table(&base, vec![]));
    assert!(without_key.1.to_string().contains("PRIMARY KEY"), "{}", without_key.1);
    let read = UpsertKafkaFactory.source(&table(&base, vec![0])).err().unwrap();
    assert!(read.to_string().contains("cannot be read"), "{read}");
    let mut offset = table(&base, vec![]);
    offset.metadata = vec![(1, "offset".into())];
    assert!(wrong(&KafkaFactory, &offset).1.to_string().contains("VIRTUAL"));
}

#[test]
fn nothing_secret_is_described() {
    let options = [("properties.sasl.password", "canary"), ("properties.sasl.username", "u")];
    let sink =
        options.into_iter().fold(KafkaSink::topic("t").brokers("b:1"), |sink, (name, value)| {
            sink.property(name.trim_start_matches("properties."), value)
        });
    assert!(!format!("{} {sink:?}", sink.describe()).contains("canary"));
}
