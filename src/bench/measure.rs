//! Rounds in which contenders take turns, so that what else the machine does befalls all of them.
//!
//! Invariant: every run's results agree with those of the first over the same workload.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidemill_core::{Error, Result};
use tidemill_runtime::EmitDelay;

use super::checksum::Checksum;
use super::process;

/// Someone who does the same work as the others, or other work beside them.
pub struct Contender {
    /// What it is. Names of the engine begin with `Tidemill`.
    pub name: String,
    /// On how many threads it runs.
    pub threads: usize,
    /// How its work differs from that of most.
    differences: String,
    run: Box<dyn Fn() -> Result<Outcome>>,
}

impl Contender {
    /// A contender that does its work when `run` is called.
    pub fn new(
        name: impl Into<String>,
        threads: usize,
        run: impl Fn() -> Result<Outcome> + 'static,
    ) -> Self {
        Self { name: name.into(), threads, differences: String::new(), run: Box::new(run) }
    }

    /// The same contender, whose results are compared with those of others with the same `differences` alone.
    #[must_use]
    pub fn over(self, differences: impl Into<String>) -> Self {
        Self { differences: differences.into(), ..self }
    }

    /// Does the work once.
    ///
    /// # Errors
    /// Whatever goes wrong in it.
    pub fn run(&self) -> Result<Outcome> {
        (self.run)()
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Its results; `None` where they are not looked at.
    pub checksum: Option<Checksum>,
    /// From reading to the sink, where that was measured.
    pub emit_delay: Option<EmitDelay>,
    /// How many rows it read, where that is not known beforehand.
    pub rows: Option<u64>,
    /// How many results it gave, where they are counted instead of being looked at.
    pub results: Option<u64>,
    /// How often it went over the rows, where that is not once.
    pub passes: Option<u32>,
}

impl Outcome {
    /// These results, and nothing else known.
    pub fn of(checksum: Checksum) -> Self {
        Self { checksum: Some(checksum), ..Self::default() }
    }

    /// Learns from another run what it does not know yet. What both know must agree; where it does
    /// not, the other run is told what is wrong with it.
    fn take_in(&mut self, other: &Self) -> Result<(), String> {
        if let Some(is) = &other.checksum {
            let expected = self.checksum.get_or_insert(*is);
            if !is.agrees_with(expected) {
                return Err(format!(
                    "gives other results than those measured before it: {is:?} instead of {expected:?}"
                ));
            }
        }
        let counts = [
            ("reads", "rows", other.rows, &mut self.rows),
            ("gives", "results", other.results, &mut self.results),
        ];
        for (does, what, is, expected) in counts {
            let Some(is) = is else { continue };
            let expected = *expected.get_or_insert(is);
            if is != expected {
                return Err(format!(
                    "{does} {is} {what} where those measured before it have {expected}"
                ));
            }
        }
        Ok(())
    }
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// From its start to its last result, over the number of its passes over the rows.
    pub wall: Duration,
    /// Processor time, to a hundredth of a second; of one pass.
    pub cpu: Option<Duration>,
    /// Most memory in use while it ran, in bytes, the rows in memory included.
    pub peak_bytes: Option<u64>,
    /// Of this what it added itself.
    pub added_bytes: Option<u64>,
    /// What it came to.
    pub outcome: Outcome,
}

/// A contender's measured runs, round by round.
pub struct Measured {
    /// What it is.
    pub name: String,
    /// On how many threads it ran.
    pub threads: usize,
    /// Its runs.
    pub samples: Vec<Sample>,
}

/// Runs every contender once in each round; rounds of the warm-up are not counted. `each_round` is
/// told the round before it begins.
///
/// # Errors
/// A run that fails, or results that do not agree.
pub fn measure(
    contenders: &[Contender],
    warm_up: usize,
    runs: usize,
    each_round: impl Fn(usize),
) -> Result<Vec<Measured>> {
    let mut measured: Vec<_> = contenders
        .iter()
        .map(|c| Measured { name: c.name.clone(), threads: c.threads, samples: Vec::new() })
        .collect();
    let mut expected: HashMap<&str, Outcome> = HashMap::new();
    for round in 0..warm_up + runs {
        each_round(round);
        for turn in 0..contenders.len() {
            // Each round begins with another, so that nobody always follows the same one.
            let index = (turn + round) % contenders.len();
            let contender = &contenders[index];
            let sample = sample(contender)?;
            let expected = expected.entry(&contender.differences).or_default();
            expected.take_in(&sample.outcome).map_err(|what| disagreement(contender, &what))?;
            if round >= warm_up {
                measured[index].samples.push(sample);
            }
        }
    }
    Ok(measured)
}

fn sample(contender: &Contender) -> Result<Sample> {
    let peak_is_known = process::forget_peak();
    let memory = process::memory().filter(|_| peak_is_known);
    let cpu = process::cpu_time();
    let start = Instant::now();
    let outcome = contender.run()?;
    let wall = start.elapsed();
    let cpu = process::cpu_time().zip(cpu).map(|(after, before)| after.saturating_sub(before));
    let peak = memory.and_then(|_| process::memory()).map(|memory| memory.peak);
    let added = peak.zip(memory).map(|(peak, before)| peak.saturating_sub(before.resident));
    let passes = outcome.passes.unwrap_or(1).max(1);
    let (wall, cpu) = (wall / passes, cpu.map(|cpu| cpu / passes));
    Ok(Sample { wall, cpu, peak_bytes: peak, added_bytes: added, outcome })
}

fn disagreement(contender: &Contender, what: &str) -> Error {
    Error::internal(format!(
        "{} on {} threads {what}. No figure is worth telling until this is mended",
        contender.name, contender.threads
    ))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    fn contender(results: u64, runs: &Rc<Cell<usize>>) -> Contender {
        let runs = runs.clone();
        Contender::new("loop", 1, move || {
            runs.set(runs.get() + 1);
            Ok(Outcome::of(Checksum { results, ..Checksum::default() }))
        })
    }

    #[test]
    fn every_contender_runs_once_a_round_and_the_warm_up_does_not_count() {
        let runs = Rc::default();
        let contenders = [contender(1, &runs), contender(1, &runs)];
        let measured = measure(&contenders, 2, 3, |_| {}).unwrap();
        assert_eq!(runs.get(), 10);
        assert!(measured.iter().all(|m| m.samples.len() == 3));
    }

    #[test]
    fn results_that_differ_are_an_error_and_no_figure() {
        let runs = Rc::default();
        let contenders = [contender(1, &runs), contender(2, &runs)];
        let error = measure(&contenders, 0, 1, |_| {}).err().unwrap();
        assert!(error.to_string().contains("gives other results"), "{error}");
    }

    #[test]
    fn results_of_other_work_are_compared_among_themselves() {
        let runs = Rc::default();
        let over = |results| contender(results, &runs).over("keys=3");
        assert!(measure(&[contender(1, &runs), over(2), over(2)], 0, 2, |_| {}).is_ok());
        assert!(measure(&[contender(1, &runs), over(2), over(1)], 0, 1, |_| {}).is_err());
    }

    #[test]
    fn counts_that_differ_are_an_error_too() {
        let contender = |rows, results| {
            let outcome = Outcome { rows, results, ..Outcome::default() };
            Contender::new("job", 1, move || Ok(outcome))
        };
        let told = |first: [Option<u64>; 2], second: [Option<u64>; 2]| {
            let contenders = [contender(first[0], first[1]), contender(second[0], second[1])];
            measure(&contenders, 0, 1, |_| {}).err().map(|error| error.to_string())
        };
        assert_eq!(told([Some(3), None], [Some(3), Some(1)]), None, "not all count all");
        let error = told([Some(3), None], [Some(2), None]).unwrap();
        assert!(error.contains("reads 2 rows where those measured before it have 3"), "{error}");
        let error = told([None, Some(7)], [Some(2), Some(8)]).unwrap();
        assert!(error.contains("gives 8 results"), "{error}");
    }
}
