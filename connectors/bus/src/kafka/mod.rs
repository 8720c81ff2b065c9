//! A Kafka cluster as a bus: topics are its topics, groups its consumer groups.
//!
//! | module | what it does |
//! |---|---|
//! | `client` | what librdkafka calls back, and its errors as those of a bus |
//! | `publish` | a producer whose futures are ready on delivery reports |
//! | `subscribe` | a consumer on a thread of its own: members of groups, and replays |
//!
//! Topics are not created here: they have the partitions and the retention that their owner gave them.
//! Keys go to partitions as with every other client (murmur2).

mod client;
mod publish;
mod subscribe;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tidemill_core::table::Options;
use tidemill_kafka::client::ClientProperties;

use self::publish::Publisher;
use self::subscribe::{Reading, subscription};
use crate::error::{check_subscription, check_topic};
use crate::{BusError, Event, EventBus, Receipt, Replay, Start, Subscription};

/// A Kafka cluster as a bus. See the [module](self).
pub struct KafkaBus {
    properties: ClientProperties,
    publisher: Mutex<Option<Arc<Publisher>>>,
}

impl KafkaBus {
    /// The cluster of these brokers (`host:port`, separated by commas). `properties` are the client's,
    /// by the Java client's names or librdkafka's; security comes from the environment where they do
    /// not say it. No broker is asked before something is published or subscribed to.
    ///
    /// # Errors
    /// A property that the client does not have, or takes no such value.
    pub fn connect<N: Into<String>, V: Into<String>>(
        brokers: &str,
        properties: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, BusError> {
        let options = properties.into_iter().map(|(name, value)| {
            let name: String = name.into();
            (format!("properties.{name}"), value.into())
        });
        let brokers_option = ("properties.bootstrap.servers".to_owned(), brokers.to_owned());
        let options: Options = options.chain([brokers_option]).collect();
        let properties = ClientProperties::parse(&options).map_err(|error| {
            let address = format!("kafka://{brokers}");
            BusError::InvalidAddress { address, reason: error.to_string() }
        })?;
        Ok(Self { properties, publisher: Mutex::new(None) })
    }

    /// The producer, opened when it is first needed.
    fn publisher(&self) -> Result<Arc<Publisher>, BusError> {
        let mut publisher = self.publisher.lock();
        if let Some(publisher) = &*publisher {
            return Ok(publisher.clone());
        }
        Ok(publisher.insert(Arc::new(Publisher::open(&self.properties)?)).clone())
    }
}

impl EventBus for KafkaBus {
    fn publish<'a>(
        &'a self,
        topic: &'a str,
        event: Event,
    ) -> BoxFuture<'a, Result<Receipt, BusError>> {
        async move {
            check_topic(topic)?;
            self.publisher()?.publish(topic, event).await
        }
        .boxed()
    }

    fn subscribe<'a>(
        &'a self,
        topics: &'a [&'a str],
        group: &'a str,
    ) -> BoxFuture<'a, Result<Subscription, BusError>> {
        async move {
            check_subscription(topics, group)?;
            let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
            let group = group.to_owned();
            subscription(&self.properties, Reading::Group { topics, group }).await
        }
        .boxed()
    }
}

impl Replay for KafkaBus {
    fn replay<'a>(
        &'a self,
        topic: &'a str,
        from: Start,
    ) -> BoxFuture<'a, Result<Subscription, BusError>> {
        async move {
            check_topic(topic)?;
            let from = subscribe::offsets(topic, from)?;
            let topic = topic.to_owned();
            subscription(&self.properties, Reading::Replay { topic, from }).await
        }
        .boxed()
    }
}

impl fmt::Debug for KafkaBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBus").field("properties", &self.properties).finish_non_exhaustive()
    }
}
