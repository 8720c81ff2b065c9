//! Bad records from end to end: counted exactly, kept byte for byte, replayed after the fix; through files and
//! through a real broker.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use tidemill::core::{Error, ErrorKind};
use tidemill::kafka::dead_letter::{Address, LetterTopic, Stored};
use tidemill::prelude::*;
use tidemill::runtime::CrashPoint;
use tidemill::testing::crash_at;

use crate::command::{Ended, file, run_job, tidemill};
use crate::kafka::broker::Broker;

/// How many records of a hundred are malformed.
const MALFORMED: u64 = 1;

/// `TIDEMILL_DEAD_LETTER_RECORDS` sets how many records go through the topic.
fn records() -> u64 {
    let records = std::env::var("TIDEMILL_DEAD_LETTER_RECORDS").ok();
    records.map_or(20_000, |records| records.parse().expect("a number of records"))
}

fn dlq(arguments: &[&str]) -> Ended {
    tidemill(["dlq"].iter().chain(arguments).chain(&["-o", "json"]))
}

/// The one JSON value that a command printed.
fn value(ended: Ended) -> Value {
    let ended = ended.expect(0);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.stdout))
}

fn letters(groups: &[Value]) -> u64 {
    groups.iter().map(|group| group["letters"].as_u64().unwrap()).sum()
}

fn is_malformed(n: u64) -> bool {
    n % 100 < MALFORMED
}

/// Order `n`; a malformed one lacks its last character.
fn payload(n: u64) -> String {
    let whole = format!(r#"{{"who":"u{}","amount":{},"ms":{n}}}"#, n % 50, n % 7);
    if is_malformed(n) { whole[..whole.len() - 1].to_owned() } else { whole }
}

/// Sends orders with their keys and correlation ids.
fn produce(topic: &str, orders: std::ops::Range<u64>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", Broker::shared().addresses())
        .set("queue.buffering.max.messages", "2000000")
        .set("linger.ms", "20")
        .create()
        .unwrap();
    for n in orders {
        let (key, payload, id) = (format!("u{}", n % 50), payload(n), n.to_string());
        let header = Header { key: "correlation-id", value: Some(id.as_bytes()) };
        let record = BaseRecord::to(topic).key(&key).payload(&payload);
        let record = record.headers(OwnedHeaders::new().insert(header));
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(120)).unwrap();
}

/// Counts and sums the orders of a topic, each job of its own name; dead letters into `letters`.
fn count(folder: &Path, name: &str, orders: &str, letters: &str, options: &str) -> Ended {
    let brokers = Broker::shared();
    let brokers = brokers.addresses();
    let sql = format!(
        "SET 'pipeline.name' = '{name}';
         SET 'dead-letters' = 'kafka://{brokers}/{letters}';
         CREATE TABLE orders (who STRING, amount BIGINT, ms BIGINT,
                              ts AS TO_TIMESTAMP_LTZ(ms, 3), WATERMARK FOR ts AS ts - INTERVAL '1' DAY)
         WITH ('connector' = 'kafka', 'topic' = '{orders}', 'properties.bootstrap.servers' = '{brokers}',
               'scan.bounded.mode' = 'latest-offset', 'format' = 'json'{options});
         CREATE TABLE totals (who STRING, n BIGINT, total BIGINT) WITH ('connector' = 'print');
         INSERT INTO totals SELECT who, COUNT(*), SUM(amount)
         FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' DAY))
         GROUP BY window_start, window_end, who;"
    );
    let checkpoints = folder.join(name);
    run_job(folder, &sql, &["--checkpoint-dir", checkpoints.to_str().unwrap()]).expect(0)
}

const EARLIEST: &str = ", 'scan.startup.mode' = 'earliest-offset'";

/// What a program without any engine makes of the orders.
fn totals(orders: impl Iterator<Item = u64>) -> BTreeMap<String, (u64, u64)> {
    let mut totals = BTreeMap::new();
    for n in orders {
        let (count, total) = totals.entry(format!("u{}", n % 50)).or_insert((0, 0));
        *count += 1;
        *total += n % 7;
    }
    totals
}

fn found(ended: &Ended) -> BTreeMap<String, (u64, u64)> {
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
    let total = |row: &Value| {
        let who = row["who"].as_str().unwrap().to_owned();
        (who, (number(row, "n"), number(row, "total")))
    };
    ended.results().iter().map(total).collect()
}

#[test]
fn one_percent_malformed_is_counted_exactly_and_after_the_fix_totals_are_equal() {
    let (folder, broker, all) = (tempfile::tempdir().unwrap(), Broker::shared(), records());
    let (orders, repair) = (broker.topic("orders", 3), broker.topic("repair", 1));
    let letters_of = |name: &str| format!("{}-{name}-letters", orders.name());
    let place = |topic: &str| format!("kafka://{}/{topic}", broker.addresses());
    produce(orders.name(), 0..all);
    let bad = (0..all).filter(|n| is_malformed(*n)).count() as u64;

    let first = count(folder.path(), "before", orders.name(), &letters_of("before"), EARLIEST);
    assert_eq!(first.sums(), [all, all - bad, 0, bad, 0]);
    assert_eq!(found(&first), totals((0..all).filter(|n| !is_malformed(*n))));

    let dead = place(&letters_of("before"));
    let groups = dlq(&["ls", &dead]).expect(0).results();
    assert_eq!(letters(&groups), bad);
    assert!(groups.iter().all(|group| group["job"] == "before" && group["class"] == "permanent"));
    let one = value(dlq(&["show", &dead, groups[0]["example"].as_str().unwrap()]));
    let n: u64 = one["headers"][0]["value"].as_str().unwrap().parse().unwrap();
    assert!(is_malformed(n), "{one}");
    assert_eq!(one["payload"], payload(n));
    assert_eq!(
        (&one["key"], &one["headers"][0]["name"]),
        (&format!("u{}", n % 50).into(), &"correlation-id".into())
    );

    let to = place(repair.name());
    let replay = ["replay", &dead, "--to", &to];
    let pretended = value(dlq(&[&replay[..], &["--dry-run"]].concat()));
    assert_eq!((pretended["sent"].as_u64(), repair.ends_of_all()), (Some(bad), 0));
    assert_eq!(value(dlq(&replay))["sent"], bad);
    assert_eq!(value(dlq(&replay))["sent"], 0, "a second replay sends nothing again");
    assert_eq!(repair.ends_of_all(), bad);

    let _ = fix(folder.path(), repair.name(), orders.name()).expect(0);
    let after = count(folder.path(), "after", orders.name(), &letters_of("after"), EARLIEST);
    assert_eq!(after.sums(), [all + bad, all, 0, bad, 0]);
    assert_eq!(found(&after), totals(0..all));
}

/// Puts back what malformed orders lack.
fn fix(folder: &Path, from: &str, to: &str) -> Ended {
    let brokers = Broker::shared();
    let brokers = brokers.addresses();
    let sql = format!(
        "SET 'pipeline.name' = 'fix';
         CREATE TABLE broken (line STRING, k BYTES METADATA FROM 'key' VIRTUAL)
         WITH ('connector' = 'kafka', 'topic' = '{from}', 'properties.bootstrap.servers' = '{brokers}',
               'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
               'format' = 'raw');
         CREATE TABLE orders (k BYTES, line STRING)
         WITH ('connector' = 'kafka', 'topic' = '{to}', 'properties.bootstrap.servers' = '{brokers}',
               'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'raw',
               'value.fields-include' = 'EXCEPT_KEY');
         INSERT INTO orders SELECT k, line || '}}' FROM broken;"
    );
    run_job(folder, &sql, &[])
}

trait Ends {
    /// How many records readers of committed records see.
    fn ends_of_all(&self) -> u64;
}

impl Ends for crate::kafka::broker::Topic {
    fn ends_of_all(&self) -> u64 {
        self.ends(crate::kafka::broker::Isolation::Committed).iter().map(|end| *end as u64).sum()
    }
}

#[test]
fn a_record_that_fails_again_and_again_is_replayed_so_often_and_no_more() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::shared());
    let orders = broker.topic("stubborn", 1);
    let letters_topic = format!("{}-letters", orders.name());
    let dead = format!("kafka://{}/{letters_topic}", broker.addresses());
    produce(orders.name(), 0..300);
    // Each round goes on where the group has come to.
    let options = format!(
        ", 'scan.startup.mode' = 'group-offsets', 'properties.group.id' = '{}',
           'properties.auto.offset.reset' = 'earliest'",
        orders.name()
    );
    let names = ["round-1", "round-2", "round-3"];
    let mut rounds = names
        .into_iter()
        .map(|name| count(folder.path(), name, orders.name(), &letters_topic, &options).sums());
    let replay = || value(dlq(&["replay", &dead, "--max-replays", "2"]));
    assert_eq!(rounds.next(), Some([300, 297, 0, 3, 0]));
    assert_eq!(replay()["sent"], 3);
    assert_eq!(rounds.next(), Some([3, 0, 0, 3, 0]));
    assert_eq!(replay()["sent"], 3);
    assert_eq!(rounds.next(), Some([3, 0, 0, 3, 0]));
    let last = replay();
    assert_eq!((&last["sent"], &last["at_maximum"]), (&0.into(), &3.into()), "{last}");
    let show = |offset: &str| value(dlq(&["show", &dead, offset]));
    let groups = dlq(&["ls", &dead]).expect(0).results();
    assert_eq!(letters(&groups), 9);
    let newest = groups.iter().find(|group| group["job"] == "round-3").unwrap();
    let newest = show(newest["example"].as_str().unwrap());
    assert_eq!(newest["replays"], 2);
    let malformed: Vec<String> = (0..300).filter(|n| is_malformed(*n)).map(payload).collect();
    assert!(malformed.iter().any(|payload| newest["payload"] == *payload), "{newest}");
}

#[test]
fn what_may_have_been_replayed_and_forgotten_is_not_sent_unasked() {
    let broker = Broker::shared();
    let (dead, target) = (broker.topic("old-letters", 1), broker.topic("again", 1));
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.addresses()).create().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    for (payload, days) in [("old", 8), ("new", 6)] {
        let failed_at = arrow::temporal_conversions::timestamp_s_to_datetime(now - days * 86_400);
        let failed_at = failed_at.unwrap().and_utc().to_rfc3339();
        let header = Header { key: "tidemill.failed-at", value: Some(failed_at.as_bytes()) };
        let record = BaseRecord::<(), str>::to(dead.name()).payload(payload);
        let record = record.headers(OwnedHeaders::new().insert(header));
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(120)).unwrap();

    let place = |topic: &str| format!("kafka://{}/{topic}", broker.addresses());
    let (from, to) = (place(dead.name()), place(target.name()));
    let replay = |group: &str, more: &[&str]| {
        let group = format!("{}-{group}", dead.name());
        dlq(&[&["replay", &from, "--to", &to, "--group", &group][..], more].concat())
    };
    for more in [&[][..], &["--dry-run"]] {
        let refused = replay("first", more).expect(78).stderr;
        assert!(refused.contains("--from-start") && refused.contains("0:0"), "{refused}");
    }
    assert_eq!(target.ends_of_all(), 0);
    assert_eq!(value(replay("recent", &["--since", "7d"]))["sent"], 1);
    assert_eq!(value(replay("first", &["--from-start"]))["sent"], 2);
    assert_eq!(value(replay("first", &[]))["sent"], 0, "a group that remembers needs no flag");
    assert_eq!(target.ends_of_all(), 3);
}

#[test]
fn letters_in_a_folder_are_counted_shown_and_replayed_into_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..1_000).map(|n| payload(n) + "\n").collect();
    file(folder.path(), "orders.json", lines);
    let sql = "SET 'pipeline.name' = 'files';
               CREATE TABLE orders (who STRING, amount BIGINT)
               WITH ('connector' = 'filesystem', 'path' = '{folder}/orders.json', 'format' = 'json');
               CREATE TABLE o (n BIGINT) WITH ('connector' = 'blackhole');
               INSERT INTO o SELECT 10 / (amount - 6) FROM orders;";
    let checkpoints = folder.path().join("checkpoints");
    let ended = run_job(folder.path(), sql, &["--checkpoint-dir", checkpoints.to_str().unwrap()]);
    // Beside the malformed ones, those that divide by zero.
    let divided = (0..1_000).filter(|n| n % 7 == 6 && !is_malformed(*n)).count() as u64;
    assert_eq!(ended.expect(0).sums(), [1_000, 990 - divided, 0, 10 + divided, 0]);

    let place = checkpoints.join("dead-letters/files");
    let place = place.to_str().unwrap();
    let groups = dlq(&["ls", place]).expect(0).results();
    assert_eq!(letters(&groups), 10 + divided);
    assert_eq!(groups.len(), 2, "where a line breaks off makes no kind of its own: {groups:?}");
    let of_source = dlq(&["ls", place, "--operator", "orders"]).expect(0).results();
    assert_eq!(letters(&of_source), 10);
    let one = value(dlq(&["show", place, of_source[0]["example"].as_str().unwrap()]));
    let line = one["position"].as_str().unwrap().strip_prefix("line ").unwrap();
    assert_eq!(one["payload"], payload(line.parse::<u64>().unwrap() - 1));

    let target = folder.path().join("again.json");
    let to = target.to_str().unwrap();
    let some = value(dlq(&["replay", place, "--to", to, "--operator", "orders"]));
    assert_eq!((&some["sent"], &some["filtered"]), (&10.into(), &divided.into()), "{some}");
    let all = value(dlq(&["replay", place, "--to", to]));
    assert_eq!((&all["sent"], &all["refused"]), (&divided.into(), &0.into()), "{all}");
    assert_eq!(value(dlq(&["replay", place, "--to", to]))["sent"], 0);
    let mut sent: Vec<String> =
        std::fs::read_to_string(target).unwrap().lines().map(str::to_owned).collect();
    let is_dead = |n: &u64| is_malformed(*n) || n % 7 == 6;
    let mut dead: Vec<String> = (0..1_000).filter(is_dead).map(payload).collect();
    sent.sort();
    dead.sort();
    assert_eq!(sent, dead);
    let nowhere = value(dlq(&["replay", place, "--group", "other", "--dry-run"]));
    assert_eq!(nowhere["without_topic"], 10 + divided, "files are no topics: {nowhere}");
    let missing = dlq(&["ls", "no/such/folder"]).expect(78);
    assert!(missing.stderr.contains("no/such/folder"), "{}", missing.stderr);
}

/// Copies orders from topic to topic, the ids of messages with them.
fn copy(folder: &Path, from: &str, to: &str, interceptors: &str) -> Ended {
    let brokers = Broker::shared();
    let brokers = brokers.addresses();
    let sql = format!(
        "SET 'pipeline.name' = 'copy';
         CREATE TABLE orders (who STRING, amount BIGINT)
         WITH ('connector' = 'kafka', 'topic' = '{from}', 'properties.bootstrap.servers' = '{brokers}',
               'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
               'format' = 'json', 'on-error' = 'skip', 'interceptors' = 'logging, metrics');
         CREATE TABLE copies (who STRING, amount BIGINT)
         WITH ('connector' = 'kafka', 'topic' = '{to}', 'properties.bootstrap.servers' = '{brokers}',
               'format' = 'json', 'interceptors' = '{interceptors}');
         INSERT INTO copies SELECT who, amount + 1 FROM orders WHERE amount > 1;"
    );
    run_job(folder, &sql, &[])
}

/// The headers of each record of a topic, in order of their correlation ids.
fn headers(topic: &str) -> Vec<BTreeMap<String, String>> {
    let brokers = Broker::shared().addresses().to_owned();
    let address = Address { brokers, topic: Some(topic.to_owned()) };
    let mut found = Vec::new();
    let mut each = |stored: Stored| {
        let headers = stored.letter.letter.record.headers.into_iter();
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
        found.push(headers.map(|header| (header.name, text(header.value))).collect());
        Ok(true)
    };
    LetterTopic::open(&address, "e2e").unwrap().read(0, 0, &mut each).unwrap();
    found.sort_by_key(|headers: &BTreeMap<String, String>| headers["correlation-id"].clone());
    found
}

#[test]
fn ids_of_messages_follow_from_the_input_through_filters_and_projections() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::shared());
    let orders = broker.topic("ids", 1);
    produce(orders.name(), 0..200);
    let copies = ["once", "again"].map(|name| broker.topic(name, 1));
    for topic in &copies {
        let _ = copy(folder.path(), orders.name(), topic.name(), "headers").expect(0);
    }
    let found = headers(copies[0].name());
    let mut kept: Vec<String> =
        (0..200).filter(|n| n % 7 > 1 && !is_malformed(*n)).map(|n| n.to_string()).collect();
    kept.sort();
    let ids: Vec<&String> = found.iter().map(|headers| &headers["correlation-id"]).collect();
    assert_eq!(ids, kept.iter().collect::<Vec<_>>());
    let messages: std::collections::BTreeSet<&String> =
        found.iter().map(|headers| &headers["message-id"]).collect();
    assert_eq!(messages.len(), kept.len());
    assert!(found.iter().all(|headers| headers["causation-id"] != headers["message-id"]));
    assert_eq!(headers(copies[1].name()), found, "another run writes the same ids");
    let ended = copy(folder.path(), orders.name(), copies[0].name(), "heders").expect(78);
    assert!(ended.stderr.contains("there is no interceptor 'heders'"), "{}", ended.stderr);
}

/// Numbers from 0 on, in two splits.
fn numbers(count: i64) -> MemorySource {
    let columns = schema([("n", DataType::Int64)]);
    let batch = |start: i64| {
        let numbers: Int64Array = (start..count.min(start + 200)).step_by(2).collect();
        RecordBatch::try_new(columns.clone(), vec![Arc::new(numbers)]).unwrap()
    };
    let split = |first: i64| (first..count).step_by(200).map(batch).collect();
    MemorySource::new(columns.clone(), vec![split(0), split(1)])
}

fn collected(rows: &[RecordBatch]) -> Vec<i64> {
    let columns = rows.iter().map(|rows| rows.column(0).as_primitive::<Int64Type>());
    let mut numbers: Vec<i64> = columns.flat_map(|column| column.values().to_vec()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn no_crash_loses_or_doubles_a_letter() {
    const ROWS: i64 = 2_000;
    let broker = Broker::shared();
    let points = [CrashPoint::BeforePublish, CrashPoint::BeforeCommit, CrashPoint::AfterCommit];
    for (n, point) in points.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let topic = format!("{}-{n}", broker.topic("crash", 1).name());
        let address = Address { brokers: broker.addresses().to_owned(), topic: Some(topic) };
        let (results, sink) = collect();
        let job = || {
            let mut job = Job::named("crash");
            let function = |n: i64| match n % 10 {
                3 => Err(Error::permanent(format!("{n} is bad"))),
                _ => Ok(n),
            };
            job.source(numbers(ROWS))
                .rate_limit(10_000)
                .map_rows(schema([("n", DataType::Int64)]), move |row: Number| {
                    function(row.n).map(|n| Number { n })
                })
                .sink(results.sink());
            job.checkpoints(folder.path().to_str().unwrap(), Duration::from_millis(20));
            job.dead_letters(address.to_string());
            job.settings().batch_rows = 50;
            job
        };
        drop(sink);
        let mut crashing = job();
        crash_at(&mut crashing, 2, point);
        assert!(crashing.run_blocking().is_err());
        let summary = job().run_blocking().unwrap();
        assert!(summary.ledgers.iter().all(|ledger| ledger.balances()));
        assert_eq!(summary.ledgers[0].dead_letters, 200);

        let good: Vec<i64> = (0..ROWS).filter(|n| n % 10 != 3).collect();
        assert_eq!(collected(&results.batches()), good, "{point:?}");
        let letters = LetterTopic::open(&address, "e2e").unwrap();
        let mut dead = Vec::new();
        let mut each = |stored: Stored| {
            let letter = stored.letter.letter;
            let row: Value = serde_json::from_slice(&letter.record.payload.unwrap()).unwrap();
            assert_eq!(letter.reason, format!("{} is bad", row["n"]));
            dead.push(row["n"].as_i64().unwrap());
            Ok(true)
        };
        letters.read(0, 0, &mut each).unwrap();
        dead.sort_unstable();
        let bad: Vec<i64> = (0..ROWS).filter(|n| n % 10 == 3).collect();
        assert_eq!(dead, bad, "{point:?}");
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Number {
    n: i64,
}

#[test]
fn a_function_sorts_its_rows_by_what_went_wrong() {
    let (results, sink) = collect();
    let (declined, declined_sink) = collect();
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::named("sorting");
    let booked = job
        .source(numbers(100))
        .map_rows(schema([("n", DataType::Int64)]), |row: Number| match row.n % 10 {
            1 => Err(Error::business("fully booked")),
            2 => Err(Error::permanent("no such hotel")),
            3 => Err(Error::transient("the hotel does not answer")),
            _ => Ok(row),
        })
        .retry(RetryPolicy::never());
    booked.declined().sink(declined_sink);
    booked.sink(sink);
    job.dead_letters(folder.path().to_str().unwrap());
    let summary = job.run_blocking().unwrap();
    let ledger = &summary.ledgers[0];
    assert_eq!((ledger.records_in, ledger.counted), (100, 70));
    assert_eq!((ledger.dead_letters, ledger.filtered), (20, 10), "{ledger:?}");
    assert!(ledger.balances());
    assert_eq!(collected(&results.batches()).len(), 70);
    assert_eq!(
        collected(&declined.batches()),
        (0..100).filter(|n| n % 10 == 1).collect::<Vec<_>>()
    );
    let place = folder.path().to_str().unwrap();
    let transient = dlq(&["ls", place, "--class", "transient"]).expect(0).results();
    assert_eq!((letters(&transient), transient.len()), (10, 1), "{transient:?}");

    let mut job = Job::named("misplaced");
    let (_, sink) = collect();
    job.source(numbers(1)).retry(RetryPolicy::never()).sink(sink);
    let error = job.run_blocking().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("retry() belongs right behind"), "{error}");
}
