//! Two reports of the same work side by side: what got slower, and how sure that is.
//!
//! Machines drift: another neighbour, another kernel, a warmer day. So where both reports have
//! yardsticks (contenders that do not run the engine's code) on as many threads, what is compared is
//! not seconds but seconds over those of the yardsticks **in the same round**. A machine that was
//! slower throughout divides out.
//!
//! Invariant: only the engine's own lines can be judged slower; a yardstick's line says how far the
//! machine has moved, and nothing else.

use std::fmt;

use tidemill_core::{Error, Result};

use super::report::text::{table, threads};
use super::report::{Figures, Report, is_engine};
use super::statistics::{Interval, geometric_mean, ratio_of_medians};
use super::workload::Workload;

/// With fewer runs on a side nothing is said: the interval of a median cannot be had from them.
const RUNS_MIN: usize = 5;

/// What became of the contenders that both reports have.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// A line for each contender and number of threads.
    pub lines: Vec<Line>,
    /// What makes the two reports hard to compare.
    pub warnings: Vec<String>,
    /// From which loss on a line is [`Self::failures`]' business: 0.05 is one twentieth.
    pub tolerance: f64,
}

/// A contender on a number of threads, then and now.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// On how many threads it ran.
    pub threads: usize,
    /// Median seconds now over median seconds then.
    pub raw: f64,
    /// The new speed over the old one, beside the yardsticks where there are any.
    pub speed: Option<Interval>,
    /// Whether [`Self::speed`] is beside yardsticks.
    pub normalised: bool,
    /// What can be said.
    pub verdict: Verdict,
}

/// What can be said of a contender, then and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is below 1.
    Slower,
    /// The whole interval is above 1.
    Faster,
    /// 1 is within the interval.
    CannotBeTold,
    /// Less than five runs on a side.
    TooFewRuns,
}

impl Comparison {
    /// Compares two reports of the same work.
    ///
    /// # Errors
    /// Reports of different work, or with no contender in common.
    pub fn of(old: &Report, new: &Report, tolerance: f64) -> Result<Self> {
        same_work(old, new)?;
        let then = |now: &Figures| {
            old.contenders.iter().find(|then| then.name == now.name && then.threads == now.threads)
        };
        let both = new.contenders.iter().filter_map(|now| then(now).map(|then| (then, now)));
        let lines: Vec<Line> = both.filter_map(|(then, now)| line(old, then, new, now)).collect();
        if lines.is_empty() {
            return Err(Error::configuration(
                "the reports have no contender on as many threads in common: measure with the \
                 --parallelism of the old one",
            ));
        }
        Ok(Self { lines, warnings: warnings(old, new), tolerance })
    }

    /// The engine's lines that are slower by more than the tolerance, the whole interval being so.
    pub fn failures(&self) -> impl Iterator<Item = &Line> {
        let bound = 1.0 - self.tolerance;
        let lines = self.lines.iter().filter(|line| is_engine(&line.name));
        lines.filter(move |line| {
            line.verdict == Verdict::Slower && line.speed.is_some_and(|speed| speed.high < bound)
        })
    }
}

/// Refuses reports whose figures mean different things.
fn same_work(old: &Report, new: &Report) -> Result<()> {
    let work = Work {
        name: &new.name,
        workload: new.workload.as_ref(),
        rows: rows(new),
        optimized: new.machine.optimized,
    };
    work.is_that_of(old)
}

/// Rows that the first of the contenders read in a run, as all of them did.
fn rows(report: &Report) -> Option<u64> {
    report.contenders.first().map(|figures| figures.rows)
}

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The workload; `None` for a query of Nexmark or a job file.
    pub workload: Option<&'a Workload>,
    /// Rows of a run, where they are known.
    pub rows: Option<u64>,
    /// Whether the program was built for speed.
    pub optimized: bool,
}

impl Work<'_> {
    /// Refuses a report that figures of this work cannot be compared with: to be asked before
    /// measuring them.
    ///
    /// # Errors
    /// What differs.
    pub fn is_that_of(&self, old: &Report) -> Result<()> {
        let Self { name, workload, rows: now, optimized } = *self;
        if old.name != name {
            return Err(differ("work", &old.name, name));
        }
        same_workload(old, workload)?;
        if let (Some(then), Some(now)) = (rows(old), now)
            && then != now
        {
            return Err(differ("lengths", &format!("{then} rows"), &format!("{now} rows")));
        }
        if old.machine.optimized != optimized {
            let name = |yes: bool| if yes { "optimised" } else { "not optimised" };
            return Err(differ("builds", name(old.machine.optimized), name(optimized)));
        }
        Ok(())
    }
}

fn same_workload(old: &Report, workload: Option<&Workload>) -> Result<()> {
    // Which contenders there are may differ.
    let common =
        |of: &Workload| Workload { parallelism: Vec::new(), checkpoints: None, ..of.clone() };
    let (then, now) = (old.workload.as_ref().map(common), workload.map(common));
    if then != now {
        let name = |of: Option<Workload>| of.map_or("a job file".to_owned(), |of| of.to_string());
        return Err(differ("workloads", &name(then), &name(now)));
    }
    Ok(())
}

fn differ(what: &str, then: &str, now: &str) -> Error {
    Error::configuration(format!(
        "the reports are of different {what}: then {then}, now {now}. Measure both with the same \
         arguments"
    ))
}

fn warnings(old: &Report, new: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    let (then, now) = (&old.machine, &new.machine);
    if (&then.cpu, then.cores) != (&now.cpu, now.cores) {
        warnings.push(format!(
            "measured on different machines: {}, {} cores, then {}, {} cores. Even ratios to \
             yardsticks differ from machine to machine",
            then.cpu, then.cores, now.cpu, now.cores
        ));
    }
    let busy = |report: &Report| report.machine.load.is_some_and(|load| load > 1.0);
    if busy(old) || busy(new) {
        warnings.push("the machine was busy with other things when measuring began".to_owned());
    }
    warnings
}

fn line(old: &Report, then: &Figures, new: &Report, now: &Figures) -> Option<Line> {
    let raw = ratio_of_medians(&now.seconds, &then.seconds)?;
    let yardsticks = |report: &'_ Report, other: &'_ Report| -> Vec<String> {
        let shared = |figures: &&Figures| {
            let also = |o: &Figures| o.name == figures.name && o.threads == figures.threads;
            figures.threads == now.threads
                && !is_engine(&figures.name)
                && other.contenders.iter().any(also)
        };
        report.contenders.iter().filter(shared).map(|figures| figures.name.clone()).collect()
    };
    let names = yardsticks(new, old);
    let normalised = is_engine(&now.name) && !names.is_empty();
    let speed = match normalised {
        // Seconds are the inverse of speed: what took long then is what is fast now.
        true => ratio_of_medians(&beside(then, old, &names), &beside(now, new, &names)),
        false => ratio_of_medians(&then.seconds, &now.seconds),
    };
    let runs = then.seconds.len().min(now.seconds.len());
    let verdict = match speed {
        Some(_) if runs < RUNS_MIN => Verdict::TooFewRuns,
        Some(speed) if speed.high < 1.0 => Verdict::Slower,
        Some(speed) if speed.low > 1.0 => Verdict::Faster,
        Some(_) | None => Verdict::CannotBeTold,
    };
    let (name, threads) = (now.name.clone(), now.threads);
    Some(Line { name, threads, raw: raw.estimate, speed, normalised, verdict })
}

/// A contender's seconds over the geometric mean of the yardsticks' in the same round.
fn beside(figures: &Figures, report: &Report, yardsticks: &[String]) -> Vec<f64> {
    let is_one =
        |other: &&Figures| other.threads == figures.threads && yardsticks.contains(&other.name);
    let others: Vec<&Figures> = report.contenders.iter().filter(is_one).collect();
    let in_round = |(round, seconds): (usize, &f64)| {
        let times: Option<Vec<f64>> =
            others.iter().map(|other| other.seconds.get(round).copied()).collect();
        Some(seconds / geometric_mean(&times?)?)
    };
    figures.seconds.iter().enumerate().filter_map(in_round).collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::CannotBeTold => "no difference can be told",
            Self::TooFewRuns => "too few runs to tell (5 at least)",
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = table(["contender", "threads", "time", "speed (95 %)", "of old", ""]);
        for line in &self.lines {
            let speed = |s: Interval| format!("{:.3} ({:.3} – {:.3}) ×", s.estimate, s.low, s.high);
            let against = match (line.normalised, is_engine(&line.name)) {
                (true, _) => "beside yardsticks",
                (false, true) => "seconds",
                (false, false) => "seconds: the machine",
            };
            table.add_row([
                line.name.clone(),
                line.threads.to_string(),
                format!("{:.3} ×", line.raw),
                line.speed.map_or_else(|| "–".to_owned(), speed),
                against.to_owned(),
                line.verdict.to_string(),
            ]);
        }
        writeln!(f, "{table}")?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for line in self.failures() {
            let lost = line.speed.map_or(0.0, |speed| (1.0 - speed.estimate) * 100.0);
            writeln!(
                f,
                "{} on {} got slower by {lost:.0} %, and surely by more than {:.0} %",
                line.name,
                threads(line.threads),
                self.tolerance * 100.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    const LOOP: &str = "hand-written loop";

    fn times(base: f64) -> Vec<f64> {
        [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.015].iter().map(|noise| base * noise).collect()
    }

    fn compare(then: &[(&str, f64)], now: &[(&str, f64)]) -> Comparison {
        let of = |all: &[(&str, f64)]| {
            let all: Vec<_> = all.iter().map(|(name, base)| (*name, 1, times(*base))).collect();
            let all: Vec<_> = all.iter().map(|(n, threads, t)| (*n, *threads, &t[..])).collect();
            report(&all)
        };
        Comparison::of(&of(then), &of(now), 0.05).unwrap()
    }

    fn verdict(comparison: &Comparison, name: &str) -> Verdict {
        comparison.lines.iter().find(|line| line.name == name).unwrap().verdict
    }

    #[test]
    fn a_slower_engine_beside_the_same_yardstick_is_slower() {
        let comparison =
            compare(&[(LOOP, 1.0), ("Tidemill", 2.0)], &[(LOOP, 1.0), ("Tidemill", 2.4)]);
        assert_eq!(verdict(&comparison, "Tidemill"), Verdict::Slower);
        assert_eq!(verdict(&comparison, LOOP), Verdict::CannotBeTold);
        assert_eq!(comparison.failures().count(), 1);
        let text = comparison.to_string();
        assert!(text.contains("Tidemill on 1 thread got slower by 17 %"), "{text}");
    }

    #[test]
    fn a_slower_machine_is_no_slower_engine() {
        let comparison =
            compare(&[(LOOP, 1.0), ("Tidemill", 2.0)], &[(LOOP, 1.5), ("Tidemill", 3.0)]);
        assert_eq!(verdict(&comparison, "Tidemill"), Verdict::CannotBeTold);
        assert_eq!(verdict(&comparison, LOOP), Verdict::Slower, "the machine has moved");
        assert_eq!(comparison.failures().count(), 0, "a yardstick fails nobody");
        assert!((comparison.lines[1].raw - 1.5).abs() < 1e-9, "and the seconds are told as well");
    }

    #[test]
    fn a_slower_machine_hides_no_gain() {
        let comparison =
            compare(&[(LOOP, 1.0), ("Tidemill", 2.0)], &[(LOOP, 1.5), ("Tidemill", 2.0)]);
        assert_eq!(verdict(&comparison, "Tidemill"), Verdict::Faster);
    }

    #[test]
    fn without_a_yardstick_seconds_are_compared() {
        let comparison = compare(&[("Tidemill, job file", 1.0)], &[("Tidemill, job file", 1.2)]);
        assert!(!comparison.lines[0].normalised);
        assert_eq!(comparison.lines[0].verdict, Verdict::Slower);
    }

    #[test]
    fn a_loss_within_the_tolerance_is_told_and_fails_nothing() {
        let comparison = compare(&[("Tidemill", 1.0)], &[("Tidemill", 1.04)]);
        assert_eq!(comparison.lines[0].verdict, Verdict::Slower);
        assert_eq!(comparison.failures().count(), 0);
    }

    #[test]
    fn a_few_runs_prove_nothing() {
        let (then, now) =
            (report(&[("Tidemill", 1, &[1.0; 4])]), report(&[("Tidemill", 1, &[9.0; 4])]));
        let comparison = Comparison::of(&then, &now, 0.05).unwrap();
        assert_eq!(comparison.lines[0].verdict, Verdict::TooFewRuns);
        assert_eq!(comparison.failures().count(), 0);
    }

    #[test]
    fn different_work_is_not_compared() {
        let old = report(&[("Tidemill", 1, &[1.0; 5])]);
        let refused = |change: fn(&mut Report)| {
            let mut new = old.clone();
            change(&mut new);
            Comparison::of(&old, &new, 0.05).err().unwrap().to_string()
        };
        assert!(refused(|new| new.name = "q5".to_owned()).contains("then tumbling, now q5"));
        assert!(refused(|new| new.machine.optimized ^= true).contains("different builds"));
        assert!(refused(|new| new.contenders[0].rows += 1).contains("now 1000001 rows"));
        assert!(refused(|new| new.contenders[0].threads = 2).contains("no contender"));
        assert!(refused(|new| new.workload = Some(Default::default())).contains("workloads"));
    }

    #[test]
    fn another_machine_and_a_busy_one_are_warned_of() {
        let old = report(&[("Tidemill", 1, &[1.0; 5])]);
        let mut new = old.clone();
        new.machine.cpu = "another".to_owned();
        new.machine.load = Some(7.0);
        let text = Comparison::of(&old, &new, 0.05).unwrap().to_string();
        assert!(text.contains("different machines") && text.contains("busy"), "{text}");
    }
}
