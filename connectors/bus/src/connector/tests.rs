//! The same table over all three buses: what it writes, what it reads, where it goes on.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit};
use tidemill_core::Batch;
use tidemill_core::record::Header;
use tidemill_core::sink::{Delivery, Sink, Staged};
use tidemill_core::source::{Offset, Read, Source, SplitId};
use tidemill_core::table::{ConnectorFactory as _, Options, TableSpec};
use tidemill_core::testing::{reader_context, sink_context};
use tidemill_core::time::SystemClock;

use super::BusFactory;
use crate::conformance::wait;
use crate::{Event, connect};

const PATIENCE: Duration = Duration::from_secs(60);

fn unique(name: &str) -> String {
    format!("{name}-{:016x}", RandomState::new().build_hasher().finish())
}

/// The addresses of the buses, and a topic that all of them have.
fn buses(name: &str) -> Vec<(String, String)> {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let brokers = variable("KAFKA_BROKERS");
    let topic = unique(name);
    make_topic(&brokers, &topic);
    let addresses =
        [format!("memory://{topic}"), format!("kafka://{brokers}"), variable("REDIS_URL")];
    addresses.into_iter().map(|address| (address, topic.clone())).collect()
}

fn make_topic(brokers: &str, name: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let admin: AdminClient<rdkafka::client::DefaultClientContext> = config.create().unwrap();
    let topic = NewTopic::new(name, 4, TopicReplication::Fixed(1));
    wait(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
}

/// A table with columns of its own and metadata.
fn table(columns: &[(&str, DataType, Option<&str>)], options: &[(&str, &str)]) -> TableSpec {
    let field = |(name, data_type, _): &(&str, DataType, Option<&str>)| {
        Field::new(*name, data_type.clone(), true)
    };
    let metadata = columns.iter().enumerate();
    let metadata = metadata.filter_map(|(index, (_, _, key))| Some((index, (*key)?.to_owned())));
    TableSpec {
        name: "events".to_owned(),
        metadata: metadata.collect(),
        schema: Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: options.iter().copied().collect::<Options>(),
    }
}

fn orders(bus: &str, topic: &str, more: &[(&str, &str)]) -> TableSpec {
    let columns = [("id", DataType::Utf8View, None), ("n", DataType::Int64, None)];
    let mut options = vec![("bus", bus), ("topic", topic), ("format", "json")];
    options.extend(more);
    table(&columns, &options)
}

fn rows(schema: &SchemaRef, numbers: std::ops::Range<i64>) -> Batch {
    let ids = numbers.clone().map(|n| Some(format!("order-{}", n % 10)));
    let ids: StringViewArray = ids.collect();
    let numbers = Int64Array::from_iter_values(numbers);
    let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(numbers)]);
    Batch::new(rows.unwrap())
}

/// Writes and stages; the staged output.
fn stage(sink: &dyn Sink, schema: &SchemaRef, numbers: std::ops::Range<i64>) -> Staged {
    let mut writer = sink.writer(&sink_context(0, 1, schema.clone())).unwrap();
    let begun = Instant::now();
    while writer.poll_ready().unwrap().is_pending() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    writer.write(&rows(schema, numbers)).unwrap();
    loop {
        assert!(begun.elapsed() < PATIENCE, "the epoch is never staged");
        if let Poll::Ready(staged) = writer.poll_stage(1).unwrap() {
            return staged;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Reads every split from `from` on until so many rows have come: the batches, and where each ends.
fn read(
    source: &dyn Source,
    from: &[(SplitId, Offset)],
    wanted: usize,
) -> (Vec<RecordBatch>, Vec<(SplitId, Offset)>) {
    let context = reader_context(Arc::new(SystemClock::default()));
    let mut readers: Vec<_> = source
        .splits()
        .unwrap()
        .into_iter()
        .map(|split| {
            let from = from.iter().find(|(of, _)| *of == split).map(|(_, offset)| offset);
            let reader = source.open(&split, from, &context).unwrap();
            (split, reader)
        })
        .collect();
    let (mut batches, begun) = (Vec::new(), Instant::now());
    let count = |batches: &[RecordBatch]| batches.iter().map(|b| b.num_rows()).sum::<usize>();
    while count(&batches) < wanted {
        assert!(begun.elapsed() < PATIENCE, "only {} rows have come", count(&batches));
        for (_, reader) in &mut readers {
            if let Read::Batch(batch) = reader.read(100).unwrap() {
                assert!(batch.dead_letters.is_empty(), "{:?}", batch.dead_letters);
                batches.push(batch.rows);
            }
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert_eq!(count(&batches), wanted);
    (batches, readers.iter().map(|(split, reader)| (split.clone(), reader.offset())).collect())
}

fn numbers(batches: &[RecordBatch]) -> BTreeSet<i64> {
    let column = |batch: &RecordBatch| batch.column_by_name("n").unwrap().clone();
    let values = batches
        .iter()
        .flat_map(|batch| column(batch).as_primitive::<Int64Type>().values().to_vec());
    values.collect()
}

#[test]
fn what_a_table_writes_it_reads_and_goes_on_where_a_checkpoint_says() {
    for (bus, topic) in buses("bus-table") {
        let key = [("key.fields", "id"), ("scan.startup.mode", "earliest-offset")];
        let table = orders(&bus, &topic, &key);
        let sink = BusFactory.sink(&table).unwrap();
        let commit = |epoch, staged: Staged| {
            let mut committer = sink.committer(&sink_context(0, 2, table.schema.clone())).unwrap();
            committer.commit(epoch, std::slice::from_ref(&staged)).unwrap();
        };
        commit(1, stage(sink.as_ref(), &table.schema, 0..60));
        let source = BusFactory.source(&table).unwrap();
        let (batches, offsets) = read(source.as_ref(), &[], 60);
        assert_eq!(numbers(&batches), (0..60).collect(), "{bus}");
        source.checkpointed(1, &offsets).unwrap();
        commit(2, stage(sink.as_ref(), &table.schema, 60..100));
        drop(source);
        let source = BusFactory.source(&table).unwrap();
        let (batches, _) = read(source.as_ref(), &offsets, 40);
        assert_eq!(numbers(&batches), (60..100).collect(), "{bus}");
    }
}

#[test]
fn metadata_are_the_same_on_every_bus() {
    let text = DataType::Utf8View;
    let columns = [
        ("n", DataType::Int64, None),
        ("topic", text.clone(), Some("topic")),
        ("partition", DataType::Int32, Some("partition")),
        ("offset", text.clone(), Some("offset")),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), Some("timestamp")),
        ("key", DataType::BinaryView, Some("key")),
        ("kind", text, Some("header.event-type")),
    ];
    for (bus, topic) in buses("bus-metadata") {
        let published = connect(&bus).unwrap();
        let mut receipts = Vec::new();
        for n in 0..8 {
            let event = Event::keyed(format!("key-{n}"), format!("{{\"n\": {n}}}"));
            let event = event.with_header("event-type", format!("Kind{n}.v1"));
            receipts.push(wait(published.publish(&topic, event)).unwrap());
        }
        let options = [
            ("bus", bus.as_str()),
            ("topic", &topic),
            ("format", "json"),
            ("scan.startup.mode", "earliest-offset"),
        ];
        let source = BusFactory.source(&table(&columns, &options)).unwrap();
        let (batches, _) = read(source.as_ref(), &[], 8);
        for batch in &batches {
            assert_eq!(batch.schema(), source.schema());
            let text = |name: &str| batch.column_by_name(name).unwrap().as_string_view().clone();
            for row in 0..batch.num_rows() {
                let n = batch.column(0).as_primitive::<Int64Type>().value(row);
                let receipt = &receipts[n as usize];
                let partition = batch.column(2).as_primitive::<Int32Type>().value(row);
                assert_eq!(text("topic").value(row), topic, "{bus}");
                assert_eq!(partition as u32, receipt.partition, "{bus}");
                assert_eq!(text("offset").value(row), receipt.offset.0, "{bus}");
                assert!(batch.column(4).is_valid(row), "{bus}");
                let key = batch.column(5).as_binary_view().value(row);
                assert_eq!(key, format!("key-{n}").as_bytes(), "{bus}");
                assert_eq!(text("kind").value(row), format!("Kind{n}.v1"), "{bus}");
            }
        }
    }
}

#[test]
fn keys_headers_and_payloads_are_the_same_on_every_bus() {
    let text = DataType::Utf8View;
    let columns = [
        ("id", text.clone(), None),
        ("n", DataType::Int64, None),
        ("kind", text, Some("header.event-type")),
    ];
    for (key, expected) in [("id", "order-1"), ("id;n", r#"{"id":"order-1","n":1}"#)] {
        for (bus, topic) in buses("bus-keys") {
            let options =
                [("bus", bus.as_str()), ("topic", &topic), ("format", "json"), ("key.fields", key)];
            let table = table(&columns, &options);
            let sink = BusFactory.sink(&table).unwrap();
            let mut plain = rows(&orders(&bus, &topic, &[]).schema, 1..2).rows.columns().to_vec();
            plain.push(Arc::new(StringViewArray::from_iter_values(["Kind.v1"])));
            let row = RecordBatch::try_new(table.schema.clone(), plain).unwrap();
            let mut context = sink_context(0, 1, table.schema.clone());
            context.checkpointed = false;
            let mut writer = sink.writer(&context).unwrap();
            writer.write(&Batch::new(row)).unwrap();
            let begun = Instant::now();
            while writer.poll_stage(1).unwrap().is_pending() {
                assert!(begun.elapsed() < PATIENCE);
                std::thread::park_timeout(Duration::from_millis(1));
            }
            let bus_itself = connect(&bus).unwrap();
            let mut all = wait(bus_itself.replay(&topic, crate::Start::Earliest)).unwrap();
            let event = wait(all.next()).unwrap().unwrap().event;
            assert_eq!(event.key.as_deref(), Some(expected.as_bytes()), "{bus}");
            assert_eq!(event.body(), br#"{"id":"order-1","n":1}"#, "{bus}");
            assert_eq!(event.headers, [Header::new("event-type", "Kind.v1")], "{bus}");
        }
    }
}

#[test]
fn an_epoch_in_memory_is_visible_once_and_not_before_its_commit() {
    let topic = unique("bus-epoch");
    let bus = format!("memory://{topic}");
    let table =
        orders(&bus, &topic, &[("key.fields", "id"), ("scan.bounded.mode", "latest-offset")]);
    let held = || {
        let source = BusFactory.source(&table).unwrap();
        let context = reader_context(Arc::new(SystemClock::default()));
        let mut rows = 0;
        for split in source.splits().unwrap() {
            let mut reader = source.open(&split, None, &context).unwrap();
            while let Read::Batch(batch) = reader.read(7).unwrap() {
                rows += batch.rows.num_rows();
            }
        }
        rows
    };
    let sink = BusFactory.sink(&table).unwrap();
    assert_eq!(sink.guarantee(true).delivery, Delivery::ExactlyOnce);
    let staged = stage(sink.as_ref(), &table.schema, 0..10);
    assert_eq!(held(), 0);
    let committer = |first| sink.committer(&sink_context(0, first, table.schema.clone())).unwrap();
    let mut first = committer(1);
    assert_eq!(first.committed().unwrap(), None);
    first.commit(1, &[staged.clone(), staged.clone()]).unwrap();
    assert_eq!(held(), 20);
    let mut restored = committer(2);
    assert_eq!(restored.committed().unwrap(), Some(1));
    restored.commit(1, std::slice::from_ref(&staged)).unwrap();
    assert_eq!(held(), 20, "again is once");
    committer(1).commit(1, &[staged]).unwrap();
    assert_eq!(held(), 30, "another run of the job counts from 1 again");
}

#[test]
fn a_job_holds_publishers_up_until_a_checkpoint_has_what_it_read() {
    for checkpointed in [true, false] {
        let topic = unique("bus-hold");
        let bus = format!("memory://{topic}?partitions=1&capacity=2");
        let source = BusFactory.source(&orders(&bus, &topic, &[])).unwrap();
        let [split] = &source.splits().unwrap()[..] else { panic!("one partition") };
        let mut context = reader_context(Arc::new(SystemClock::default()));
        context.checkpointed = checkpointed;
        let mut reader = source.open(split, None, &context).unwrap();
        let published = connect(&bus).unwrap();
        let publish = || {
            use futures::FutureExt as _;
            published.publish(&topic, Event::new(r#"{"n":1}"#)).now_or_never().is_some()
        };
        assert!(publish() && publish() && !publish());
        assert!(matches!(reader.read(10).unwrap(), Read::Batch(_)));
        if !checkpointed {
            assert!(publish() && publish(), "there are no checkpoints: what is read may go");
            continue;
        }
        assert!(!publish(), "a crash before the first checkpoint would read it again");
        for epoch in 1..4 {
            source.checkpointed(epoch, &[(split.clone(), reader.offset())]).unwrap();
            assert!(publish() && publish());
            assert!(matches!(reader.read(10).unwrap(), Read::Batch(_)));
            assert!(!publish(), "a crash would read it again");
        }
    }
}

#[test]
fn a_job_is_told_apart_by_its_bus_and_not_by_the_word_bus() {
    let brokers = std::env::var("KAFKA_BROKERS").unwrap();
    let redis = std::env::var("REDIS_URL").unwrap();
    let buses =
        [("memory://m", "bus"), (&format!("kafka://{brokers}"), "kafka"), (&redis, "redis")];
    for (bus, connector) in buses {
        let table = orders(bus, "t", &[]);
        let said = [
            BusFactory.source(&table).unwrap().describe(),
            BusFactory.sink(&table).unwrap().describe(),
        ];
        for said in said {
            let word = said.split(' ').next().unwrap();
            assert!(word.starts_with(connector), "{said}");
        }
    }
    let source = BusFactory.source(&orders("memory://m", "orders", &[])).unwrap();
    assert_eq!(source.splits().unwrap()[0].as_str(), "memory/orders/0");
}

#[test]
fn lag_is_told_of_what_a_group_has_read_on_a_server() {
    for (bus, topic) in buses("bus-lag") {
        let published = connect(&bus).unwrap();
        for n in 0..8 {
            wait(published.publish(&topic, Event::keyed(format!("key-{n}"), "{}"))).unwrap();
        }
        let table = orders(&bus, &topic, &[("group", "readers")]);
        let lag = BusFactory.lag(&table, "job").unwrap();
        if bus.starts_with("memory") {
            assert_eq!(lag, None);
            continue;
        }
        let lag = lag.unwrap();
        assert_eq!((lag.group.as_str(), lag.splits.len()), ("readers", 4), "{bus}");
        assert!(lag.splits.iter().all(|split| split.split.contains(&topic)), "{lag:?}");
        assert!(lag.splits.iter().any(|split| split.start != split.end), "{lag:?}");
    }
}

#[test]
fn mistakes_name_the_option_that_the_user_wrote() {
    let wrong = |options: &[(&str, &str)]| {
        let mut all = vec![("bus", "memory://m"), ("topic", "t"), ("format", "json")];
        for (name, value) in options {
            all.retain(|(other, _)| other != name);
            all.push((name, value));
        }
        all.retain(|(_, value)| !value.is_empty());
        let columns = [("id", DataType::Utf8View, None), ("n", DataType::Int64, None)];
        let table = table(&columns, &all);
        let error = BusFactory.source(&table).map(|_| ()).err();
        let error = error.or_else(|| BusFactory.sink(&table).map(|_| ()).err()).unwrap();
        (error.wrong_option().unwrap_or_default().to_owned(), error.to_string())
    };
    for bus in ["memory://m", "kafka://h:9092", "redis://h:6379"] {
        for (options, named) in [
            ([("bus", bus), ("topic", "")], "topic"),
            ([("bus", bus), ("topic", "a b")], "topic"),
            ([("bus", bus), ("topic", "a;a")], "topic"),
            ([("bus", bus), ("topic", "a;b")], "topic"),
            ([("bus", bus), ("format", "")], "format"),
            ([("bus", bus), ("format", "xml")], "format"),
            ([("bus", bus), ("key.fields", "x")], "key.fields"),
            ([("bus", bus), ("key.fields", "n")], "key.fields"),
            ([("bus", bus), ("scan.startup.mode", "x")], "scan.startup.mode"),
            ([("bus", bus), ("sink.delivery-guarantee", "x")], "sink.delivery-guarantee"),
        ] {
            let (option, message) = wrong(&options);
            assert_eq!(option, named, "{bus}: {options:?}: {message}");
        }
    }
    assert_eq!(wrong(&[("bus", "amqp://h")]).0, "bus");
    assert_eq!(wrong(&[("bus", "redis://h:1?partitions=x")]).0, "bus");
    let (option, message) = wrong(&[("bus", "kafka://h:9092?linger.mss=5")]);
    assert!(option.contains("linger.mss") && message.contains("linger.ms"), "{option}: {message}");
}

#[test]
fn a_topic_of_redis_with_other_partitions_is_refused_before_the_job_starts() {
    let redis = std::env::var("REDIS_URL").unwrap();
    let topic = unique("bus-partitions");
    let eight = connect(&format!("{redis}?partitions=8")).unwrap();
    wait(eight.publish(&topic, Event::new("{}"))).unwrap();
    let error = BusFactory.source(&orders(&redis, &topic, &[])).unwrap().splits().unwrap_err();
    assert_eq!(error.wrong_option(), Some("bus"));
    assert!(error.to_string().contains("?partitions=8"), "{error}");
    let source = BusFactory.source(&orders(&format!("{redis}?partitions=8"), &topic, &[])).unwrap();
    assert_eq!(source.splits().unwrap().len(), 8);
}
