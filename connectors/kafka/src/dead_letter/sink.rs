//! A topic as the place where a job's dead letters go.
//!
//! It makes the topic where it is not there. Invariant: a letter that is written is acknowledged, or in a
//! transaction, before its checkpoint counts; one that the topic refuses ends the job.

use std::task::Poll;

use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::sink::{Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged};
use tidemill_core::table::Options;
use tidemill_core::{Batch, Epoch, Error, Result};

use super::address::Address;
use super::encode::LetterEncoder;
use super::headers::HeaderNames;
use crate::client::error::{from_code, from_kafka};
use crate::client::{ClientProperties, Events};
use crate::sink::DeliveryGuarantee;
use crate::sink::target::Target;
use crate::sink::topic::{Asking, START_TIMEOUT, block_on};

/// How many partitions the topic gets where this sink makes it: letters are few, and in one they keep
/// their order.
const PARTITIONS: i32 = 1;

/// Writes dead letters into a topic. Its rows are those of [`tidemill_core::dead_letter::schema`].
#[derive(Debug)]
pub struct DeadLetterSink {
    names: HeaderNames,
    /// With checkpoints, and without.
    targets: [Target; 2],
    is_there: Mutex<bool>,
}

impl DeadLetterSink {
    /// Writes to a topic; exactly once where the job makes checkpoints, else at least once.
    ///
    /// # Errors
    /// A configuration error for an address without topic.
    pub fn new(address: &Address) -> Result<Self> {
        let topic = address.topic()?;
        let target = |delivery| {
            let mut target = Target::new(topic);
            target.delivery = delivery;
            let brokers = Some(("properties.bootstrap.servers", address.brokers.as_str()));
            target.options =
                brokers.filter(|(_, b)| !b.is_empty()).into_iter().collect::<Options>();
            target
        };
        let targets = [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce].map(target);
        targets[0].properties()?;
        Ok(Self { names: HeaderNames::default(), targets, is_there: Mutex::new(false) })
    }

    /// Provenance stands in headers of these names.
    #[must_use]
    pub fn headers(mut self, names: HeaderNames) -> Self {
        self.names = names;
        self
    }

    /// At least once, with checkpoints too: no transactions, and letters are there as soon as they are made.
    #[must_use]
    pub fn at_least_once(mut self) -> Self {
        self.targets[0].delivery = DeliveryGuarantee::AtLeastOnce;
        self
    }

    fn target(&self, checkpointed: bool) -> &Target {
        &self.targets[usize::from(!checkpointed)]
    }

    /// Makes the topic where it is not there.
    fn provide_topic(&self, target: &Target) -> Result<()> {
        let mut is_there = self.is_there.lock();
        if *is_there {
            return Ok(());
        }
        let place = format!("dead letters in topic '{}'", target.topic);
        create_topic(&target.topic, &target.properties()?).map_err(|error| error.at(place))?;
        *is_there = true;
        Ok(())
    }
}

impl Sink for DeadLetterSink {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        self.target(checkpointed).guarantee(checkpointed, false)
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let target = self.target(context.checkpointed);
        self.provide_topic(target)?;
        let topic = target.topic.clone();
        let max_bytes = target.max_bytes(context)?;
        let encoder = LetterEncoder { topic: topic.clone(), names: self.names, max_bytes };
        let writer = target.writer(context, Box::new(encoder))?;
        Ok(Box::new(LastResort { topic, writer }))
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        let target = self.target(context.checkpointed);
        self.provide_topic(target)?;
        target.committer(context)
    }

    fn describe(&self) -> String {
        format!("dead letters: {}", self.targets[0].describe())
    }
}

/// Writes what has no other place to go.
struct LastResort {
    topic: String,
    writer: Box<dyn SinkWriter>,
}

impl LastResort {
    fn check(&mut self) -> Result<()> {
        let Some(DeadLetter { record, reason, .. }) = self.writer.take_refused().pop() else {
            return Ok(());
        };
        let bytes = record.payload.map_or(0, |payload| payload.len());
        Err(Error::external(format!(
            "topic '{}' refused a dead letter ({bytes} bytes of payload), and there is no other place for \
             it: {reason}",
            self.topic
        )))
    }
}

impl SinkWriter for LastResort {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        self.check()?;
        self.writer.poll_ready()
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.writer.write(batch)?;
        self.check()
    }

    fn poll_stage(&mut self, epoch: Epoch) -> Result<Poll<Staged>> {
        let staged = self.writer.poll_stage(epoch)?;
        self.check()?;
        Ok(staged)
    }

    fn buffered_bytes(&self) -> usize {
        self.writer.buffered_bytes()
    }
}

fn create_topic(topic: &str, properties: &ClientProperties) -> Result<()> {
    let mechanism = properties.get("sasl.mechanism").unwrap_or_default();
    if mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
        // rdkafka's admin client does not serve the wish for a token. If the topic is missing, whoever
        // looks it up says so.
        return Ok(());
    }
    let context = Asking(Events::new(format!("topic {topic}"), properties));
    let admin: AdminClient<Asking> = properties
        .config(&[])
        .create_with_context(context)
        .map_err(|error| from_kafka(&error, "the admin client cannot be made"))?;
    let options = AdminOptions::new().request_timeout(Some(START_TIMEOUT));
    // The brokers' own default says how many replicas there are.
    let wanted = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1));
    let made = block_on(admin.create_topics(&[wanted], &options))
        .map_err(|error| from_kafka(&error, "it cannot be made"))?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
        // Who may write to a topic may not be allowed to make one; whether it is there shows then.
        Some(Err((_, RDKafkaErrorCode::TopicAuthorizationFailed)))
        | Some(Err((_, RDKafkaErrorCode::ClusterAuthorizationFailed))) => Ok(()),
        Some(Err((_, code))) => Err(from_code(code, "it cannot be made")),
        Some(Ok(_)) => {
            tracing::info!("topic '{topic}' made for dead letters, with {PARTITIONS} partition");
            Ok(())
        }
    }
}
