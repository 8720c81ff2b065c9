//! Invariant 4 on a real Redis: killed at random moments and restarted on other numbers of shards, a job
//! leaves in its hashes, counters and streams exactly the oracle's results; or, at least once, no fewer.
//! A hash hides what is written to it twice; a counter and a stream do not.
//!
//! `TIDEMILL_KILL_SEED` chooses another input and other moments; `TIDEMILL_KILLS` and
//! `TIDEMILL_KILL_EVENTS` make it longer.

use super::job::{AT_LEAST_ONCE, EXACTLY_ONCE, StreamsJob, TO_THE_END};
use super::server::Server;
use super::streams::Streams;
use crate::totals::{Expected, Found};
use crate::totals_job::{number, seed};

const STREAMS: usize = 8;

#[test]
fn killed_again_and_again_an_exactly_once_job_loses_nothing_and_doubles_nothing() {
    let (seed, kills) = (seed(2014), number("TIDEMILL_KILLS", 30));
    let space = Server::shared().space();
    let input = Streams::new(&space, "clicks", STREAMS);
    input.fill(seed, number("TIDEMILL_KILL_EVENTS", 200_000));
    let expected = Expected::of(&input);
    let job = StreamsJob::new(&space, &input, TO_THE_END, EXACTLY_ONCE);
    let ended = job.killed(&expected, seed, kills, "50ms");
    job.assert_exact(&ended, &expected, &format!("seed {seed}"));
    println!("{} results, each of them once", expected.results());
}

#[test]
fn killed_again_and_again_an_at_least_once_job_loses_nothing() {
    let (seed, kills) = (seed(2015), number("TIDEMILL_KILLS", 30) / 5);
    let space = Server::shared().space();
    let input = Streams::new(&space, "clicks", STREAMS);
    input.fill(seed, number("TIDEMILL_KILL_EVENTS", 200_000) / 4);
    let expected = Expected::of(&input);
    let job = StreamsJob::new(&space, &input, TO_THE_END, AT_LEAST_ONCE);
    let ended = job.killed(&expected, seed, kills, "300ms");
    let (found, context) = (Found::in_log(&job.output), format!("seed {seed}"));
    println!("duplicate ratio: {:.4}", found.duplicate_ratio());
    found.assert_complete(&expected, &context);
    // Effectively once: the same hash with the same content.
    job.hashes().assert_exact(&expected, &context);
    job.assert_counts(&ended, &expected, &context);
}
