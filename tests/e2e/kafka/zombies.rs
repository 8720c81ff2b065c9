//! Zombies: an instance that was stopped and replaced wakes up, is fenced, and does no harm.
//!
//! `TIDEMILL_ZOMBIES` says how many, `TIDEMILL_KILL_SEED` chooses the moments.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::broker::Broker;
use super::job::{EXACTLY_ONCE, TO_THE_END, TopicJob};
use crate::totals::Expected;
use crate::totals_job::{number, seed};

#[test]
fn a_stopped_instance_that_wakes_up_after_its_replacement_is_fenced_and_harms_nothing() {
    let (seed, rounds) = (seed(77), number("TIDEMILL_ZOMBIES", 5));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let events = rounds * 30_000;
    let input = Broker::shared().topic("clicks", 4);
    input.fill(seed, events);
    let expected = Expected::of(&*input);
    let rate = events / (rounds * 5);

    let job = TopicJob::new(&input, TO_THE_END, EXACTLY_ONCE);
    let last = job.haunted(rounds, rate, &mut rng);
    let job = job.of(last);
    let ended = job.run(2, "200ms").output().unwrap();
    job.assert_exact(&ended, &expected, &format!("seed {seed}, {rounds} rounds"));
}

#[test]
fn a_second_instance_is_refused_while_the_first_holds_the_folder() {
    let input = Broker::shared().topic("clicks", 2);
    input.fill(1, 10_000);
    let job = TopicJob::new(&input, TO_THE_END, EXACTLY_ONCE);
    let mut first = job.start(job.run(1, "50ms"), 3_000, "log-0");
    first.until("a checkpoint", || job.newest_epoch() > 0);
    first.signal("STOP");
    let refused = job.run(1, "50ms").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("another instance of this job is running"), "{said}");
    first.signal("CONT");
    let epoch = job.newest_epoch();
    first.until("another checkpoint", || job.newest_epoch() > epoch);
    first.kill();
    let ended = job.run(1, "200ms").output().unwrap();
    job.assert_exact(&ended, &Expected::of(&*input), "after a second instance was refused");
}
