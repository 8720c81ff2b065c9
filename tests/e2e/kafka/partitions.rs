//! Topics that change under a running job: new partitions are read from their beginning, and a topic
//! that was deleted and made anew is refused.

use std::sync::Arc;

use super::broker::{Broker, Topic};
use super::job::{EXACTLY_ONCE, TopicJob};
use crate::clicks::Clicks;
use crate::job_folder::summary;
use crate::totals::{Expected, Found};

/// Looks for changes often.
const DISCOVERS: &str = "'scan.topic-partition-discovery.interval' = '200 ms'";

/// Writes so many clicks into each partition.
fn write(topic: &Topic, clicks: &mut [Clicks], each: usize) {
    let mut writer = topic.writer();
    for _ in 0..each {
        clicks.iter_mut().for_each(|clicks| clicks.write(&mut writer));
    }
    writer.finish();
}

#[test]
fn partitions_that_come_while_a_job_runs_are_read_from_their_beginning() {
    let input = Broker::shared().topic("clicks", 2);
    let mut clicks: Vec<Clicks> = (0..2).map(|p| Clicks::of(5, p)).collect();
    write(&input, &mut clicks, 3_000);
    let job = TopicJob::new(&input, DISCOVERS, EXACTLY_ONCE);
    let mut running = job.start(job.run(2, "50ms"), 10_000_000, "log");
    job.until_results(&mut running, Expected::of(&*input).fired().results());
    // What comes first in the new partitions is newer than all before, and comes before the job can
    // know of them.
    input.grow(4);
    let now = clicks.iter().map(Clicks::now).max().unwrap() + 120_000;
    clicks.extend((2..4).map(|p| Clicks::of(5, p).starting_at(now)));
    write(&input, &mut clicks[2..], 3_000);
    let read = |said: &str| summary(said)["ledgers"][0]["records_in"].as_u64().unwrap();
    let records = Expected::of(&*input).records;
    // The new ones hold nothing back as long as nobody knows them: they must be read before the old
    // ones go on.
    let group = job.group();
    running.until("the new partitions' clicks", || group.committed() == records);
    write(&input, &mut clicks, 3_000);
    let mut writer = input.writer();
    clicks.iter_mut().for_each(|clicks| clicks.write_sentinel(&mut writer));
    writer.finish();
    let expected = Expected::of(&*input).fired();
    job.until_results(&mut running, expected.results());
    running.signal("INT");
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
    Found::in_log(&*job.output).assert_exact(&expected, "two partitions became four");
    assert_eq!(read(&said), expected.records, "every click was read once: {said}");
}

/// A job that has made checkpoints over a topic and was killed.
fn interrupted(input: &Arc<Topic>) -> TopicJob {
    let job = TopicJob::new(input, DISCOVERS, EXACTLY_ONCE);
    let mut running = job.start(job.run(2, "50ms"), 10_000_000, "log");
    let group = job.group();
    running.until("all clicks", || group.committed() == 5_000);
    running.kill();
    job
}

fn make_anew(topic: &Topic) {
    topic.delete();
    topic.create(2);
    topic.fill(8, 20_000);
}

#[test]
fn a_topic_that_was_made_anew_is_refused() {
    let input = Broker::shared().topic("clicks", 2);
    input.fill(7, 5_000);
    let job = interrupted(&input);
    make_anew(&input);
    let refused = job.run(2, "50ms").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(input.name()) && said.contains("deleted and created again"), "{said}");
}

#[test]
fn a_topic_that_is_made_anew_under_a_running_job_ends_it() {
    let input = Broker::shared().topic("clicks", 2);
    input.fill(7, 5_000);
    let job = TopicJob::new(&input, DISCOVERS, EXACTLY_ONCE);
    let mut running = job.start(job.run(2, "50ms"), 10_000_000, "log");
    let group = job.group();
    running.until("all clicks", || group.committed() == 5_000);
    make_anew(&input);
    let (code, said) = running.wait();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(input.name()) && said.contains("was deleted"), "{said}");
}

#[test]
fn an_empty_partition_holds_the_watermark_no_longer_than_its_idle_timeout() {
    let input = Broker::shared().topic("clicks", 2);
    write(&input, &mut [Clicks::of(9, 0)], 5_000);
    let expected = Expected::of(&*input).fired();
    assert!(expected.results() > 0);
    let job = TopicJob::new(&input, "'scan.watermark.idle-timeout' = '200 ms'", EXACTLY_ONCE);
    let mut running = job.start(job.run(2, "50ms"), 10_000_000, "log");
    job.until_results(&mut running, expected.results());
    running.signal("INT");
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
    Found::in_log(&*job.output).assert_exact(&expected, "one of two partitions is empty");
}
