//! Session windows by themselves: how long a row takes on its way through the operators of one shard,
//! and of two.
//!
//! ```sh
//! cargo bench -p tidemill-operators --bench session [-- PART OF A NAME]
//! ```
//!
//! Sessions end after 10 s without a row; count, sum, minimum, maximum and mean of a double by an
//! `i64` key. Rows come in batches of 8 192, less than a second out of order. Each line is the median
//! of several runs (`RUNS`, 5) in processor time, with the fastest and the slowest; the time of two
//! shards is what both of them work together, on one thread here, with an exchange that copies rows as
//! the engine's does.

#![allow(missing_docs)]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_expr::AggregateUDF;
use datafusion_functions_aggregate::{average, count, min_max, sum};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemill_core::key::{hash_rows, key_group, owner};
use tidemill_core::operator::{KeyedFactory, Operator, OperatorContext};
use tidemill_core::testing::{Collected, advance, barrier, context};
use tidemill_core::time::{BEGINNING, END_OF_TIME};
use tidemill_core::window::WindowSpec;
use tidemill_core::{Batch, EventTime, Result};
use tidemill_operators::{AggregateSpec, WindowAggregate, WindowAggregateSpec};

const SECOND: i64 = 1_000_000;
const BATCH_ROWS: usize = 8192;
const RUNS: usize = 5;
const SEED: u64 = 1;

/// What is fed.
struct Workload {
    name: &'static str,
    rows: usize,
    keys: i64,
    /// Event time from one row to the next, in microseconds.
    step: i64,
    /// Rows from one checkpoint to the next, where there are any.
    checkpoint_rows: Option<usize>,
}

const WORKLOADS: [Workload; 7] = [
    Workload { name: "10 keys", rows: 4_000_000, keys: 10, step: 10, checkpoint_rows: None },
    Workload {
        name: "10 000 keys",
        rows: 4_000_000,
        keys: 10_000,
        step: 10,
        checkpoint_rows: None,
    },
    Workload {
        name: "10 000 keys, checkpoints",
        rows: 8_000_000,
        keys: 10_000,
        step: 10,
        checkpoint_rows: Some(4_000_000),
    },
    Workload {
        name: "100 000 keys",
        rows: 4_000_000,
        keys: 100_000,
        step: 10,
        checkpoint_rows: None,
    },
    Workload {
        name: "100 000 keys, 13 rows a session",
        rows: 4_000_000,
        keys: 100_000,
        step: 40,
        checkpoint_rows: None,
    },
    Workload {
        name: "100 000 keys, 2.7 rows a session",
        rows: 4_000_000,
        keys: 100_000,
        step: 100,
        checkpoint_rows: None,
    },
    Workload {
        name: "1 000 000 keys, 2.7 rows a session",
        rows: 8_000_000,
        keys: 1_000_000,
        step: 10,
        checkpoint_rows: None,
    },
];

/// A batch, and the watermark behind it.
type Fed = (RecordBatch, EventTime);

/// Time spent, part by part.
#[derive(Default)]
struct Spent {
    parts: [Duration; 3],
    results: usize,
    counted: i64,
}

/// What this thread has had of a processor so far: on a busy machine the clock on the wall says little.
fn cpu() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split_whitespace().next()?.parse().ok());
    spent.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("value", DataType::Float64, false),
    ]))
}

fn sessions() -> Result<WindowAggregate> {
    let column = |name, index| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(name, index)) };
    let call = |function: Arc<AggregateUDF>, args, name: &str| AggregateSpec {
        function,
        args,
        distinct: false,
        filter: None,
        order_by: vec![],
        ignore_nulls: false,
        name: name.to_owned(),
    };
    let value = || vec![column("value", 2)];
    WindowAggregate::new(WindowAggregateSpec {
        input: schema(),
        window: WindowSpec::session(10 * SECOND)?,
        time: 1,
        keys: vec![(column("key", 0), "key".to_owned())],
        aggregates: vec![
            call(count::count_udaf(), vec![], "n"),
            call(sum::sum_udaf(), value(), "sum"),
            call(min_max::min_udaf(), value(), "min"),
            call(min_max::max_udaf(), value(), "max"),
            call(average::avg_udaf(), value(), "avg"),
        ],
    })
}

impl Workload {
    fn batches(&self) -> Result<Vec<Fed>> {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let mut fed = Vec::new();
        let mut newest = BEGINNING + SECOND;
        for start in (0..self.rows).step_by(BATCH_ROWS) {
            let rows = start..self.rows.min(start + BATCH_ROWS);
            let keys = rows.clone().map(|_| rng.random_range(0..self.keys));
            let keys = Int64Array::from_iter_values(keys);
            let times =
                rows.clone().map(|row| row as i64 * self.step - rng.random_range(0..SECOND));
            let times = TimestampMicrosecondArray::from_iter_values(times);
            let values = Float64Array::from_iter_values(rows.map(|_| rng.random::<f64>() * 100.0));
            newest = times.values().iter().copied().fold(newest, i64::max);
            let columns = vec![Arc::new(keys) as _, Arc::new(times) as _, Arc::new(values) as _];
            fed.push((RecordBatch::try_new(schema(), columns)?, newest - SECOND));
        }
        Ok(fed)
    }

    fn context(&self, shard: usize, shards: usize) -> OperatorContext {
        OperatorContext { checkpointed: self.checkpoint_rows.is_some(), ..context(shard, shards) }
    }

    /// Whether a barrier follows the batch of this number.
    fn is_checkpoint(&self, batch: usize) -> bool {
        let every = self.checkpoint_rows.map(|rows| rows / BATCH_ROWS);
        every.is_some_and(|every| batch % every == every - 1)
    }

    /// All of it through one operator.
    fn fused(&self, factory: &dyn KeyedFactory, fed: &[Fed]) -> Result<Spent> {
        let mut operator = factory.fused(&self.context(0, 1))?;
        let (mut spent, mut out) = (Spent::default(), Collected::default());
        let start = cpu();
        for (number, (rows, watermark)) in fed.iter().enumerate() {
            operator.process(0, Batch::new(rows.clone()), &mut out)?;
            advance(operator.as_mut(), *watermark, &mut out)?;
            if self.is_checkpoint(number) {
                drop(barrier(operator.as_mut(), 1, false, &mut out)?);
            }
            spent.take_results(&mut out);
        }
        advance(operator.as_mut(), END_OF_TIME, &mut out)?;
        spent.take_results(&mut out);
        spent.parts[0] = cpu() - start;
        Ok(spent)
    }

    /// Batches by turns to one of two combiners, and on to one of two mergers.
    fn exchanged(&self, factory: &dyn KeyedFactory, fed: &[Fed]) -> Result<Spent> {
        let contexts = [0, 1].map(|shard| self.context(shard, 2));
        let mut combiners = [factory.combiner(&contexts[0])?, factory.combiner(&contexts[1])?];
        let mut mergers = [factory.merger(&contexts[0])?, factory.merger(&contexts[1])?];
        let mut watermarks = [BEGINNING; 2];
        let (mut spent, mut between) = (Spent::default(), Collected::default());
        for (number, (rows, watermark)) in fed.iter().enumerate() {
            let shard = number % 2;
            spent.measure(0, || {
                combiners[shard].process(0, Batch::new(rows.clone()), &mut between)?;
                advance(combiners[shard].as_mut(), *watermark, &mut between)
            })?;
            spent.exchange(factory, &mut mergers, &mut between)?;
            watermarks[shard] = *watermark;
            let watermark = watermarks[0].min(watermarks[1]);
            mergers.iter_mut().try_for_each(|merger| spent.fire(merger.as_mut(), watermark))?;
            if self.is_checkpoint(number) {
                for combiner in &mut combiners {
                    spent.measure(0, || barrier(combiner.as_mut(), 1, false, &mut between))?;
                }
                spent.exchange(factory, &mut mergers, &mut between)?;
                for merger in &mut mergers {
                    let mut out = Collected::default();
                    spent.measure(2, || barrier(merger.as_mut(), 1, false, &mut out))?;
                }
            }
        }
        for combiner in &mut combiners {
            spent.measure(0, || advance(combiner.as_mut(), END_OF_TIME, &mut between))?;
        }
        spent.exchange(factory, &mut mergers, &mut between)?;
        mergers.iter_mut().try_for_each(|merger| spent.fire(merger.as_mut(), END_OF_TIME))?;
        Ok(spent)
    }
}

impl Spent {
    fn measure<T>(&mut self, part: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = cpu();
        let result = work();
        self.parts[part] += cpu() - start;
        result
    }

    /// Routes what combiners have emitted.
    fn exchange(
        &mut self,
        factory: &dyn KeyedFactory,
        mergers: &mut [Box<dyn Operator>; 2],
        between: &mut Collected,
    ) -> Result<()> {
        for batch in std::mem::take(&mut between.batches) {
            let parts = self.measure(1, || {
                let keys = factory.key_columns();
                let keys: Vec<_> = keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
                let hashes = hash_rows(&keys, batch.len())?;
                let mut routed: [Vec<u32>; 2] = Default::default();
                for (row, hash) in hashes.iter().enumerate() {
                    routed[owner(key_group(*hash), 2)].push(row as u32);
                }
                let part = |rows| take_record_batch(&batch.rows, &UInt32Array::from(rows));
                Ok(routed.map(part))
            })?;
            for (merger, rows) in mergers.iter_mut().zip(parts) {
                let mut out = Collected::default();
                let rows = rows?;
                self.measure(2, || merger.process(0, Batch::new(rows), &mut out))?;
            }
        }
        Ok(())
    }

    fn fire(&mut self, merger: &mut dyn Operator, watermark: EventTime) -> Result<()> {
        let mut out = Collected::default();
        self.measure(2, || advance(merger, watermark, &mut out))?;
        self.take_results(&mut out);
        Ok(())
    }

    fn take_results(&mut self, out: &mut Collected) {
        for batch in out.batches.drain(..) {
            self.results += batch.len();
            let counts = batch.rows.column(4).as_primitive::<Int64Type>().values();
            self.counted += counts.iter().sum::<i64>();
        }
    }

    fn total(&self) -> Duration {
        self.parts.iter().sum()
    }
}

/// The runs of one layout in a line.
fn report(name: &str, layout: &str, rows: usize, mut runs: Vec<Spent>) {
    runs.sort_by_key(Spent::total);
    let ns = |spent: Duration| spent.as_nanos() as f64 / rows as f64;
    let median = &runs[runs.len() / 2];
    let (least, most) = (ns(runs[0].total()), ns(runs[runs.len() - 1].total()));
    let [first, second, third] = median.parts.map(ns);
    println!(
        "{name:34} {layout:10} {:6.1} M rows/s per core  {:6.1} ns a row ({least:.1} - {most:.1})  \
         combine {first:.1}, exchange {second:.1}, merge {third:.1}  {} sessions",
        1e3 / ns(median.total()),
        ns(median.total()),
        median.results,
    );
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let factory = sessions()?;
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    for workload in &WORKLOADS {
        if !arguments.iter().all(|part| workload.name.contains(part.as_str())) {
            continue;
        }
        let fed = workload.batches()?;
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            one.push(workload.fused(&factory, &fed)?);
            two.push(workload.exchanged(&factory, &fed)?);
        }
        for spent in one.iter().chain(&two) {
            assert_eq!(spent.counted, workload.rows as i64, "every row is in a session");
            assert_eq!(spent.results, one[0].results, "the same sessions in every run");
        }
        report(workload.name, "one shard", workload.rows, one);
        report(workload.name, "two shards", workload.rows, two);
    }
    Ok(())
}
