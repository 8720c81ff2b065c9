//! Topics that grow, go, come again, or lose records.

use std::time::{Duration, Instant};

use tidemill_core::ErrorKind;
use tidemill_core::source::{ReaderContext, Source};

use super::broker::{
    Sent, Topic, brokers, context, numbers, read, read_to_end, refused, source, table, unique,
};
use crate::source::{KafkaSource, StopAt};
use crate::{Kafka, StartAt};

#[test]
fn new_partitions_are_found_and_begin_at_their_beginning() {
    let topic = Topic::new(1);
    let source = source(&topic, &[("scan.startup.mode", "latest-offset")]);
    assert_eq!(source.splits().unwrap(), [topic.split(0)]);
    topic.grow(3);
    topic.send([Sent { partition: 2, ..Sent::json("{\"n\": 5}") }]);
    assert_eq!(source.splits().unwrap(), [topic.split(0), topic.split(1), topic.split(2)]);
    let context = ReaderContext { discovered: true, ..context() };
    let mut reader = source.open(&topic.split(2), None, &context).unwrap();
    assert_eq!(read(reader.as_mut(), 1).unwrap().numbers(), [5]);
}

#[test]
fn partitions_are_not_looked_for_more_often_than_wanted() {
    let topic = Topic::new(1);
    let interval = "scan.topic-partition-discovery.interval";
    for option in ["1 h", "0"] {
        let source = source(&topic, &[(interval, option)]);
        let before = source.splits().unwrap();
        topic.grow(before.len() as i32 + 1);
        assert_eq!(source.splits().unwrap(), before);
    }
}

#[test]
fn a_topic_that_was_created_again_is_refused() {
    let topic = Topic::new(1);
    topic.send_numbers(0..5);
    let running = source(&topic, &[]);
    let split = topic.split(0);
    let mut reader = running.open(&split, None, &context()).unwrap();
    assert_eq!(read(reader.as_mut(), 2).unwrap().numbers(), [0, 1]);
    let offset = reader.offset();
    topic.delete();
    topic.create(1);
    topic.send_numbers(0..5);
    let error = refused(running.splits());
    assert_ne!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains("created again"), "{error}");
    let restored = source(&topic, &[]);
    let error = refused(restored.open(&split, Some(&offset), &context())).to_string();
    assert!(error.contains("created again") && error.contains("--fresh"), "{error}");
}

/// A broker that does not know a topic at the moment is no end of it: it is looked for again.
#[test]
fn a_topic_that_is_missed_once_is_looked_for_again() {
    let topic = Topic::new(1);
    let source = source(&topic, &[]);
    source.splits().unwrap();
    topic.delete();
    let error = std::thread::scope(|scope| {
        let looks = scope.spawn(|| refused(source.splits()));
        topic.create(1);
        looks.join().unwrap()
    });
    // It is another one now, which only who has looked twice can know.
    assert!(error.to_string().contains("created again"), "{error}");
}

#[test]
fn a_topic_that_goes_ends_the_job() {
    let topic = Topic::new(1);
    let source = source(&topic, &[]);
    source.splits().unwrap();
    topic.delete();
    let error = refused(source.splits());
    assert_ne!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[test]
fn a_topic_that_does_not_exist_is_named() {
    let name = unique("missing");
    let source = KafkaSource::of_table(&table(numbers(), &[], &name, &[])).unwrap();
    let start = Instant::now();
    let error = refused(source.splits());
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(error.wrong_option(), Some("topic"));
    assert!(error.to_string().contains(&name) && error.to_string().contains(&brokers()), "{error}");
}

#[test]
fn several_topics_and_patterns_are_read_side_by_side() {
    let prefix = unique("many");
    let [a, b] = ["a", "b"].map(|name| Topic::called(format!("{prefix}.{name}"), 1));
    let _other = Topic::called(format!("{prefix}.a.other"), 1);
    let both = [a.split(0), b.split(0)];
    let list = format!("{};{}", b.name, a.name);
    let listed = KafkaSource::of_table(&table(numbers(), &[], &list, &[])).unwrap();
    assert_eq!(listed.splits().unwrap(), both);
    let pattern = format!("{prefix}\\.[a-z]");
    let options = [("topic", "-"), ("topic-pattern", pattern.as_str())];
    let matched = KafkaSource::of_table(&table(numbers(), &[], "-", &options)).unwrap();
    assert_eq!(matched.splits().unwrap(), both);
    let options = [("topic", "-"), ("topic-pattern", "nothing-is-called-this")];
    let none = KafkaSource::of_table(&table(numbers(), &[], "-", &options)).unwrap();
    assert_eq!(refused(none.splits()).wrong_option(), Some("topic-pattern"));
}

#[test]
fn records_that_are_gone_end_the_job_with_the_size_of_the_gap() {
    let topic = Topic::new(1);
    topic.send_numbers(0..10);
    let strict = source(&topic, &[]);
    let split = topic.split(0);
    let mut reader = strict.open(&split, None, &context()).unwrap();
    read(reader.as_mut(), 2).unwrap();
    let offset = reader.offset();
    drop(reader);
    topic.cut(7);
    let error = refused(strict.open(&split, Some(&offset), &context())).to_string();
    assert!(error.contains("2 to 6") && error.contains("5 of them"), "{error}");
    assert!(error.contains("'scan.out-of-range'"), "{error}");
    let go_on = |policy: &'static str| {
        let options = [("scan.out-of-range", policy), ("scan.bounded.mode", "latest-offset")];
        read_to_end(&source(&topic, &options), &split, Some(&offset)).unwrap().numbers()
    };
    assert_eq!(go_on("earliest"), [7, 8, 9]);
    assert!(go_on("latest").is_empty());
}

#[test]
fn records_that_go_while_they_are_waited_for_are_noticed() {
    for policy in ["fail", "earliest"] {
        let topic = Topic::new(1);
        topic.send_numbers(0..1000);
        // Almost nothing is fetched ahead, so that most is still at the broker when it goes.
        let source = source(
            &topic,
            &[
                ("scan.out-of-range", policy),
                ("scan.bounded.mode", "latest-offset"),
                ("properties.queued.min.messages", "1"),
                ("properties.max.request.size", "1000"),
                ("properties.fetch.max.bytes", "1000"),
                ("properties.max.partition.fetch.bytes", "1000"),
            ],
        );
        let mut reader = source.open(&topic.split(0), None, &context()).unwrap();
        assert_eq!(read(reader.as_mut(), 1).unwrap().numbers(), [0]);
        topic.cut(900);
        let got = read(reader.as_mut(), usize::MAX);
        if policy == "fail" {
            let error = refused(got).to_string();
            assert!(error.contains("to 899") && error.contains("are gone"), "{error}");
        } else {
            let numbers = got.unwrap().numbers();
            assert!(numbers.ends_with(&(900..1000).collect::<Vec<_>>()), "{numbers:?}");
            assert!(numbers.len() < 900, "{}", numbers.len());
        }
    }
}

#[test]
fn the_builder_reads_what_a_table_reads() {
    let topic = Topic::new(1);
    topic.send_numbers(0..5);
    let schema = source(&topic, &[]).schema();
    let built = Kafka::topic(&topic.name)
        .brokers(brokers())
        .start_at(StartAt::Offsets([(0, 1)].into()))
        .stop_at(StopAt::Offsets([(0, 3)].into()))
        .json(schema.clone());
    assert_eq!(read_to_end(&built, &topic.split(0), None).unwrap().numbers(), [1, 2]);
    let mistaken = Kafka::topic("t").brokers("b:1").property("fetch.max.bites", "1").json(schema);
    let error = refused(mistaken.splits()).to_string();
    assert!(error.contains("'properties.fetch.max.bytes'"), "{error}");
}
