//! Redis as a bus: a topic `orders` is the streams `orders:0`, `orders:1` …, a group a consumer group of
//! each of them.
//!
//! ```text
//! orders:0 … orders:3        entries: payload, key, h.NAME for each header, timestamp where one was given
//! orders:partitions          how many streams there are, so that all agree
//! orders:GROUP:members       the group's members, by when they were last heard of
//! orders:2:GROUP:lease       the member that reads orders:2, until it says nothing for ten seconds
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `server` | a connection that is made again, errors as those of a bus, what a topic is |
//! | `publish` | a thread that adds entries in pipelines |
//! | `entry` | entries to events and back |
//! | `lease` | which member reads which stream |
//! | `subscribe` | a thread that is a member of a group |
//! | `replay` | a thread that reads as nobody |
//!
//! Redis itself would hand the entries of one stream to any consumer of the group. Keys would lose their
//! order; so a stream is read by the one member that holds its lease.

mod entry;
mod lease;
mod publish;
mod replay;
mod server;
mod subscribe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tidemill_redis::client::Config;

use self::publish::Publisher;
use crate::error::{check_subscription, check_topic};
use crate::{BusError, Event, EventBus, Receipt, Replay, Start, Subscription};

/// Redis as a bus. See the [module](self).
pub struct RedisBus {
    shared: Arc<Shared>,
    publisher: Mutex<Option<Arc<Publisher>>>,
}

/// What the threads of a bus know in common.
pub(crate) struct Shared {
    config: Config,
    /// How many streams a topic has, where somebody says it.
    partitions: Option<u32>,
    /// How many it has.
    known: Mutex<BTreeMap<String, u32>>,
}

impl RedisBus {
    /// The server or cluster of `config`. A topic that is new gets `partitions` streams, or four; one
    /// that is there must have as many. Nobody is asked before something is published or subscribed to.
    pub fn connect(config: Config, partitions: Option<u32>) -> Self {
        let shared = Shared { config, partitions, known: Mutex::default() };
        Self { shared: Arc::new(shared), publisher: Mutex::new(None) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The thread that publishes, started when it is first needed.
    fn publisher(&self) -> Result<Arc<Publisher>, BusError> {
        let mut publisher = self.publisher.lock();
        if let Some(publisher) = &*publisher {
            return Ok(publisher.clone());
        }
        Ok(publisher.insert(Arc::new(Publisher::start(self.shared.clone())?)).clone())
    }
}

impl EventBus for RedisBus {
    fn publish<'a>(
        &'a self,
        topic: &'a str,
        event: Event,
    ) -> BoxFuture<'a, Result<Receipt, BusError>> {
        async move {
            check_topic(topic)?;
            entry::check(topic, &event)?;
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
            subscribe::subscription(self.shared.clone(), topics, group).await
        }
        .boxed()
    }
}

impl Replay for RedisBus {
    fn replay<'a>(
        &'a self,
        topic: &'a str,
        from: Start,
    ) -> BoxFuture<'a, Result<Subscription, BusError>> {
        async move {
            check_topic(topic)?;
            replay::subscription(self.shared.clone(), topic, from).await
        }
        .boxed()
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus").field("server", &self.shared.config).finish_non_exhaustive()
    }
}
