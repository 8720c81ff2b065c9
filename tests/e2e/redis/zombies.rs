//! Zombies: an instance that was stopped and replaced wakes up, is fenced by Redis, and does no harm.
//!
//! `TIDEMILL_ZOMBIES` says how many, `TIDEMILL_KILL_SEED` chooses the moments.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::job::{EXACTLY_ONCE, StreamsJob, TO_THE_END};
use super::server::Server;
use super::streams::Streams;
use crate::totals::Expected;
use crate::totals_job::{number, seed};

#[test]
fn a_stopped_instance_that_wakes_up_after_its_replacement_is_fenced_and_harms_nothing() {
    let (seed, rounds) = (seed(78), number("TIDEMILL_ZOMBIES", 3));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let events = rounds * 30_000;
    let space = Server::shared().space();
    let input = Streams::new(&space, "clicks", 4);
    input.fill(seed, events);
    let expected = Expected::of(&input);
    let job = StreamsJob::new(&space, &input, TO_THE_END, EXACTLY_ONCE);
    let last = job.haunted(rounds, events / (rounds * 5), &mut rng);
    let job = job.of(last);
    let ended = job.run(2, "200ms").output().unwrap();
    job.assert_exact(&ended, &expected, &format!("seed {seed}, {rounds} rounds"));
}
