//! How long results take while rows become due by a schedule that waits for nobody.
//!
//! ```text
//! schedule ─▶ row n is due at start + n / rate ─▶ source gives what is due ─▶ job ─▶ sink notes when
//!     └──────────── when was the row due that completes this window? ◀──────────────────┘
//! ```
//!
//! A closed loop, in which rows are read when the engine asks for them, forgives an engine that
//! stops for a second: no row is read meanwhile, so only one result seems to take long (Tene's
//! *coordinated omission*). Here the rows of that second become due all the same, and each result
//! counts from when the last row that it needs was **due**, not from when it was read.
//!
//! Invariant: no delay is left out but those of windows that were completed in the warm-up, or that
//! no row completed but the end of the input.

mod schedule;
mod sink;
mod source;

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tidemill_core::{Error, Result};

use self::schedule::Schedule;
use self::sink::{DelaySink, Emission};
use self::source::OpenLoopSource;
use super::again::Passes;
use super::engine;
use super::input::Split;
use super::workload::Workload;

/// The longest delay that is told apart from longer ones: an hour, in microseconds.
const DELAY_MAX_US: u64 = 3_600_000_000;

/// The part of a run at its beginning whose delays are not counted.
const WARM_UP: f64 = 0.1;

/// An engine that reads the last row so much later than linger after it was due did not keep up.
const BEHIND_MAX: Duration = Duration::from_millis(100);

/// What an open-loop run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenLoop {
    /// What was measured.
    pub name: String,
    /// On how many threads it ran.
    pub threads: usize,
    /// How many rows became due in a second.
    pub rows_per_second: f64,
    /// For how long rows became due.
    pub seconds: f64,
    /// Of this the part whose delays are not counted.
    pub warm_up_seconds: f64,
    /// How long the engine lets rows gather that do not fill a batch, in microseconds.
    pub linger_us: u64,
    /// How many results were counted.
    pub results: u64,
    /// Of how many windows. Results of one window come together, so this, and not their number, says how
    /// far a quantile can be trusted.
    pub windows: u64,
    /// How long after it was due the last row was read, in microseconds.
    pub behind_us: u64,
    /// The delays.
    pub delay: Delay,
    /// The same as a curve.
    pub curve: Vec<Point>,
}

/// Quantiles of delays, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// Half of the results were faster.
    pub p50_us: u64,
    /// 9 of 10 were.
    pub p90_us: u64,
    /// 99 of 100 were.
    pub p99_us: u64,
    /// 999 of 1000 were.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// A point on a curve of delays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The part of all results that were no slower.
    pub quantile: f64,
    /// How slow, in microseconds.
    pub us: u64,
}

impl OpenLoop {
    /// Whether the rate was one that the engine could do. Otherwise delays grow for as long as the run
    /// lasts.
    pub fn kept_up(&self) -> bool {
        Duration::from_micros(self.behind_us.saturating_sub(self.linger_us)) <= BEHIND_MAX
    }
}

/// Runs a workload on as many shards as there are splits, so many rows becoming due in a second, in
/// turns from all splits. Their rows are gone through again and again, with later event times.
///
/// # Errors
/// Rows or a rate that make no schedule, whatever ends the job, or a run too short for a window.
pub fn run(
    workload: &Workload,
    splits: &[Split],
    rows_per_second: f64,
    duration: Duration,
) -> Result<OpenLoop> {
    let total = (rows_per_second * duration.as_secs_f64()) as u64;
    let schedule = Arc::new(Schedule::new(splits, workload.disorder_us, rows_per_second, total)?);
    let sink = DelaySink::default();
    let emissions = sink.emissions.clone();
    let source = OpenLoopSource::new(schedule.clone());
    let mut job = engine::job(workload, source, sink, Passes::new(workload, 1));
    job.parallelism(splits.len());
    let linger_us = job.settings().linger.as_micros() as u64;
    job.run_blocking()?;
    let warm_up = duration.mul_f64(WARM_UP);
    let counted = count(&emissions.lock(), &schedule, warm_up)?;
    if counted.windows == 0 {
        return Err(Error::configuration(format!(
            "no window was completed in {:.1} s at {rows_per_second:.0} rows/s: let rows become due for \
             longer, or faster",
            duration.as_secs_f64()
        )));
    }
    Ok(OpenLoop {
        name: "Tidemill".to_owned(),
        threads: splits.len(),
        rows_per_second,
        seconds: duration.as_secs_f64(),
        warm_up_seconds: warm_up.as_secs_f64(),
        linger_us,
        results: counted.delays.len(),
        windows: counted.windows,
        behind_us: schedule.behind().as_micros() as u64,
        delay: quantiles(&counted.delays),
        curve: curve(&counted.delays),
    })
}

/// Delays in microseconds, and of how many windows.
struct Counted {
    delays: Histogram<u64>,
    windows: u64,
}

fn count(emissions: &[Emission], schedule: &Schedule, warm_up: Duration) -> Result<Counted> {
    let unusable = |error: hdrhistogram::CreationError| {
        Error::internal(format!("the bounds of a histogram are not valid: {error}"))
    };
    let mut delays = Histogram::new_with_bounds(1, DELAY_MAX_US, 3).map_err(unusable)?;
    let mut ends = Vec::new();
    for emission in emissions {
        let Some(due) = schedule.completed(emission.window_end) else { continue };
        if due < warm_up {
            continue;
        }
        let delay = emission.at.saturating_sub(schedule.since_start(due));
        let micros = (delay.as_micros() as u64).clamp(1, DELAY_MAX_US);
        delays.saturating_record_n(micros, emission.results);
        ends.push(emission.window_end);
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(Counted { delays, windows: ends.len() as u64 })
}

fn quantiles(delays: &Histogram<u64>) -> Delay {
    let at = |quantile| delays.value_at_quantile(quantile);
    Delay {
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: delays.max(),
    }
}

/// From the fastest to p99.99, ten points for each nine.
fn curve(delays: &Histogram<u64>) -> Vec<Point> {
    let quantiles = (0..=40).map(|tenth| 1.0 - 10f64.powf(-f64::from(tenth) / 10.0));
    quantiles.map(|quantile| Point { quantile, us: delays.value_at_quantile(quantile) }).collect()
}

#[cfg(test)]
mod tests;
