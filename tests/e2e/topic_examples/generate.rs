//! `tidemill generate` into a topic.

use std::collections::{BTreeMap, BTreeSet};

use super::stage::{Stage, records};
use crate::command::{Ended, tidemill};
use crate::kafka::broker::{Broker, Isolation};

/// Generates to a topic by its name alone.
fn generate(broker: &Broker, topic: &str, arguments: &[&str]) -> Ended {
    let to = format!("kafka://{}/{topic}", broker.addresses());
    tidemill(["generate", "user-events", "--to", &to, "-o", "json"].iter().chain(arguments))
}

#[test]
fn a_topic_gets_every_event_keyed_and_with_headers() {
    let mut stage = Stage::new("user_activity", Broker::shared());
    let topic = stage.topic("USER_EVENTS", 3);
    let arguments = ["user-events", "--events", "20000", "--keys", "100", "--malformed", "2%"];
    let summary = stage.generate(&arguments, &topic);
    assert_eq!((&summary["malformed"], &summary["failed"]), (&400.into(), &0.into()));
    let found = records(&topic);
    assert_eq!(found.len(), 20_000);
    let (mut places, mut ids) = (BTreeMap::new(), BTreeSet::new());
    for record in &found {
        let place = places.entry(record.key.clone()).or_insert(record.partition);
        assert_eq!(*place, record.partition, "a key is in two partitions");
        assert_eq!(record.header("content-type"), Some("application/json"));
        assert_eq!(record.header("source"), Some("tidemill-generate"));
        assert!(record.header("correlation-id").is_some());
        assert!(ids.insert(record.header("event-id").unwrap().to_owned()), "an id comes twice");
        if let Some(json) = record.json() {
            assert_eq!(json["user_id"].as_str().unwrap().as_bytes(), record.key);
            assert_eq!(json["event_id"].as_str(), record.header("event-id"));
            assert_eq!(json["event_type"].as_str(), record.header("event-type"));
        }
    }
    assert_eq!(places.len(), 100);
    assert_eq!(places.values().collect::<BTreeSet<_>>().len(), 3, "all partitions are used");
    assert_eq!(found.iter().filter(|record| record.json().is_none()).count(), 400);
}

#[test]
fn a_topic_is_created_with_the_partitions_asked_for_and_keeps_those_it_has() {
    let broker = Broker::shared();
    let topic = broker.topic("created", 1);
    topic.delete();
    let arguments = ["--events", "100", "--partitions", "4", "--no-headers"];
    let summary = generate(&broker, topic.name(), &arguments).expect(0).summary();
    assert_eq!(summary["acknowledged"], 100);
    assert_eq!(topic.partitions(), 4);
    let again =
        generate(&broker, topic.name(), &["--events", "100", "--partitions", "3"]).expect(0);
    assert!(again.stderr.contains("exists with 4 partitions, not 3"), "{}", again.stderr);
    assert_eq!(topic.ends(Isolation::Committed).iter().sum::<i64>(), 200);
    let bare = records(&topic).iter().filter(|record| record.headers.is_empty()).count();
    assert_eq!(bare, 100, "--no-headers");
}

#[test]
fn brokers_that_are_not_there_are_an_error_and_no_hanging() {
    let nowhere = Broker::at("127.0.0.1:1");
    let ended = generate(&nowhere, "t", &["--property", "socket.timeout.ms=1000"]).expect(1);
    assert!(ended.stderr.contains("127.0.0.1:1"), "{}", ended.stderr);
    let ended = generate(&nowhere, "t", &["--property", "no.such.property=1"]).expect(78);
    assert!(ended.stderr.contains("no.such.property"), "{}", ended.stderr);
}
