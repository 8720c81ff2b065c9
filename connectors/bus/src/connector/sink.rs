//! A topic of a bus in memory as a sink: events of an epoch become visible in one go, once.
//!
//! The bus remembers the last epoch of each job's sink for as long as it lives. Without checkpoints
//! events are published as they come.

use std::sync::Arc;
use std::task::Poll;

use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::record::SourceRecord;
use tidemill_core::sink::{
    Delivered, Delivery, Guarantee, Sink, SinkCommitter, SinkContext, SinkWriter, Staged,
};
use tidemill_core::source::SplitId;
use tidemill_core::time::Clock;
use tidemill_core::{Batch, Epoch, Error, Result};
use tidemill_formats::Format;
use tidemill_formats::json::JsonFormat;
use tidemill_formats::raw::RawFormat;
use tidemill_kafka::KafkaSink;
use tidemill_kafka::sink::{Outgoing, RecordEncoder};

use super::options::BusTable;
use super::staged;
use crate::Event;
use crate::address::memory_bus;
use crate::memory::Inner;

/// A topic of a bus in memory. See the module.
pub(super) struct MemoryBusSink {
    bus: Arc<Inner>,
    address: String,
    topic: String,
    /// What rows become: the same records as on Kafka.
    records: KafkaSink,
}

impl MemoryBusSink {
    pub fn of_table(table: &BusTable<'_>) -> Result<Self> {
        let (topic, options) = (&table.topics[0], table.options());
        let format = Format::parse(options.required("format")?, options)?;
        let mut records = KafkaSink::topic(topic).format(format).key(table.key.clone());
        records = records.key_format(match table.key_is_text() {
            true => Format::Raw(RawFormat::default()),
            false => Format::Json(JsonFormat::default()),
        });
        for (column, key) in &table.table.metadata {
            records = records.metadata(table.table.schema.field(*column).name(), key);
        }
        if options.parsed::<bool>("sink.propagate-headers")? == Some(false) {
            records = records.without_header_propagation();
        }
        records.encoder(&table.table.schema)?;
        let bus = memory_bus(&table.address).map_err(Error::from)?.inner().clone();
        let address = table.address.to_string();
        Ok(Self { bus, address, topic: topic.clone(), records })
    }
}

impl Sink for MemoryBusSink {
    fn guarantee(&self, checkpointed: bool) -> Guarantee {
        let (delivery, why) = if checkpointed {
            (
                Delivery::ExactlyOnce,
                "events become visible together with their epoch, which the bus remembers for as long \
                 as the process lives",
            )
        } else {
            (
                Delivery::AtLeastOnce,
                "without checkpoints a job that is run again publishes all again",
            )
        };
        Guarantee { delivery, why: why.to_owned() }
    }

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            id: self.bus.with(|state| state.new_id()),
            bus: self.bus.clone(),
            topic: self.topic.clone(),
            encoder: self.records.encoder(&context.schema)?,
            clock: context.clock.clone(),
            waker: context.waker.clone(),
            stages: context.checkpointed,
            staged: Vec::new(),
            refused: Vec::new(),
        }))
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn SinkCommitter>> {
        if !context.checkpointed {
            return Ok(Box::new(Delivered));
        }
        let sink = format!("{}/{}", context.job, context.node);
        if context.first_epoch <= 1 {
            self.bus.with(|state| state.start_run(&self.topic, &sink));
        }
        Ok(Box::new(Committer { bus: self.bus.clone(), topic: self.topic.clone(), sink }))
    }

    fn describe(&self) -> String {
        format!("bus {} topic {}", self.address, self.topic)
    }
}

/// One shard's writer.
struct Writer {
    id: u64,
    bus: Arc<Inner>,
    topic: String,
    encoder: Box<dyn RecordEncoder>,
    clock: Arc<dyn Clock>,
    waker: std::task::Waker,
    stages: bool,
    staged: Vec<u8>,
    refused: Vec<DeadLetter>,
}

fn event(record: &Outgoing<'_>, now: i64) -> Event {
    Event {
        key: record.key.map(<[u8]>::to_vec),
        headers: record.headers.to_vec(),
        timestamp: Some(record.timestamp.map_or(now, |millis| millis.saturating_mul(1000))),
        payload: record.payload.map(<[u8]>::to_vec),
    }
}

impl SinkWriter for Writer {
    fn poll_ready(&mut self) -> Result<Poll<()>> {
        Ok(self.bus.with(|state| {
            if state.is_full(&self.topic) {
                state.await_room(self.id, &self.waker);
                return Poll::Pending;
            }
            Poll::Ready(())
        }))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let (now, topic) = (self.clock.now(), &self.topic);
        let (mut events, mut refused) = (Vec::new(), Vec::new());
        self.encoder.encode(batch, &mut |row, record| {
            match record {
                Ok(record) => events.push(event(&record, now)),
                Err(reason) => refused.push(refusal(batch, row, topic, reason)),
            }
            Ok(())
        })?;
        self.refused.append(&mut refused);
        if self.stages {
            events.iter().for_each(|event| staged::add(event, &mut self.staged));
            return Ok(());
        }
        self.bus.with(|state| state.publish_all(&self.topic, events));
        Ok(())
    }

    fn poll_stage(&mut self, _: Epoch) -> Result<Poll<Staged>> {
        Ok(Poll::Ready(Staged(std::mem::take(&mut self.staged))))
    }

    fn take_refused(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.refused)
    }

    fn buffered_bytes(&self) -> usize {
        self.staged.len()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.bus.with(|state| state.forget(self.id));
    }
}

/// A row that cannot be an event: the bytes that it came from, where they are at hand.
fn refusal(batch: &Batch, row: usize, topic: &str, reason: String) -> DeadLetter {
    let origin = batch.origin.as_ref();
    let record = origin.and_then(|origin| origin.record(row)).unwrap_or_else(|| SourceRecord {
        position: format!("to {topic}"),
        ..SourceRecord::default()
    });
    let split = origin.map_or_else(|| SplitId::new(topic), |origin| origin.split.clone());
    DeadLetter::new(split, record, reason)
}

struct Committer {
    bus: Arc<Inner>,
    topic: String,
    sink: String,
}

impl SinkCommitter for Committer {
    fn committed(&mut self) -> Result<Option<Epoch>> {
        Ok(self.bus.with(|state| state.committed(&self.topic, &self.sink)))
    }

    fn commit(&mut self, epoch: Epoch, staged: &[Staged]) -> Result<()> {
        let mut events = Vec::new();
        for Staged(bytes) in staged {
            events.extend(staged::read(bytes)?);
        }
        self.bus.with(|state| state.commit_epoch(&self.topic, &self.sink, epoch, events));
        Ok(())
    }
}
