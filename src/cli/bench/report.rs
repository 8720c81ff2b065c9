//! What becomes of a benchmark's figures: shown, written as a page, compared with older ones; and the
//! open-loop run that adds delays to them.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tidemill_core::table::parse_duration;
use tidemill_core::{Error, ErrorKind, Result};

use super::super::OutputFormat;
use super::super::output::{out, outln};
use crate::bench::compare::{Comparison, Work};
use crate::bench::open_loop::{self, OpenLoop};
use crate::bench::report::{Figures, Peer, Report};
use crate::bench::workload::{RowSource, Workload};
use crate::bench::{html, input};

/// Options of `tidemill bench` about what is told.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Measure emit delays as well, this many rows becoming due in a second whether the engine keeps up
    /// or not; `half`: of the top rate measured before. Rows come from memory.
    #[arg(long, value_name = "ROWS/S|half")]
    rate: Option<Rate>,
    /// For how long rows become due with --rate; the first tenth is not counted.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration, requires = "rate")]
    rate_for: Duration,
    /// Write the report as a page with charts, which needs no other file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Figures of others, from `benches/peers/run --json FILE`, to stand beside.
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
    /// Say what got slower or faster since this report of `-o json`; exit code 1 where the engine surely
    /// lost more than --tolerance.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// The loss of speed that --compare lets pass, in per cent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent, requires = "compare")]
    tolerance: f64,
    /// Who the report is for.
    #[arg(short, long, default_value = "text")]
    pub output: OutputFormat,
}

/// How many rows become due in a second.
#[derive(Debug, Clone, Copy)]
enum Rate {
    Half,
    RowsPerSecond(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "half" => Ok(Self::Half),
            Ok(rows) if f64::is_finite(rows) && rows > 0.0 => Ok(Self::RowsPerSecond(rows)),
            _ => {
                Err("write a number of rows per second above 0 (5000000, 5e6), or `half`"
                    .to_owned())
            }
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a length of time above 0, such as 20s".to_owned();
    parse_duration(text).filter(|duration| !duration.is_zero()).ok_or_else(wrong)
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent),
        _ => Err("write a number from 0 to less than 100".to_owned()),
    }
}

/// What others wrote, read before anything is measured: a wrong file is told at once.
pub struct Others {
    old: Option<Report>,
    pub peers: Vec<Peer>,
}

impl ReportArgs {
    /// Reads what figures are put beside, and looks whether the workload can have delays.
    ///
    /// # Errors
    /// A file that cannot be read, or `--rate` for rows that are not in memory, or a
    /// report of other work.
    pub fn prepare(&self, work: &Work<'_>) -> Result<Others> {
        let in_memory = work.workload.is_some_and(|workload| workload.source == RowSource::Memory);
        if self.rate.is_some() && !in_memory {
            return Err(Error::configuration(
                "--rate measures `tumbling`, `hopping` and `session` over rows in memory: leave out \
                 --source, or --rate",
            ));
        }
        let old = self.compare.as_deref().map(Report::read).transpose()?;
        if let Some(old) = &old {
            work.is_that_of(old)?;
        }
        Ok(Others {
            old,
            peers: self.peers.as_deref().map(Peer::read).transpose()?.unwrap_or_default(),
        })
    }

    /// Measures delays on each number of threads, where they are asked for.
    ///
    /// # Errors
    /// Whatever ends the job.
    pub fn open_loop(
        &self,
        workload: Option<&Workload>,
        figures: &[Figures],
    ) -> Result<Vec<OpenLoop>> {
        let (Some(rate), Some(workload)) = (self.rate, workload) else { return Ok(Vec::new()) };
        let rows = input::rows(workload);
        let run = |threads: &usize| {
            let rate = match rate {
                Rate::RowsPerSecond(rate) => rate,
                Rate::Half => top_rate(figures, *threads)? / 2.0,
            };
            let seconds = self.rate_for.as_secs_f64();
            eprintln!("{:.2} M rows/s become due for {seconds} s, {threads} threads", rate / 1e6);
            open_loop::run(workload, &input::deal(&rows, *threads), rate, self.rate_for)
        };
        workload.parallelism.iter().map(run).collect()
    }

    /// Shows the report, writes the page, and compares.
    ///
    /// # Errors
    /// A page that cannot be written, reports that cannot be compared, or a loss of speed.
    pub fn tell(&self, report: &Report, others: &Others) -> Result<()> {
        match self.output {
            OutputFormat::Text => out!("{report}"),
            OutputFormat::Json => {
                let json = serde_json::to_string(report);
                let json =
                    json.map_err(|e| Error::internal("the report is no JSON").caused_by(e))?;
                outln!("{json}");
            }
        }
        if let Some(path) = &self.html {
            let written = fs::write(path, html::page(report));
            written.map_err(|error| Error::from(error).at(path.display()))?;
        }
        match &others.old {
            None => Ok(()),
            Some(old) => self.compare(old, report),
        }
    }

    fn compare(&self, old: &Report, new: &Report) -> Result<()> {
        let comparison = Comparison::of(old, new, self.tolerance / 100.0)?;
        match self.output {
            OutputFormat::Text => out!("\nBeside the old report:\n{comparison}"),
            // Standard output is the report's alone.
            OutputFormat::Json => eprint!("{comparison}"),
        }
        let slower: Vec<String> =
            comparison.failures().map(|line| format!("{}, {}", line.name, line.threads)).collect();
        if slower.is_empty() {
            return Ok(());
        }
        let message =
            format!("slower than in the old report (contender, threads): {}", slower.join("; "));
        Err(Error::new(ErrorKind::Business, message))
    }
}

/// The engine's median speed on as many threads.
fn top_rate(figures: &[Figures], threads: usize) -> Result<f64> {
    let engine = figures.iter().find(|f| f.name == "Tidemill" && f.threads == threads);
    let engine = engine.map(|figures| figures.rows_per_second.median);
    engine.ok_or_else(|| Error::internal(format!("no speed was measured on {threads} threads")))
}

/// The command as it was given, to be run again.
pub fn command() -> String {
    let quoted =
        |argument: String| match argument.contains(|c: char| c.is_whitespace() || c == '\'') {
            true => format!("'{}'", argument.replace('\'', "'\\''")),
            false => argument,
        };
    let arguments = std::env::args_os().skip(1).map(|a| quoted(a.to_string_lossy().into_owned()));
    std::iter::once("tidemill".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_half() {
        assert!(matches!("half".parse(), Ok(Rate::Half)));
        assert!(matches!("5e6".parse(), Ok(Rate::RowsPerSecond(rows)) if rows == 5e6));
        for wrong in ["0", "-1", "inf", "NaN", "fast", ""] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert!(duration("0s").is_err() && percent("100").is_err() && percent("nan").is_err());
        assert_eq!((duration("1 min"), percent("2.5")), (Ok(Duration::from_secs(60)), Ok(2.5)));
    }
}
