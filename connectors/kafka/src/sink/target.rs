//! A topic with the promise of how often a record arrives: what every sink of this crate writes to.
//!
//! Invariant: the shards of one run share one producer; exactly once is never promised without
//! checkpoints.

use std::task::Waker;

use parking_lot::Mutex;
use tidemill_core::sink::{Delivered, Delivery, Guarantee, SinkCommitter, SinkContext, SinkWriter};
use tidemill_core::table::Options;
use tidemill_core::{Error, Result};

use super::commit::{CommitterSettings, TransactionCommitter};
use super::produce::{ProducerSettings, RecordProducer, WeakProducer};
use super::record::RecordEncoder;
use super::refusals::Refusals;
use super::stage::StagingWriter;
use super::topic::Topic;
use super::writer::{SendingWriter, partitioner};
use crate::client::properties::ClientProperties;
use crate::partitioner::Partitioning;

/// How often a record arrives (`'sink.delivery-guarantee'`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryGuarantee {
    /// Perhaps never: nobody waits for acknowledgements.
    None,
    /// Once, or again after a crash.
    #[default]
    AtLeastOnce,
    /// Once: in a transaction per checkpoint.
    ExactlyOnce,
}

impl DeliveryGuarantee {
    /// Its names in job files, in the order of [`DeliveryGuarantee::ALL`].
    pub(crate) const NAMES: [&str; 3] = ["none", "at-least-once", "exactly-once"];
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::AtLeastOnce, Self::ExactlyOnce];
}

/// The beginning of transactional ids where none is named.
const DEFAULT_PREFIX: &str = "tidemill";

/// See the module.
pub(crate) struct Target {
    pub topic: String,
    /// The `properties.*` of the table.
    pub options: Options,
    pub delivery: DeliveryGuarantee,
    pub partitioning: Partitioning,
    /// What transactional ids begin with.
    pub prefix: Option<String>,
    opened: Mutex<Option<Opened>>,
}

/// What the shards of a run share.
#[derive(Debug, Clone)]
struct Opened {
    topic: Topic,
    producer: Option<WeakProducer>,
}

/// Without the properties: some of them are secrets.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("topic", &self.topic)
            .field("delivery", &self.delivery)
            .field("partitioning", &self.partitioning)
            .finish_non_exhaustive()
    }
}

impl Target {
    pub fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            options: Options::default(),
            delivery: DeliveryGuarantee::default(),
            partitioning: Partitioning::default(),
            prefix: None,
            opened: Mutex::new(None),
        }
    }

    /// How the cluster is reached.
    ///
    /// # Errors
    /// A configuration error that names the option.
    pub fn properties(&self) -> Result<ClientProperties> {
        let properties = ClientProperties::parse(&self.options)?;
        if properties.get("transactional.id").is_some() {
            let option = "properties.transactional.id";
            let message = "transactional ids are made from 'sink.transactional-id-prefix', the job and \
                           the sink: set that instead";
            return Err(Error::option(option, message));
        }
        if self.delivery != DeliveryGuarantee::None && properties.get("acks") == Some("0") {
            let message = "with 'acks' = '0' nobody knows what arrives: leave it out, or set \
                           'sink.delivery-guarantee' = 'none'";
            return Err(Error::option("properties.acks", message));
        }
        Ok(properties)
    }

    /// A writer of one shard that encodes rows with `encoder`.
    ///
    /// # Errors
    /// The options are wrong, the topic is not there, or no broker answers.
    pub fn writer(
        &self,
        context: &SinkContext,
        encoder: Box<dyn RecordEncoder>,
    ) -> Result<Box<dyn SinkWriter>> {
        if self.delivery == DeliveryGuarantee::ExactlyOnce {
            self.check_checkpoints(context)?;
            let topic = self.open(context)?.topic;
            let id = self.transactional_id(context);
            let refusals = Refusals::new(&self.topic, topic.for_staged(&id));
            let refusals = refusals.of_times(context.clock.clone());
            return Ok(Box::new(StagingWriter::new(context.shard, encoder, refusals)));
        }
        let Opened { topic, producer } = self.open(context)?;
        let waker = context.waker.clone();
        let producer = producer.and_then(|producer| producer.upgrade(waker.clone()));
        let producer = match producer {
            Some(producer) => producer,
            None => self.open_producer(context, topic, waker)?,
        };
        Ok(Box::new(SendingWriter {
            topic: self.topic.clone(),
            encoder,
            producer,
            partitioner: partitioner(self.partitioning, context.shard, topic.partitions),
            waits: self.delivery != DeliveryGuarantee::None,
            refusals: Refusals::new(&self.topic, topic),
        }))
    }

    /// How many bytes a record may have on the wire.
    ///
    /// # Errors
    /// As for [`Target::writer`].
    pub fn max_bytes(&self, context: &SinkContext) -> Result<usize> {
        let topic = self.open(context)?.topic;
        Ok(match self.delivery {
            DeliveryGuarantee::ExactlyOnce => topic.for_staged(&self.transactional_id(context)),
            _ => topic,
        }
        .max_bytes)
    }

    /// The topic, looked up by the first shard of a run.
    fn open(&self, context: &SinkContext) -> Result<Opened> {
        let mut opened = self.opened.lock();
        if let Some(opened) = opened.as_ref().filter(|_| context.shard > 0) {
            return Ok(opened.clone());
        }
        let topic = Topic::look_up(&self.name(context), &self.topic, &self.properties()?)?;
        Ok(opened.insert(Opened { topic, producer: None }).clone())
    }

    fn open_producer(
        &self,
        context: &SinkContext,
        topic: Topic,
        waker: Waker,
    ) -> Result<RecordProducer> {
        let settings = ProducerSettings {
            acknowledged: self.delivery != DeliveryGuarantee::None,
            max_bytes: Some(topic.max_bytes),
            clock: context.clock.clone(),
            retry: context.retry,
            ..ProducerSettings::new(self.name(context), self.properties()?)
        };
        let producer = RecordProducer::open(&settings, waker)?;
        *self.opened.lock() = Some(Opened { topic, producer: Some(producer.downgrade()) });
        Ok(producer)
    }

    /// The committer: of transactions where they are wanted.
    ///
    /// # Errors
    /// As for [`Target::writer`]; also where the cluster does not grant a transaction.
    pub fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        if self.delivery != DeliveryGuarantee::ExactlyOnce {
            return Ok(Box::new(Delivered));
        }
        self.check_checkpoints(context)?;
        let settings = CommitterSettings {
            name: self.name(context),
            job: context.job.clone(),
            topic: self.topic.clone(),
            transactional_id: self.transactional_id(context),
            partitioning: self.partitioning,
            properties: self.properties()?,
            clock: context.clock.clone(),
        };
        Ok(Box::new(TransactionCommitter::open(settings)?))
    }

    fn check_checkpoints(&self, context: &SinkContext) -> Result<()> {
        if context.checkpointed {
            return Ok(());
        }
        let message = "exactly once needs checkpoints: name a folder for them with \
                       SET 'execution.checkpointing.dir' or --checkpoint-dir, or write \
                       'sink.delivery-guarantee' = 'at-least-once'";
        Err(Error::option("sink.delivery-guarantee", message))
    }

    /// The same for every run of the job, so that a new one fences the old.
    fn transactional_id(&self, context: &SinkContext) -> String {
        let prefix = self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
        format!("{prefix}-{}-{}", context.job, context.node)
    }

    fn name(&self, context: &SinkContext) -> String {
        format!("sink {}", context.node)
    }

    /// What `explain` says; `upserts`: the last record of a key wins.
    pub fn guarantee(&self, checkpointed: bool, upserts: bool) -> Guarantee {
        use DeliveryGuarantee::{AtLeastOnce, ExactlyOnce, None};
        let (delivery, why) = match (self.delivery, checkpointed, upserts) {
            (ExactlyOnce, true, _) => (
                Delivery::ExactlyOnce,
                "one transaction per checkpoint, with the epoch in it; readers need 'isolation.level' = \
                 'read_committed', and see results when their checkpoint is complete",
            ),
            (ExactlyOnce, false, _) => (
                Delivery::AtLeastOnce,
                "exactly once needs checkpoints, and the job has none: it will not start",
            ),
            (AtLeastOnce, true, true) => (
                Delivery::EffectivelyOnce,
                "after a crash the same records come again under the same key; for exactly once set \
                 'sink.delivery-guarantee' = 'exactly-once'",
            ),
            (AtLeastOnce, true, false) => (
                Delivery::AtLeastOnce,
                "a checkpoint waits for acknowledgements by all replicas in sync, and after a crash \
                 records since the last one come again; for exactly once set \
                 'sink.delivery-guarantee' = 'exactly-once'",
            ),
            (AtLeastOnce, false, _) => (
                Delivery::AtLeastOnce,
                "every record is acknowledged by all replicas in sync, and all come again when the job \
                 is run again; switch checkpoints on for more",
            ),
            (None, _, _) => (
                Delivery::AtMostOnce,
                "nobody waits for acknowledgements ('sink.delivery-guarantee' = 'none')",
            ),
        };
        Guarantee { delivery, why: why.into() }
    }

    /// One line for `explain`.
    pub fn describe(&self) -> String {
        let brokers = self.properties().map_or_else(|_| "?".into(), |p| p.brokers().to_owned());
        format!("kafka {brokers} topic {}", self.topic)
    }
}
