//! What was measured, as numbers for machines and as a table for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use tidemill_runtime::EmitDelay;

use super::contenders::{Family, Workload};
use super::machine::Machine;
use super::measure::Measured;

/// All that was measured, and where.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was measured: `tumbling`, or the name of a job file.
    pub name: String,
    /// The workload; `None` for a job file, which says itself.
    pub workload: Option<Workload>,
    /// Rounds that were not counted.
    pub warm_up: usize,
    /// Rounds that were.
    pub runs: usize,
    /// Where.
    pub machine: Machine,
    /// Every contender's figures.
    pub contenders: Vec<Figures>,
    /// How they compare, round by round.
    pub ratios: Vec<Ratio>,
}

/// The middle of several figures, and the least and greatest of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// A contender's figures.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// What it is.
    pub family: Family,
    /// On how many threads it ran.
    pub threads: usize,
    /// Rows that it read in a run.
    pub rows: u64,
    /// Seconds of each run, in the order of the rounds.
    pub seconds: Vec<f64>,
    /// Rows per second.
    pub rows_per_second: Spread,
    /// The same, for each of its threads.
    pub rows_per_second_per_core: Spread,
    /// Processor time per row, in nanoseconds, over all runs.
    pub cpu_ns_per_row: Option<f64>,
    /// From reading to the sink: of each quantile the median over the runs.
    pub emit_delay: Option<EmitDelay>,
    /// Most memory in use, in bytes, with the rows in memory.
    pub peak_bytes: Option<u64>,
    /// Of this what it added itself.
    pub added_bytes: Option<u64>,
}

/// How much faster one contender is than another, from their runs in the same rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// This contender's speed
    pub of: Family,
    /// on so many threads
    pub threads: usize,
    /// over that one's
    pub to: Family,
    /// on so many threads.
    pub to_threads: usize,
    /// The quotient.
    pub speed: Spread,
}

impl Spread {
    /// Of at least one figure.
    fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (middle, last) = (figures.len() / 2, figures.len() - 1);
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[middle - 1], figures[middle])
        } else {
            figures[middle]
        };
        Self { median, min: figures[0], max: figures[last] }
    }
}

impl Figures {
    /// The figures of a contender that has run at least once; `rows` where its runs do not say.
    pub fn of(measured: &Measured, rows: u64) -> Self {
        let samples = &measured.samples;
        let rows = samples.iter().find_map(|sample| sample.outcome.rows).unwrap_or(rows);
        let seconds: Vec<f64> = samples.iter().map(|sample| sample.wall.as_secs_f64()).collect();
        let rate = |threads: usize| {
            Spread::of(seconds.iter().map(|seconds| rows as f64 / seconds / threads as f64))
        };
        let cpu: Option<f64> =
            samples.iter().map(|sample| sample.cpu.map(|cpu| cpu.as_secs_f64())).sum();
        Self {
            family: measured.family,
            threads: measured.threads,
            rows,
            rows_per_second: rate(1),
            rows_per_second_per_core: rate(measured.threads),
            cpu_ns_per_row: cpu.map(|cpu| cpu * 1e9 / (rows as f64 * samples.len() as f64)),
            emit_delay: emit_delay(measured),
            peak_bytes: samples.iter().filter_map(|sample| sample.peak_bytes).max(),
            added_bytes: samples.iter().filter_map(|sample| sample.added_bytes).max(),
            seconds,
        }
    }
}

fn emit_delay(measured: &Measured) -> Option<EmitDelay> {
    let delays: Option<Vec<EmitDelay>> =
        measured.samples.iter().map(|sample| sample.outcome.emit_delay).collect();
    let delays = delays?;
    let quantile =
        |of: fn(&EmitDelay) -> u64| Spread::of(delays.iter().map(|d| of(d) as f64)).median as u64;
    Some(EmitDelay {
        p50_us: quantile(|delay| delay.p50_us),
        p99_us: quantile(|delay| delay.p99_us),
        p999_us: quantile(|delay| delay.p999_us),
        results: quantile(|delay| delay.results),
    })
}

/// The engine beside everyone else on as many threads, and everyone beside themselves on one.
pub fn ratios(measured: &[Measured]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    let is_engine = |family| matches!(family, Family::Tidemill | Family::TidemillCheckpointed);
    for of in measured.iter().filter(|of| is_engine(of.family)) {
        let others = measured.iter().filter(|to| to.threads == of.threads);
        let others = others.filter(|to| to.family != of.family);
        let others = others.filter(|to| to.family != Family::TidemillCheckpointed);
        ratios.extend(others.map(|to| ratio(of, to)));
    }
    for of in measured.iter().filter(|of| of.threads > 1) {
        let one = measured.iter().find(|to| to.threads == 1 && to.family == of.family);
        ratios.extend(one.map(|one| ratio(of, one)));
    }
    ratios
}

fn ratio(of: &Measured, to: &Measured) -> Ratio {
    let rounds = of.samples.iter().zip(&to.samples);
    let speed = rounds.map(|(of, to)| to.wall.as_secs_f64() / of.wall.as_secs_f64());
    Ratio {
        of: of.family,
        threads: of.threads,
        to: to.family,
        to_threads: to.threads,
        speed: Spread::of(speed),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "{} runs after {} to warm up, taking turns; median (least – greatest)\n",
            self.runs, self.warm_up
        )?;
        writeln!(f, "{}\n", self.figures())?;
        if !self.ratios.is_empty() {
            writeln!(f, "{}", self.comparison())?;
        }
        Ok(())
    }
}

impl Report {
    fn headline(&self) -> String {
        match &self.workload {
            None => format!("{}, its sinks replaced by blackholes", self.name),
            Some(workload) => format!(
                "{} 10 s: count, sum, min, max, avg of a double by {} i64 keys; {} rows from {}, \
                 up to 1 s out of order",
                self.name,
                workload.keys,
                workload.rows,
                format!("{:?}", workload.source).to_lowercase(),
            ),
        }
    }

    fn figures(&self) -> Table {
        let mut table = table([
            "contender",
            "threads",
            "M rows/s",
            "M rows/s per core",
            "CPU ns a row",
            "emit delay p50 / p99 / p99.9 ms",
            "peak MiB",
            "of it added",
        ]);
        for figures in &self.contenders {
            let millions = |spread: Spread| spread.scaled(1e-6);
            let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
            let mib = |bytes: Option<u64>| known(bytes.map(|bytes| (bytes >> 20).to_string()));
            table.add_row([
                figures.family.to_string(),
                figures.threads.to_string(),
                millions(figures.rows_per_second),
                millions(figures.rows_per_second_per_core),
                known(figures.cpu_ns_per_row.map(|ns| format!("{ns:.1}"))),
                known(figures.emit_delay.map(in_milliseconds)),
                mib(figures.peak_bytes),
                mib(figures.added_bytes),
            ]);
        }
        table
    }

    fn comparison(&self) -> Table {
        let mut table = table(["", "threads", "speed", "of", "threads"]);
        for ratio in &self.ratios {
            table.add_row([
                ratio.of.to_string(),
                ratio.threads.to_string(),
                format!("{} ×", ratio.speed.scaled(1.0)),
                ratio.to.to_string(),
                ratio.to_threads.to_string(),
            ]);
        }
        table
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table.column_iter_mut().skip(1).for_each(|c| c.set_cell_alignment(CellAlignment::Right));
    table
}

impl Spread {
    fn scaled(self, by: f64) -> String {
        format!("{:.2} ({:.2} – {:.2})", self.median * by, self.min * by, self.max * by)
    }
}

fn in_milliseconds(delay: EmitDelay) -> String {
    let ms = |micros: u64| micros as f64 / 1e3;
    format!("{:.1} / {:.1} / {:.1}", ms(delay.p50_us), ms(delay.p99_us), ms(delay.p999_us))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, {}", self.cpu, self.cores, self.system)?;
        if let Some(kernel) = &self.kernel {
            write!(f, " {kernel}")?;
        }
        let versions = &self.versions;
        write!(
            f,
            "; tidemill {}, arrow {}, datafusion {}",
            versions.tidemill, versions.arrow, versions.datafusion
        )?;
        if let Some(load) = self.load {
            write!(f, "; load before {load:.1}")?;
        }
        if !self.optimized {
            write!(f, "\nNOT OPTIMIZED: build with --release before comparing anything")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::checksum::Checksum;
    use crate::bench::measure::{Outcome, Sample};

    fn measured(family: Family, threads: usize, millis: &[u64]) -> Measured {
        let sample = |millis: &u64| Sample {
            wall: Duration::from_millis(*millis),
            cpu: Some(Duration::from_millis(2 * millis)),
            peak_bytes: None,
            added_bytes: None,
            outcome: Outcome::of(Checksum::default()),
        };
        Measured { family, threads, samples: millis.iter().map(sample).collect() }
    }

    #[test]
    fn figures_are_medians_with_their_spread() {
        let figures = Figures::of(&measured(Family::Tidemill, 2, &[100, 400, 200]), 1000);
        assert_eq!(figures.rows_per_second, Spread { median: 5e3, min: 2.5e3, max: 1e4 });
        assert_eq!(figures.rows_per_second_per_core.median, 2.5e3);
        // 1.4 s of processor time over three runs of a thousand rows.
        assert!((figures.cpu_ns_per_row.unwrap() - 1.4e9 / 3e3).abs() < 1e-6);
        assert_eq!(Spread::of([1.0, 4.0]).median, 2.5);
    }

    #[test]
    fn ratios_compare_runs_of_the_same_round() {
        let all = [
            measured(Family::HandRows, 1, &[100, 300]),
            measured(Family::Tidemill, 1, &[50, 150]),
            measured(Family::Tidemill, 2, &[25, 300]),
        ];
        let ratios = ratios(&all);
        let of = |ratio: &Ratio| (ratio.threads, ratio.to, ratio.to_threads, ratio.speed);
        let both = Spread { median: 2.0, min: 2.0, max: 2.0 };
        let scaling = Spread { median: 1.25, min: 0.5, max: 2.0 };
        assert_eq!(ratios.len(), 2);
        assert_eq!(of(&ratios[0]), (1, Family::HandRows, 1, both));
        assert_eq!(of(&ratios[1]), (2, Family::Tidemill, 1, scaling));
    }
}
