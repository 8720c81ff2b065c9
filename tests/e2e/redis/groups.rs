//! Consumer groups: what a consumer that was killed had been given and had not acknowledged is claimed by
//! whoever comes next, and none of it is lost.

use super::job::{EXACTLY_ONCE, StreamsJob, TO_THE_END};
use super::server::Server;
use super::streams::Streams;
use crate::totals::{Expected, Found};
use crate::totals_job::{number, seed};

const GROUP: &str = "'read' = 'group', 'claim.min-idle' = '100 ms'";

/// So many entries are pending at least when a consumer is killed.
const PENDING: u64 = 10_000;

#[test]
fn what_killed_consumers_left_pending_is_claimed_by_fewer() {
    let space = Server::shared().space();
    let input = Streams::new(&space, "clicks", 4);
    input.fill(11, 30_000);
    let expected = Expected::of(&input);
    let source = format!("{GROUP}, {TO_THE_END}");
    let job = StreamsJob::new(&space, &input, &source, EXACTLY_ONCE);
    let mut connection = input.connect();
    // No checkpoint comes in its time, so nothing is acknowledged.
    let mut running = job.start(job.run(3, "1h"), 20_000, "log");
    let pending = std::cell::RefCell::new(&mut connection);
    running.until("many pending entries", || {
        input.pending(job.name(), *pending.borrow_mut()) >= PENDING
    });
    running.kill();
    let left = input.pending(job.name(), &mut connection);
    assert!(left >= PENDING, "{left} are pending");
    let ended = job.run(1, "200ms").output().unwrap();
    job.assert_exact(&ended, &expected, "a consumer took over from three");
    assert_eq!(input.pending(job.name(), &mut connection), 0, "all were acknowledged");
    println!("{left} entries were pending when their consumers were killed");
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
