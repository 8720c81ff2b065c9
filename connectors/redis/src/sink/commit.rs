//! The committer: writes what an epoch has staged, once.
//!
//! Opening it raises the number in every epoch key, so that the transactions of an older instance are
//! refused from then on.
//!
//! Invariants: the writes of an epoch are in Redis together with its number, or not at all, unit by unit; every
//! epoch moves the number, so that a Redis that has lost writes shows.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::retry::Backoff;
use tidemill_core::sink::{SinkCommitter, Staged};
use tidemill_core::time::Clock;
use tidemill_core::{Epoch, Error, ErrorKind, Result};

use super::staged;
use super::transaction::{Expected, Outcome, Step, Transaction, Transactions};
use super::unit::Units;
use super::writes::Writes;
use crate::client::Config;

/// How long a start waits for a server that is not there yet.
const START: Backoff = Backoff {
    first: Duration::from_millis(100),
    max: Duration::from_secs(1),
    deadline: Duration::from_secs(15),
};

/// How long one call waits for a server that is away: the runtime calls again.
const COMMIT: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_millis(500),
    deadline: Duration::from_secs(3),
};

/// What a committer is made of.
pub(crate) struct CommitterSettings {
    /// Where results go, for messages.
    pub place: String,
    pub config: Config,
    pub units: Units,
    pub expected: Expected,
    /// The epoch that the run starts in.
    pub first_epoch: Epoch,
    pub clock: Arc<dyn Clock>,
}

/// See the module.
pub(crate) struct EpochCommitter {
    settings: CommitterSettings,
    transactions: Transactions,
    /// Of every unit its own number, and the last epoch that is in Redis.
    known: Vec<(u64, Option<Epoch>)>,
}

impl EpochCommitter {
    /// Fences older instances.
    ///
    /// # Errors
    /// Redis does not answer, or refuses.
    pub fn open(settings: CommitterSettings) -> Result<Self> {
        let transactions = Transactions::new(settings.config.clone(), settings.place.clone());
        let mut committer = Self { settings, transactions, known: Vec::new() };
        for n in 0..committer.settings.units.units.len() {
            let entered = committer.retry(&START, |transactions, settings| {
                let now = settings.clock.now().div_euclid(1000).max(1).unsigned_abs();
                transactions.enter(&settings.units.units[n], now)
            });
            let (instance, epoch) = entered?;
            committer.compare(epoch);
            committer.known.push((instance, epoch));
        }
        Ok(committer)
    }

    /// Says so where Redis has lost what earlier runs wrote. Numbers of epochs that were abandoned are
    /// missing too, so it may be less than it looks.
    fn compare(&self, stored: Option<Epoch>) {
        let restored = self.settings.first_epoch.saturating_sub(1);
        let place = &self.settings.place;
        match stored {
            Some(stored) if stored + 1 < restored => tracing::warn!(
                "{place}: Redis has epoch {stored}, and the checkpoint is of epoch {restored}: if Redis was \
                 restarted without its last writes, epochs {} to {} are lost there; epoch {restored} is \
                 written again",
                stored + 1,
                restored - 1
            ),
            None if restored > 0 => tracing::warn!(
                "{place}: Redis has no epoch, and the checkpoint is of epoch {restored}: if Redis has lost its \
                 data, what was written before is lost there; epoch {restored} is written again"
            ),
            _ => {}
        }
    }

    /// Redis has gone back behind what it had acknowledged.
    fn has_lost(&self, stored: Option<Epoch>, known: Option<Epoch>) {
        let place = &self.settings.place;
        let first =
            stored.map_or_else(|| "the first".to_owned(), |stored| (stored + 1).to_string());
        let last = known.unwrap_or_default();
        tracing::error!(
            "{place}: Redis has lost acknowledged writes: of epochs {first} to {last} nothing may be there any \
             more, and they are not written again; switch on its persistence (appendonly yes)"
        );
    }

    /// Tries as long as it may pass, within `backoff`.
    fn retry<T>(
        &mut self,
        backoff: &Backoff,
        mut act: impl FnMut(&mut Transactions, &CommitterSettings) -> Result<T>,
    ) -> Result<T> {
        let start = self.settings.clock.elapsed();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match act(&mut self.transactions, &self.settings) {
                Err(error) if error.kind() == ErrorKind::Transient => error,
                result => return result,
            };
            let spent = self.settings.clock.elapsed().saturating_sub(start);
            let Some(wait) = backoff.wait(attempt, spent, rand::random()) else {
                return Err(error);
            };
            tracing::warn!(attempt, "{error}; tried again");
            std::thread::sleep(wait);
        }
    }

    /// Writes what belongs to a unit.
    fn write(&mut self, unit: usize, epoch: Epoch, writes: &Writes, own: &[usize]) -> Result<()> {
        let (instance, known) = self.known[unit];
        let outcome = self.retry(&COMMIT, |transactions, settings| {
            let transaction = Transaction {
                unit: &settings.units.units[unit],
                instance,
                epoch,
                writes,
                own,
                expected: settings.expected,
            };
            transactions.run(&transaction, Step::Execute)
        })?;
        self.known[unit].1 = Some(epoch);
        match outcome {
            Outcome::Written(before) if before < known => self.has_lost(before, known),
            Outcome::Written(_) | Outcome::Known => {}
            Outcome::Partly(count, first) => {
                return Err(Error::external(format!(
                    "{}: of epoch {epoch}, {count} writes were refused in the middle of the transaction; the \
                     first one is {first}. The others are in Redis; these are not, and will not be written \
                     again",
                    self.settings.place
                )));
            }
        }
        Ok(())
    }

    /// Dies in the middle of a commit, right after a step.
    #[cfg(test)]
    pub(super) fn die_after(mut self, step: Step, epoch: Epoch, staged: &[Staged]) {
        let mut writes = Writes::default();
        staged.iter().for_each(|staged| staged::read(staged, &mut writes).unwrap());
        let own: Vec<usize> = (0..writes.len()).collect();
        let transaction = Transaction {
            unit: &self.settings.units.units[0],
            instance: self.known[0].0,
            epoch,
            writes: &writes,
            own: &own,
            expected: self.settings.expected,
        };
        self.transactions.run(&transaction, step).unwrap();
    }
}

impl SinkCommitter for EpochCommitter {
    fn committed(&mut self) -> Result<Option<Epoch>> {
        Ok(self.known.iter().map(|(_, epoch)| *epoch).min().flatten())
    }

    fn commit(&mut self, epoch: Epoch, staged: &[Staged]) -> Result<()> {
        if self.known.iter().all(|(_, last)| *last >= Some(epoch)) {
            return Ok(());
        }
        let mut writes = Writes::default();
        for staged in staged {
            staged::read(staged, &mut writes)?;
        }
        let mut own = vec![Vec::new(); self.known.len()];
        for (index, write) in writes.iter().enumerate() {
            let unit = self.settings.units.of(write.key());
            let unit = unit.ok_or_else(|| {
                let key = String::from_utf8_lossy(write.key());
                Error::configuration(format!(
                    "{}: the checkpoint has a write to '{key}', which the sink does not write to any more: \
                     restore it with the job that it is of",
                    self.settings.place
                ))
            })?;
            own[unit].push(index);
        }
        for (unit, own) in own.iter().enumerate() {
            if self.known[unit].1 < Some(epoch) {
                self.write(unit, epoch, &writes, own)?;
            }
        }
        Ok(())
    }
}
