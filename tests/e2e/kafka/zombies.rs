//! Zombies: an instance that was stopped and replaced wakes up, is fenced, and does no harm.
//!
//! `TIDEMILL_ZOMBIES` says how many, `TIDEMILL_KILL_SEED` chooses the moments.

use std::fs;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::broker::Broker;
use super::clicks::fill;
use super::job::{EXACTLY_ONCE, TO_THE_END, TopicJob};
use super::number;
use super::oracle::Expected;

/// What the first of two instances has lost when the second starts.
#[derive(Debug, Clone, Copy)]
enum Lost {
    /// The lock on the checkpoint folder: some network file systems forget it.
    Lock,
    /// The folder: the second has a copy of it, on another machine.
    Folder,
}

impl Lost {
    /// Who tells the first of the second: with the folder still shared that may be either.
    fn fence(self) -> &'static str {
        match self {
            Self::Lock => "another instance of",
            Self::Folder => "': another instance of this job has taken over",
        }
    }

    fn replacement(self, job: &TopicJob) -> TopicJob {
        match self {
            Self::Lock => {
                fs::remove_file(job.path(&format!("checkpoints/{}/lock", job.name()))).unwrap();
                job.clone()
            }
            Self::Folder => job.copy(),
        }
    }
}

#[test]
fn a_stopped_instance_that_wakes_up_after_its_replacement_is_fenced_and_harms_nothing() {
    let (seed, rounds) = (number("TIDEMILL_KILL_SEED", 77), number("TIDEMILL_ZOMBIES", 5));
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let events = rounds * 30_000;
    let input = Broker::shared().topic("clicks", 4);
    fill(&input, seed, events);
    let expected = Expected::of(&input);
    let rate = events / (rounds * 5);

    let mut job = TopicJob::new(&input, TO_THE_END, EXACTLY_ONCE);
    let mut running = job.start(job.run(2, "40ms"), rate, "log-0");
    for round in 1..=rounds {
        running.until("a checkpoint", || job.newest_epoch() > 0);
        running.let_run(Duration::from_millis(rng.random_range(0..400)));
        running.signal("STOP");
        let lost = if round % 2 == 0 { Lost::Folder } else { Lost::Lock };
        let replacement = lost.replacement(&job);
        let before = replacement.newest_epoch();
        let log = format!("log-{round}");
        let mut second = replacement.start(replacement.run(2, "40ms"), rate, &log);
        second.until("a checkpoint of its own", || replacement.newest_epoch() > before + 1);
        running.signal("CONT");
        let (code, said) = running.wait();
        assert_eq!(code, Some(1), "round {round}, {lost:?}: {said}");
        assert!(said.contains(lost.fence()), "round {round}, {lost:?}: {said}");
        (job, running) = (replacement, second);
    }
    running.kill();
    let ended = job.run(2, "200ms").output().unwrap();
    job.assert_exact(&ended, &expected, &format!("seed {seed}, {rounds} rounds"));
}

#[test]
fn a_second_instance_is_refused_while_the_first_holds_the_folder() {
    let input = Broker::shared().topic("clicks", 2);
    fill(&input, 1, 10_000);
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
    job.assert_exact(&ended, &Expected::of(&input), "after a second instance was refused");
}
