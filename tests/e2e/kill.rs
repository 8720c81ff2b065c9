//! Invariant 4 for the real binary: killed at random moments, restarted on other numbers of shards,
//! it leaves exactly the oracle's output behind.
//!
//! `TIDEMILL_KILL_SEED` chooses another input and other moments.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::job_folder::JobFolder;

const KILLS: usize = 50;

/// Low enough that the input outlasts the kills.
const RATE: u32 = 1500;

#[test]
fn fifty_kills_and_other_numbers_of_shards_lose_nothing_and_double_nothing() {
    let seed = std::env::var("TIDEMILL_KILL_SEED").map_or(2013, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = JobFolder::new(seed, 30_000);
    for kill in 0..KILLS {
        let shards = match kill {
            20..25 => 1,
            25..30 => 3,
            _ => 2,
        };
        let before = folder.newest_epoch();
        let mut running = folder.start(folder.job(shards, "50ms"), RATE);
        // Half of the runs get somewhere, the other half may die while they restore.
        let longest = if kill % 2 == 0 {
            running.until("a checkpoint", || folder.newest_epoch() > before);
            150
        } else {
            400
        };
        running.let_run(Duration::from_millis(rng.random_range(0..longest)));
        running.kill();
    }
    let killed = folder.newest_epoch();
    assert!(killed >= KILLS as u64 / 2, "only {killed} epochs");
    let ended = folder.job(2, "50ms").output().unwrap();
    folder.assert_exact(&ended, &format!("seed {seed}, {killed} epochs"));
    folder.assert_epochs_intact(&format!("seed {seed}"));
}
