//! Backpressure, and the order of writes.

use std::task::Poll;

use super::server::{ask, connect, prefix, url};
use super::*;
use crate::Redis;

#[test]
fn the_last_value_of_a_key_stays() {
    let prefix = prefix();
    let sink = Redis::hash(format!("{prefix}:{{user_id}}")).url(url());
    let batches: Vec<Batch> = (0..50).map(|n| users(0..300, n)).collect();
    assert!(deliver(&sink, &batches).unwrap().is_empty());
    for user in 0..300 {
        let n: i64 = ask(&url(), &["HGET", &format!("{prefix}:u{user}"), "n"]);
        assert_eq!(n, 49);
    }
}

#[test]
fn a_writer_waits_when_redis_does_and_wakes_when_it_goes_on() {
    let server = server::Server::start(&[]);
    let sink = Redis::string("k:{user_id}").url(server.url());
    let mut writer = sink.writer(&context("job", 0, schema())).unwrap();
    let mut admin = connect(&server.url());
    let _: () = redis::cmd("CLIENT").arg(&["PAUSE", "3600000", "WRITE"]).query(&mut admin).unwrap();
    let mut written = 0;
    while writer.poll_ready().unwrap() == Poll::Ready(()) {
        assert!(written < 100_000, "what is on its way is bounded");
        writer.write(&users(0..1_000, written)).unwrap();
        written += 1_000;
    }
    assert_eq!(writer.poll_stage(1).unwrap(), Poll::Pending, "nothing is acknowledged yet");
    let _: () = redis::cmd("CLIENT").arg("UNPAUSE").query(&mut admin).unwrap();
    write(writer.as_mut(), &users(0..1_000, written)).unwrap();
    stage(writer.as_mut(), 1).unwrap();
    let all: usize = server.ask(&["DBSIZE"]);
    assert_eq!(all, 1_000);
    let last: String = server.ask(&["GET", "k:u7"]);
    assert!(last.contains(&format!("\"n\":{written}")), "{last}");
}
