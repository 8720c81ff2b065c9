//! Topics of a bus in memory as a source: every partition is a split.
//!
//! What a checkpoint does not hold yet must stay in the bus, so that it can be read again: in a job with
//! checkpoints they say what may go, and before the first of them nothing may; in one without, the reader does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use metrics::counter;
use parking_lot::Mutex;
use tidemill_core::source::{
    Behind, Lag, Offset, Read, ReaderContext, Source, SplitId, SplitReader,
};
use tidemill_core::time::Clock;
use tidemill_core::{Epoch, Error, ErrorKind, Result};

use super::decode::{EventDecoder, Taken};
use super::layout::Layout;
use super::options::{BusTable, Start, Stop};
use crate::MemoryBus;
use crate::address::memory_bus;
use crate::memory::{Holder, Inner, Split};

/// Topics of a bus in memory. See the module.
pub(super) struct MemoryBusSource {
    bus: Arc<Inner>,
    settings: Arc<Settings>,
    layout: Arc<Layout>,
    /// The job's name, once a reader was opened.
    job: Mutex<Arc<str>>,
    holds: Arc<Mutex<BTreeMap<SplitId, Hold>>>,
}

struct Settings {
    address: String,
    topics: Vec<String>,
    group: Option<String>,
    start: Start,
    stop: Option<Stop>,
    /// `fail`, `earliest` or `latest`.
    out_of_range: usize,
}

/// What keeps a split's events in the bus.
struct Hold {
    reader: u64,
    is_checkpointed: bool,
}

impl MemoryBusSource {
    pub fn of_table(table: &BusTable<'_>) -> Result<Self> {
        let bus: MemoryBus = memory_bus(&table.address).map_err(Error::from)?;
        let options = table.options();
        let settings = Settings {
            address: table.address.to_string(),
            topics: table.topics.clone(),
            group: options.get("group").map(str::to_owned),
            start: table.start,
            stop: table.stop,
            out_of_range: options.choice(
                "scan.out-of-range",
                &["fail", "earliest", "latest"],
                0,
            )?,
        };
        Ok(Self {
            bus: bus.inner().clone(),
            settings: Arc::new(settings),
            layout: Arc::new(Layout::parse(table.table)?),
            job: Mutex::new("".into()),
            holds: Arc::default(),
        })
    }

    /// The group that is told how far the job has come.
    fn group(&self) -> Arc<str> {
        match &self.settings.group {
            Some(group) => group.as_str().into(),
            None => {
                format!("tidemill-{}-{}", self.job.lock(), self.settings.topics.join("-")).into()
            }
        }
    }

    /// The partition that a split is.
    fn split(&self, id: &SplitId) -> Result<Split> {
        let known = self
            .settings
            .topics
            .iter()
            .flat_map(|topic| self.bus.with(|state| state.splits(topic)).into_iter());
        known.into_iter().find(|split| name(split) == *id).ok_or_else(|| {
            let message = format!(
                "the checkpoint has {id}, which is no partition of the option 'topic' (any more): \
                 name its topic, or start the job with --fresh"
            );
            Error::option("topic", message)
        })
    }
}

/// Called so by no other bus: an offset in memory means nothing on a broker.
fn name((topic, partition): &Split) -> SplitId {
    SplitId::new(format!("memory/{topic}/{partition}"))
}

/// The next event, and behind which the source ends: `42`, or `42..100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    next: u64,
    stop: Option<u64>,
}

impl Position {
    fn parse(offset: &Offset) -> Result<Self> {
        let wrong = || Error::corrupt(format!("'{offset}' is no offset of a bus in memory"));
        let (next, stop) = match offset.0.split_once("..") {
            Some((next, stop)) => (next, Some(stop.parse().map_err(|_| wrong())?)),
            None => (offset.0.as_str(), None),
        };
        Ok(Self { next: next.parse().map_err(|_| wrong())?, stop })
    }
}

impl From<Position> for Offset {
    fn from(position: Position) -> Self {
        Self(match position.stop {
            Some(stop) => format!("{}..{stop}", position.next),
            None => position.next.to_string(),
        })
    }
}

impl Source for MemoryBusSource {
    fn schema(&self) -> SchemaRef {
        self.layout.schema.clone()
    }

    fn is_bounded(&self) -> bool {
        self.settings.stop.is_some()
    }

    fn splits(&self) -> Result<Vec<SplitId>> {
        let topics = self.settings.topics.iter();
        let splits = topics.flat_map(|topic| self.bus.with(|state| state.splits(topic)));
        Ok(splits.map(|split| name(&split)).collect())
    }

    fn open(
        &self,
        id: &SplitId,
        from: Option<&Offset>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader>> {
        *self.job.lock() = context.job.clone();
        let (split, group) = (self.split(id)?, self.group());
        let restored = from.map(Position::parse).transpose()?;
        let decoder = EventDecoder::new(split.clone(), id.clone(), self.layout.clone())?;
        let (reader, position) = self.bus.with(|state| {
            let committed = state.committed_of(&group, &split);
            let reader = state.new_id();
            let log = state.log(&split);
            let position = begin(&self.settings, log, &split, restored, committed)?;
            log.hold(Holder::Reader(reader), position.next);
            Ok::<_, Error>((reader, position))
        })?;
        let is_checkpointed = context.checkpointed;
        self.holds.lock().insert(id.clone(), Hold { reader, is_checkpointed });
        Ok(Box::new(Reader {
            bus: self.bus.clone(),
            split,
            id: id.clone(),
            reader,
            first: position.next,
            position,
            committed: None,
            decoder,
            holds: self.holds.clone(),
            waker: context.waker.clone(),
            clock: context.clock.clone(),
            waits: false,
            group,
        }))
    }

    fn checkpointed(&self, _: Epoch, offsets: &[(SplitId, Offset)]) -> Result<()> {
        let group = self.group();
        for (id, offset) in offsets {
            let (split, position) = (self.split(id)?, Position::parse(offset)?);
            let holds = self.holds.lock();
            self.bus.with(|state| {
                state.commit(&group, &split, position.next);
                if let Some(hold) = holds.get(id) {
                    state.log(&split).hold(Holder::Reader(hold.reader), position.next);
                    state.wake_publishers();
                }
            });
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let Settings { address, topics, .. } = &*self.settings;
        format!("bus {address} {} ({})", topics.join(", "), self.layout.format.name())
    }
}

/// Where a reader begins and ends.
fn begin(
    settings: &Settings,
    log: &crate::memory::Log,
    split: &Split,
    restored: Option<Position>,
    committed: Option<u64>,
) -> Result<Position> {
    let next = match (restored, settings.start) {
        (Some(restored), _) => restored.next,
        (None, Start::Group) => committed.unwrap_or(log.first()),
        (None, Start::Earliest) => log.first(),
        (None, Start::Latest) => log.end(),
        (None, Start::Timestamp(millis)) => log.at_time(millis.saturating_mul(1000)),
    };
    let stop = match (restored.and_then(|restored| restored.stop), settings.stop) {
        (_, None) => None,
        (Some(stop), _) => Some(stop),
        (None, Some(Stop::Latest)) => Some(log.end()),
        (None, Some(Stop::Timestamp(millis))) => Some(log.at_time(millis.saturating_mul(1000))),
    };
    if (log.first()..=log.end()).contains(&next) {
        return Ok(Position { next, stop });
    }
    let gap = format!(
        "event {next} of {}/{} is not there: the bus in memory holds {} to {}",
        split.0,
        split.1,
        log.first(),
        log.end()
    );
    let on = match settings.out_of_range {
        0 => {
            let message = format!(
                "{gap}; a bus in memory does not outlive its process: start the job with --fresh, \
                 raise '?capacity=' in the option 'bus', or set 'scan.out-of-range'"
            );
            return Err(Error::external(message));
        }
        1 => log.first(),
        _ => log.end(),
    };
    tracing::warn!("{gap}; going on at {on} ('scan.out-of-range')");
    let labels = [("topic", split.0.to_string()), ("partition", split.1.to_string())];
    counter!("tidemill_bus_events_lost_total", &labels).increment(on.saturating_sub(next));
    Ok(Position { next: on, stop })
}

/// Reads one partition.
struct Reader {
    bus: Arc<Inner>,
    split: Split,
    id: SplitId,
    /// Its number in the bus.
    reader: u64,
    /// Where it began.
    first: u64,
    position: Position,
    committed: Option<u64>,
    decoder: EventDecoder,
    holds: Arc<Mutex<BTreeMap<SplitId, Hold>>>,
    waker: Waker,
    clock: Arc<dyn Clock>,
    /// Events are there that cannot be decoded yet.
    waits: bool,
    group: Arc<str>,
}

impl Reader {
    /// What is there, at most `max` events.
    fn take(&self, max: usize) -> Vec<Taken> {
        let end = self.position.stop.unwrap_or(u64::MAX);
        let end = end.min(self.position.next.saturating_add(max as u64));
        self.bus.with(|state| {
            let log = state.log(&self.split);
            let offsets = self.position.next..end.min(log.end());
            let taken = offsets.map_while(|offset| Some((offset, log.get(offset)?.clone())));
            let taken: Vec<Taken> = taken.collect();
            if taken.is_empty() {
                state.await_events(self.reader, &self.waker);
            }
            taken
        })
    }

    /// What was read may go, unless a checkpoint decides that.
    fn let_go(&self) {
        let holds = self.holds.lock();
        if holds.get(&self.id).is_some_and(|hold| !hold.is_checkpointed) {
            self.bus.with(|state| {
                let log = state.log(&self.split);
                log.hold(Holder::Reader(self.reader), self.position.next);
                if log.is_awaited() {
                    state.wake_publishers();
                }
            });
        }
    }
}

impl SplitReader for Reader {
    fn read(&mut self, max_rows: usize) -> Result<Read> {
        if self.position.stop.is_some_and(|stop| self.position.next >= stop) {
            return Ok(Read::End);
        }
        let taken = self.take(max_rows.max(1));
        let Some((last, _)) = taken.last() else { return Ok(Read::Pending) };
        let behind = last + 1;
        let batch = match self.decoder.decode(&taken) {
            // The same events are taken again at the next call.
            Err(error) if error.kind() == ErrorKind::Transient => {
                if !std::mem::replace(&mut self.waits, true) {
                    tracing::warn!("{}: {error}; waiting", self.id);
                }
                return Ok(Read::Pending);
            }
            batch => batch?,
        };
        self.waits = false;
        self.position.next = behind;
        self.let_go();
        Ok(Read::Batch(batch))
    }

    fn offset(&self) -> Offset {
        self.position.into()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let all = self.position.stop?.saturating_sub(self.first);
        Some((self.position.next.saturating_sub(self.first).min(all), all))
    }

    fn lag(&self) -> Option<Lag> {
        let now = self.clock.now();
        self.bus.with(|state| {
            let committed = state.committed_of(&self.group, &self.split).or(self.committed);
            let log = state.log(&self.split);
            let behind = |next: u64| {
                let oldest = log.get(next).and_then(|event| event.timestamp);
                let micros = oldest.map_or(0, |time| now.saturating_sub(time).max(0));
                let time = Duration::from_micros(micros.unsigned_abs());
                Behind { records: log.end().saturating_sub(next), time }
            };
            Some(Lag { position: behind(self.position.next), committed: committed.map(behind) })
        })
    }

    fn waits(&self) -> bool {
        self.waits
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.bus.with(|state| {
            state.forget(self.reader);
            state.log(&self.split).release(&Holder::Reader(self.reader));
            state.wake_publishers();
        });
    }
}
