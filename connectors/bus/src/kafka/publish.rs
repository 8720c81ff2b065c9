//! Publishing to Kafka: an event is published when its delivery report says so.

use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use tidemill_core::source::Offset;
use tidemill_kafka::client::ClientProperties;

use super::client::{Heard, client_context, code};
use crate::permits::{Permit, Permits};
use crate::{BusError, Event, Receipt};

/// How many events may be under way.
const UNDER_WAY: usize = 10_000;

/// How long an event may take where the properties do not say.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long events that are under way are waited for when the bus is dropped.
const PARTING: Duration = Duration::from_secs(5);

/// A producer.
pub(super) struct Publisher {
    producer: ThreadedProducer<Reports>,
    permits: Arc<Permits>,
    timeout: Duration,
}

/// The producer's context.
struct Reports {
    heard: Heard,
}

client_context!(Reports, heard);

/// An event under way.
struct Ticket {
    report: oneshot::Sender<Result<(i32, i64), RDKafkaErrorCode>>,
    _permit: Permit,
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let report = match result {
            Ok(message) => {
                self.heard.answered();
                Ok((message.partition(), message.offset()))
            }
            Err((error, _)) => Err(code(error)),
        };
        // Nobody waits any more where the future was dropped.
        let _ = ticket.report.send(report);
    }
}

impl Publisher {
    pub fn open(properties: &ClientProperties) -> Result<Self, BusError> {
        let heard = Heard::new("bus publisher", properties);
        let mut config = properties.config(&[
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("partitioner", "murmur2_random"),
            ("topic.metadata.propagation.max.ms", "10000"),
        ]);
        // Two names of one setting, of which the last one set would count.
        let names = ["delivery.timeout.ms", "message.timeout.ms"];
        let timeout = names.iter().find_map(|name| properties.get(name)?.parse().ok());
        let timeout = timeout.map_or(TIMEOUT, Duration::from_millis);
        if properties.get(names[0]).is_none() {
            config.set(names[1], timeout.as_millis().to_string());
        }
        let address = heard.address();
        let producer = config
            .create_with_context(Reports { heard })
            .map_err(|error| BusError::InvalidAddress { address, reason: error.to_string() })?;
        Ok(Self { producer, permits: Permits::new(UNDER_WAY), timeout })
    }

    fn heard(&self) -> &Heard {
        &self.producer.context().heard
    }

    pub async fn publish(&self, topic: &str, event: Event) -> Result<Receipt, BusError> {
        let permit = self.permits.acquire().await;
        let (report, reported) = oneshot::channel();
        self.send(topic, &event, Box::new(Ticket { report, _permit: permit }))?;
        match reported.await {
            Ok(Ok((partition, offset))) => Ok(Receipt {
                topic: topic.to_owned(),
                partition: partition.unsigned_abs(),
                offset: Offset(offset.to_string()),
            }),
            Ok(Err(code)) => Err(self.heard().not_published(code, topic, self.timeout)),
            Err(oneshot::Canceled) => Err(BusError::Closed),
        }
    }

    fn send(&self, topic: &str, event: &Event, ticket: Box<Ticket>) -> Result<(), BusError> {
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, ticket);
        if let Some(key) = &event.key {
            record = record.key(key);
        }
        if let Some(payload) = &event.payload {
            record = record.payload(payload);
        }
        if let Some(micros) = event.timestamp {
            record = record.timestamp(micros.div_euclid(1000));
        }
        if !event.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(event.headers.len());
            let headers = event.headers.iter().fold(headers, |headers, header| {
                headers.insert(Header { key: &header.name, value: header.value.as_deref() })
            });
            record = record.headers(headers);
        }
        let sent = self.producer.send(record);
        sent.map_err(|(error, _): (KafkaError, _)| {
            self.heard().not_published(code(&error), topic, self.timeout)
        })
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // What does not get out in time is told to those who wait for it.
        let _ = self.producer.flush(PARTING);
    }
}
