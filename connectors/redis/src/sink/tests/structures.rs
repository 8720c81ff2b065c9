//! Every structure, read back byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use super::server::{ask, prefix, url};
use super::*;
use crate::Redis;

fn two() -> Batch {
    rows(&[
        (Some("ann"), 60, Some(3), Some(1.5)),
        (Some("bob \"b\""), 120, Some(-7), Some(f64::INFINITY)),
    ])
}

fn hash(key: &str) -> BTreeMap<String, String> {
    ask(&url(), &["HGETALL", key])
}

fn fields(fields: &[(&str, &str)]) -> BTreeMap<String, String> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_hash_has_a_field_for_every_column_that_is_not_in_the_key() {
    let prefix = prefix();
    let sink = Redis::hash(format!("{prefix}:{{user_id}}:{{window_start}}")).url(url());
    assert!(deliver(&sink, &[two()]).unwrap().is_empty());
    let ann = hash(&format!("{prefix}:ann:1970-01-01T00:01:00"));
    assert_eq!(ann, fields(&[("n", "3"), ("revenue", "1.5")]));
    let bob = hash(&format!("{prefix}:bob \"b\":1970-01-01T00:02:00"));
    assert_eq!(bob, fields(&[("n", "-7"), ("revenue", "Infinity")]));
    let ttl: i64 = ask(&url(), &["PTTL", &format!("{prefix}:ann:1970-01-01T00:01:00")]);
    assert_eq!(ttl, -1);
}

#[test]
fn a_null_takes_its_field_away_and_leaves_those_of_others() {
    let prefix = prefix();
    let sink = Redis::hash(format!("{prefix}:{{user_id}}")).url(url());
    deliver(&sink, &[rows(&[(Some("ann"), 60, Some(3), Some(1.5))])]).unwrap();
    let key = format!("{prefix}:ann");
    let _: i64 = ask(&url(), &["HSET", &key, "note", "of somebody else"]);
    deliver(&sink, &[rows(&[(Some("ann"), 120, Some(4), None)])]).unwrap();
    let window = ("window_start", "1970-01-01T00:02:00");
    assert_eq!(hash(&key), fields(&[("n", "4"), ("note", "of somebody else"), window]));
}

#[test]
fn a_string_is_the_row_in_a_format_or_one_column() {
    let prefix = prefix();
    let sink = Redis::string(format!("{prefix}:{{user_id}}")).url(url());
    deliver(&sink, &[rows(&[(Some("ann"), 60, Some(3), None)])]).unwrap();
    let text: String = ask(&url(), &["GET", &format!("{prefix}:ann")]);
    let row = r#"{"user_id":"ann","window_start":"1970-01-01 00:01:00","n":3,"revenue":null}"#;
    assert_eq!(text, row);
    let sink = Redis::string(format!("{prefix}:{{user_id}}")).value("n").url(url());
    let refused = rows(&[(Some("eve"), 60, None, None), (Some("bob"), 60, Some(9), None)]);
    let letters = deliver(&sink, &[refused]).unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("NULL"), "{}", letters[0].reason);
    let text: Option<String> = ask(&url(), &["GET", &format!("{prefix}:bob")]);
    assert_eq!(text.as_deref(), Some("9"));
    let text: Option<String> = ask(&url(), &["GET", &format!("{prefix}:eve")]);
    assert_eq!(text, None);
}

#[test]
fn a_sorted_set_has_one_score_for_a_member() {
    let prefix = prefix();
    let board = format!("{prefix}:board");
    let sink = Redis::sorted_set(board.as_str(), "revenue", "{user_id}").url(url());
    let batch = rows(&[
        (Some("ann"), 60, None, Some(1.5)),
        (Some("bob"), 60, None, Some(-2.25)),
        (Some("ann"), 120, None, Some(9.0)),
        (Some("eve"), 60, None, Some(f64::NAN)),
        (Some("eve"), 60, None, None),
    ]);
    let letters = deliver(&sink, &[batch]).unwrap();
    assert_eq!(letters.len(), 2, "no number, and none at all");
    let all: Vec<(String, f64)> = ask(&url(), &["ZRANGE", &board, "0", "-1", "WITHSCORES"]);
    assert_eq!(all, [("bob".to_owned(), -2.25), ("ann".to_owned(), 9.0)]);
    let seen = format!("{prefix}:seen");
    let sink =
        Redis::sorted_set(seen.as_str(), "window_start", "{user_id}@{window_start}").url(url());
    deliver(&sink, &[rows(&[(Some("ann"), 60, None, None)])]).unwrap();
    let all: Vec<(String, f64)> = ask(&url(), &["ZRANGE", &seen, "0", "-1", "WITHSCORES"]);
    assert_eq!(all, [("ann@1970-01-01T00:01:00".to_owned(), 60_000.0)], "times in milliseconds");
}

#[test]
fn a_counter_adds_up_integers_and_floats() {
    let prefix = prefix();
    let sink = Redis::counter(format!("{prefix}:n:{{user_id}}"), "n").url(url());
    deliver(&sink, &[two(), two()]).unwrap();
    let sum: i64 = ask(&url(), &["GET", &format!("{prefix}:n:ann")]);
    assert_eq!(sum, 6);
    let sink = Redis::counter(format!("{prefix}:sum:{{user_id}}"), "revenue").url(url());
    let letters = deliver(&sink, &[two(), two()]).unwrap();
    assert_eq!(letters.len(), 2, "infinity is added to nothing");
    let sum: f64 = ask(&url(), &["GET", &format!("{prefix}:sum:ann")]);
    assert_eq!(sum, 3.0);
}

#[test]
fn a_channel_reaches_who_listens() {
    let prefix = prefix();
    let mut connection = server::connect(&url());
    let mut listener = connection.as_pubsub();
    listener.subscribe(format!("{prefix}:ann")).unwrap();
    let sink = Redis::channel(format!("{prefix}:{{user_id}}")).value("n").url(url());
    deliver(&sink, &[two()]).unwrap();
    assert_eq!(listener.get_message().unwrap().get_payload::<String>().unwrap(), "3");
}

#[test]
fn keys_live_so_long_after_they_were_last_written() {
    let prefix = prefix();
    let template = |name: &str| format!("{prefix}:{name}:{{user_id}}");
    let hour = Duration::from_secs(3600);
    let sinks = [
        Redis::hash(template("hash")),
        Redis::string(template("string")),
        Redis::sorted_set(template("zset"), "n", "{user_id}"),
        Redis::counter(template("counter"), "n"),
    ];
    for sink in sinks {
        deliver(&sink.ttl(hour).url(url()), &[two()]).unwrap();
    }
    for name in ["hash", "string", "zset", "counter"] {
        let ttl: i64 = ask(&url(), &["PTTL", &format!("{prefix}:{name}:ann")]);
        assert!((3_500_000..=3_600_000).contains(&ttl), "{name}: {ttl}");
    }
}

#[test]
fn a_null_in_the_key_is_refused_with_the_row() {
    let prefix = prefix();
    let sink = Redis::hash(format!("{prefix}:{{user_id}}")).url(url());
    let batch = rows(&[(None, 60, Some(1), None), (Some("ann"), 60, Some(2), None)]);
    let letters = deliver(&sink, &[batch]).unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("'user_id' is NULL"), "{}", letters[0].reason);
    let row = r#"{"user_id":null,"window_start":"1970-01-01 00:01:00","n":1,"revenue":null}"#;
    assert_eq!(letters[0].record.payload.as_deref(), Some(row.as_bytes()));
    assert_eq!(hash(&format!("{prefix}:ann"))["n"], "2");
}

#[test]
fn a_key_of_another_type_is_a_dead_letter_and_the_others_arrive() {
    let prefix = prefix();
    let key = format!("{prefix}:u7");
    let _: () = ask(&url(), &["SET", &key, "in the way"]);
    let sink = Redis::hash(format!("{prefix}:{{user_id}}")).url(url());
    let letters = deliver(&sink, &[users(0..20, 5)]).unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert!(
        letter.reason.contains("WRONGTYPE") && letter.reason.contains(&key),
        "{}",
        letter.reason
    );
    assert_eq!(letter.record.key.as_deref(), Some(key.as_bytes()));
    let content = r#"{"n":"5","window_start":"1970-01-01T00:01:00"}"#;
    assert_eq!(letter.record.payload.as_deref(), Some(content.as_bytes()));
    for user in (0..20).filter(|user| *user != 7) {
        assert_eq!(hash(&format!("{prefix}:u{user}"))["n"], "5");
    }
    let kept: String = ask(&url(), &["GET", &key]);
    assert_eq!(kept, "in the way");
}

#[test]
fn what_is_no_number_or_too_large_a_one_is_not_added_to() {
    let prefix = prefix();
    let _: () = ask(&url(), &["SET", &format!("{prefix}:u0"), "text"]);
    let _: () = ask(&url(), &["SET", &format!("{prefix}:u1"), &i64::MAX.to_string()]);
    let sink = Redis::counter(format!("{prefix}:{{user_id}}"), "n").url(url());
    let letters = deliver(&sink, &[users(0..3, 5)]).unwrap();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert!(
        reasons[0].contains("not an integer") && reasons[1].contains("overflow"),
        "{reasons:?}"
    );
    let sum: i64 = ask(&url(), &["GET", &format!("{prefix}:u2")]);
    assert_eq!(sum, 5);
}
