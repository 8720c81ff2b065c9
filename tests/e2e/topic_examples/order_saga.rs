//! `09_order_saga.rs` and `order_saga.sql`, on every bus, with a crash before and one behind a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use serde_json::Value;
use tidemill::bus::conformance::wait;
use tidemill::bus::{Envelope, Event, Replay, Start, connect};
use tidemill::testing::{CrashPoint, crash_at};

use crate::examples::order_saga::{Places, metrics, saga};
use crate::kafka::broker::Broker;
use crate::redis::server::Server;

const ORDERS: u32 = 600;
const MINUTE: i64 = 60_000;

/// What a minute looked like.
#[derive(Debug, Default, Clone, PartialEq)]
struct Minute {
    placed: i64,
    paid: i64,
    answered: i64,
    revenue: i64,
    declined: BTreeMap<String, i64>,
}

/// The first `count` events of a topic, as the bus holds them.
fn events(bus: &Arc<dyn Replay>, topic: &str, count: usize) -> Vec<Event> {
    let mut all = wait(bus.replay(topic, Start::Earliest)).unwrap();
    let events = (0..count).map(|_| wait(all.next()).unwrap().unwrap().event).collect();
    wait(all.close()).unwrap();
    events
}

/// What the events say, minute by minute: counted in plain Rust.
fn oracle(events: &[Event]) -> BTreeMap<i64, Minute> {
    let mut minutes = BTreeMap::<i64, Minute>::new();
    for event in events {
        let body: Value = event.json().unwrap();
        let start = body["happened_ms"].as_i64().unwrap().div_euclid(MINUTE) * MINUTE;
        let minute = minutes.entry(start).or_default();
        match event.header("event-type").unwrap() {
            "OrderPlaced.v1" => minute.placed += 1,
            "PaymentAuthorised.v1" => {
                minute.paid += 1;
                minute.answered += 1;
            }
            "PaymentDeclined.v1" => minute.answered += 1,
            "StockReserved.v1" => minute.revenue += body["cents"].as_i64().unwrap(),
            "StockRejected.v1" => {}
            other => panic!("nobody publishes {other}"),
        }
        if let Some(reason) = body["reason"].as_str() {
            *minute.declined.entry(reason.to_owned()).or_default() += 1;
        }
    }
    minutes
}

/// Milliseconds of `2026-01-05 08:00:00.000`.
fn millis(text: &Value) -> i64 {
    let text = text.as_str().unwrap().replace(' ', "T") + "Z";
    let time = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(&text).unwrap();
    time / 1_000_000
}

/// That the events of an order name their causes.
fn assert_causes(events: &[Event]) {
    let envelopes: Vec<Envelope> = events.iter().map(|e| Envelope::read(e).unwrap()).collect();
    let by_id: BTreeMap<&str, &Envelope> =
        envelopes.iter().map(|envelope| (envelope.id(), envelope)).collect();
    assert_eq!(by_id.len(), envelopes.len(), "ids are unique");
    for envelope in &envelopes {
        match envelope.causation() {
            None => assert_eq!(envelope.event_type().name(), "OrderPlaced"),
            Some(cause) => {
                let cause = by_id[cause];
                assert_eq!(envelope.correlation(), cause.correlation());
                assert_eq!(envelope.conversation(), cause.conversation());
            }
        }
    }
}

/// Runs it and compares.
fn play(bus: String, prefix: String) {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = folder.path().join("checkpoints").display().to_string();
    let places = Places { bus, prefix, checkpoints };
    let bus = connect(&places.bus).unwrap();
    wait(saga(&*bus, &places, ORDERS)).unwrap();
    let placed = events(&bus, &places.topic("orders"), ORDERS as usize);
    let mut all = events(&bus, &places.topic("payments"), ORDERS as usize);
    let paid = all.iter().filter(|event| event.json::<Value>().unwrap()["reason"].is_null());
    let paid = paid.count();
    assert!(paid > 100 && paid < 500, "{paid}");
    all.extend(events(&bus, &places.topic("stock"), paid));
    all.extend(placed);
    assert_causes(&all);

    for at in [CrashPoint::BeforePublish, CrashPoint::BeforeCommit] {
        let mut job = metrics(&places).unwrap();
        crash_at(&mut job, 1, at);
        job.run_blocking().unwrap_err();
    }
    let summary = metrics(&places).unwrap().run_blocking().unwrap();
    for rows in &summary.ledgers {
        assert!(rows.balances() && rows.late == 0, "{rows:?}");
        assert_eq!(rows.records_in, all.len() as u64, "each of the two windows sees every event");
    }
    let expected = oracle(&all);
    assert!(expected.len() >= 5);
    let mut found = BTreeMap::<i64, Minute>::new();
    for event in events(&bus, &places.topic("order-metrics"), expected.len()) {
        let row: Value = event.json().unwrap();
        let minute = found.entry(millis(&row["window_start"])).or_default();
        let number = |name: &str| row[name].as_i64().unwrap();
        (minute.placed, minute.paid) = (number("placed"), number("paid"));
        minute.revenue = number("revenue_cents");
        let ratio = row["paid_ratio"].as_f64();
        let of = &expected[&millis(&row["window_start"])];
        assert_eq!(ratio, (of.answered > 0).then(|| of.paid as f64 / of.answered as f64));
        minute.answered = of.answered;
    }
    let reasons = expected.values().map(|minute| minute.declined.len()).sum();
    for event in events(&bus, &places.topic("orders-declined"), reasons) {
        let row: Value = event.json().unwrap();
        let reason = row["reason"].as_str().unwrap().to_owned();
        assert_eq!(event.key.as_deref(), Some(reason.as_bytes()));
        let minute = found.entry(millis(&row["window_start"])).or_default();
        assert_eq!(minute.declined.insert(reason, row["n"].as_i64().unwrap()), None, "{row}");
    }
    assert_eq!(found, expected);
    assert_eq!(held(&bus, &places.topic("order-metrics")), expected.len());
    assert_eq!(held(&bus, &places.topic("orders-declined")), reasons);
}

/// How many events a topic holds: those that come before the ends that are published now in all partitions.
fn held(bus: &Arc<dyn Replay>, topic: &str) -> usize {
    let mut open = BTreeSet::new();
    for n in 0..64 {
        let end = Event::keyed(format!("end-{n}"), "end");
        open.insert(wait(bus.publish(topic, end)).unwrap().partition);
    }
    assert_eq!(open.len(), 4);
    let mut all = wait(bus.replay(topic, Start::Earliest)).unwrap();
    let mut held = 0;
    while !open.is_empty() {
        let delivery = wait(all.next()).unwrap().unwrap();
        match delivery.event.body() {
            b"end" => drop(open.remove(&delivery.partition)),
            _ => held += 1,
        }
    }
    held
}

fn prefix() -> String {
    format!("saga-{:08x}-", RandomState::new().build_hasher().finish() as u32)
}

#[test]
fn the_saga_runs_in_memory() {
    let prefix = prefix();
    play(format!("memory://{prefix}"), prefix);
}

#[test]
fn the_saga_runs_on_kafka() {
    let broker = Broker::shared();
    let names = ["orders", "payments", "stock", "order-metrics", "orders-declined"];
    let prefix = prefix();
    let _topics = names.map(|name| broker.named_topic(&format!("{prefix}{name}"), 4));
    play(format!("kafka://{}?linger.ms=0", broker.addresses()), prefix);
}

#[test]
fn the_saga_runs_on_redis() {
    play(Server::shared().url().to_owned(), prefix());
}
