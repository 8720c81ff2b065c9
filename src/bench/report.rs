//! What was measured: for machines, for people, and to be compared with later.
//!
//! Invariant: a report that was written as JSON is read back as it was, but for the last bit of a float.

pub(super) mod text;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidemill_core::{Error, Result};

use super::contenders::{TIDEMILL, TIDEMILL_OVER};
use super::machine::Machine;
use super::measure::Measured;
use super::open_loop::OpenLoop;
use super::statistics::Spread;
use super::workload::Workload;

/// The version of a report's shape: what reads reports refuses those of another.
pub const SCHEMA: u32 = 1;

/// All that was measured, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was measured: `tumbling`, `nexmark:q5`, or the name of a job file.
    pub name: String,
    /// The command that did it.
    pub command: String,
    /// The workload; `None` for a query of Nexmark or a job file, which say themselves.
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
    /// What others measured of the same work, outside this process.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// How long results took while rows became due by a schedule.
    #[serde(default)]
    pub open_loop: Vec<OpenLoop>,
}

/// A contender's figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// What it is.
    pub name: String,
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

/// Quantiles of the time from reading the batch that lets a window fire to its results, in
/// microseconds, under full load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EmitDelay {
    /// Half of the results were faster.
    pub p50_us: f64,
    /// 99 of 100 results were faster.
    pub p99_us: f64,
    /// 999 of 1000 results were faster.
    pub p999_us: f64,
}

/// How much faster one contender is than another, from their runs in the same rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ratio {
    /// This contender's speed
    pub of: String,
    /// on so many threads
    pub threads: usize,
    /// over that one's
    pub to: String,
    /// on so many threads.
    pub to_threads: usize,
    /// The quotient.
    pub speed: Spread,
}

/// Someone who did the same work in a process of their own, such as Flink or DuckDB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// What it is.
    pub name: String,
    /// On how many threads it ran.
    pub threads: usize,
    /// Rows that it read in a run.
    #[serde(default)]
    pub rows: u64,
    /// Seconds of each run; none where it could not be had.
    #[serde(default)]
    pub seconds: Vec<f64>,
    /// Whether its results were compared with the engine's, and equal.
    #[serde(default)]
    pub checked: bool,
    /// What must be known to read the figures, or why there are none.
    #[serde(default)]
    pub note: String,
}

/// Whether a contender of this name is the engine, in whatever setting, rather than a yardstick.
pub fn is_engine(name: &str) -> bool {
    name.starts_with("Tidemill")
}

impl Report {
    /// Reads a report that was written with `-o json`.
    ///
    /// # Errors
    /// A file that cannot be read, is no report, or is one of another [`SCHEMA`].
    pub fn read(path: &Path) -> Result<Self> {
        let at = |error: Error| error.at(path.display());
        let text = fs::read_to_string(path).map_err(|error| at(error.into()))?;
        Self::parse(&text).map_err(at)
    }

    fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(default)]
            schema: u32,
        }
        let unreadable = |error| {
            let message = "this is no report of `tidemill bench … -o json`";
            Error::configuration(message).caused_by(error)
        };
        let Version { schema } = serde_json::from_str(text).map_err(unreadable)?;
        if schema != SCHEMA {
            return Err(Error::configuration(format!(
                "this report is of schema {schema}, and this program compares those of schema \
                 {SCHEMA}: measure the old version again, with the `bench` of this one's age"
            )));
        }
        serde_json::from_str(text).map_err(unreadable)
    }
}

impl Peer {
    /// Rows per second, where it ran.
    pub fn rows_per_second(&self) -> Option<Spread> {
        Spread::of(self.seconds.iter().map(|seconds| self.rows as f64 / seconds))
    }

    /// Reads what peers measured: an array of them, as JSON.
    ///
    /// # Errors
    /// A file that cannot be read, or holds anything else.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let at = |error: Error| error.at(path.display());
        let text = fs::read_to_string(path).map_err(|error| at(error.into()))?;
        let peers: Vec<Self> = serde_json::from_str(&text).map_err(|error| {
            let message = "this is no array of peers {name, threads, rows, seconds, checked, note}";
            at(Error::configuration(message).caused_by(error))
        })?;
        let wrong = |peer: &&Self| !peer.seconds.iter().all(|s| s.is_finite() && *s > 0.0);
        match peers.iter().find(wrong) {
            None => Ok(peers),
            Some(peer) => {
                let message = format!("the seconds of `{}` are no times", peer.name);
                Err(at(Error::configuration(message)))
            }
        }
    }
}

impl Figures {
    /// The figures of a contender, `rows` where its runs do not say; `None` if it has not run.
    pub fn of(measured: &Measured, rows: u64) -> Option<Self> {
        let samples = &measured.samples;
        let rows = samples.iter().find_map(|sample| sample.outcome.rows).unwrap_or(rows);
        let seconds: Vec<f64> = samples.iter().map(|sample| sample.wall.as_secs_f64()).collect();
        let rate = |threads: usize| {
            Spread::of(seconds.iter().map(|seconds| rows as f64 / seconds / threads as f64))
        };
        let cpu: Option<f64> =
            samples.iter().map(|sample| sample.cpu.map(|cpu| cpu.as_secs_f64())).sum();
        Some(Self {
            name: measured.name.clone(),
            threads: measured.threads,
            rows,
            rows_per_second: rate(1)?,
            rows_per_second_per_core: rate(measured.threads)?,
            cpu_ns_per_row: cpu.map(|cpu| cpu * 1e9 / (rows as f64 * samples.len() as f64)),
            emit_delay: emit_delay(measured),
            peak_bytes: samples.iter().filter_map(|sample| sample.peak_bytes).max(),
            added_bytes: samples.iter().filter_map(|sample| sample.added_bytes).max(),
            seconds,
        })
    }
}

fn emit_delay(measured: &Measured) -> Option<EmitDelay> {
    let delays = measured.samples.iter().map(|sample| sample.outcome.emit_delay);
    let delays: Vec<_> = delays.collect::<Option<_>>()?;
    let quantile = |of: fn(&tidemill_runtime::EmitDelay) -> u64| {
        Some(Spread::of(delays.iter().map(|delay| of(delay) as f64))?.median)
    };
    Some(EmitDelay {
        p50_us: quantile(|delay| delay.p50_us)?,
        p99_us: quantile(|delay| delay.p99_us)?,
        p999_us: quantile(|delay| delay.p999_us)?,
    })
}

/// The engine beside everyone else on as many threads, and everyone beside themselves on one.
pub fn ratios(measured: &[Figures]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for of in measured.iter().filter(|of| is_engine(&of.name)) {
        let beside = |to: &&Figures| {
            // Yardsticks have nothing to do with another workload.
            let counts = match is_engine(&to.name) {
                true => to.name == TIDEMILL,
                false => !of.name.starts_with(TIDEMILL_OVER),
            };
            to.threads == of.threads && to.name != of.name && counts
        };
        ratios.extend(measured.iter().filter(beside).filter_map(|to| ratio(of, to)));
    }
    for of in measured.iter().filter(|of| of.threads > 1) {
        let one = measured.iter().find(|to| to.threads == 1 && to.name == of.name);
        ratios.extend(one.and_then(|one| ratio(of, one)));
    }
    ratios
}

fn ratio(of: &Figures, to: &Figures) -> Option<Ratio> {
    let rounds = of.seconds.iter().zip(&to.seconds);
    Some(Ratio {
        of: of.name.clone(),
        threads: of.threads,
        to: to.name.clone(),
        to_threads: to.threads,
        speed: Spread::of(rounds.map(|(of, to)| to / of))?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::checksum::Checksum;
    use crate::bench::machine;
    use crate::bench::measure::{Outcome, Sample};

    fn figures(name: &str, threads: usize, millis: &[u64]) -> Figures {
        let sample = |millis: &u64| Sample {
            wall: Duration::from_millis(*millis),
            cpu: Some(Duration::from_millis(2 * millis)),
            peak_bytes: None,
            added_bytes: None,
            outcome: Outcome::of(Checksum::default()),
        };
        let samples = millis.iter().map(sample).collect();
        Figures::of(&Measured { name: name.to_owned(), threads, samples }, 1000).unwrap()
    }

    /// A report with these contenders and nothing else.
    pub(in crate::bench) fn report(contenders: &[(&str, usize, &[f64])]) -> Report {
        let figures = |(name, threads, seconds): &(&str, usize, &[f64])| {
            let rate = Spread::of(seconds.iter().map(|seconds| 1e6 / seconds)).unwrap();
            Figures {
                name: (*name).to_owned(),
                threads: *threads,
                rows: 1_000_000,
                seconds: seconds.to_vec(),
                rows_per_second: rate,
                rows_per_second_per_core: rate,
                cpu_ns_per_row: Some(12.5),
                emit_delay: Some(EmitDelay { p50_us: 1e3, p99_us: 2e3, p999_us: 3e3 }),
                peak_bytes: Some(64 << 20),
                added_bytes: None,
            }
        };
        let contenders: Vec<_> = contenders.iter().map(figures).collect();
        Report {
            schema: SCHEMA,
            name: "tumbling".to_owned(),
            command: "tidemill bench tumbling --html <out>.html".to_owned(),
            workload: None,
            warm_up: 1,
            runs: contenders[0].seconds.len(),
            machine: machine::this(),
            ratios: ratios(&contenders),
            contenders,
            peers: Vec::new(),
            open_loop: Vec::new(),
        }
    }

    #[test]
    fn figures_are_medians_with_their_spread() {
        let figures = figures("Tidemill", 2, &[100, 400, 200]);
        assert_eq!(figures.rows_per_second, Spread { median: 5e3, min: 2.5e3, max: 1e4 });
        assert_eq!(figures.rows_per_second_per_core.median, 2.5e3);
        // 1.4 s of processor time over three runs of a thousand rows.
        assert!((figures.cpu_ns_per_row.unwrap() - 1.4e9 / 3e3).abs() < 1e-6);
    }

    #[test]
    fn ratios_compare_runs_of_the_same_round() {
        let all = [
            figures("hand-written loop", 1, &[100, 300]),
            figures("Tidemill", 1, &[50, 150]),
            figures("Tidemill", 2, &[25, 300]),
        ];
        let ratios = ratios(&all);
        let of = |ratio: &Ratio| (ratio.threads, ratio.to.clone(), ratio.to_threads, ratio.speed);
        let both = Spread { median: 2.0, min: 2.0, max: 2.0 };
        let scaling = Spread { median: 1.25, min: 0.5, max: 2.0 };
        assert_eq!(ratios.len(), 2);
        assert_eq!(of(&ratios[0]), (1, "hand-written loop".to_owned(), 1, both));
        assert_eq!(of(&ratios[1]), (2, "Tidemill".to_owned(), 1, scaling));
    }

    #[test]
    fn another_workload_is_compared_with_the_engine_alone() {
        let names = ["hand-written loop", "Tidemill", "Tidemill over keys=3"];
        let ratios = ratios(&names.map(|name| figures(name, 1, &[100])));
        let of: Vec<_> = ratios.iter().map(|ratio| [ratio.of.as_str(), &ratio.to]).collect();
        assert_eq!(of, [[names[1], names[0]], [names[2], names[1]]]);
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let json = serde_json::to_string(&report(&[("Tidemill", 1, &[0.125, 0.5])])).unwrap();
        let again = serde_json::to_string(&Report::parse(&json).unwrap()).unwrap();
        assert_eq!(again, json);
    }

    #[test]
    fn what_is_no_report_of_this_age_is_refused_with_the_reason() {
        let error = |text: &str| Report::parse(text).err().unwrap().to_string();
        assert!(error("{}").contains("schema 0"), "{}", error("{}"));
        assert!(error("{\"schema\":2}").contains("schema 2"));
        assert!(error("{\"schema\":1}").contains("no report"));
        assert!(error("rows").contains("no report"));
    }

    #[test]
    fn peers_are_read_whether_they_ran_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Peer::read(&path)
        };
        let ran =
            r#"{"name":"DuckDB","threads":2,"rows":10,"seconds":[2,4],"checked":true,"note":""}"#;
        let missing = r#"{"name":"Flink","threads":2,"note":"no Java here"}"#;
        let peers = read(&format!("[{ran},{missing}]")).unwrap();
        let rate = Spread { median: 3.75, min: 2.5, max: 5.0 };
        assert_eq!((peers[0].rows_per_second(), peers[1].rows_per_second()), (Some(rate), None));
        assert_eq!(peers[1].note, "no Java here");
        let error = read(r#"[{"name":"x","threads":1,"rows":1,"seconds":[0]}]"#).err().unwrap();
        assert!(error.to_string().contains("the seconds of `x` are no times"), "{error}");
        assert!(read("{}").err().unwrap().to_string().contains("no array of peers"));
    }
}
