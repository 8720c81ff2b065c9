//! Invariants 1 to 5 over random input: the output of every window kind equals the batch oracle and
//! is the same for any number of shards, any batch size, any placement of checkpoints and a crash.
//!
//! `TIDEMILL_SEEDS=from..to` runs other seeds than the first thousand.

use std::ops::Range;

use tidemill::testing::CrashPoint;

use crate::oracle;
use crate::pipelines::{Way, aggregates, case, delicate_aggregates, run, run_with_crash};

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("TIDEMILL_SEEDS") else { return 0..1000 };
    let parsed = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("TIDEMILL_SEEDS={text}: write from..to"))
}

/// Standard deviations are compared to twelve digits: DataFusion rounds at every row.
fn rounded(rows: &[String]) -> Vec<String> {
    let round = |row: &String| {
        let (head, spread) = row.rsplit_once('|').unwrap();
        match spread.parse::<f64>() {
            Ok(spread) => format!("{head}|{spread:.9}"),
            Err(_) => row.clone(),
        }
    };
    rows.iter().map(round).collect()
}

#[test]
fn output_equals_the_batch_oracle_however_the_job_is_run() {
    for seed in seeds() {
        let case = case(seed);
        let (expected, late) = oracle::expected(&case);
        let rows: usize = case.splits.iter().map(Vec::len).sum();
        let mut first: Option<Vec<String>> = None;
        for (shards, batch_rows) in ways(seed) {
            let ran = run(&case, &aggregates(), Way { shards, batch_rows });
            let context =
                format!("seed {seed}, {shards} shards, batches of {batch_rows}, {:?}", case.kind);
            assert_eq!(rounded(&ran.rows), rounded(&expected), "{context}");
            assert_eq!(first.get_or_insert_with(|| ran.rows.clone()), &ran.rows, "{context}");
            let ledger = &ran.summary.ledgers[0];
            assert!(ledger.balances(), "{context}: {ledger:?}");
            assert_eq!((ledger.records_in, ledger.late), (rows as u64, late as u64), "{context}");
        }
    }
}

/// Every number of shards with every batch size, for every tenth seed; for the others each number of
/// shards once.
fn ways(seed: u64) -> Vec<(usize, usize)> {
    let (shards, batches) = ([1, 2, 3, 8], [1, 7, 8192]);
    if seed.is_multiple_of(10) {
        return shards.iter().flat_map(|s| batches.iter().map(|b| (*s, *b))).collect();
    }
    shards.iter().map(|s| (*s, batches[(seed as usize + s) % batches.len()])).collect()
}

#[test]
fn a_crash_and_another_number_of_shards_change_nothing() {
    let mut crashed = 0;
    for seed in seeds() {
        let case = case(seed);
        let (expected, late) = oracle::expected(&case);
        let (ways, at, epoch) = crash(seed);
        let ran = run_with_crash(&case, &aggregates(), ways, at, epoch);
        crashed += u64::from(ran.crashed);
        let context = format!("seed {seed}, crash {at:?} in epoch {epoch}, {:?}", case.kind);
        assert_eq!(rounded(&ran.rows), rounded(&expected), "{context}");
        let ledger = &ran.summary.ledgers[0];
        assert!(ledger.balances() && ledger.late == late as u64, "{context}: {ledger:?}");
    }
    let all = seeds().count() as u64;
    assert!(crashed * 4 >= all, "only {crashed} of {all} jobs lived long enough to crash");
}

fn crash(seed: u64) -> ([Way; 2], CrashPoint, u64) {
    let points = [CrashPoint::BeforePublish, CrashPoint::BeforeCommit, CrashPoint::AfterCommit];
    let n = seed as usize;
    let way = |n: usize| Way { shards: [1, 2, 3, 8][n % 4], batch_rows: [1, 7, 16][n % 3] };
    ([way(n), way(n / 4 + 1)], points[n % 3], 1 + seed % 5)
}

#[test]
fn not_a_bit_of_a_delicate_aggregate_depends_on_how_the_job_is_run() {
    for seed in seeds().step_by(4) {
        let case = case(seed);
        let (ways, at, epoch) = crash(seed);
        let whole = run(&case, &delicate_aggregates(), Way { shards: 1, batch_rows: 8192 });
        for way in [Way { shards: 2, batch_rows: 7 }, Way { shards: 3, batch_rows: 1 }] {
            let ran = run(&case, &delicate_aggregates(), way);
            assert_eq!(ran.rows, whole.rows, "seed {seed}, {way:?}, {:?}", case.kind);
        }
        let ran = run_with_crash(&case, &delicate_aggregates(), ways, at, epoch);
        assert_eq!(ran.rows, whole.rows, "seed {seed}, crash {at:?} in {epoch}, {:?}", case.kind);
    }
}
