//! What passes and what does not: each of Redis's troubles, made to happen.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;

use tidemill_core::ErrorKind;

use super::server::{Server, connect, prefix, url};
use super::*;
use crate::{Redis, RedisStream};

fn strings(url: &str) -> RedisSink {
    Redis::string("k:{user_id}").value("n").url(url)
}

/// Cuts all connections to a server but its own, again and again.
struct Cutter(Arc<AtomicBool>, JoinHandle<usize>);

impl Cutter {
    /// At most `cuts` times: who is cut waits longer every time.
    fn start(server: &Server, cuts: usize) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (is_done, url) = (done.clone(), server.url());
        let cutter = std::thread::spawn(move || {
            let mut connection = connect(&url);
            let mut cut = 0;
            while cut < cuts && !is_done.load(Ordering::Relaxed) {
                let mut kill = redis::cmd("CLIENT");
                kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
                cut += kill.query::<usize>(&mut connection).unwrap();
                (0..500_000).for_each(|_| std::hint::spin_loop());
            }
            cut
        });
        Self(done, cutter)
    }

    /// How many connections it has cut.
    fn stop(self) -> usize {
        self.0.store(true, Ordering::Relaxed);
        let cuts = self.1.join().unwrap();
        assert!(cuts > 0, "connections were cut");
        cuts
    }
}

/// Waits until the server has refused something with this error.
fn until_refused(server: &Server, code: &str) {
    let mut connection = connect(&server.url());
    loop {
        let stats: String = redis::cmd("INFO").arg("errorstats").query(&mut connection).unwrap();
        if stats.contains(&format!("errorstat_{code}:")) {
            return;
        }
        std::thread::yield_now();
    }
}

/// Writes users while the server refuses with `code`; `relief` ends that.
fn through(server: &Server, code: &str, relief: &[&str]) {
    let sink = strings(&server.url());
    let mut writer = sink.writer(&context("job", 0, schema())).unwrap();
    writer.write(&users(0..3_000, 7)).unwrap();
    until_refused(server, code);
    assert_eq!(
        writer.poll_stage(1).unwrap(),
        Poll::Pending,
        "it is not delivered, and no error either"
    );
    let _: () = server.ask(relief);
    stage(writer.as_mut(), 1).unwrap();
    assert!(writer.take_refused().is_empty());
    for user in [0, 1_500, 2_999] {
        assert_eq!(server.ask::<i64>(&["GET", &format!("k:u{user}")]), 7);
    }
}

#[test]
fn a_full_memory_is_waited_for() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let _: () = server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    through(&server, "OOM", &["CONFIG", "SET", "maxmemory", "0"]);
}

#[test]
fn a_replica_is_waited_for_until_it_is_a_master() {
    let server = Server::start(&["--replicaof", "127.0.0.1", "1"]);
    through(&server, "READONLY", &["REPLICAOF", "NO", "ONE"]);
}

/// Passes connections on to the server whose port is set when they come.
fn passes_on_to(port: Arc<AtomicU16>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(std::result::Result::ok) {
            let port = port.load(Ordering::SeqCst);
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let ways =
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
            for (mut from, mut to) in ways {
                std::thread::spawn(move || {
                    // Either side may hang up.
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    format!("redis://{address}")
}

#[test]
fn another_master_behind_the_same_address_is_found() {
    let old = Server::start(&["--replicaof", "127.0.0.1", "1"]);
    let new = Server::start(&[]);
    let port = Arc::new(AtomicU16::new(old.port()));
    let sink = strings(&passes_on_to(port.clone()));
    let mut writer = sink.writer(&context("job", 0, schema())).unwrap();
    writer.write(&users(0..100, 7)).unwrap();
    until_refused(&old, "READONLY");
    port.store(new.port(), Ordering::SeqCst);
    stage(writer.as_mut(), 1).unwrap();
    assert_eq!(new.ask::<i64>(&["GET", "k:u99"]), 7);
}

#[test]
fn a_server_without_enough_replicas_is_waited_for() {
    let server = Server::start(&["--min-replicas-to-write", "1"]);
    through(&server, "NOREPLICAS", &["CONFIG", "SET", "min-replicas-to-write", "0"]);
}

#[test]
fn a_server_that_loads_its_data_is_waited_for() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let sink = strings(&server.url());
    deliver(&sink, &[users(0..20_000, 1)]).unwrap();
    server.down();
    // A millisecond for every key: it does not finish before it is told to.
    server.options(&["--key-load-delay", "1000"]);
    server.up();
    let mut writer = sink.writer(&context("job", 0, schema())).unwrap();
    writer.write(&users(0..20_000, 2)).unwrap();
    until_refused(&server, "LOADING");
    let _: () = server.ask(&["CONFIG", "SET", "key-load-delay", "0"]);
    stage(writer.as_mut(), 1).unwrap();
    assert_eq!(server.ask::<i64>(&["GET", "k:u19999"]), 2);
}

#[test]
fn a_server_that_is_killed_and_comes_back_loses_nothing_that_was_acknowledged() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let sink = strings(&server.url());
    let mut writer = sink.writer(&context("job", 0, schema())).unwrap();
    for round in 0..3 {
        for n in 0..10 {
            write(writer.as_mut(), &users(0..2_000, round * 10 + n)).unwrap();
        }
        server.down();
        write(writer.as_mut(), &users(0..2_000, round * 10 + 10)).unwrap();
        server.up();
        stage(writer.as_mut(), 1).unwrap();
        for user in [0, 999, 1_999] {
            assert_eq!(server.ask::<i64>(&["GET", &format!("k:u{user}")]), round * 10 + 10);
        }
    }
}

#[test]
fn connections_that_are_cut_in_the_middle_lose_nothing() {
    let server = Server::start(&[]);
    let cutter = Cutter::start(&server, 8);
    let strings = strings(&server.url());
    let stream = RedisStream::to("entries").url(server.url());
    let batches: Vec<Batch> = (0..40).map(|n| users(0..2_000, n)).collect();
    let finish = |sink: &RedisSink| deliver(sink, &batches).map(|letters| letters.len());
    let results = [finish(&strings), finish(&stream)];
    let cuts = cutter.stop();
    assert_eq!(results.map(Result::unwrap), [0, 0]);
    for user in 0..2_000 {
        assert_eq!(server.ask::<i64>(&["GET", &format!("k:u{user}")]), 39);
    }
    let entries: usize = server.ask(&["XLEN", "entries"]);
    assert!(entries >= 80_000, "{entries} entries, {cuts} cuts");
}

#[test]
fn a_password_that_is_missing_or_wrong_ends_the_job() {
    let server = Server::start(&["--requirepass", "right-canary"]);
    let sink = strings(&server.url());
    let mut writer = sink.writer(&context("job", 0, schema())).unwrap();
    writer.write(&users(0..10, 1)).unwrap();
    let error = stage(writer.as_mut(), 1).unwrap_err();
    assert_eq!((error.kind(), error.wrong_option()), (ErrorKind::Configuration, Some("password")));
    assert!(writer.poll_ready().is_err(), "it says so on every call");
    let wrong = strings(&server.url()).option("password", "wrong-canary");
    let error = deliver(&wrong, &[users(0..10, 1)]).unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
    let committer = wrong.exactly_once().committer(&context("job", 0, schema()));
    assert_eq!(committer.map(|_| ()).unwrap_err().kind(), ErrorKind::Configuration);
    let right = strings(&server.url()).option("password", "right-canary");
    deliver(&right, &[users(0..10, 1)]).unwrap();
}

#[test]
fn a_user_who_may_not_write_the_keys_ends_the_job_with_the_key() {
    let server = Server::start(&[]);
    let _: () = server.ask(&["ACL", "SETUSER", "writer", "on", ">secret", "~other:*", "+@all"]);
    let sink = strings(&server.url()).option("username", "writer").option("password", "secret");
    let error = deliver(&sink, &[users(0..10, 1)]).unwrap_err();
    assert_eq!(error.wrong_option(), Some("username"));
    assert!(error.to_string().contains("NOPERM") && error.to_string().contains("k:u0"), "{error}");
}

#[test]
fn a_transaction_waits_for_a_while_and_then_says_that_it_may_work_later() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let sink = Redis::hash("k:{user_id}").exactly_once().url(server.url());
    let output = [staged(&sink, "job", 0, &[users(0..20_000, 1)])];
    let mut committer = sink.committer(&context("job", 0, schema())).unwrap();
    let troubles: [(&[&str], &[&str]); 3] = [
        (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
        (
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
    ];
    for (epoch, (trouble, relief)) in (1..).zip(troubles) {
        let _: () = server.ask(trouble);
        let start = std::time::Instant::now();
        let error = committer.commit(epoch, &output).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{trouble:?}: {error}");
        assert!(start.elapsed().as_secs() < 8, "the coordinator has other work");
        let _: () = server.ask(relief);
        committer.commit(epoch, &output).unwrap();
    }
    assert_eq!(server.ask::<usize>(&["DBSIZE"]), 20_001);
}

#[test]
fn a_transaction_whose_connection_is_cut_is_carried_out_once() {
    let server = Server::start(&[]);
    let sink = Redis::counter("k:{user_id}", "n").exactly_once().url(server.url());
    let output = [staged(&sink, "job", 0, &[users(0..20_000, 1)])];
    let mut committer = sink.committer(&context("job", 0, schema())).unwrap();
    let cutter = Cutter::start(&server, 8);
    let mut epoch = 1;
    let mut failures = 0;
    while epoch <= 30 {
        match committer.commit(epoch, &output) {
            Ok(()) => epoch += 1,
            Err(error) if error.kind() == ErrorKind::Transient && failures < 100 => failures += 1,
            Err(error) => panic!("{error}"),
        }
    }
    let cuts = cutter.stop();
    for user in [0, 10_000, 19_999] {
        assert_eq!(server.ask::<i64>(&["GET", &format!("k:u{user}")]), 30, "{cuts} cuts");
    }
}

#[test]
fn a_transaction_survives_a_kill_of_the_server_with_its_log() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let sink = Redis::counter("k:{user_id}", "n").exactly_once().url(server.url());
    let output = [staged(&sink, "job", 0, &[users(0..5_000, 1)])];
    let mut committer = sink.committer(&context("job", 0, schema())).unwrap();
    for epoch in 1..=5 {
        committer.commit(epoch, &output).unwrap();
        server.down();
        server.up();
        committer.commit(epoch, &output).unwrap();
    }
    for user in [0, 4_999] {
        assert_eq!(server.ask::<i64>(&["GET", &format!("k:u{user}")]), 5);
    }
}

#[test]
fn the_shared_server_is_no_cluster() {
    let sink = Redis::hash(format!("{}:{{user_id}}", prefix())).cluster().url(url());
    assert!(deliver(&sink, &[users(0..3, 1)]).is_err());
}
