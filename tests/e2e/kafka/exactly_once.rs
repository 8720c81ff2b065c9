//! Invariant 4 on a real broker: killed at random moments and restarted on other numbers of shards, a
//! job leaves in its output topic exactly the oracle's results; or, at least once, no fewer.
//!
//! `TIDEMILL_KILL_SEED` chooses another input and other moments; `TIDEMILL_KILLS` and
//! `TIDEMILL_KILL_EVENTS` make it longer.

use super::broker::Broker;
use super::job::{AT_LEAST_ONCE, EXACTLY_ONCE, TO_THE_END, TopicJob};
use crate::totals::{Expected, Found};
use crate::totals_job::{number, seed};

const PARTITIONS: usize = 8;

#[test]
fn killed_again_and_again_an_exactly_once_job_loses_nothing_and_doubles_nothing() {
    let (seed, kills) = (seed(2013), number("TIDEMILL_KILLS", 50));
    let input = Broker::shared().topic("clicks", PARTITIONS);
    input.fill(seed, number("TIDEMILL_KILL_EVENTS", 400_000));
    let expected = Expected::of(&*input);
    let job = TopicJob::new(&input, TO_THE_END, EXACTLY_ONCE);
    let ended = job.killed(&expected, seed, kills, "50ms");
    job.assert_exact(&ended, &expected, &format!("seed {seed}"));
    println!("{} results, each of them once", expected.results());
}

#[test]
fn killed_again_and_again_an_at_least_once_job_loses_nothing() {
    let (seed, kills) = (seed(2013), number("TIDEMILL_KILLS", 50) / 5);
    let input = Broker::shared().topic("clicks", PARTITIONS);
    input.fill(seed, number("TIDEMILL_KILL_EVENTS", 400_000) / 4);
    let expected = Expected::of(&*input);
    let job = TopicJob::new(&input, TO_THE_END, AT_LEAST_ONCE);
    let ended = job.killed(&expected, seed, kills, "300ms");
    let found = Found::in_log(&*job.output);
    println!("duplicate ratio: {:.4}", found.duplicate_ratio());
    found.assert_complete(&expected, &format!("seed {seed}"));
    job.assert_counts(&ended, &expected, &format!("seed {seed}"));
}
