//! Brokers that go away and errors that a healthy broker does not give: the in-process mock cluster.

use std::task::Waker;
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tidemill_core::ErrorKind;
use tidemill_core::record::Header;

use super::broker::{read, unique};
use crate::client::properties::ClientProperties;
use crate::sink::{Outgoing, ProducerSettings, RecordProducer};

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    MockCluster::new(1).unwrap()
}

fn producer(brokers: &str, timeout: &str) -> RecordProducer {
    let options = [
        ("properties.bootstrap.servers", brokers),
        ("properties.delivery.timeout.ms", timeout),
        ("properties.reconnect.backoff.max.ms", "200"),
    ];
    let properties = ClientProperties::parse(&options.into_iter().collect()).unwrap();
    RecordProducer::open(&ProducerSettings::new("test", properties), Waker::noop().clone()).unwrap()
}

/// When record 0 happened, in milliseconds; each of the others a millisecond after the one before.
const HAPPENED: i64 = 1_700_000_000_000;

fn send(producer: &RecordProducer, topic: &str, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let (key, payload) = (format!("k{}", n % 5), n.to_string());
        let headers = [Header::new("correlation-id", payload.clone())];
        let record = Outgoing {
            key: Some(key.as_bytes()),
            payload: Some(payload.as_bytes()),
            headers: &headers,
            timestamp: Some(HAPPENED + n as i64),
            ..Outgoing::default()
        };
        producer.send(topic, &record).unwrap();
    }
}

/// Every number is there with its time and its header, and the last write of each key is its last
/// record.
fn check(brokers: &str, topic: &str, count: usize) -> usize {
    let seen = read(brokers, topic, "read_uncommitted");
    let number = |payload: &Option<String>| payload.as_ref().unwrap().parse::<usize>().unwrap();
    let mut numbers: Vec<_> = seen.iter().map(|seen| number(&seen.payload)).collect();
    let total = numbers.len();
    for (seen, n) in seen.iter().zip(&numbers) {
        assert_eq!(seen.timestamp, HAPPENED + *n as i64, "the time of record {n}");
        assert_eq!(seen.headers, [("correlation-id".to_owned(), Some(n.to_string()))]);
    }
    for key in 0..5 {
        let name = format!("k{key}");
        let of_key = seen.iter().filter(|seen| seen.key.as_deref() == Some(&name));
        let of_key: Vec<_> = of_key.map(|seen| number(&seen.payload)).collect();
        // Of a record that came twice the last one counts.
        let mut last = Vec::new();
        for n in of_key {
            last.retain(|seen| *seen != n);
            last.push(n);
        }
        assert!(last.is_sorted(), "{name}: {last:?}");
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    total
}

#[test]
fn records_survive_an_outage_that_is_longer_than_an_attempt() {
    let cluster = cluster();
    let (brokers, topic) = (cluster.bootstrap_servers(), unique("outage"));
    cluster.create_topic(&topic, 3, 1).unwrap();
    // An attempt takes at most a quarter of the delivery timeout.
    let producer = producer(&brokers, "24000");
    send(&producer, &topic, 0..100);
    assert!(producer.flush(Duration::from_secs(30)).unwrap());
    cluster.broker_down(1).unwrap();
    send(&producer, &topic, 100..300);
    // Long enough for an attempt to end and for records to come back.
    assert!(!producer.flush(Duration::from_secs(8)).unwrap());
    send(&producer, &topic, 300..400);
    cluster.broker_up(1).unwrap();
    assert!(producer.flush(Duration::from_secs(30)).unwrap());
    check(&brokers, &topic, 400);
    assert_eq!(producer.take_refused(), []);
}

#[test]
fn a_broker_that_stays_away_ends_the_job_with_all_that_is_known() {
    let cluster = cluster();
    let (brokers, topic) = (cluster.bootstrap_servers(), unique("dead"));
    cluster.create_topic(&topic, 1, 1).unwrap();
    let producer = producer(&brokers, "2000");
    send(&producer, &topic, 0..10);
    assert!(producer.flush(Duration::from_secs(30)).unwrap());
    cluster.broker_down(1).unwrap();
    send(&producer, &topic, 10..20);
    let start = Instant::now();
    let error = producer.flush(Duration::from_secs(60)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    assert!(error.to_string().contains("delivery.timeout.ms"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(producer.outstanding(), 10, "what was not delivered is not forgotten");
}

#[test]
fn a_batch_that_is_refused_for_one_record_costs_only_that_one() {
    let cluster = cluster();
    let (brokers, topic) = (cluster.bootstrap_servers(), unique("suspects"));
    cluster.create_topic(&topic, 1, 1).unwrap();
    let producer = producer(&brokers, "30000");
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    cluster.request_errors(RDKafkaApiKey::Produce, &[too_large]);
    send(&producer, &topic, 0..20);
    assert!(producer.flush(Duration::from_secs(30)).unwrap());
    assert_eq!(producer.take_refused(), []);
    check(&brokers, &topic, 20);
    // The first attempt with it among others, the second with it alone.
    cluster.request_errors(RDKafkaApiKey::Produce, &[too_large, too_large]);
    send(&producer, &topic, 20..21);
    assert!(producer.flush(Duration::from_secs(30)).unwrap());
    let refused = producer.take_refused();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].record.payload.as_deref(), Some(&b"20"[..]));
    assert_eq!(refused[0].record.timestamp, Some((HAPPENED + 20) * 1000));
    assert_eq!(refused[0].record.headers, [Header::new("correlation-id", "20")]);
    assert!(refused[0].reason.contains("large"), "{}", refused[0].reason);
}

#[test]
fn what_may_pass_is_tried_again_and_what_may_not_is_said() {
    let cluster = cluster();
    let (brokers, topic) = (cluster.bootstrap_servers(), unique("errors"));
    cluster.create_topic(&topic, 1, 1).unwrap();
    let producer = producer(&brokers, "30000");
    use RDKafkaRespErr::*;
    let passing = [
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &passing);
    send(&producer, &topic, 0..50);
    assert!(producer.flush(Duration::from_secs(30)).unwrap());
    check(&brokers, &topic, 50);
    let forbidden = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[forbidden; 5]);
    send(&producer, &topic, 50..51);
    let error = producer.flush(Duration::from_secs(30)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    assert!(error.to_string().contains("permission"), "{error}");
}
