//! Consumer groups: what a consumer that was killed had been given and had not acknowledged is read again when
//! it comes back, or claimed by another, and none of it is lost.

use std::cell::RefCell;

use super::job::{EXACTLY_ONCE, StreamsJob, TO_THE_END};
use super::server::Server;
use super::streams::Streams;
use crate::job_folder::summary;
use crate::totals::{Expected, Found};
use crate::totals_job::{number, seed};

const GROUP: &str = "'read' = 'group', 'claim.min-idle' = '1 s', 'consumer' = '${CONSUMER:-first}'";

const CLICKS: u64 = 30_000;

/// So many entries are pending at least when a consumer is killed.
const PENDING: u64 = 10_000;

/// A job that was killed as the consumer `first`, and how many entries it left pending.
fn killed_with_many_pending(source: &str) -> (StreamsJob, u64) {
    let space = Server::shared().space();
    let input = Streams::new(&space, "clicks", 4);
    input.fill(11, CLICKS);
    let job = StreamsJob::new(&space, &input, source, EXACTLY_ONCE);
    // No checkpoint comes in its time, so nothing is acknowledged.
    let mut running = job.start(job.run(3, "1h"), 20_000, "log");
    let connection = RefCell::new(input.connect());
    let pending = || input.pending(job.name(), &mut connection.borrow_mut());
    running.until("many pending entries", || pending() >= PENDING);
    running.kill();
    let left = pending();
    println!("{left} entries were pending when their consumer was killed");
    assert!(left >= PENDING, "{left} are pending");
    (job, left)
}

#[test]
fn a_consumer_that_was_killed_goes_on_with_what_it_had_not_acknowledged() {
    let (job, left) = killed_with_many_pending(&format!("{GROUP}, {TO_THE_END}"));
    let expected = Expected::of(&job.input);
    let ended = job.run(1, "200ms").output().unwrap();
    job.assert_exact(&ended, &expected, &format!("{left} were pending"));
    assert_eq!(job.input.pending(job.name(), &mut job.input.connect()), 0, "all are acknowledged");
}

#[test]
fn what_a_dead_consumer_left_is_claimed_by_another() {
    let (job, left) = killed_with_many_pending(GROUP);
    let mut command = job.run(2, "100ms");
    command.env("CONSUMER", "second");
    let mut second = job.start(command, 10_000_000, "log-2");
    let connection = RefCell::new(job.input.connect());
    second.until("everything that the first left", || {
        job.input.pending(job.name(), &mut connection.borrow_mut()) == 0 && job.newest_epoch() > 0
    });
    second.signal("INT");
    let (code, said) = second.wait();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(summary(&said)["ledgers"][0]["records_in"], CLICKS, "{left} were pending: {said}");
}

#[test]
fn killed_again_and_again_a_job_of_a_group_loses_nothing() {
    let (seed, kills) = (seed(2016), number("TIDEMILL_KILLS", 30) / 5);
    let space = Server::shared().space();
    let input = Streams::new(&space, "clicks", 8);
    input.fill(seed, number("TIDEMILL_KILL_EVENTS", 200_000) / 4);
    let expected = Expected::of(&input);
    let job = StreamsJob::new(&space, &input, &format!("{GROUP}, {TO_THE_END}"), EXACTLY_ONCE);
    let ended = job.killed(&expected, seed, kills, "50ms");
    let (found, context) = (Found::in_log(&job.output), format!("seed {seed}"));
    println!("duplicate ratio: {:.4}", found.duplicate_ratio());
    job.assert_exact(&ended, &expected, &context);
    assert_eq!(input.pending(job.name(), &mut input.connect()), 0, "all were acknowledged");
}
