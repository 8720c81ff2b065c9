//! Users' functions: what they return, and what becomes of rows that they fail for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::element::Origin;
use tidemill_core::operator::{Fate, OperatorContext, OperatorFactory};
use tidemill_core::record::{Header, Records, SourceRecord};
use tidemill_core::retry::Backoff;
use tidemill_core::source::SplitId;
use tidemill_core::testing::{Collected, context};
use tidemill_core::time::{Clock, VirtualClock};
use tidemill_core::{Batch, Error, ErrorClass, ErrorKind, Result};
use tidemill_operators::function::{Function, Lineage, Outcome, Patience, RetryPolicy, Trials};

const SECOND: Duration = Duration::from_secs(1);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn rows(numbers: Vec<i64>) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(numbers)) as ArrayRef]).unwrap()
}

fn numbers(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// Record `n` of a split has the payload and the correlation id `n`.
#[derive(Debug)]
struct Numbered(i64);

impl Records for Numbered {
    fn record(&self, index: usize) -> SourceRecord {
        let n = (self.0 + index as i64).to_string();
        let headers = vec![Header::new("correlation-id", n.clone())];
        SourceRecord { headers, ..SourceRecord::new(format!("offset {n}"), n) }
    }
}

/// The numbers from `start` to `end`, three at a time under the same floor.
fn batch(start: i64, end: i64) -> Batch {
    let floor: Vec<i64> = (start..end).map(|n| n / 3).collect();
    let records: Option<Arc<dyn Records>> = Some(Arc::new(Numbered(start)));
    let origin = Some(Origin { split: SplitId::new("s/0"), records, rows: None });
    Batch { floor: Some(floor.into()), origin, ..Batch::new(rows((start..end).collect())) }
}

/// What the function does with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// The result is ten times the number.
    Ok,
    Fails(ErrorKind),
    /// Fails transiently so many times.
    FailsFor(u32),
}

/// A function that follows a script, and counts how often it was called for each number.
#[derive(Clone, Default)]
struct Scripted {
    script: Arc<BTreeMap<i64, Script>>,
    calls: Arc<Mutex<BTreeMap<i64, u32>>>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = (i64, Script)>) -> Self {
        Self { script: Arc::new(script.into_iter().collect()), calls: Arc::default() }
    }

    fn call(&self, n: i64) -> Result<i64> {
        let mut calls = self.calls.lock().unwrap();
        let calls = calls.entry(n).or_default();
        *calls += 1;
        match self.script.get(&n).copied().unwrap_or(Script::Ok) {
            Script::Fails(kind) => Err(Error::new(kind, format!("{n} fails"))),
            Script::FailsFor(times) if *calls <= times => Err(Error::transient("not yet")),
            _ => Ok(10 * n),
        }
    }

    fn all(&self, given: &RecordBatch) -> Result<RecordBatch> {
        let results: Result<Vec<i64>> = numbers(given).into_iter().map(|n| self.call(n)).collect();
        Ok(rows(results?))
    }

    fn map(&self) -> Function {
        let this = self.clone();
        Function::map(schema(), move |rows| this.all(&rows))
    }

    fn flat_map(&self) -> Function {
        let this = self.clone();
        Function::flat_map(schema(), move |rows| Ok(vec![this.all(&rows)?]))
    }

    fn by_row(&self) -> Function {
        let this = self.clone();
        let function = move |given: &RecordBatch, trials: &Trials<'_>| {
            let (mut results, mut failed) = (vec![], vec![]);
            for (row, n) in numbers(given).into_iter().enumerate() {
                match trials.call(|| this.call(n)) {
                    Ok(result) => results.push(result),
                    Err(error) => failed.push((row, error)),
                }
            }
            Ok(Outcome { rows: rows(results), lineage: Lineage::OneToOne, failed })
        };
        Function::rows(schema(), Arc::new(function))
    }

    /// In the order of [`FUNCTIONS`].
    fn functions(&self) -> [Function; 3] {
        [self.map(), self.flat_map(), self.by_row()]
    }

    fn calls(&self, n: i64) -> u32 {
        self.calls.lock().unwrap().get(&n).copied().unwrap_or(0)
    }
}

/// Waiting moves the clock.
#[derive(Default)]
struct Waits {
    clock: Arc<VirtualClock>,
    waited: Mutex<Vec<Duration>>,
}

impl Patience for Waits {
    fn wait(&self, duration: Duration) {
        self.clock.advance(duration);
        self.waited.lock().unwrap().push(duration);
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

const FUNCTIONS: [&str; 3] = ["map", "flat_map", "by row"];
const BY_ROW: usize = 2;

const POLICY: RetryPolicy = RetryPolicy {
    attempts: 3,
    backoff: Backoff {
        first: SECOND,
        max: Duration::from_secs(60),
        deadline: Duration::from_secs(600),
    },
    ..NO_BREAKER
};

/// No number of failures opens its breaker.
const NO_BREAKER: RetryPolicy = RetryPolicy {
    attempts: 1,
    backoff: Backoff { first: SECOND, max: SECOND, deadline: SECOND },
    threshold: u32::MAX,
    pause: SECOND,
};

fn run(function: Function, waits: &Arc<Waits>, batches: &[Batch]) -> Result<Collected> {
    let context = OperatorContext { clock: waits.clock.clone() as Arc<dyn Clock>, ..context(0, 1) };
    let mut operator = function.patience(waits.clone()).create(&context)?;
    let mut out = Collected::default();
    for batch in batches {
        operator.process(0, batch.clone(), &mut out)?;
    }
    Ok(out)
}

fn results(out: &Collected) -> Vec<i64> {
    out.batches.iter().flat_map(|batch| numbers(&batch.rows)).collect()
}

fn positions(letters: &[DeadLetter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.record.position.as_str()).collect()
}

#[test]
fn the_class_of_an_error_decides_what_becomes_of_its_row_alone() {
    let script = [
        (3, Script::Fails(ErrorKind::Permanent)),
        (4, Script::Fails(ErrorKind::Business)),
        (6, Script::FailsFor(2)),
        (8, Script::Fails(ErrorKind::Transient)),
        (9, Script::Fails(ErrorKind::Business)),
    ];
    for (kind, name) in FUNCTIONS.into_iter().enumerate() {
        let scripted = Scripted::new(script);
        let function = scripted.functions()[kind].clone().retry(POLICY);
        let waits = Arc::new(Waits::default());
        waits.clock.advance(100 * SECOND);
        let out = run(function, &waits, &[batch(0, 12)]).unwrap();
        assert_eq!(results(&out), [0, 10, 20, 50, 60, 70, 100, 110], "{name}: in order");
        let floors: Vec<i64> = out.batches.iter().flat_map(floors).collect();
        assert_eq!(floors, [0, 0, 0, 1, 2, 2, 3, 3], "{name}");

        assert_eq!(positions(&out.dead_letters), ["offset 3", "offset 8"], "{name}");
        let [permanent, transient] = &out.dead_letters[..] else { unreachable!() };
        assert_eq!((permanent.class, permanent.attempts), (ErrorClass::Permanent, 1), "{name}");
        assert_eq!((transient.class, transient.attempts), (ErrorClass::Transient, 3), "{name}");
        let first = transient.first_failed_at;
        // The functions that are given one floor at a time have waited for 6 before.
        let expected = if name == "flat_map" { [106_000_000; 2] } else { [100_000_000; 2] };
        assert!(first.is_some_and(|at| (expected[0] - 6_000_000..=expected[1]).contains(&at)));
        assert_eq!(transient.reason, "8 fails");

        let declined: Vec<i64> = out.declined.iter().flat_map(|b| numbers(&b.rows)).collect();
        assert_eq!(declined, [4, 9], "{name}");
        let first = &out.declined[0];
        let reason = first.rows.column_by_name("reason").unwrap().as_string_view().value(0);
        assert_eq!(reason, "4 fails", "{name}");
        assert_eq!(first.headers(0), [Header::new("correlation-id", "4")], "{name}");
        assert_eq!((out.fate(Fate::Filtered), out.fate(Fate::DeadLettered)), (2, 2), "{name}");
    }
}

fn floors(batch: &Batch) -> Vec<i64> {
    batch.floor.as_ref().unwrap().values().to_vec()
}

#[test]
fn results_of_one_row_keep_its_headers() {
    let scripted =
        Scripted::new([(2, Script::Fails(ErrorKind::Permanent)), (5, Script::FailsFor(1))]);
    for function in [scripted.map(), scripted.by_row()] {
        let out = run(function.retry(POLICY), &Arc::default(), &[batch(0, 9)]).unwrap();
        for batch in &out.batches {
            for (row, n) in numbers(&batch.rows).into_iter().enumerate() {
                let id = Header::new("correlation-id", (n / 10).to_string());
                assert_eq!(batch.headers(row), [id]);
            }
        }
    }
    // Many results of a row, and none.
    let twice = |given: &RecordBatch, _: &Trials<'_>| {
        let kept: Vec<(u32, i64)> = (0..).zip(numbers(given)).filter(|(_, n)| n % 2 == 0).collect();
        let results = kept.iter().flat_map(|(_, n)| [*n, *n]).collect();
        let from = kept.iter().flat_map(|(row, _)| [*row, *row]).collect();
        Ok(Outcome { rows: rows(results), lineage: Lineage::Rows(from), failed: vec![] })
    };
    let function = Function::rows(schema(), Arc::new(twice));
    let out = run(function, &Arc::default(), &[batch(0, 5)]).unwrap();
    assert_eq!(results(&out), [0, 0, 2, 2, 4, 4]);
    assert_eq!(floors(&out.batches[0]), [0, 0, 0, 0, 1, 1]);
    assert_eq!(out.batches[0].headers(3), [Header::new("correlation-id", "2")]);
    assert_eq!(out.fate(Fate::Filtered), 2);

    let split = |batch: &Batch| batch.origin.as_ref().unwrap().split.to_string();
    let out = run(Scripted::default().flat_map(), &Arc::default(), &[batch(0, 2)]).unwrap();
    assert!(out.batches[0].headers(0).is_empty() && split(&out.batches[0]) == "s/0");
    let out = run(Scripted::default().flat_map(), &Arc::default(), &[batch(7, 8)]).unwrap();
    assert_eq!(out.batches[0].headers(0), [Header::new("correlation-id", "7")]);
}

#[test]
fn a_function_that_names_its_failures_is_called_once_for_every_other_row() {
    let scripted = Scripted::new([
        (1, Script::Fails(ErrorKind::Permanent)),
        (2, Script::FailsFor(1)),
        (3, Script::Fails(ErrorKind::Transient)),
    ]);
    run(scripted.by_row().retry(POLICY), &Arc::default(), &[batch(0, 6)]).unwrap();
    let calls: Vec<u32> = (0..6).map(|n| scripted.calls(n)).collect();
    assert_eq!(calls, [1, 1, 2, 3, 1, 1]);
}

#[test]
fn a_batch_waits_no_longer_than_the_policy_says() {
    let down = Scripted::new((0..1_000).map(|n| (n, Script::Fails(ErrorKind::Transient))));
    for function in [down.map(), down.by_row()] {
        let waits = Arc::new(Waits::default());
        let out = run(function.retry(POLICY), &waits, &[batch(0, 1_000)]).unwrap();
        assert_eq!(out.dead_letters.len(), 1_000);
        assert_eq!(*waits.waited.lock().unwrap(), [SECOND, 2 * SECOND]);
    }
    let backoff = Backoff { first: SECOND, max: 4 * SECOND, deadline: 10 * SECOND };
    let waits = Arc::new(Waits::default());
    let policy = RetryPolicy { attempts: 100, backoff, ..NO_BREAKER };
    let out = run(down.by_row().retry(policy), &waits, &[batch(0, 1)]).unwrap();
    assert_eq!(*waits.waited.lock().unwrap(), [1, 2, 4, 3].map(|n| n * SECOND));
    assert_eq!(out.dead_letters[0].attempts, 5);
    let default = RetryPolicy::default();
    assert!(default.backoff.deadline < 5 * SECOND && (3..=5).contains(&default.attempts));
    let waits = Arc::new(Waits::default());
    let never = RetryPolicy { threshold: u32::MAX, ..RetryPolicy::never() };
    run(down.map().retry(never), &waits, &[batch(0, 8)]).unwrap();
    assert!(waits.waited.lock().unwrap().is_empty());
}

/// A service that is down, and takes a second to say so.
struct Slow {
    clock: Arc<VirtualClock>,
    calls: AtomicU32,
}

impl Slow {
    fn call<T>(&self) -> Result<T> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.clock.advance(SECOND);
        Err(Error::transient("timed out"))
    }

    fn functions(self: &Arc<Self>) -> [Function; 3] {
        let (map, flat_map, by_row) = (self.clone(), self.clone(), self.clone());
        let by_row = move |given: &RecordBatch, trials: &Trials<'_>| {
            let failed = |row| Some((row, trials.call(|| by_row.call::<()>()).err()?));
            let failed = (0..given.num_rows()).filter_map(failed).collect();
            Ok(Outcome { rows: rows(vec![]), lineage: Lineage::OneToOne, failed })
        };
        [
            Function::map(schema(), move |_| map.call()),
            Function::flat_map(schema(), move |_| flat_map.call()),
            Function::rows(schema(), Arc::new(by_row)),
        ]
    }
}

#[test]
fn a_service_that_is_down_holds_up_a_batch_for_no_more_than_two_deadlines() {
    let backoff = Backoff { first: SECOND, max: SECOND, deadline: 10 * SECOND };
    for (kind, name) in FUNCTIONS.into_iter().enumerate() {
        for attempts in [1, 3] {
            let waits = Arc::new(Waits::default());
            let (clock, calls) = (waits.clock.clone(), AtomicU32::new(0));
            let slow = Arc::new(Slow { clock, calls });
            let function = slow.functions()[kind].clone();
            let function = function.retry(RetryPolicy { attempts, backoff, ..NO_BREAKER });
            let all = Batch { floor: None, ..batch(0, 8_192) };
            let out = run(function, &waits, &[all]).unwrap();
            let (took, calls) = (waits.clock.elapsed(), slow.calls.load(Ordering::Relaxed));
            assert!(took <= 23 * SECOND, "{name}: {took:?}, {calls} calls");
            let letters = &out.dead_letters;
            assert_eq!((letters.len(), results(&out)), (8_192, vec![]), "{name}");
            assert!(letters.iter().all(|letter| letter.class == ErrorClass::Transient), "{name}");
            assert_eq!(letters[0].reason, "timed out", "{name}");
            let last = &letters[8_191].reason;
            assert!(last.contains("timed out"), "{name}: {last}");
        }
    }
}

#[test]
fn one_row_that_times_out_takes_no_other_with_it_while_others_succeed() {
    // Every second row takes its second: in all much longer than the deadline, but never one after the other.
    let backoff = Backoff { first: SECOND, max: SECOND, deadline: 3 * SECOND };
    let waits = Arc::new(Waits::default());
    let clock = waits.clock.clone();
    let function = move |given: &RecordBatch, trials: &Trials<'_>| {
        let call = |n: i64| {
            if n % 2 == 0 {
                return Ok(n);
            }
            clock.advance(SECOND);
            Err(Error::transient("timed out"))
        };
        let (mut results, mut failed) = (vec![], vec![]);
        for (row, n) in numbers(given).into_iter().enumerate() {
            match trials.call(|| call(n)) {
                Ok(n) => results.push(n),
                Err(error) => failed.push((row, error)),
            }
        }
        Ok(Outcome { rows: rows(results), lineage: Lineage::OneToOne, failed })
    };
    let function = Function::rows(schema(), Arc::new(function));
    let policy = RetryPolicy { attempts: 1, backoff, ..NO_BREAKER };
    let out = run(function.retry(policy), &waits, &[batch(0, 100)]).unwrap();
    assert_eq!(results(&out), (0..100).step_by(2).collect::<Vec<i64>>());
    assert!(out.dead_letters.iter().all(|letter| letter.reason == "timed out"));
}

#[test]
fn a_fatal_error_ends_the_job_and_so_does_a_function_that_breaks_its_word() {
    for kind in [ErrorKind::External, ErrorKind::Configuration, ErrorKind::Internal] {
        for function in Scripted::new([(4, Script::Fails(kind))]).functions() {
            let error = run(function, &Arc::default(), &[batch(0, 9)]).unwrap_err();
            assert_eq!(error.kind(), kind);
        }
    }
    let shorter =
        Function::map(schema(), |rows: RecordBatch| Ok(rows.slice(1, rows.num_rows() - 1)));
    let error = run(shorter, &Arc::default(), &[batch(0, 3)]).unwrap_err();
    assert!(error.to_string().contains("2 rows where 3 were due"), "{error}");
    let other = Arc::new(Schema::new(vec![Field::new("m", DataType::Int64, false)]));
    let error = run(Function::map(other, Ok), &Arc::default(), &[batch(0, 3)]).unwrap_err();
    assert!(error.to_string().contains("returned the columns"), "{error}");
}

#[test]
fn the_same_rows_give_the_same_however_they_are_cut_into_batches() {
    for seed in 0..super::seeds() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kinds = [
            Script::Fails(ErrorKind::Permanent),
            Script::Fails(ErrorKind::Business),
            Script::Fails(ErrorKind::Transient),
            Script::FailsFor(1),
            Script::FailsFor(2),
        ];
        let mut script = BTreeMap::new();
        for n in 0..60 {
            if rng.random_bool(0.3) {
                script.insert(n, kinds[rng.random_range(0..kinds.len())]);
            }
        }
        let failing = |kind| {
            let rows = script.iter().filter(move |(_, script)| **script == Script::Fails(kind));
            rows.map(|(n, _)| *n).collect::<Vec<i64>>()
        };
        let bad = [failing(ErrorKind::Permanent), failing(ErrorKind::Transient)].concat();
        let declined = failing(ErrorKind::Business);
        let good = (0..60).filter(|n| !bad.contains(n) && !declined.contains(n));
        let good: Vec<i64> = good.map(|n| 10 * n).collect();
        for (kind, name) in FUNCTIONS.into_iter().enumerate() {
            let size = rng.random_range(1..60);
            let cuts = (0..60).step_by(size).map(|start| batch(start, 60.min(start + size as i64)));
            let cuts: Vec<Batch> = cuts.collect();
            let mut script = script.clone();
            if kind != BY_ROW {
                // Rows that are tried together share their attempts.
                script.retain(|_, script| !matches!(script, Script::FailsFor(_)));
            }
            let function = Scripted::new(script).functions()[kind].clone().retry(POLICY);
            let out = run(function, &Arc::default(), &cuts).unwrap();
            let at = format!("seed {seed}, {name}, batches of {size}");
            assert_eq!(results(&out), good, "{at}");
            let mut letters: Vec<i64> = out
                .dead_letters
                .iter()
                .map(|letter| {
                    let payload = letter.record.payload.clone().unwrap();
                    String::from_utf8(payload).unwrap().parse().unwrap()
                })
                .collect();
            letters.sort_unstable();
            let mut bad = bad.clone();
            bad.sort_unstable();
            assert_eq!(letters, bad, "{at}");
            let found: Vec<i64> = out.declined.iter().flat_map(|b| numbers(&b.rows)).collect();
            assert_eq!(found, declined, "{at}");
            let sums = out.rows() + out.fate(Fate::Filtered) + out.fate(Fate::DeadLettered);
            assert_eq!(sums, 60, "{at}");
        }
    }
}

/// A service that is down until a moment, and when it was called.
fn down_until(until: Duration, waits: &Arc<Waits>) -> (Function, Arc<Mutex<Vec<Duration>>>) {
    let calls: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let (clock, called) = (waits.clock.clone(), calls.clone());
    let call = move |n: i64| {
        let now = clock.elapsed();
        called.lock().unwrap().push(now);
        if now < until { Err(Error::transient("refused")) } else { Ok(n) }
    };
    let function = move |given: &RecordBatch, trials: &Trials<'_>| {
        let (mut results, mut failed) = (vec![], vec![]);
        for (row, n) in numbers(given).into_iter().enumerate() {
            match trials.call(|| call(n)) {
                Ok(n) => results.push(n),
                Err(error) => failed.push((row, error)),
            }
        }
        Ok(Outcome { rows: rows(results), lineage: Lineage::OneToOne, failed })
    };
    (Function::rows(schema(), Arc::new(function)), calls)
}

#[test]
fn an_open_breaker_holds_rows_back_until_a_trial_and_loses_none() {
    let backoff = Backoff { first: SECOND, max: SECOND, deadline: 600 * SECOND };
    let policy = RetryPolicy { attempts: 100, backoff, threshold: 4, pause: 30 * SECOND };
    let waits = Arc::new(Waits::default());
    let (function, calls) = down_until(100 * SECOND, &waits);
    let batches = [batch(0, 50), batch(50, 100)];
    let out = run(function.retry(policy), &waits, &batches).unwrap();
    let mut made = results(&out);
    made.sort_unstable();
    assert_eq!(made, (0..100).collect::<Vec<i64>>());
    assert!(out.dead_letters.is_empty());
    let calls = calls.lock().unwrap();
    let failed: Vec<u64> =
        calls.iter().map(Duration::as_secs).take_while(|second| *second < 100).collect();
    assert_eq!(failed, [0, 0, 0, 0, 30, 60, 90], "four in a row, then one in thirty seconds");
}

#[test]
fn all_shards_of_a_function_share_its_breaker() {
    let policy = RetryPolicy { threshold: 4, pause: 30 * SECOND, ..RetryPolicy::never() };
    let waits = Arc::new(Waits::default());
    let (function, calls) = down_until(Duration::from_secs(20), &waits);
    let function = function.retry(policy).patience(waits.clone());
    let on = |shard| OperatorContext {
        clock: waits.clock.clone() as Arc<dyn Clock>,
        ..context(shard, 2)
    };
    let mut shards = [function.create(&on(0)).unwrap(), function.create(&on(1)).unwrap()];
    let mut out = Collected::default();
    for (n, shard) in [0, 1, 0, 1, 0, 1].into_iter().enumerate() {
        let n = n as i64;
        shards[shard].process(0, batch(n, n + 1), &mut out).unwrap();
    }
    let calls: Vec<u64> = calls.lock().unwrap().iter().map(Duration::as_secs).collect();
    assert_eq!(calls, [0, 0, 0, 0, 30, 30], "both wait for the trial, which succeeds");
    assert_eq!((results(&out).len(), out.dead_letters.len()), (2, 4));
}

#[test]
fn rows_that_fail_by_themselves_open_no_breaker_of_a_function_that_works() {
    // Every third row fails twice, and then they are tried again together.
    let script = (0..300).step_by(3).map(|n| (n, Script::FailsFor(2)));
    let scripted = Scripted::new(script);
    let backoff = Backoff { first: SECOND, max: SECOND, deadline: 60 * SECOND };
    let policy = RetryPolicy { attempts: 3, backoff, threshold: 4, pause: 3600 * SECOND };
    let waits = Arc::new(Waits::default());
    let out = run(scripted.by_row().retry(policy), &waits, &[batch(0, 300)]).unwrap();
    assert_eq!((results(&out).len(), out.dead_letters.len()), (300, 0));
    assert_eq!(waits.clock.elapsed(), 2 * SECOND, "two waits, and no pause");
    // One row of a batch fails for good: it is found by calls that fail one after the other.
    let scripted = Scripted::new([(0, Script::Fails(ErrorKind::Transient))]);
    let waits = Arc::new(Waits::default());
    let all = Batch { floor: None, ..batch(0, 1_024) };
    let out = run(scripted.map().retry(policy), &waits, &[all]).unwrap();
    assert_eq!((results(&out).len(), out.dead_letters.len()), (1_023, 1));
    assert_eq!(waits.clock.elapsed(), 2 * SECOND);
}
