//! Redis as a sink: hashes, strings, sorted sets, counters, channels and streams.
//!
//! ```text
//! at least once   rows ─▶ writes ─▶ pipelines ─▶ Redis            a barrier waits for all answers
//! exactly once    rows ─▶ writes ─▶ checkpoint ─▶ MULTI … EXEC ─▶ Redis     with the epoch key in it
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `options`, `layout` | what is declared, from a table or a builder, and what follows from it |
//! | `template`, `text`, `payload` | keys, texts of columns, rows in a format |
//! | `encode`, `stream` | rows into writes |
//! | `writes`, `resp` | what a write is: commands as they go over the wire |
//! | `writer`, `lane`, `sender`, `reply` | at least once: a thread that sends, and what answers mean |
//! | `staged` | exactly once: writes in the checkpoint |
//! | `commit`, `transaction`, `unit` | exactly once: transactions, and which epoch was the last |
//! | `refusals` | rows that Redis will never hold |
//!
//! Invariant: rows in = writes acknowledged + rows refused, at every checkpoint; writes to the same key arrive
//! in the order of their rows.

mod builder;
mod commit;
mod encode;
mod lane;
mod layout;
pub(crate) mod options;
mod payload;
mod refusals;
mod reply;
mod resp;
mod sender;
mod staged;
mod stream;
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod transaction;
mod unit;
mod writer;
mod writes;

use std::fmt;

use arrow::datatypes::SchemaRef;
use tidemill_core::sink::{
    Delivered, Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter,
};
use tidemill_core::table::Options;
use tidemill_core::{Error, Result};

pub use self::builder::Redis;
use self::commit::{CommitterSettings, EpochCommitter};
use self::lane::Lane;
use self::layout::{Layout, Shape};
use self::sender::SenderSettings;
use self::unit::Units;
use self::writer::{SendingWriter, StagingWriter};
use crate::client::Config;

/// How often a row's write is carried out (`'sink.delivery-guarantee'`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryGuarantee {
    /// Once, or again after a crash.
    #[default]
    AtLeastOnce,
    /// Once: in a transaction per checkpoint.
    ExactlyOnce,
}

impl DeliveryGuarantee {
    /// Its names in job files, in the order of [`DeliveryGuarantee::ALL`].
    pub(crate) const NAMES: [&str; 2] = ["at-least-once", "exactly-once"];
    pub(crate) const ALL: [Self; 2] = [Self::AtLeastOnce, Self::ExactlyOnce];
}

/// Where results go in Redis. Made by [`Redis`].
///
/// ```
/// # use std::time::Duration;
/// # use tidemill_redis::Redis;
/// let sink = Redis::hash("revenue:{user_id}:{window_start}")
///     .url("redis://localhost:6379")
///     .ttl(Duration::from_secs(86_400))
///     .exactly_once();
/// ```
pub struct RedisSink {
    layout: Layout,
    /// Where Redis is: options of a table. Some of them are secrets.
    connection: Options,
    delivery: DeliveryGuarantee,
}

/// Without the connection: it may hold a password.
impl fmt::Debug for RedisSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSink")
            .field("layout", &self.layout)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

impl RedisSink {
    /// Whether the options can be meant, as far as that shows without a server.
    ///
    /// # Errors
    /// A configuration error that names the option or the column.
    pub fn check(&self, schema: &SchemaRef) -> Result<()> {
        let config = self.config()?;
        self.layout.encoder(schema, 0)?;
        if self.delivery != DeliveryGuarantee::ExactlyOnce {
            return Ok(());
        }
        if matches!(self.layout.shape, Shape::Channel { .. }) {
            let message = "a channel keeps nothing, so nobody knows what has arrived: leave \
                           'sink.delivery-guarantee' out, or write to a stream";
            return Err(Error::option("sink.delivery-guarantee", message));
        }
        Units::new("", "", config.is_cluster(), &self.layout.places(schema)?).map(|_| ())
    }

    fn config(&self) -> Result<Config> {
        Config::parse(&self.connection)
    }

    /// Where results go, for messages.
    fn place(&self, config: &Config) -> String {
        format!("redis {} {}", config.place(), self.layout.describe())
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
}

impl Sink for RedisSink {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        use DeliveryGuarantee::{AtLeastOnce, ExactlyOnce};
        let (delivery, why) = match (self.delivery, checkpointed, self.layout.shape.repeated()) {
            (_, _, Delivery::AtMostOnce) => (
                Delivery::AtMostOnce,
                "a channel reaches those who listen just then; for more, write to a stream",
            ),
            (ExactlyOnce, true, _) => (
                Delivery::ExactlyOnce,
                "one transaction (MULTI) per checkpoint, with the epoch in it; readers see results when \
                 their checkpoint is complete",
            ),
            (ExactlyOnce, false, _) => (
                Delivery::AtLeastOnce,
                "exactly once needs checkpoints, and the job has none: it will not start",
            ),
            (AtLeastOnce, true, Delivery::EffectivelyOnce) => (
                Delivery::EffectivelyOnce,
                "after a crash the same values are written again under the same keys; for results that \
                 never go back, not even for a moment, set 'sink.delivery-guarantee' = 'exactly-once'",
            ),
            (AtLeastOnce, true, _) => (
                Delivery::AtLeastOnce,
                "a checkpoint waits for Redis's answers, and after a crash what was written since the last \
                 one is written again; for exactly once set 'sink.delivery-guarantee' = 'exactly-once'",
            ),
            (AtLeastOnce, false, _) => (
                Delivery::AtLeastOnce,
                "every write is answered by Redis, and all come again when the job is run again; switch \
                 checkpoints on for more",
            ),
        };
        Guarantee { delivery, why: why.into() }
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        self.check(&context.schema)?;
        let config = self.config()?;
        let encoder = self.layout.encoder(&context.schema, context.shard)?;
        let place = self.place(&config);
        if self.delivery == DeliveryGuarantee::ExactlyOnce {
            self.check_checkpoints(context)?;
            return Ok(Box::new(StagingWriter::new(encoder, &place)));
        }
        let settings = SenderSettings {
            name: format!("sink {}", context.node),
            place,
            config,
            any_order: matches!(self.layout.shape, Shape::Counter { .. }),
            clock: context.clock.clone(),
            shard: context.shard,
            retry: context.retry,
        };
        let lane = Lane::new(context.waker.clone());
        Ok(Box::new(SendingWriter::open(encoder, settings, lane)?))
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        if self.delivery != DeliveryGuarantee::ExactlyOnce {
            return Ok(Box::new(Delivered));
        }
        self.check_checkpoints(context)?;
        let config = self.config()?;
        let places = self.layout.places(&context.schema)?;
        let settings = CommitterSettings {
            place: self.place(&config),
            units: Units::new(&context.job, &context.node, config.is_cluster(), &places)?,
            config,
            expected: self.layout.expected(&context.schema)?,
            first_epoch: context.first_epoch,
            clock: context.clock.clone(),
        };
        Ok(Box::new(EpochCommitter::open(settings)?))
    }

    fn describe(&self) -> String {
        let place = self.config().map_or_else(|_| "?".into(), |config| config.place().to_owned());
        let ttl = self.layout.ttl.map_or_else(String::new, |ttl| format!(", kept for {ttl:?}"));
        format!("redis {place} {}{ttl}", self.layout.describe())
    }
}
