//! Windowed aggregation against an oracle that puts every row into every window by hand.
//!
//! Every test runs many seeds; a failure prints the seed. `TIDEMILL_SEED_COUNT` sets how many.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod engine;
mod functions;
mod limits;
mod oracle;
mod scenario;
mod stateless;

use engine::{Layout, run};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scenario::{Kind, Scenario};

fn seeds() -> u64 {
    std::env::var("TIDEMILL_SEED_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// Random scenarios of one kind, in several layouts each, against the oracle.
fn check(kind: Kind) {
    for seed in 0..seeds() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scenario = Scenario::random(kind, &mut rng);
        let expected = oracle::run(&scenario);
        for layout in [
            Layout { shards: vec![1], fused: true, passing: false },
            Layout { shards: vec![1], fused: false, passing: false },
            Layout { shards: vec![2], fused: false, passing: false },
            Layout { shards: vec![3], fused: false, passing: false },
            Layout { shards: vec![1, 3, 2, 1], fused: true, passing: false },
            Layout { shards: vec![2, 1, 3], fused: false, passing: false },
        ] {
            let found = run(&scenario, &layout, &mut rng);
            assert_eq!(found, expected, "seed {seed}, {layout:?}, {scenario:?}");
        }
    }
}

#[test]
fn tumbling_windows_equal_the_oracle_in_every_layout() {
    check(Kind::Tumbling);
}

#[test]
fn hopping_windows_equal_the_oracle_in_every_layout() {
    check(Kind::Hopping);
}

#[test]
fn cumulating_windows_equal_the_oracle_in_every_layout() {
    check(Kind::Cumulating);
}

#[test]
fn session_windows_equal_the_oracle_in_every_layout() {
    check(Kind::Session);
}

#[test]
fn sessions_of_rows_that_pass_combiners_equal_the_oracle() {
    for seed in 0..seeds().div_ceil(30) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scenario = Scenario::random(Kind::Session, &mut rng);
        let expected = oracle::run(&scenario);
        for shards in [vec![2], vec![3, 1, 2]] {
            let layout = Layout { shards, fused: false, passing: true };
            let found = run(&scenario, &layout, &mut rng);
            assert_eq!(found, expected, "seed {seed}, {layout:?}, {scenario:?}");
        }
    }
}
