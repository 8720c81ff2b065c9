//! On a real server: all that every bus must do, and what is Redis's own.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

use tidemill_redis::client::Config;

use super::RedisBus;
use super::server::stream;
use crate::conformance::{Stage, wait};
use crate::{BusError, Event, EventBus, Replay};

struct Redis(Config);

impl Redis {
    fn new() -> Self {
        let url = std::env::var("REDIS_URL");
        let url = url.expect("REDIS_URL is not set: run scripts/test, which brings up a server");
        Self(Config::of_url(&url).unwrap())
    }
}

impl Stage for Redis {
    fn connect(&self) -> Arc<dyn Replay> {
        Arc::new(RedisBus::connect(self.0.clone(), None))
    }

    fn topic(&self, name: &str) -> String {
        format!("bus-{name}-{:016x}", RandomState::new().build_hasher().finish())
    }
}

crate::conformance!(Redis::new());

#[test]
fn all_agree_on_the_number_of_partitions() {
    let stage = Redis::new();
    let topic = stage.topic("partitions");
    let eight = RedisBus::connect(stage.0.clone(), Some(8));
    wait(eight.publish(&topic, Event::keyed("k", "x"))).unwrap();
    let mut anyone = wait(stage.connect().subscribe(&[&topic], "g")).unwrap();
    assert_eq!(wait(anyone.next()).unwrap().unwrap().event.body(), b"x");
    let four = RedisBus::connect(stage.0.clone(), Some(4));
    let error = wait(four.publish(&topic, Event::new("y"))).unwrap_err();
    assert!(matches!(error, BusError::OtherPartitions { wanted: 4, found: 8, .. }), "{error}");
}

#[test]
fn pending_entries_that_were_deleted_are_told_as_lost() {
    let stage = Redis::new();
    let (bus, topic) = (stage.connect(), stage.topic("lost"));
    let mut receipts = Vec::new();
    for n in 0..3 {
        receipts.push(wait(bus.publish(&topic, Event::keyed("k", n.to_string()))).unwrap());
    }
    let mut member = wait(bus.subscribe(&[&topic], "g")).unwrap();
    for _ in 0..3 {
        wait(member.next()).unwrap().unwrap();
    }
    wait(member.close()).unwrap();
    let key = stream(&topic, receipts[0].partition);
    let mut delete = redis::cmd("XDEL");
    delete.arg(&key).arg(&receipts[0].offset.0).arg(&receipts[1].offset.0);
    stage.0.connect().unwrap().query::<u32>(key.as_bytes(), &delete).unwrap();
    let mut member = wait(bus.subscribe(&[&topic], "g")).unwrap();
    let error = wait(member.next()).unwrap().unwrap_err();
    assert!(matches!(error, BusError::EventsLost { count: 2, .. }), "{error}");
    assert_eq!(wait(member.next()).unwrap().unwrap().event.body(), b"2");
}

#[test]
fn a_server_that_is_not_there_is_a_typed_error() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config::of_url(&format!("redis://:canary@{free}")).unwrap();
    let bus = RedisBus::connect(config, None);
    let published = wait(bus.publish("orders", Event::new("x"))).unwrap_err();
    let subscribed = wait(bus.subscribe(&["orders"], "g")).map(|_| ()).unwrap_err();
    for error in [published, subscribed] {
        assert!(matches!(error, BusError::ConnectionFailed { .. }) && error.may_pass(), "{error}");
        assert!(error.to_string().contains(&free.to_string()), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn an_event_of_nothing_is_refused() {
    let error = wait(Redis::new().connect().publish("t", Event::default())).unwrap_err();
    assert!(matches!(error, BusError::PublishFailed { may_pass: false, .. }), "{error}");
}
