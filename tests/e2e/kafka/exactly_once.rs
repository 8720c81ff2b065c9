//! Invariant 4 on a real broker: killed at random moments and restarted on other numbers of shards, a
//! job leaves in its output topic exactly the oracle's results; or, at least once, no fewer.
//!
//! `TIDEMILL_KILL_SEED` chooses another input and other moments; `TIDEMILL_KILLS` and
//! `TIDEMILL_KILL_EVENTS` make it longer.

use std::process::Output;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::broker::Broker;
use super::clicks::fill;
use super::job::{AT_LEAST_ONCE, EXACTLY_ONCE, TO_THE_END, TopicJob};
use super::number;
use super::oracle::{Expected, Found};

const PARTITIONS: usize = 8;

/// Kills a job so often, which makes a checkpoint every `interval`, then lets it run to its end.
fn killed(job: &TopicJob, expected: &Expected, seed: u64, kills: u64, interval: &str) -> Output {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Low enough that the input outlasts the kills, a run reading for a quarter of a second.
    let rate = 2 * expected.records / kills;
    let start = Instant::now();
    for kill in 0..kills {
        let shards = [2, 2, 1, 3][kill as usize / 5 % 4];
        let before = job.newest_epoch();
        let mut running = job.start(job.run(shards, interval), rate, "log");
        // Half of the runs get somewhere, the other half may die while they restore.
        let longest = if kill % 2 == 0 {
            running.until("a checkpoint", || job.newest_epoch() > before);
            200
        } else {
            600
        };
        running.let_run(Duration::from_millis(rng.random_range(0..longest)));
        running.kill();
    }
    let epochs = job.newest_epoch();
    println!("{kills} kills in {:?}, {epochs} epochs", start.elapsed());
    assert!(epochs >= kills / 2, "only {epochs} epochs");
    let start = Instant::now();
    let ended = job.run(2, "500ms").output().unwrap();
    println!("the last run took {:?}", start.elapsed());
    ended
}

fn seed() -> u64 {
    let seed = number("TIDEMILL_KILL_SEED", 2013);
    println!("seed {seed}");
    seed
}

#[test]
fn killed_again_and_again_an_exactly_once_job_loses_nothing_and_doubles_nothing() {
    let (seed, kills) = (seed(), number("TIDEMILL_KILLS", 50));
    let input = Broker::shared().topic("clicks", PARTITIONS);
    fill(&input, seed, number("TIDEMILL_KILL_EVENTS", 400_000));
    let expected = Expected::of(&input);
    let job = TopicJob::new(&input, TO_THE_END, EXACTLY_ONCE);
    let ended = killed(&job, &expected, seed, kills, "50ms");
    job.assert_exact(&ended, &expected, &format!("seed {seed}"));
    println!("{} results, each of them once", expected.results());
}

#[test]
fn killed_again_and_again_an_at_least_once_job_loses_nothing() {
    let (seed, kills) = (seed(), number("TIDEMILL_KILLS", 50) / 5);
    let input = Broker::shared().topic("clicks", PARTITIONS);
    fill(&input, seed, number("TIDEMILL_KILL_EVENTS", 400_000) / 4);
    let expected = Expected::of(&input);
    let job = TopicJob::new(&input, TO_THE_END, AT_LEAST_ONCE);
    let ended = killed(&job, &expected, seed, kills, "300ms");
    let found = Found::in_topic(&job.output);
    println!("duplicate ratio: {:.4}", found.duplicate_ratio());
    found.assert_complete(&expected, &format!("seed {seed}"));
    job.assert_counts(&ended, &expected, &format!("seed {seed}"));
}
