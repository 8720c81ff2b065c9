//! On a real broker: all that every bus must do, and what a broker that is not there looks like.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, TopicPartitionList};
use tidemill_core::source::Offset;

use super::KafkaBus;
use crate::conformance::{Stage, wait};
use crate::{BusError, Event, EventBus, Replay};

struct Kafka(String);

impl Kafka {
    fn new() -> Self {
        let brokers = std::env::var("KAFKA_BROKERS");
        Self(brokers.expect("KAFKA_BROKERS is not set: run scripts/test, which brings up a broker"))
    }
}

impl Kafka {
    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.0);
        config.create().unwrap()
    }
}

impl Stage for Kafka {
    fn connect(&self) -> Arc<dyn Replay> {
        Arc::new(KafkaBus::connect(&self.0, [("client.id", "bus-tests")]).unwrap())
    }

    fn topic(&self, name: &str) -> String {
        let name = format!("bus-{name}-{:016x}", RandomState::new().build_hasher().finish());
        let admin = self.admin();
        let topic = NewTopic::new(&name, 4, TopicReplication::Fixed(1));
        let made = wait(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        assert_eq!(made, [Ok(name.clone())]);
        name
    }

    fn trim(&self, topic: &str, partition: u32, before: &Offset) -> bool {
        let before = rdkafka::Offset::Offset(before.0.parse().unwrap());
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition as i32, before).unwrap();
        wait(self.admin().delete_records(&offsets, &AdminOptions::new())).unwrap();
        true
    }
}

crate::conformance!(Kafka::new());

#[test]
fn a_topic_that_is_not_there_is_named() {
    let bus = Kafka::new().connect();
    let error = wait(bus.subscribe(&["bus-nowhere"], "g")).map(|_| ()).unwrap_err();
    assert!(matches!(&error, BusError::UnknownTopic { topic, .. } if topic == "bus-nowhere"));
    let error = wait(bus.replay("bus-nowhere", crate::Start::Earliest)).map(|_| ()).unwrap_err();
    assert!(matches!(error, BusError::UnknownTopic { .. }), "{error}");
}

#[test]
fn brokers_that_are_not_there_are_a_typed_error() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let timeout = [("delivery.timeout.ms", "1500")];
    let bus = KafkaBus::connect(&free.to_string(), timeout).unwrap();
    let error = wait(bus.subscribe(&["orders"], "g")).map(|_| ()).unwrap_err();
    assert!(matches!(error, BusError::ConnectionFailed { .. }) && error.may_pass(), "{error}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    let error = wait(bus.publish("orders", Event::new("x"))).unwrap_err();
    assert!(matches!(error, BusError::ConnectionFailed { .. }), "{error}");
}

#[test]
fn a_property_that_there_is_not_is_refused() {
    let error = KafkaBus::connect("localhost:9092", [("linger.mss", "5")]).unwrap_err();
    assert!(error.to_string().contains("linger.ms"), "{error}");
}
