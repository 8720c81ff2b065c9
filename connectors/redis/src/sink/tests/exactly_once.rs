//! Exactly once: what a crash between any two steps leaves, and who may write.

use std::sync::Arc;

use tidemill_core::ErrorKind;
use tidemill_core::sink::SinkCommitter;

use super::server::{Server, ask, prefix, url};
use super::*;
use crate::sink::commit::{CommitterSettings, EpochCommitter};
use crate::sink::transaction::Step;
use crate::sink::unit::Units;
use crate::{Redis, RedisStream};

/// A counter shows every write that happens twice, a hash every one that is missing.
fn counter(prefix: &str, url: &str) -> RedisSink {
    Redis::counter(format!("{prefix}:{{user_id}}"), "n").exactly_once().url(url)
}

fn sum(url: &str, prefix: &str, user: &str) -> i64 {
    ask::<Option<i64>>(url, &["GET", &format!("{prefix}:{user}")]).unwrap_or(0)
}

fn open(sink: &RedisSink, job: &str, first_epoch: Epoch) -> Result<Box<dyn SinkCommitter>> {
    sink.committer(&SinkContext { first_epoch, ..context(job, 0, schema()) })
}

/// The committer itself, for its steps.
fn committer(sink: &RedisSink, job: &str) -> EpochCommitter {
    let config = sink.config().unwrap();
    let places = sink.layout.places(&schema()).unwrap();
    EpochCommitter::open(CommitterSettings {
        place: "redis".to_owned(),
        units: Units::new(job, "sink", config.is_cluster(), &places).unwrap(),
        config,
        expected: sink.layout.expected(&schema()).unwrap(),
        first_epoch: 1,
        clock: context(job, 0, schema()).clock,
    })
    .unwrap()
}

#[test]
fn staged_output_is_seen_with_its_epoch_and_only_once() {
    let (prefix, url) = (prefix(), url());
    let sink = counter(&prefix, &url);
    let shards = [
        staged(&sink, &prefix, 0, &[users(0..10, 2)]),
        staged(&sink, &prefix, 1, &[users(5..15, 3)]),
    ];
    let mut committer = open(&sink, &prefix, 1).unwrap();
    assert_eq!(committer.committed().unwrap(), None);
    assert_eq!(sum(&url, &prefix, "u7"), 0, "nothing is there before its checkpoint");
    committer.commit(1, &shards).unwrap();
    committer.commit(1, &shards).unwrap();
    drop(committer);
    let mut committer = open(&sink, &prefix, 2).unwrap();
    assert_eq!(committer.committed().unwrap(), Some(1));
    committer.commit(1, &shards).unwrap();
    let sums = ["u0", "u7", "u12"].map(|user| sum(&url, &prefix, user));
    assert_eq!(sums, [2, 5, 3]);
    committer.commit(2, &[]).unwrap();
    committer.commit(5, &shards).unwrap();
    assert_eq!(sum(&url, &prefix, "u7"), 10, "an epoch may be empty, and numbers may jump");
    let key = format!("tidemill:{prefix}:sink:epoch");
    assert_eq!(ask::<u64>(&url, &["HGET", &key, "epoch"]), 5);
}

#[test]
fn death_between_any_two_steps_loses_nothing_and_doubles_nothing() {
    let url = url();
    for (step, is_there) in
        [(Step::Watch, false), (Step::Look, false), (Step::Queue, false), (Step::Execute, true)]
    {
        let prefix = prefix();
        let sink = counter(&prefix, &url);
        let output = [staged(&sink, &prefix, 0, &[users(0..5_000, 1)])];
        committer(&sink, &prefix).die_after(step, 1, &output);
        let expected = i64::from(is_there);
        assert_eq!(
            [sum(&url, &prefix, "u0"), sum(&url, &prefix, "u4999")],
            [expected; 2],
            "{step:?}"
        );
        let mut next = open(&sink, &prefix, 2).unwrap();
        assert_eq!(next.committed().unwrap(), is_there.then_some(1), "{step:?}");
        next.commit(1, &output).unwrap();
        assert_eq!([sum(&url, &prefix, "u0"), sum(&url, &prefix, "u4999")], [1; 2], "{step:?}");
    }
}

#[test]
fn an_older_instance_is_fenced_for_good() {
    let (prefix, url) = (prefix(), url());
    let sink = counter(&prefix, &url);
    let output = [staged(&sink, &prefix, 0, &[users(0..10, 1)])];
    let mut old = open(&sink, &prefix, 1).unwrap();
    old.commit(1, &output).unwrap();
    let mut new = open(&sink, &prefix, 2).unwrap();
    for _ in 0..2 {
        let error = old.commit(2, &output).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(error.to_string().contains("another instance"), "{error}");
    }
    assert_eq!(sum(&url, &prefix, "u0"), 1);
    new.commit(2, &output).unwrap();
    assert_eq!(sum(&url, &prefix, "u0"), 2);
}

#[test]
fn of_two_that_start_together_one_writes_every_epoch_once() {
    let (prefix, url) = (prefix(), url());
    let sink = Arc::new(counter(&prefix, &url));
    let output = Arc::new([staged(&sink, &prefix, 0, &[users(0..500, 1)])]);
    let run = |_| {
        let (sink, output, job) = (sink.clone(), output.clone(), prefix.clone());
        std::thread::spawn(move || {
            let mut committer = open(&sink, &job, 1).unwrap();
            (1..30).try_for_each(|epoch| committer.commit(epoch, output.as_ref()))
        })
    };
    let threads: Vec<_> = (0..4).map(run).collect();
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let fenced =
        |result: &Result<()>| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced);
    assert!(results.iter().all(|result| result.is_ok() || fenced(result)), "{results:?}");
    assert!(results.iter().any(Result::is_ok), "{results:?}");
    assert_eq!([sum(&url, &prefix, "u0"), sum(&url, &prefix, "u499")], [29; 2]);
}

#[test]
fn a_key_in_the_way_refuses_the_whole_epoch_until_it_is_gone() {
    let (prefix, url) = (prefix(), url());
    let sink = Redis::hash(format!("{prefix}:{{user_id}}")).exactly_once().url(url.as_str());
    let key = format!("{prefix}:u7");
    let _: () = ask(&url, &["SET", &key, "in the way"]);
    let output = [staged(&sink, &prefix, 0, &[users(0..10, 1)])];
    let mut committer = open(&sink, &prefix, 1).unwrap();
    let error = committer.commit(1, &output).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    assert!(
        error.to_string().contains(&key) && error.to_string().contains("holds a string"),
        "{error}"
    );
    assert_eq!(ask::<usize>(&url, &["EXISTS", &format!("{prefix}:u0")]), 0, "nothing is written");
    let _: usize = ask(&url, &["DEL", &key]);
    committer.commit(1, &output).unwrap();
    assert_eq!(ask::<i64>(&url, &["HGET", &key, "n"]), 1);
}

#[test]
fn a_redis_that_forgets_everything_gets_the_last_epoch_again_and_still_knows_who_is_newer() {
    let server = Server::start(&[]);
    let (prefix, url) = (prefix(), server.url());
    let sink = counter(&prefix, &url);
    let output = [staged(&sink, &prefix, 0, &[users(0..10, 1)])];
    let mut old = open(&sink, &prefix, 1).unwrap();
    (1..=3).for_each(|epoch| old.commit(epoch, &output).unwrap());
    let _: () = server.ask(&["FLUSHALL"]);
    let mut new = open(&sink, &prefix, 4).unwrap();
    assert_eq!(new.committed().unwrap(), None);
    new.commit(3, &output).unwrap();
    assert_eq!(old.commit(4, &output).unwrap_err().kind(), ErrorKind::Fenced);
    let _: () = server.ask(&["FLUSHALL"]);
    new.commit(4, &output).unwrap();
    assert_eq!(sum(&url, &prefix, "u0"), 1, "what was lost in between is said, and not invented");
}

#[test]
fn all_structures_go_through_a_transaction() {
    let (prefix, url) = (prefix(), url());
    let template = |name: &str| format!("{prefix}:{name}:{{user_id}}");
    let hour = std::time::Duration::from_secs(3600);
    let sinks = [
        Redis::hash(template("hash")).ttl(hour),
        Redis::string(template("string")),
        Redis::sorted_set(template("zset"), "n", "{user_id}").ttl(hour),
        Redis::counter(template("counter"), "revenue"),
        RedisStream::to(format!("{prefix}:stream:{{0..3}}")).key_fields(["user_id"]),
    ];
    let batch = rows(&[(Some("ann"), 60, Some(3), Some(1.5)), (Some("bob"), 60, None, Some(2.0))]);
    for (n, sink) in sinks.into_iter().enumerate() {
        let (job, sink) = (format!("{prefix}-{n}"), sink.exactly_once().url(url.as_str()));
        let mut writer = sink.writer(&context(&job, 0, schema())).unwrap();
        write(writer.as_mut(), &batch).unwrap();
        let refused = writer.take_refused().len();
        let output = [stage(writer.as_mut(), 1).unwrap()];
        assert_eq!(refused, usize::from(n == 2), "a member without a score");
        let mut committer = open(&sink, &job, 1).unwrap();
        for _ in 0..3 {
            committer.commit(1, &output).unwrap();
        }
    }
    let types = ["hash", "string", "zset"]
        .map(|name| ask::<String>(&url, &["TYPE", &format!("{prefix}:{name}:ann")]));
    assert_eq!(types, ["hash", "string", "zset"]);
    assert_eq!(ask::<f64>(&url, &["GET", &format!("{prefix}:counter:ann")]), 1.5);
    let entries = |n| ask::<usize>(&url, &["XLEN", &format!("{prefix}:stream:{n}")]);
    assert_eq!((0..4).map(entries).sum::<usize>(), 2);
}

#[test]
fn what_redis_refuses_in_the_middle_of_a_transaction_is_said() {
    let (prefix, url) = (prefix(), url());
    let sink = counter(&prefix, &url);
    let _: () = ask(&url, &["SET", &format!("{prefix}:u3"), &i64::MAX.to_string()]);
    let output = [staged(&sink, &prefix, 0, &[users(0..10, 1)])];
    let mut committer = open(&sink, &prefix, 1).unwrap();
    let error = committer.commit(1, &output).unwrap_err().to_string();
    assert!(error.contains("1 writes were refused") && error.contains(":u3"), "{error}");
    assert_eq!(sum(&url, &prefix, "u4"), 1, "the others are there");
    let mut next = open(&sink, &prefix, 2).unwrap();
    next.commit(1, &output).unwrap();
    assert_eq!(sum(&url, &prefix, "u4"), 1, "once");
}

/// How long Redis does nothing else: for the figures in the docs.
#[test]
fn a_hundred_thousand_hashes_are_one_transaction() {
    let server = Server::start(&[]);
    let sink = Redis::hash("k:{user_id}").exactly_once().url(server.url());
    let output = [staged(&sink, "job", 0, &[users(0..100_000, 1)])];
    let mut committer = open(&sink, "job", 1).unwrap();
    let start = std::time::Instant::now();
    committer.commit(1, &output).unwrap();
    let whole = start.elapsed();
    assert_eq!(server.ask::<usize>(&["DBSIZE"]), 100_001);
    let stats: String = server.ask(&["INFO", "commandstats"]);
    let exec = stats.lines().find(|line| line.starts_with("cmdstat_exec")).unwrap_or_default();
    println!("100 000 hashes, {} bytes staged: {whole:?} in all; {exec}", output[0].0.len());
}
