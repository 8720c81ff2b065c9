//! What leaves a station in one step: rows to their ports, each row without a future to its fate.
//! Invariant: a rejected row is counted once, whether its letter is kept, skipped, or ends the job.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemill_core::dead_letter::{self, DeadLetter, OnError, Provenance};
use tidemill_core::graph::Port;
use tidemill_core::operator::{Fate, Output};
use tidemill_core::time::Clock;
use tidemill_core::{Batch, Element, Epoch, Error, ErrorKind, Parcel, Result};

use crate::stats::StationStats;

/// What a step put out, in order.
pub(crate) type Emitted = Vec<(Port, Element)>;

/// How a station treats rows that it rejects.
pub(crate) struct Rejects {
    pub job: String,
    pub source: String,
    pub on_error: OnError,
    pub clock: Arc<dyn Clock>,
    /// The epoch under way.
    pub epoch: Epoch,
    /// Whether anyone reads the late output.
    pub late_output: bool,
    /// Whether anyone reads the output of declined rows.
    pub declined_output: bool,
}

impl Rejects {
    /// Dead letters on their way: counted, and emitted where they are kept.
    pub fn send(
        &self,
        operator: &str,
        letters: &[DeadLetter],
        stats: &StationStats,
        emitted: &mut Emitted,
    ) -> Result<()> {
        let Some(first) = letters.first() else { return Ok(()) };
        stats.add(Fate::DeadLettered, letters.len());
        match self.on_error {
            OnError::Skip => Ok(()),
            OnError::Fail => Err(Error::new(
                ErrorKind::Permanent,
                format!(
                    "{}: {}, {}: {} (set 'on-error' = 'dead-letter' or 'skip' to go on)",
                    self.source, first.split, first.record.position, first.reason
                ),
            )),
            OnError::DeadLetter => {
                let provenance = Provenance {
                    job: &self.job,
                    source: &self.source,
                    operator,
                    epoch: self.epoch,
                    failed_at: self.clock.now(),
                };
                let rows = dead_letter::rows(provenance, letters)?;
                emitted.push((Port::DeadLetter, Element::Batch(Batch::new(rows))));
                Ok(())
            }
        }
    }
}

/// The [`Output`] that an operator sees during one call.
pub(crate) struct StepOutput<'a> {
    pub name: &'a str,
    pub stats: &'a StationStats,
    pub rejects: &'a Rejects,
    pub counts_out: bool,
    pub emitted: &'a mut Emitted,
}

impl Output for StepOutput<'_> {
    fn emit(&mut self, batch: Batch) {
        if !batch.is_empty() {
            if self.counts_out {
                self.stats.add_out(batch.len());
            }
            self.emitted.push((Port::Main, Element::Batch(batch)));
        }
    }

    fn hand_over(&mut self, parcel: Parcel) {
        self.emitted.push((Port::Main, Element::Parcel(parcel)));
    }

    fn account(&mut self, fate: Fate, rows: usize) {
        self.stats.add(fate, rows);
    }

    fn late(&mut self, rows: RecordBatch) {
        if self.rejects.late_output {
            self.emitted.push((Port::Late, Element::Batch(Batch::new(rows))));
        }
    }

    fn declined(&mut self, batch: Batch) {
        if self.rejects.declined_output {
            self.emitted.push((Port::Declined, Element::Batch(batch)));
        }
    }

    fn dead_letter(&mut self, letter: DeadLetter) -> Result<()> {
        self.rejects.send(self.name, &[letter], self.stats, self.emitted)
    }
}
