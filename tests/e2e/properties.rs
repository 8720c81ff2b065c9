//! Invariants 1 to 5 over random input: the output of every window kind equals the batch oracle and
//! is the same for any number of shards, any batch size, any placement of checkpoints and a crash.
//!
//! `TIDEMILL_SEEDS=from..to` runs other seeds than the first thousand.

use std::ops::Range;

use tidemill::testing::CrashPoint;

use crate::oracle;
use crate::pipelines::{Way, case, run, run_with_crash};

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
        for shards in [1, 2, 3, 8] {
            let batch_rows = [1, 7, 8192][(seed as usize + shards) % 3];
            let (output, summary) = run(&case, Way { shards, batch_rows });
            let context = format!("seed {seed}, {shards} shards, batches of {batch_rows}, {:?}", case.kind);
            assert_eq!(rounded(&output), rounded(&expected), "{context}");
            assert_eq!(first.get_or_insert_with(|| output.clone()), &output, "{context}");
            let ledger = &summary.ledgers[0];
            assert!(ledger.balances(), "{context}: {ledger:?}");
            assert_eq!((ledger.records_in, ledger.late), (rows as u64, late as u64), "{context}");
        }
    }
}

#[test]
fn a_crash_and_another_number_of_shards_change_nothing() {
    let points = [CrashPoint::BeforePublish, CrashPoint::BeforeCommit, CrashPoint::AfterCommit];
    for seed in seeds() {
        let case = case(seed);
        let (expected, late) = oracle::expected(&case);
        let n = seed as usize;
        let way = |n: usize| Way { shards: [1, 2, 3, 8][n % 4], batch_rows: [1, 7, 16][n % 3] };
        let (at, epoch) = (points[n % 3], 1 + seed % 5);
        let (output, summary) = run_with_crash(&case, [way(n), way(n / 4 + 1)], at, epoch);
        let context = format!("seed {seed}, crash {at:?} in epoch {epoch}, {:?}", case.kind);
        assert_eq!(rounded(&output), rounded(&expected), "{context}");
        let ledger = &summary.ledgers[0];
        assert!(ledger.balances() && ledger.late == late as u64, "{context}: {ledger:?}");
    }
}
