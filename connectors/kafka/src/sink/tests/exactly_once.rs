//! A writer and a committer driven by hand, with a crash at every step.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_core::sink::{Sink, SinkCommitter, SinkContext, Staged};
use tidemill_core::{Epoch, ErrorKind};

use super::broker::{admin, brokers, committed, context, read, rows, topic, unique, write_epoch};
use super::records::{HOUR, timed, timed_sink};
use crate::KafkaSink;
use crate::client::properties::ClientProperties;
use crate::partitioner::Partitioning;
use crate::sink::commit::{CommitterSettings, TransactionCommitter};
use crate::sink::staged::StagedReader;
use crate::sink::topic::block_on;
use crate::sink::transaction::{Assigned, Failed, Step, Transactions};

/// A job with one exactly-once sink.
struct Job {
    name: String,
    topic: String,
    sink: KafkaSink,
}

impl Job {
    fn new(partitions: i32) -> Self {
        let (name, topic) = (unique("job"), topic(partitions, &[]));
        let sink = KafkaSink::topic(&topic).brokers(brokers()).key(["user"]).exactly_once();
        Self { name, topic, sink }
    }

    fn context(&self, shard: usize, first_epoch: Epoch) -> SinkContext {
        context(&self.name, shard, first_epoch, rows(&[], []).rows.schema())
    }

    /// What a shard stages for an epoch: rows `from..to`, by user.
    fn staged(&self, shard: usize, epoch: Epoch, numbers: std::ops::Range<i64>) -> Staged {
        let users: Vec<String> = numbers.clone().map(|n| format!("u{}", n % 7)).collect();
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let mut writer = self.sink.writer(&self.context(shard, epoch)).unwrap();
        write_epoch(writer.as_mut(), epoch, &rows(&users, numbers))
    }

    fn committer(&self, first_epoch: Epoch) -> Box<dyn SinkCommitter> {
        self.sink.committer(&self.context(0, first_epoch)).unwrap()
    }

    fn transactional_id(&self) -> String {
        format!("tidemill-{}-out", self.name)
    }

    /// What a committer's transactions are made with.
    fn transactions(&self) -> Transactions {
        let options = [("properties.bootstrap.servers", brokers())].into_iter().collect();
        let properties = ClientProperties::parse(&options).unwrap();
        Transactions::open("sink out", &self.topic, &self.transactional_id(), &properties).unwrap()
    }

    /// A committer whose steps can be taken one by one.
    fn mortal(&self) -> TransactionCommitter {
        let options = [("properties.bootstrap.servers", brokers())];
        TransactionCommitter::open(CommitterSettings {
            name: "sink out".into(),
            job: self.name.clone(),
            topic: self.topic.clone(),
            transactional_id: self.transactional_id(),
            partitioning: Partitioning::KeyHash,
            properties: ClientProperties::parse(&options.into_iter().collect()).unwrap(),
            clock: self.context(0, 1).clock,
        })
        .unwrap()
    }

    /// The numbers that readers of committed records see, sorted.
    fn numbers(&self) -> Vec<i64> {
        let number = |payload: Option<String>| {
            let payload = payload.unwrap();
            let (_, rest) = payload.split_once("\"n\":").unwrap();
            rest.trim_end_matches('}').parse::<i64>().unwrap()
        };
        let mut numbers: Vec<_> =
            committed(&self.topic).into_iter().map(|seen| number(seen.payload)).collect();
        numbers.sort_unstable();
        numbers
    }
}

fn range(to: i64) -> Vec<i64> {
    (0..to).collect()
}

#[test]
fn results_show_with_their_epoch_and_not_before() {
    let job = Job::new(3);
    let mut committer = job.committer(1);
    assert_eq!(committer.committed().unwrap(), None);
    let first = [job.staged(0, 1, 0..50), job.staged(1, 1, 50..100)];
    assert_eq!(read(&brokers(), &job.topic, "read_uncommitted"), []);
    committer.commit(1, &first).unwrap();
    assert_eq!(job.numbers(), range(100));
    committer.commit(1, &first).unwrap();
    assert_eq!(job.numbers(), range(100), "a commit that is repeated adds nothing");

    // An epoch without results; one with results that an abandoned epoch left behind.
    committer.commit(2, &[]).unwrap();
    committer.commit(3, &[job.staged(0, 2, 100..110), job.staged(0, 3, 110..120)]).unwrap();
    assert_eq!(job.numbers(), range(120));
    drop(committer);
    assert_eq!(job.committer(4).committed().unwrap(), Some(3));
    // Records of a key are in one partition, in the order of their rows.
    let seen = committed(&job.topic);
    for user in 0..7 {
        let key = format!("{{\"user\":\"u{user}\"}}");
        let of_user: Vec<_> =
            seen.iter().filter(|seen| seen.key.as_deref() == Some(&key)).collect();
        assert!(of_user.iter().all(|seen| seen.partition == of_user[0].partition));
    }
}

#[test]
fn a_crash_at_any_step_of_a_commit_neither_loses_nor_doubles() {
    let job = Job::new(2);
    let mut from = 0;
    for (round, step) in Step::ALL.into_iter().cycle().take(8).enumerate() {
        let epoch = round as Epoch + 1;
        let staged =
            [job.staged(0, epoch, from..from + 20), job.staged(1, epoch, from + 20..from + 30)];
        from += 30;
        // The manifest is published; then the process dies in the middle of the commit.
        job.mortal().die_after(step, epoch, &staged);
        // The next one asks what there is, and commits again where that is behind.
        let mut committer = job.committer(epoch + 1);
        let visible = committer.committed().unwrap();
        let is_visible = step == Step::Commit;
        assert_eq!(visible == Some(epoch), is_visible, "died after {step:?}, sees {visible:?}");
        if !is_visible {
            committer.commit(epoch, &staged).unwrap();
        }
        assert_eq!(job.numbers(), range(from), "died after {step:?}");
    }
}

#[test]
fn an_older_instance_is_fenced_and_leaves_nothing() {
    let job = Job::new(1);
    let mut older = job.committer(1);
    older.commit(1, &[job.staged(0, 1, 0..10)]).unwrap();
    let mut newer = job.committer(2);
    let error = older.commit(2, &[job.staged(0, 2, 10..20)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert!(error.to_string().contains("another instance"), "{error}");
    newer.commit(2, &[job.staged(0, 2, 10..30)]).unwrap();
    assert_eq!(job.numbers(), range(30));
    assert_eq!(older.commit(3, &[job.staged(0, 3, 0..1)]).unwrap_err().kind(), ErrorKind::Fenced);
}

/// librdkafka hears of it in a thread of its own, and then refuses whatever comes next.
#[test]
fn an_instance_that_is_fenced_between_two_calls_says_so_at_every_step() {
    let job = Job::new(1);
    let older = job.transactions();
    let staged = job.staged(0, 1, 0..10);
    let staged = [StagedReader::new(&staged).unwrap()];
    let mut assigned = Assigned::default();
    (0..10).for_each(|_| assigned.push(0));
    older.begin().unwrap();
    let _newer = job.transactions();
    older.produce(1, &staged, &assigned).unwrap();
    let failed = [
        older.commit().unwrap_err(),
        older.produce(1, &staged, &assigned).unwrap_err(),
        older.begin().unwrap_err(),
    ];
    for Failed { at, error, .. } in failed {
        assert_eq!(error.kind(), ErrorKind::Fenced, "{at:?}: {error}");
        assert!(error.to_string().contains("another instance of this job has taken over"));
    }
}

#[test]
fn the_epoch_is_known_even_where_the_marker_is_forgotten() {
    let job = Job::new(3);
    let mut committer = job.committer(1);
    committer.commit(1, &[job.staged(0, 1, 0..10)]).unwrap();
    // A single record: two of the partitions end with the first epoch.
    committer.commit(2, &[job.staged(0, 2, 10..11)]).unwrap();
    drop(committer);
    let group = format!("{}-epoch", job.transactional_id());
    let admin = admin(&brokers());
    let deleted = block_on(admin.delete_groups(&[&group], &AdminOptions::new())).unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let mut committer = job.committer(3);
    assert_eq!(committer.committed().unwrap(), Some(2));
    // An epoch without results brings the marker back.
    committer.commit(3, &[]).unwrap();
    drop(committer);
    assert_eq!(job.committer(4).committed().unwrap(), Some(3));
    assert_eq!(job.numbers(), range(11));
}

/// Sets the latest timestamps that a topic takes.
fn take_until(topic: &str, after: &str) {
    let settings = AlterConfig::new(ResourceSpecifier::Topic(topic))
        .set("message.timestamp.after.max.ms", after);
    let admin = admin(&brokers());
    let altered = block_on(admin.alter_configs([&settings], &AdminOptions::new())).unwrap();
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");
}

#[test]
fn a_record_that_the_topic_takes_no_longer_waits_in_the_checkpoint_until_it_does() {
    let topic = topic(1, &[("message.timestamp.after.max.ms", "36000000")]);
    let (batch, now) = timed(&[0, 5 * HOUR, -HOUR]);
    let sink = timed_sink(&topic).exactly_once();
    let context = || context(&topic, 0, 1, batch.rows.schema());
    let mut writer = sink.writer(&context()).unwrap();
    let staged = [write_epoch(writer.as_mut(), 1, &batch)];
    assert_eq!(writer.take_refused(), []);
    take_until(&topic, "3600000");
    let error = sink.committer(&context()).unwrap().commit(1, &staged).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    assert!(error.to_string().contains("'message.timestamp.after.max.ms'"), "{error}");
    assert!(error.to_string().contains("when the topic takes it"), "{error}");
    assert_eq!(committed(&topic), []);
    take_until(&topic, "36000000");
    sink.committer(&context()).unwrap().commit(1, &staged).unwrap();
    let times: Vec<_> = committed(&topic).into_iter().map(|seen| seen.timestamp).collect();
    assert_eq!(times, [now, now + 5 * HOUR, now - HOUR]);
}

#[test]
fn a_call_that_fails_at_once_is_not_made_again_at_once() {
    let job = Job::new(1);
    let transactions = job.transactions();
    let (start, calls) = (Instant::now(), Cell::new(0));
    let step = transactions.step(Step::Commit, || {
        calls.set(calls.get() + 1);
        match start.elapsed() < Duration::from_millis(500) {
            true => Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)),
            false => Ok(()),
        }
    });
    step.unwrap();
    assert!((2..=6).contains(&calls.get()), "{calls:?} calls in half a second");
}

#[test]
fn exactly_once_without_checkpoints_is_refused() {
    let job = Job::new(1);
    let context = SinkContext { checkpointed: false, ..job.context(0, 1) };
    let error = job.sink.writer(&context).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(error.wrong_option(), Some("sink.delivery-guarantee"));
    assert_eq!(job.sink.committer(&context).err().unwrap().kind(), ErrorKind::Configuration);
}
