//! The other workload of `--beside`: what differs in it from the one that is measured.

use std::time::Duration;

use tidemill_core::{Error, Result};

use super::made::{length, skew};
use super::positive;
use crate::bench::contenders::Beside;
use crate::bench::workload::{Query, RowSource, Skew, Workload};
use crate::cli::job_file::duration;

/// What is different, as it was written.
#[derive(Debug, Clone)]
pub struct Differences {
    text: String,
    all: Vec<Difference>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Difference {
    Keys(usize),
    Skew(Skew),
    Size(Duration),
    Slide(Duration),
}

/// Reads `keys=10000`, or `size=10s,slide=2s`.
pub fn differences(text: &str) -> Result<Differences, String> {
    let all = text.split(',').map(difference).collect::<Result<_, _>>()?;
    Ok(Differences { text: text.to_owned(), all })
}

fn difference(text: &str) -> Result<Difference, String> {
    let (option, value) = text.split_once('=').unwrap_or((text, ""));
    match option {
        "keys" => positive(value).map(Difference::Keys),
        "skew" => skew(value).map(Difference::Skew),
        "size" => duration(value).map(Difference::Size),
        "slide" => duration(value).map(Difference::Slide),
        _ => Err("write what is different in the other workload: `keys=N`, `skew=…`, `size=…` or \
                  `slide=…`, with commas between them"
            .to_owned()),
    }
}

impl Differences {
    /// The workload that differs from this one so.
    ///
    /// # Errors
    /// Rows that are not in memory, or a window that this query does not have.
    pub fn from(&self, workload: &Workload) -> Result<Beside> {
        if workload.source != RowSource::Memory {
            let message = "--beside is for rows in memory: leave out --source";
            return Err(Error::configuration(message));
        }
        let mut other = workload.clone();
        for difference in &self.all {
            match (difference, &mut other.query) {
                (Difference::Keys(keys), _) => other.keys = *keys as u64,
                (Difference::Skew(skew), _) => other.skew = *skew,
                (
                    Difference::Size(size),
                    Query::Tumbling { size_us } | Query::Hopping { size_us, .. },
                ) => *size_us = length("--beside size", *size)?,
                (Difference::Slide(slide), Query::Hopping { slide_us, .. }) => {
                    *slide_us = length("--beside slide", *slide)?;
                }
                (Difference::Size(_) | Difference::Slide(_), query) => {
                    return Err(Error::configuration(format!(
                        "--beside {}: a {} window has no such length",
                        self.text,
                        query.name()
                    )));
                }
            }
        }
        Ok(Beside { differences: self.text.clone(), workload: other })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_workload_differs_in_what_is_said_and_in_nothing_else() {
        let workload = Workload {
            query: Query::Hopping { size_us: 3_600_000_000, slide_us: 1_000_000 },
            ..Workload::default()
        };
        let beside = |text: &str| differences(text).unwrap().from(&workload).unwrap().workload;
        let query = Query::Hopping { size_us: 10_000_000, slide_us: 2_000_000 };
        assert_eq!(beside("size=10s,slide=2s"), Workload { query, ..workload.clone() });
        let skew = Skew::Zipf { exponent: 1.1 };
        assert_eq!(beside("keys=3,skew=zipf:1.1"), Workload { keys: 3, skew, ..workload.clone() });
    }

    #[test]
    fn what_no_workload_has_is_refused() {
        for wrong in ["", "keys", "keys=0", "rows=3", "size=long", "keys=3,", "skew=some"] {
            assert!(differences(wrong).is_err(), "{wrong}");
        }
        let error = |text: &str, workload: &Workload| {
            differences(text).unwrap().from(workload).err().unwrap().to_string()
        };
        assert!(error("slide=1s", &Workload::default()).contains("tumbling"));
        let files = Workload { source: RowSource::Csv, ..Workload::default() };
        assert!(error("keys=3", &files).contains("--source"));
    }
}
