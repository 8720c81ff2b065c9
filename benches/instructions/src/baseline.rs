//! What was counted before, and what a new count means.
//!
//! Invariant: a count passes only where it is within the tolerance of the baseline, above or below
//! it: a gain that is not written down can be lost again unseen.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidemill_core::{Error, Result};

/// Instructions for each element, by kernel.
pub type Counts = BTreeMap<String, f64>;

/// The file that is kept with the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// By how many percent a count may differ.
    pub tolerance_percent: f64,
    /// What was counted when the file was written.
    pub instructions_per_element: Counts,
}

impl Baseline {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that is missing or not a baseline.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Error::from(error).at(path.display()))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::configuration(error.to_string()).at(path.display()))
    }

    /// Replaces the counts of these kernels, drops those of kernels that are no more (`known` are
    /// all there are), and writes the file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn bless(&mut self, counts: &Counts, known: &[&str], path: &Path) -> Result<()> {
        let rounded = |count: f64| (count * 100.0).round() / 100.0;
        let kept = &mut self.instructions_per_element;
        kept.retain(|name, _| known.contains(&name.as_str()));
        kept.extend(counts.iter().map(|(name, count)| (name.clone(), rounded(*count))));
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(std::fs::write(path, text + "\n")?)
    }

    /// How a kernel's count compares with what it was.
    pub fn judge(&self, name: &str, now: f64) -> Verdict {
        let Some(was) = self.instructions_per_element.get(name) else { return Verdict::New };
        let change = (now / was - 1.0) * 100.0;
        match change {
            _ if change > self.tolerance_percent => Verdict::Worse(change),
            _ if change < -self.tolerance_percent => Verdict::Better(change),
            _ => Verdict::Same(change),
        }
    }

    /// A line for each kernel (was, is, change), then what to do where something differs.
    pub fn report(&self, counts: &[(&str, f64)]) -> Report {
        let mut text = format!("{:<28}{:>10}{:>10}{:>10}\n", "instructions", "was", "is", "change");
        let (mut worse, mut other) = (0, 0);
        for (name, now) in counts {
            let was = self.instructions_per_element.get(*name);
            let was = was.map_or("-".to_owned(), |was| format!("{was:.1}"));
            let verdict = self.judge(name, *now);
            let (change, word) = verdict.describe();
            let line = format!("{name:<28}{was:>10}{now:>10.1}{change:>10}  {word}");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
            match verdict {
                Verdict::Worse(_) => worse += 1,
                Verdict::Better(_) | Verdict::New => other += 1,
                Verdict::Same(_) => {}
            }
        }
        if worse > 0 {
            let _ = writeln!(text, "\n{}", advice("do more work than before", worse));
        } else if other > 0 {
            let _ = writeln!(
                text,
                "\n{}",
                advice("do less than the baseline says, or are not in it", other)
            );
        }
        Report { text, passed: worse + other == 0 }
    }
}

fn advice(what: &str, kernels: usize) -> String {
    format!(
        "Kernels that {what}: {kernels}. If that is meant, run\n\
         \n    benches/instructions/run --bless\n\n\
         and commit baseline.json with a message that says why. If not,\n\
         docs/costs.md tells how to see where the instructions go."
    )
}

/// The table, and whether all is as it was.
#[derive(Debug)]
pub struct Report {
    /// For people.
    pub text: String,
    /// Nothing differs by more than the tolerance.
    pub passed: bool,
}

/// What a count says beside the one before; changes in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Within the tolerance.
    Same(f64),
    /// More than the tolerance above.
    Worse(f64),
    /// More than the tolerance below.
    Better(f64),
    /// The kernel is not in the baseline.
    New,
}

impl Verdict {
    fn describe(self) -> (String, &'static str) {
        match self {
            Self::Same(change) => (format!("{change:+.1} %"), ""),
            Self::Worse(change) => (format!("{change:+.1} %"), "WORSE"),
            Self::Better(change) => (format!("{change:+.1} %"), "better"),
            Self::New => (String::new(), "new"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Baseline {
        let counts = Counts::from([("a".to_owned(), 100.0), ("gone".to_owned(), 7.0)]);
        Baseline { tolerance_percent: 5.0, instructions_per_element: counts }
    }

    #[test]
    fn only_what_is_within_the_tolerance_passes() {
        let passes = |name, now| baseline().report(&[(name, now)]).passed;
        assert!(passes("a", 104.9) && passes("a", 95.1));
        assert!(!passes("a", 105.1), "worse");
        assert!(!passes("a", 94.9), "a gain is to be kept");
        assert!(!passes("b", 1.0), "a kernel without a baseline");
    }

    #[test]
    fn a_regression_is_named_and_the_way_out_is_said() {
        let report = baseline().report(&[("a", 120.0)]).text;
        assert!(report.contains("+20.0 %  WORSE"), "{report}");
        assert!(report.contains("run --bless"), "{report}");
    }

    #[test]
    fn blessing_some_kernels_leaves_the_others_and_drops_those_that_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.json");
        let counts = Counts::from([("b".to_owned(), 1.234_56)]);
        baseline().bless(&counts, &["a", "b"], &path).unwrap();
        let read = Baseline::read(&path).unwrap();
        let expected = Counts::from([("a".to_owned(), 100.0), ("b".to_owned(), 1.23)]);
        assert_eq!(read.instructions_per_element, expected);
        assert_eq!(read.tolerance_percent, 5.0);
    }
}
