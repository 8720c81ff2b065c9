//! A schedule by hand: the clock stands still unless a test moves it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use tidemill_core::source::{Read, ReaderContext, Source, SplitReader};
use tidemill_core::time::Clock;
use tidemill_core::{Batch, EventTime};

use super::sink::DelayWriter;
use super::*;
use crate::bench::input;
use crate::bench::workload::Query;

#[derive(Default)]
struct ManualClock(AtomicU64);

impl ManualClock {
    fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> EventTime {
        0
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn rows(times: &[i64]) -> Split {
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.to_vec()));
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..times.len() as i64));
    vec![RecordBatch::try_from_iter([("key", keys), ("ts", times)]).unwrap()]
}

fn times(batch: &RecordBatch) -> Vec<i64> {
    use arrow::array::cast::AsArray;
    use arrow::array::types::TimestampMicrosecondType;
    batch.column(1).as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

fn reader(source: &OpenLoopSource, clock: &Arc<ManualClock>) -> Box<dyn SplitReader> {
    let context = ReaderContext {
        waker: Waker::noop().clone(),
        clock: clock.clone(),
        job: "test".into(),
        discovered: false,
        checkpointed: false,
    };
    source.open(&source.splits().unwrap()[0], None, &context).unwrap()
}

/// An engine as simple as can be: ten rows a window, and the result as soon as a row lies behind it.
struct Toy {
    clock: Arc<ManualClock>,
    reader: Box<dyn SplitReader>,
    writer: DelayWriter,
    fired: i64,
    ended: bool,
}

impl Toy {
    /// Reads all that is due, and fires the windows that it completes.
    fn step(&mut self) {
        use tidemill_core::sink::SinkWriter;
        loop {
            match self.reader.read(64).unwrap() {
                Read::Pending => return,
                Read::End => {
                    self.ended = true;
                    return;
                }
                Read::Batch(batch) => {
                    let newest = times(&batch.rows).into_iter().max().unwrap();
                    let ends: Vec<i64> = (self.fired + 1..=newest / 10).map(|w| w * 10).collect();
                    self.fired = self.fired.max(newest / 10);
                    let ends: ArrayRef = Arc::new(TimestampMicrosecondArray::from(ends));
                    let rows = RecordBatch::try_from_iter([("window_end", ends)]).unwrap();
                    let batch = Batch::from(rows);
                    self.writer.write(&batch).unwrap();
                }
            }
        }
    }
}

/// Five seconds at a thousand rows a second, looked at every millisecond, but for one stall.
fn with_a_stall_of(millis: u64) -> Histogram<u64> {
    let clock = Arc::new(ManualClock::default());
    let split = rows(&(0..5000).collect::<Vec<_>>());
    let schedule = Arc::new(Schedule::new(&[split], 0, 1000.0, 5000).unwrap());
    let source = OpenLoopSource::new(schedule.clone());
    let emissions = DelaySink::default().emissions;
    let writer = DelayWriter { emissions: emissions.clone(), clock: clock.clone() };
    let reader = reader(&source, &clock);
    let mut toy = Toy { clock, reader, writer, fired: 0, ended: false };
    while !toy.ended {
        toy.step();
        let now = toy.clock.elapsed().as_millis();
        toy.clock.advance(if now == 2000 { millis.max(1) } else { 1 });
    }
    let counted = count(&emissions.lock(), &schedule, Duration::ZERO).unwrap();
    assert_eq!(counted.windows, 499, "the last is completed by no row");
    counted.delays
}

#[test]
fn an_engine_that_keeps_up_has_no_delay() {
    assert!(with_a_stall_of(0).max() <= 1001);
}

/// A closed loop would see one slow result among 499. But for a second rows became due that nobody
/// read: every fifth result of the run is late, by half a second in the middle.
#[test]
fn a_stall_shows_in_the_delay_of_everything_that_was_due_in_it() {
    let delays = with_a_stall_of(1000);
    let part = |above: u64| delays.count_between(above, DELAY_MAX_US) as f64 / delays.len() as f64;
    assert!((part(2_000) - 0.2).abs() < 0.005, "{} are late", part(2_000));
    assert!((part(500_000) - 0.1).abs() < 0.005, "{} are very late", part(500_000));
    assert!((980_000..=1_001_000).contains(&delays.max()), "{}", delays.max());
    assert!(delays.value_at_quantile(0.5) <= 1001, "most came in time");
}

#[test]
fn what_was_due_and_not_read_has_piled_up() {
    let clock = Arc::new(ManualClock::default());
    let schedule = Schedule::new(&[rows(&[0, 1, 2, 3, 4])], 0, 1000.0, 12).unwrap();
    let source = OpenLoopSource::new(Arc::new(schedule));
    let mut reader = reader(&source, &clock);
    let mut read = |max: usize| match reader.read(max).unwrap() {
        Read::Batch(batch) => times(&batch.rows),
        Read::Pending => vec![-1],
        Read::End => vec![-2],
    };
    assert_eq!(read(100), [0], "the first row is due at once");
    assert_eq!(read(100), [-1]);
    clock.advance(3);
    assert_eq!(read(2), [1, 2]);
    assert_eq!(read(100), [3]);
    clock.advance(60_000);
    assert_eq!(read(4), [4, 5, 6, 7], "the second lap is later by the span of the first");
    assert_eq!(read(100), [8, 9, 10, 11]);
    assert_eq!(read(100), [-2]);
}

#[test]
fn rows_of_several_splits_take_turns() {
    let schedule = Schedule::new(&[rows(&[0, 2]), rows(&[1, 3])], 0, 10.0, 100).unwrap();
    let due = |millis: u64| [0, 1].map(|s| schedule.due_rows(s, Duration::from_millis(millis)));
    assert_eq!(due(5), [0, 0], "it has not begun");
    schedule.begin(Duration::from_millis(1000));
    schedule.begin(Duration::from_millis(9000));
    assert_eq!(due(500), [0, 0]);
    assert_eq!(due(1000), [1, 0]);
    assert_eq!(due(1150), [1, 1]);
    assert_eq!(due(1250), [2, 1]);
    assert_eq!(due(100_000), [50, 50], "no more than all");
}

/// Against a look at every row in turn.
#[test]
fn the_row_that_completes_a_window_is_found_whatever_the_disorder() {
    for seed in 0..20u64 {
        let mut state = seed;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let splits: Vec<Split> = (0..1 + seed as i64 % 3)
            .map(|_| rows(&(0..9000).map(|n| n / 2 - random(40) as i64).collect::<Vec<_>>()))
            .collect();
        let bound = random(50) as i64;
        let total = 20_000 * splits.len() as u64;
        let schedule = Schedule::new(&splits, bound, 1e6, total).unwrap();
        let naive = |end: i64| -> Option<Duration> {
            let row = |split: usize| {
                let all = schedule.rows(split, 0, 20_000).unwrap();
                let n = times(&all).iter().position(|time| *time >= end + bound)?;
                Some((n * splits.len() + split) as f64 / 1e6)
            };
            let due: Option<Vec<f64>> = (0..splits.len()).map(row).collect();
            Some(Duration::from_secs_f64(due?.into_iter().fold(0.0, f64::max)))
        };
        for end in [-100, 0, 1, 2047, 2048, 4400, 4470, 4499, 4500, 4600, 9000, 9_900, 20_000] {
            assert_eq!(
                schedule.completed(end),
                naive(end),
                "seed {seed}, end {end}, bound {bound}"
            );
        }
    }
}

#[test]
fn rates_and_rows_that_make_no_schedule_are_refused() {
    let refused =
        |splits: &[Split], rate: f64| Schedule::new(splits, 0, rate, 10).err().unwrap().to_string();
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(refused(&[rows(&[1])], rate).contains("above 0"), "{rate}");
    }
    assert!(refused(&[rows(&[])], 1.0).contains("no rows"));
}

/// The engine itself, over laps of the benchmark's own rows.
#[test]
fn the_engine_gives_results_by_the_schedule() {
    let query = Query::Tumbling { size_us: 100_000 };
    let (rows, keys, disorder_us) = (65_536, 10, 10_000);
    let workload = Workload { query, rows, keys, disorder_us, ..Workload::default() };
    let all = input::rows(&workload);
    for shards in [1, 2] {
        let splits = input::deal(&all, shards);
        let run = run(&workload, &splits, 500_000.0, Duration::from_millis(400)).unwrap();
        // Two seconds of event time in 200 000 rows of 10 µs each, and a gap between laps.
        assert!((12..=25).contains(&run.windows), "{run:?}");
        assert_eq!(run.results, run.windows * 10, "{run:?}");
        let Delay { p50_us, p90_us, p99_us, p999_us, max_us } = run.delay;
        let ascending = [p50_us, p90_us, p99_us, p999_us, max_us];
        assert!(ascending.is_sorted(), "{run:?}");
        assert!(run.curve.is_sorted_by_key(|point| point.us));
    }
    let short = run(&workload, &input::deal(&all, 1), 1000.0, Duration::from_millis(5));
    assert!(short.err().unwrap().to_string().contains("no window was completed"));
}
