//! Records that go out as they come.

use std::task::Waker;
use std::time::Duration;

use tidemill_core::ErrorKind;
use tidemill_core::sink::{Delivery, Sink, Staged};

use super::broker::{brokers, committed, context, rows, stage, topic, unique, wait, write_epoch};
use crate::client::properties::ClientProperties;
use crate::partitioner::{Partitioning, of_key};
use crate::sink::{Outgoing, ProducerSettings, RecordProducer};
use crate::{DeliveryGuarantee, KafkaSink};

#[test]
fn what_is_staged_has_arrived_where_every_client_looks_for_it() {
    let topic = topic(5, &[]);
    let sink = KafkaSink::topic(&topic).brokers(brokers()).key(["user"]);
    let users: Vec<String> = (0..1_000).map(|n| format!("user-{}", n % 100)).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let job = unique("job");
    let mut writers: Vec<_> = (0..2)
        .map(|shard| sink.writer(&context(&job, shard, 1, rows(&[], []).rows.schema())).unwrap())
        .collect();
    for (shard, writer) in writers.iter_mut().enumerate() {
        let from = shard as i64 * 1_000;
        let staged = write_epoch(writer.as_mut(), 1, &rows(&users, from..from + 1_000));
        assert_eq!(staged, Staged::default());
        assert_eq!(writer.take_refused(), []);
    }
    let seen = committed(&topic);
    assert_eq!(seen.len(), 2_000);
    for record in &seen {
        let key = record.key.as_deref().unwrap();
        assert_eq!(record.partition, of_key(key.as_bytes(), 5));
        let payload = record.payload.as_deref().unwrap();
        assert!(payload.starts_with(key.trim_end_matches('}')), "{payload} of {key}");
    }
    assert_eq!(sink.guarantee(true).delivery, Delivery::AtLeastOnce);
}

#[test]
fn partitions_are_chosen_as_the_table_says() {
    let topic = topic(3, &[]);
    let schema = rows(&[], []).rows.schema();
    let batch = rows(&["a", "b", "c", "d"], 0..4);
    let write = |partitioning, shard| {
        let sink = KafkaSink::topic(&topic).brokers(brokers()).partitioning(partitioning);
        let mut writer = sink.writer(&context("partitions", shard, 1, schema.clone())).unwrap();
        write_epoch(writer.as_mut(), 1, &batch);
    };
    write(Partitioning::Fixed, 2);
    let partitions = |from| {
        let seen = committed(&topic).into_iter().map(|seen| seen.partition);
        let mut counts = [0; 3];
        seen.for_each(|partition| counts[partition as usize] += 1);
        let before: [i32; 3] = from;
        [0, 1, 2].map(|n| counts[n] - before[n])
    };
    assert_eq!(partitions([0, 0, 0]), [0, 0, 4]);
    write(Partitioning::RoundRobin, 0);
    assert_eq!(partitions([0, 0, 4]), [2, 1, 1]);
}

#[test]
fn without_a_guarantee_nobody_waits_and_a_run_that_ends_in_peace_is_complete() {
    let topic = topic(3, &[]);
    let sink = KafkaSink::topic(&topic).brokers(brokers()).delivery(DeliveryGuarantee::None);
    // What was written just now is still here.
    let sink = sink.property("linger.ms", "500");
    let mut writer = sink.writer(&context("none", 0, 1, rows(&[], []).rows.schema())).unwrap();
    writer.write(&rows(&["a"; 1_000], 0..1_000)).unwrap();
    assert!(writer.poll_stage(1).unwrap().is_ready());
    drop(writer);
    assert_eq!(committed(&topic).len(), 1_000);
    assert_eq!(sink.guarantee(true).delivery, Delivery::AtMostOnce);
}

#[test]
fn a_topic_that_is_not_there_is_said_at_once() {
    let sink = KafkaSink::topic(unique("nowhere")).brokers(brokers());
    let context = context("job", 0, 1, rows(&[], []).rows.schema());
    let error = sink.writer(&context).err().unwrap();
    assert_eq!((error.kind(), error.wrong_option()), (ErrorKind::Configuration, Some("topic")));
    assert!(error.to_string().contains("not there"), "{error}");
}

#[test]
fn a_full_producer_makes_its_writer_wait_and_wakes_it() {
    let topic = topic(2, &[]);
    let sink = KafkaSink::topic(&topic).brokers(brokers());
    let mut writer = sink.writer(&context("full", 0, 1, rows(&[], []).rows.schema())).unwrap();
    let users = vec!["somebody with a name of some length"; 10_000];
    let mut pending = 0;
    for round in 0..8 {
        let mut has_waited = false;
        wait(|| {
            let ready = writer.poll_ready().unwrap();
            has_waited |= ready.is_pending();
            ready
        });
        pending += usize::from(has_waited);
        writer.write(&rows(&users, round * 10_000..(round + 1) * 10_000)).unwrap();
    }
    assert!(pending > 0, "80 000 records at once are more than may be on their way");
    stage(writer.as_mut(), 1);
    assert_eq!(committed(&topic).len(), 80_000);
}

#[test]
fn a_producer_of_ones_own_tells_what_arrived() {
    let topic = topic(2, &[]);
    let options = [("properties.bootstrap.servers", brokers())].into_iter().collect();
    let properties = ClientProperties::parse(&options).unwrap();
    let producer =
        RecordProducer::open(&ProducerSettings::new("test", properties), Waker::noop().clone())
            .unwrap();
    let other = producer.another(Waker::noop().clone());
    let record = |partition| Outgoing { partition, payload: Some(b"x"), ..Outgoing::default() };
    producer.send(&topic, &record(Some(1))).unwrap();
    other.send(&topic, &Outgoing { payload: None, key: Some(b"gone"), ..record(Some(0)) }).unwrap();
    let too_large = vec![0; 2_000_000];
    producer.send(&topic, &Outgoing { payload: Some(&too_large), ..record(None) }).unwrap();
    let refused = producer.take_refused();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].record.payload.as_deref(), Some(too_large.as_slice()));
    assert!(producer.flush(Duration::from_secs(30)).unwrap());
    assert!(other.flush(Duration::from_secs(30)).unwrap());
    assert_eq!((producer.outstanding(), other.take_refused().len()), (0, 0));
    let seen = committed(&topic);
    assert_eq!(seen.iter().map(|seen| seen.partition).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((seen[0].key.as_deref(), seen[0].payload.as_deref()), (Some("gone"), None));
    producer.send(&unique("nowhere"), &record(None)).unwrap();
    let error = producer.flush(Duration::from_secs(60)).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
