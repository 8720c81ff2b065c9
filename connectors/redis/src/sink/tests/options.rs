//! What job files say, and what they cannot mean.

use tidemill_core::sink::Delivery;
use tidemill_core::table::{ConnectorFactory, TableSpec};

use super::*;
use crate::{RedisFactory, RedisStreamFactory};

fn table(options: &[(&str, &str)], primary_key: &[usize]) -> TableSpec {
    let url = [("url", "redis://me:canary@localhost:1")];
    TableSpec {
        name: "t".to_owned(),
        schema: schema(),
        metadata: Vec::new(),
        primary_key: primary_key.to_vec(),
        partitioned_by: Vec::new(),
        options: options.iter().chain(&url).copied().collect(),
    }
}

fn sink(options: &[(&str, &str)]) -> Result<Arc<dyn Sink>> {
    RedisFactory.sink(&table(options, &[]))
}

fn refused(result: Result<Arc<dyn Sink>>) -> (Option<String>, String) {
    let error = result.map(|_| ()).expect_err("it cannot be meant");
    assert!(!error.to_string().contains("canary"), "{error}");
    (error.wrong_option().map(str::to_owned), error.to_string())
}

type Given<'a> = &'a [(&'a str, &'a str)];

const HASH: [(&str, &str); 2] = [("structure", "hash"), ("key", "k:{user_id}:{window_start}")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    HASH.iter().chain(more).copied().collect()
}

#[test]
fn explain_says_what_is_written_where_how_often_and_why() {
    let sink_of = |more: &[(&str, &str)]| sink(&with(more)).unwrap();
    let hash = sink_of(&[("ttl", "1 d")]);
    let line = hash.describe();
    assert_eq!(line, "redis localhost:1 hash k:{user_id}:{window_start}, kept for 86400s");
    let guarantee = hash.guarantee(true);
    assert_eq!(guarantee.delivery, Delivery::EffectivelyOnce);
    assert!(guarantee.why.contains("same keys"), "{}", guarantee.why);
    let exactly = sink_of(&[("sink.delivery-guarantee", "exactly-once")]);
    assert_eq!(exactly.guarantee(true).delivery, Delivery::ExactlyOnce);
    assert!(exactly.guarantee(true).why.contains("MULTI"));
    assert_eq!(exactly.guarantee(false).delivery, Delivery::AtLeastOnce);
    let counter = sink(&[("structure", "counter"), ("key", "k:{user_id}"), ("increment", "n")]);
    assert_eq!(counter.unwrap().guarantee(true).delivery, Delivery::AtLeastOnce);
    let channel = sink(&[("structure", "channel"), ("key", "k")]).unwrap();
    assert_eq!(channel.guarantee(true).delivery, Delivery::AtMostOnce);
    let stream = RedisStreamFactory.sink(&table(&[("stream", "o:{0..7}")], &[])).unwrap();
    assert_eq!(stream.guarantee(true).delivery, Delivery::AtLeastOnce);
    assert_eq!(stream.describe(), "redis localhost:1 stream o:{0..7}");
}

#[test]
fn every_wrong_option_is_named() {
    let zset = [("structure", "zset"), ("key", "k"), ("score", "n"), ("member", "{user_id}")];
    let zset_with = |name: &'static str, value: &'static str| {
        let mut options: Vec<_> = zset.iter().filter(|(old, _)| *old != name).copied().collect();
        options.push((name, value));
        options
    };
    let channel = |name: &'static str, value: &'static str| {
        vec![("structure", "channel"), ("key", "k"), (name, value)]
    };
    type Case<'a> = (Vec<(&'a str, &'a str)>, &'a str, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (vec![("key", "k")], "structure", "required"),
        (vec![("structure", "list"), ("key", "k")], "structure", "'zset'"),
        (vec![("structure", "hash")], "key", "required"),
        (with(&[("score", "n")]), "score", "'zset'"),
        (with(&[("format", "json")]), "format", "'string' or 'channel'"),
        (with(&[("ttl", "0 s")]), "ttl", "millisecond"),
        (with(&[("sink.delivery-guarantee", "none")]), "sink.delivery-guarantee", "at-least-once"),
        (vec![("structure", "hash"), ("key", "k:{usr_id}")], "key", "did you mean 'user_id'?"),
        (
            vec![("structure", "hash"), ("key", "k:{user_id}{window_start}{n}{revenue}")],
            "key",
            "none is left",
        ),
        (vec![("structure", "string"), ("key", "k"), ("value", "x")], "value", "no column"),
        (
            vec![("structure", "string"), ("key", "k"), ("value", "n"), ("format", "json")],
            "value",
            "remove one",
        ),
        (zset_with("score", "user_id"), "score", "a number or a timestamp"),
        (zset_with("member", "{usr_id}"), "member", "did you mean 'user_id'?"),
        (vec![("structure", "counter"), ("key", "k")], "increment", "which column"),
        (
            vec![("structure", "counter"), ("key", "k"), ("increment", "window_start")],
            "increment",
            "a number",
        ),
        (channel("ttl", "1 s"), "ttl", "channel"),
        (channel("sink.delivery-guarantee", "exactly-once"), "sink.delivery-guarantee", "stream"),
        (
            with(&[("sink.delivery-guarantee", "exactly-once"), ("cluster", "true")]),
            "sink.delivery-guarantee",
            "one slot",
        ),
    ];
    for (options, option, text) in cases {
        let (named, message) = refused(sink(&options));
        assert_eq!(named.as_deref(), Some(option), "{message}");
        assert!(message.contains(text), "{message}");
    }
    let stream =
        |options: &[(&str, &str)], key: &[usize]| RedisStreamFactory.sink(&table(options, key));
    let cases: [(Given<'_>, &[usize], &str); 5] = [
        (&[], &[], "stream"),
        (&[("stream", "s"), ("maxlen", "0")], &[], "maxlen"),
        (&[("stream", "s"), ("key.fields", "usr_id")], &[], "key.fields"),
        (&[("stream", "s"), ("key.fields", "user_id")], &[0], "key.fields"),
        (&[("stream", "s"), ("key.field", "payload")], &[], "key.field"),
    ];
    for (options, key, option) in cases {
        assert_eq!(refused(stream(options, key)).0.as_deref(), Some(option));
    }
}

#[test]
fn rows_that_a_primary_key_tells_apart_cannot_meet() {
    let sink = |options: &[(&str, &str)], key: &[usize]| RedisFactory.sink(&table(options, key));
    sink(&HASH, &[0, 1]).unwrap();
    let (option, message) = refused(sink(&HASH, &[0, 2]));
    assert_eq!(option.as_deref(), Some("key"));
    assert!(message.contains("Add {n}"), "{message}");
    let zset = [
        ("structure", "zset"),
        ("key", "k:{window_start}"),
        ("score", "n"),
        ("member", "{user_id}"),
    ];
    sink(&zset, &[0, 1]).unwrap();
    let counter = [("structure", "counter"), ("key", "k:{user_id}"), ("increment", "n")];
    assert!(refused(sink(&counter, &[0])).1.contains("PRIMARY KEY"));
}

#[test]
fn exactly_once_does_not_start_without_checkpoints() {
    let sink = sink(&with(&[("sink.delivery-guarantee", "exactly-once")])).unwrap();
    let context = SinkContext { checkpointed: false, ..context("job", 0, schema()) };
    let error = sink.writer(&context).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("needs checkpoints"), "{error}");
    assert!(sink.committer(&context).is_err());
}

#[test]
fn secrets_are_in_no_debug_text() {
    let sink = crate::Redis::hash("k:{user_id}")
        .url("redis://me:canary@localhost")
        .option("password", "canary");
    assert!(!format!("{sink:?} {}", sink.describe()).contains("canary"));
}
