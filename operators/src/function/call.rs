//! Calls a function until each row of a batch has its results or a reason why not.
//!
//! ```text
//! round 1: all rows ─▶ those that failed transiently ─ wait ─▶ round 2 ─ wait ─▶ … ─▶ last round
//! ```
//!
//! Within a round, rows that failed together for a reason that waiting does not mend are halved until those
//! are found that fail alone; in the last round, waiting mends nothing any more. A round in which calls fail
//! transiently for too long makes no more of them. Invariant: a row that has results is not given to the
//! function again because of another that says that it failed itself.

use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use tidemill_core::time::Clock;
use tidemill_core::{Error, ErrorClass, EventTime, Result};

use super::gate::Gate;
use super::outcome::{Lineage, Outcome};
use super::retry::{Patience, RetryPolicy};
use super::trials::Trials;
use super::{Kind, RowsFunction, check_columns};

/// A function, and how it is called.
pub(super) struct Caller<'a> {
    pub function: &'a RowsFunction,
    pub schema: &'a SchemaRef,
    pub retry: &'a RetryPolicy,
    pub gate: &'a Gate,
    pub patience: &'a dyn Patience,
    pub clock: &'a dyn Clock,
    pub kind: Kind,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Called {
    /// Results, in the order of their first rows.
    pub pieces: Vec<Piece>,
    /// Rows without, ascending.
    pub rejected: Vec<Rejected>,
}

/// Results of one call.
#[derive(Debug)]
pub(super) struct Piece {
    pub results: RecordBatch,
    /// The rows that they were made of, ascending.
    pub rows: Vec<u32>,
    /// For each result its row, ascending; `None` where that is not known.
    pub from: Option<Vec<u32>>,
}

/// A row without results.
#[derive(Debug)]
pub(super) struct Rejected {
    pub row: usize,
    pub error: Error,
    pub attempts: u32,
    /// When the first attempt failed, where there were several.
    pub first_failed_at: Option<EventTime>,
}

/// Rows of the batch that are given to the function together.
#[derive(Debug)]
struct Part {
    given: RecordBatch,
    /// Their numbers in the batch, ascending.
    rows: Vec<u32>,
}

impl Part {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn slice(&self, start: usize, length: usize) -> Self {
        let rows = self.rows[start..start + length].to_vec();
        Self { given: self.given.slice(start, length), rows }
    }

    /// The numbers of its rows but for those at these places, which ascend.
    fn without(&self, places: impl Iterator<Item = usize>) -> Vec<u32> {
        let mut places = places.peekable();
        let rows = self.rows.iter().enumerate();
        rows.filter(|(place, _)| places.next_if_eq(place).is_none()).map(|(_, row)| *row).collect()
    }

    fn take(&self, rows: Vec<u32>) -> Result<Self> {
        let numbers = rows.iter().map(|row| self.rows[*row as usize]).collect();
        Ok(Self { given: take_record_batch(&self.given, &UInt32Array::from(rows))?, rows: numbers })
    }
}

/// One attempt.
struct Round {
    attempt: u32,
    /// Nothing is tried again after it.
    last: bool,
    /// What is tried again.
    again: Vec<Part>,
    first_failed_at: Option<EventTime>,
}

impl Caller<'_> {
    pub fn call(&self, rows: &RecordBatch) -> Result<Called> {
        let mut called = Called::default();
        let all = Part { given: rows.clone(), rows: (0..rows.num_rows() as u32).collect() };
        let began = self.clock.elapsed();
        let last = self.retry.attempts <= 1;
        let mut round = Round { attempt: 1, last, again: vec![all], first_failed_at: None };
        loop {
            let parts = std::mem::take(&mut round.again);
            self.attempt(parts, &mut round, &mut called)?;
            if round.again.is_empty() {
                called.pieces.sort_by_key(|piece| piece.rows.first().copied());
                called.rejected.sort_by_key(|rejected| rejected.row);
                return Ok(called);
            }
            self.wait(&mut round, began);
        }
    }

    /// Waits for the next round, and settles whether it is the last.
    fn wait(&self, round: &mut Round, began: Duration) {
        let spent = || self.clock.elapsed().saturating_sub(began);
        let backoff = &self.retry.backoff;
        if let Some(wait) = backoff.wait(round.attempt, spent(), self.patience.jitter()) {
            self.patience.wait(wait);
        }
        round.attempt += 1;
        round.last = round.attempt >= self.retry.attempts || spent() >= backoff.deadline;
        round.first_failed_at.get_or_insert_with(|| self.clock.now());
    }

    fn attempt(&self, mut parts: Vec<Part>, round: &mut Round, called: &mut Called) -> Result<()> {
        let deadline = self.retry.backoff.deadline;
        let counts_each = self.kind == Kind::Rows && round.attempt == 1;
        let trials = Trials::new(self.clock, self.patience, self.gate, deadline, counts_each);
        while let Some(part) = parts.pop() {
            if part.len() == 0 {
                continue;
            }
            match (self.function)(&part.given, &trials) {
                Ok(outcome) => self.keep(part, outcome, round, called)?,
                Err(error) => match error.kind().class() {
                    ErrorClass::Fatal => return Err(error),
                    ErrorClass::Transient if !round.last => self.again(round, part),
                    _ if part.len() == 1 => {
                        called.rejected.push(round.reject(part.rows[0], error));
                    }
                    ErrorClass::Transient if trials.have_ended() => {
                        let error = |_: &u32| Error::transient(error.to_string());
                        let rejected = part.rows.iter().map(|row| round.reject(*row, error(row)));
                        called.rejected.extend(rejected);
                    }
                    _ => {
                        let half = part.len() / 2;
                        parts.push(part.slice(half, part.len() - half));
                        parts.push(part.slice(0, half));
                    }
                },
            }
        }
        Ok(())
    }

    fn again(&self, round: &mut Round, part: Part) {
        round.first_failed_at.get_or_insert_with(|| self.clock.now());
        round.again.push(part);
    }

    /// Takes the results of a call, and sorts out the rows that failed alone.
    fn keep(
        &self,
        part: Part,
        outcome: Outcome,
        round: &mut Round,
        called: &mut Called,
    ) -> Result<()> {
        let Outcome { rows: results, lineage, failed } = outcome;
        check_columns(&results, self.schema)?;
        let kept = part.without(failed.iter().map(|(row, _)| *row));
        let mut again = Vec::new();
        for (row, error) in failed {
            match error.kind().class() {
                ErrorClass::Fatal => return Err(error),
                ErrorClass::Transient if !round.last => again.push(row as u32),
                _ => called.rejected.push(round.reject(part.rows[row], error)),
            }
        }
        if !again.is_empty() {
            self.again(round, part.take(again)?);
        }
        let from = match lineage {
            Lineage::OneToOne => {
                check_count(&results, kept.len())?;
                Some(kept.clone())
            }
            Lineage::Rows(from) => {
                check_count(&results, from.len())?;
                Some(from.iter().map(|row| part.rows[*row as usize]).collect())
            }
            Lineage::Unknown if kept.len() == 1 => Some(vec![kept[0]; results.num_rows()]),
            Lineage::Unknown if self.kind == Kind::FlatMap => None,
            Lineage::Unknown => {
                let message = "a function over rows must say which row each result was made from";
                return Err(Error::internal(message));
            }
        };
        if !kept.is_empty() {
            called.pieces.push(Piece { results, rows: kept, from });
        }
        Ok(())
    }
}

impl Round {
    fn reject(&self, row: u32, error: Error) -> Rejected {
        let first_failed_at = self.first_failed_at.filter(|_| self.attempt > 1);
        Rejected { row: row as usize, error, attempts: self.attempt, first_failed_at }
    }
}

fn check_count(results: &RecordBatch, wanted: usize) -> Result<()> {
    if results.num_rows() == wanted {
        return Ok(());
    }
    Err(Error::internal(format!(
        "a function returned {} rows where {wanted} were due: one for each row, unless it is a \
         flat_map",
        results.num_rows()
    )))
}
