//! The committer: one transaction per epoch that writes the staged records together with the epoch.
//!
//! ```text
//! init_transactions     an older instance is fenced, what it left open is aborted
//!   └▶ begin ─▶ produce all ─▶ move the marker to the epoch ─▶ commit        a few ms after the manifest
//!        ▲            │               │                           │
//!        └── abort ◀──┴───────────────┴───────────────────────────┘ what may pass; redo from the start
//! ```
//!
//! A call makes one attempt. What may pass is a transient error: the runtime calls again, and the call goes
//! on with the transaction that the one before has left, or aborts it first.
//!
//! Invariants: records of an epoch become visible together with its marker or not at all, and once; no
//! transaction is open between two commits. An epoch without records needs no transaction.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use tidemill_core::sink::{SinkCommitter, Staged};
use tidemill_core::time::Clock;
use tidemill_core::{Epoch, Error, ErrorKind, Result};

use super::staged::StagedReader;
use super::topic::START_TIMEOUT;
use super::transaction::{Assigned, Failed, Step, Transactions};
use super::witness::Witnesses;
use crate::client::properties::ClientProperties;
use crate::partitioner::{Partitioner, Partitioning};

/// The marker is moved at least so often, by epochs without records too, so that brokers do not forget
/// it while the job runs.
const MARKER_AGE: Duration = Duration::from_secs(3600);

/// The number of partitions is asked for again after this.
const PARTITIONS_AGE: Duration = Duration::from_secs(300);

/// What a committer is made of.
pub(crate) struct CommitterSettings {
    pub name: String,
    pub job: String,
    pub topic: String,
    pub transactional_id: String,
    pub partitioning: Partitioning,
    pub properties: ClientProperties,
    pub clock: Arc<dyn Clock>,
}

/// A transaction that was left open.
#[derive(Debug, Clone, Copy)]
enum Unfinished {
    /// It goes on with this step, which librdkafka still works at.
    Resume(Step),
    /// This step failed: it is aborted and begun again.
    Redo(Step),
}

/// See the module.
pub(crate) struct TransactionCommitter {
    job: String,
    partitioning: Partitioning,
    clock: Arc<dyn Clock>,
    witnesses: Witnesses,
    transactions: Transactions,
    /// What the last call, which failed for a while, has left.
    unfinished: Option<Unfinished>,
    /// How many partitions the topic has, and since when that is known.
    partitions: (i32, Duration),
    /// The last epoch that is visible, once it is known.
    committed: Option<Option<Epoch>>,
    /// When the marker was moved last in this run.
    marked_at: Option<Duration>,
}

impl TransactionCommitter {
    /// Fences older instances and waits until what they left open is gone.
    ///
    /// # Errors
    /// The cluster does not grant transactions, or does not answer.
    pub fn open(settings: CommitterSettings) -> Result<Self> {
        let CommitterSettings { name, job, topic, transactional_id, .. } = &settings;
        let properties = &settings.properties;
        let witnesses = Witnesses::open(name, topic, transactional_id, properties)?;
        let transactions = Transactions::open(name, topic, transactional_id, properties)?;
        let partitions = transactions.partitions(START_TIMEOUT)?;
        let now = settings.clock.elapsed();
        Ok(Self {
            job: job.clone(),
            partitioning: settings.partitioning,
            witnesses,
            transactions,
            unfinished: None,
            partitions: (partitions, now),
            committed: None,
            marked_at: None,
            clock: settings.clock,
        })
    }

    /// The last visible epoch, asked for once.
    fn last(&mut self) -> Result<Option<Epoch>> {
        if let Some(committed) = self.committed {
            return Ok(committed);
        }
        let committed = self.witnesses.committed(self.partitions.0, START_TIMEOUT)?;
        self.committed = Some(committed);
        Ok(committed)
    }

    /// Which partition each record goes to, and which is the last in each.
    fn assign(&mut self, staged: &[StagedReader]) -> Result<Assigned> {
        let now = self.clock.elapsed();
        if now >= self.partitions.1 + PARTITIONS_AGE {
            // Where nobody answers now, the transaction will say so.
            if let Ok(partitions) = self.transactions.partitions(Duration::from_secs(1)) {
                self.partitions = (partitions, now);
            }
        }
        let mut assigned = Assigned::default();
        for staged in staged {
            let mut partitioner = Partitioner::new(self.partitioning, staged.shard);
            staged.each(|record| {
                let chosen =
                    || partitioner.choose(record.key, record.wire_size(), self.partitions.0);
                assigned.push(record.partition.unwrap_or_else(chosen));
                Ok(())
            })?;
        }
        Ok(assigned)
    }

    /// One transaction, or the rest of the one that an earlier call has left.
    fn transact(&mut self, epoch: Epoch, staged: &[StagedReader]) -> Result<()> {
        let assigned = self.assign(staged)?;
        let marker = self.witnesses.marker(&self.job, epoch, assigned.len() as u64)?;
        let from = match self.unfinished {
            None => Step::Begin,
            Some(Unfinished::Resume(step)) => step,
            Some(Unfinished::Redo(step)) => {
                self.transactions.abort()?;
                // Whether a commit took effect is not always said; the marker knows.
                if step == Step::Commit
                    && self.witnesses.committed(0, START_TIMEOUT)? == Some(epoch)
                {
                    self.unfinished = None;
                    return Ok(());
                }
                self.unfinished = None;
                Step::Begin
            }
        };
        match self.attempt(from..=Step::Commit, epoch, staged, &assigned, &marker) {
            Ok(()) => {
                self.unfinished = None;
                Ok(())
            }
            Err(Failed { at, error, resumable }) => {
                self.unfinished =
                    Some(if resumable { Unfinished::Resume(at) } else { Unfinished::Redo(at) });
                Err(match error.kind() {
                    ErrorKind::Permanent => {
                        Error::external(format!("{error}. It is committed when the topic takes it"))
                    }
                    _ => error,
                })
            }
        }
    }

    /// These steps of a transaction.
    fn attempt(
        &self,
        steps: RangeInclusive<Step>,
        epoch: Epoch,
        staged: &[StagedReader],
        assigned: &Assigned,
        marker: &TopicPartitionList,
    ) -> Result<(), Failed> {
        for step in Step::ALL.into_iter().filter(|step| steps.contains(step)) {
            match step {
                Step::Begin => self.transactions.begin()?,
                Step::Produce => self.transactions.produce(epoch, staged, assigned)?,
                Step::Mark => self.transactions.mark(marker, &self.witnesses)?,
                Step::Commit => self.transactions.commit()?,
            }
        }
        Ok(())
    }

    /// Dies in the middle of a commit, right after a step.
    #[cfg(test)]
    pub(super) fn die_after(mut self, step: Step, epoch: Epoch, staged: &[Staged]) {
        let staged: Vec<_> =
            staged.iter().map(|staged| StagedReader::new(staged).unwrap()).collect();
        let assigned = self.assign(&staged).unwrap();
        let marker = self.witnesses.marker(&self.job, epoch, 0).unwrap();
        self.attempt(Step::Begin..=step, epoch, &staged, &assigned, &marker).unwrap();
        self.transactions.flush();
    }
}

impl SinkCommitter for TransactionCommitter {
    fn committed(&mut self) -> Result<Option<Epoch>> {
        self.last()
    }

    fn commit(&mut self, epoch: Epoch, staged: &[Staged]) -> Result<()> {
        let last = self.last()?;
        if last >= Some(epoch) {
            return Ok(());
        }
        let with_records = staged.iter().filter(|staged| !staged.0.is_empty());
        let staged = with_records.map(StagedReader::new).collect::<Result<Vec<_>>>()?;
        let now = self.clock.elapsed();
        let is_fresh = match (last, self.marked_at) {
            (None, _) => true,
            (Some(_), marked) => marked.is_some_and(|marked| now < marked + MARKER_AGE),
        };
        if staged.iter().all(|staged| staged.len() == 0) && is_fresh {
            return Ok(());
        }
        self.transact(epoch, &staged)?;
        self.committed = Some(Some(epoch));
        self.marked_at = Some(self.clock.elapsed());
        Ok(())
    }
}
