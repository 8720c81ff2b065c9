//! A source on one shard: reads its splits in event-time order, applies computed columns, judges
//! each row against its split's watermark, and says how far the shard's time has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use arrow::array::BooleanArray;
use tidemill_checkpoint::manifest::SplitState;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::element::{Origin, Times};
use tidemill_core::graph::{Port, SourceNode, TimeAttribute, isolate};
use tidemill_core::operator::Fate;
use tidemill_core::record::SourceRecord;
use tidemill_core::source::{Lag, Offset, Read, ReadBatch, ReaderContext, SplitId, SplitReader};
use tidemill_core::time::{BEGINNING, Clock, END_OF_TIME};
use tidemill_core::watermark::{SplitWatermark, WatermarkMerge};
use tidemill_core::{Batch, Element, Epoch, Error, EventTime, Result};

use crate::align::Pace;
use crate::backlog::{Backlog, Dropped, Entry, Records, Waiting};
use crate::exchange::Gates;
use crate::gather::{Gathering, POLL_MIN};
use crate::memory::{Account, letters_bytes, rows_bytes};
use crate::rate::RateLimiter;
use crate::rejects::{Emitted, Rejects};
use crate::stats::StationStats;
use crate::time_column::{micros_column, with_constant_time};

/// One source on one shard.
pub(crate) struct SourceStation {
    pub name: String,
    pub stats: Arc<StationStats>,
    node: SourceNode,
    rejects: Rejects,
    splits: Vec<Split>,
    merge: WatermarkMerge,
    /// The exchanges that its rows reach, with this shard's number.
    gates: Gates,
    limiter: Option<RateLimiter>,
    batch_rows: usize,
    linger: Duration,
    clock: Arc<dyn Clock>,
    /// Whether splits may be added while the job runs.
    grows: bool,
    /// Splits that have not ended, of this source on all shards.
    live: Arc<AtomicUsize>,
    pace: Pace,
    /// What is read and not judged, where the source drops records rather than wait.
    backlog: Option<Backlog>,
    /// What the backlog weighs.
    account: Account,
    /// Reads so far, to give every split its turn.
    turns: u64,
    idle: bool,
    pub finished: bool,
}

/// A split and how far it has come.
struct Split {
    id: SplitId,
    /// `None` once the split has ended.
    reader: Option<Box<dyn SplitReader>>,
    offset: Offset,
    watermark: SplitWatermark,
    records: u64,
    /// Records that were read, and dropped for want of room.
    dropped: u64,
    /// When it was read last, in turns.
    turn: u64,
    /// When it may be read again.
    due: Duration,
    gathering: Gathering,
    /// Nothing was there at the last read, and this tells when something is.
    awaits: bool,
    /// When nothing was there the last time.
    silent_at: Duration,
    signal: Arc<SplitSignal>,
    /// When its last row came.
    last_row: Duration,
    /// It is too far ahead of the slowest split of its alignment group.
    held: bool,
}

/// A reader's way to say that a split has something again.
struct SplitSignal {
    ready: AtomicBool,
    shard: Waker,
}

impl Wake for SplitSignal {
    fn wake(self: Arc<Self>) {
        self.ready.store(true, Ordering::Release);
        self.shard.wake_by_ref();
    }
}

impl Split {
    /// Whether it may be read: its time has come, or it has something after having had nothing.
    fn is_due(&self, now: Duration) -> bool {
        let ready = || self.awaits && self.signal.ready.load(Ordering::Acquire);
        self.reader.is_some() && (self.due <= now || ready())
    }

    /// How far it has come.
    fn watermark_by(&self, time: &TimeAttribute) -> EventTime {
        match time {
            TimeAttribute::Event { strategy, .. } => self.watermark.watermark(strategy),
            _ => BEGINNING,
        }
    }

    /// Whether it had nothing when it was asked, so long after its last row. A split that is not asked, since
    /// there is no room behind it, is not silent.
    fn is_silent(&self, after: Duration) -> bool {
        self.reader.is_some() && self.awaits && self.silent_at >= self.last_row + after
    }
}

/// What can be told of a split from outside.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SplitStatus {
    /// The source's node.
    pub source: String,
    /// The split.
    pub split: SplitId,
    /// The shard that reads it.
    pub shard: usize,
    /// The next offset.
    pub offset: Offset,
    /// Its watermark, in microseconds; `None` before the first row.
    pub watermark: Option<EventTime>,
    /// Records read.
    pub records: u64,
    /// Records of them that were dropped, since they came faster than they were processed.
    pub dropped: u64,
    /// Units read and units in all, where the source knows.
    pub progress: Option<(u64, u64)>,
    /// How far it is behind its end, where the source can tell.
    pub lag: Option<Lag>,
    /// Whether it is silent and does not hold the watermark.
    pub idle: bool,
    /// Whether it waits for slower splits of its alignment group.
    pub held: bool,
    /// Whether nothing will come any more.
    pub ended: bool,
}

/// What a source station needs of the job.
pub(crate) struct SourceSettings {
    pub batch_rows: usize,
    pub linger: Duration,
    pub clock: Arc<dyn Clock>,
    /// This shard's part of the rate limit, in rows per second.
    pub rate: Option<f64>,
    /// Splits that have not ended, of this source on all shards.
    pub live: Arc<AtomicUsize>,
    pub pace: Pace,
    /// This shard's part of the source.
    pub share: f64,
    /// What its backlog weighs.
    pub account: Account,
}

impl SourceStation {
    pub fn new(
        name: String,
        stats: Arc<StationStats>,
        node: SourceNode,
        rejects: Rejects,
        settings: SourceSettings,
    ) -> Self {
        let now = settings.clock.elapsed();
        Self {
            name,
            stats,
            rejects,
            splits: Vec::new(),
            merge: WatermarkMerge::new(0),
            gates: Vec::new(),
            limiter: settings.rate.map(|rate| RateLimiter::new(rate, now)),
            grows: !node.source.is_bounded(),
            live: settings.live,
            pace: settings.pace,
            backlog: Backlog::new(node.buffer, settings.share),
            account: settings.account,
            turns: 0,
            batch_rows: settings.batch_rows,
            linger: settings.linger,
            clock: settings.clock,
            idle: false,
            finished: false,
            node,
        }
    }

    pub fn set_gates(&mut self, gates: Gates) {
        self.gates = gates;
    }

    /// Opens this shard's splits, where the last checkpoint left them.
    pub fn open(
        &mut self,
        splits: &[SplitId],
        restored: Option<&HashMap<SplitId, SplitState>>,
        context: &ReaderContext,
    ) -> Result<()> {
        for id in splits {
            let state = restored.and_then(|restored| restored.get(id));
            // What the checkpoint does not know has come since.
            let discovered = restored.is_some() && state.is_none();
            self.add_split(id, state, &ReaderContext { discovered, ..context.clone() })?;
        }
        Ok(())
    }

    /// Opens splits that were not there when the job started. `share` is this shard's part of the
    /// source's splits from now on.
    pub fn add(&mut self, splits: &[SplitId], share: f64, context: &ReaderContext) -> Result<()> {
        if self.finished && !splits.is_empty() {
            let name = &self.name;
            return Err(Error::internal(format!("{name} has new splits after all had ended")));
        }
        let rate = self.node.rate_limit.map(|rate| rate as f64 * share);
        self.limiter = rate
            .filter(|rate| *rate > 0.0)
            .map(|rate| RateLimiter::new(rate, self.clock.elapsed()));
        if let Some(backlog) = &mut self.backlog {
            backlog.set_share(share);
        }
        for id in splits {
            self.add_split(id, None, &ReaderContext { discovered: true, ..context.clone() })?;
            tracing::info!(source = self.name, split = %id, "a new split is read from its beginning");
        }
        Ok(())
    }

    fn add_split(
        &mut self,
        id: &SplitId,
        state: Option<&SplitState>,
        context: &ReaderContext,
    ) -> Result<()> {
        let ready = AtomicBool::new(false);
        let signal = Arc::new(SplitSignal { ready, shard: context.waker.clone() });
        let context = ReaderContext { waker: signal.clone().into(), ..context.clone() };
        let reader = match state {
            Some(state) if state.ended => None,
            _ => Some(
                self.node
                    .source
                    .open(id, state.map(|state| &state.offset), &context)
                    .map_err(|error| error.at(format!("{}, {id}", self.name)))?,
            ),
        };
        let offset = match (&reader, state) {
            (_, Some(state)) => state.offset.clone(),
            (Some(reader), None) => reader.offset(),
            (None, None) => Offset(String::new()),
        };
        let now = self.clock.elapsed();
        let n = self.splits.len();
        self.merge.add_input();
        match reader {
            Some(_) => _ = self.live.fetch_add(1, Ordering::Relaxed),
            None => self.merge.end(n),
        }
        self.splits.push(Split {
            id: id.clone(),
            reader,
            offset,
            watermark: state.map_or_else(SplitWatermark::default, |state| state.watermark),
            records: state.map_or(0, |state| state.records),
            dropped: state.map_or(0, |state| state.dropped),
            turn: 0,
            due: now,
            gathering: Gathering::new(now),
            awaits: false,
            silent_at: Duration::ZERO,
            signal,
            last_row: now,
            held: false,
        });
        self.advance_split(n);
        Ok(())
    }

    /// Whether it is read although there is no room behind it.
    pub fn drops(&self) -> bool {
        self.backlog.is_some()
    }

    /// Whether it has rows for those behind it, or may have.
    pub fn has_more(&self, reading: bool) -> bool {
        match &self.backlog {
            Some(backlog) => !backlog.is_empty(),
            None => reading && self.splits.iter().any(|split| split.reader.is_some()),
        }
    }

    /// Reads one batch into the backlog of a source that drops, where one may be read now. Every split
    /// has its turn.
    pub fn fill(&mut self, reading: bool, now: Duration, emitted: &mut Emitted) -> Result<bool> {
        let next = self.readable(now).min_by_key(|n| self.splits[*n].turn);
        self.read_next(next, reading, now, emitted)
    }

    /// Judges one batch: of the split that is furthest behind, where one may be read now, or the first of
    /// the backlog.
    pub fn step(&mut self, reading: bool, emitted: &mut Emitted) -> Result<bool> {
        if self.finished {
            return Ok(false);
        }
        let now = self.clock.elapsed();
        self.publish();
        self.hold();
        let stepped = if self.drops() {
            self.take_waiting(emitted)?
        } else {
            let next = self.readable(now).min_by_key(|n| self.split_watermark(*n));
            self.read_next(next, reading, now, emitted)?
        };
        if stepped {
            self.publish();
        }
        let told = self.tell_time(emitted);
        if self.has_ended() {
            self.finished = true;
            self.pace.publish(END_OF_TIME);
            self.stats.watermark.store(END_OF_TIME, Ordering::Relaxed);
            emitted.push((Port::Main, Element::End));
            return Ok(true);
        }
        Ok(stepped || told)
    }

    fn readable(&self, now: Duration) -> impl Iterator<Item = usize> {
        let may_be = move |n: &usize| self.splits[*n].is_due(now) && !self.splits[*n].held;
        (0..self.splits.len()).filter(may_be)
    }

    fn read_next(
        &mut self,
        split: Option<usize>,
        reading: bool,
        now: Duration,
        emitted: &mut Emitted,
    ) -> Result<bool> {
        let Some(n) = split else { return Ok(false) };
        let allowed = self.allowed_rows(now);
        if !reading || allowed == 0 || self.account.is_over() {
            return Ok(false);
        }
        self.read_split(n, allowed, now, emitted)?;
        Ok(true)
    }

    /// Whether nothing will come any more. A shard without splits may still get some, as long as
    /// the source has any that go on.
    fn has_ended(&self) -> bool {
        let may_grow =
            self.grows && self.splits.is_empty() && self.live.load(Ordering::Relaxed) > 0;
        let waits = self.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty());
        !may_grow && !waits && self.splits.iter().all(|split| split.reader.is_none())
    }

    /// Tells its alignment group how far it has come.
    fn publish(&self) {
        if !self.pace.is_aligned() {
            return;
        }
        let holds = |n: &usize| {
            let split = &self.splits[*n];
            // A split that has had no row and has none now says nothing about time.
            let silent = split.awaits && self.split_watermark(*n) == BEGINNING;
            split.reader.is_some() && !self.merge.is_idle(*n) && !silent
        };
        let slowest = (0..self.splits.len()).filter(holds).map(|n| self.split_watermark(n)).min();
        self.pace.publish(slowest.unwrap_or(END_OF_TIME));
    }

    /// Holds the splits that are too far ahead of their alignment group.
    fn hold(&mut self) {
        let open = self.splits.iter_mut().filter(|split| split.reader.is_some());
        self.pace.hold(open.map(|split| (split.watermark_by(&self.node.time), &mut split.held)));
    }

    /// The epoch ends here for this source: what is read belongs to it.
    pub fn end_epoch(&mut self, epoch: Epoch, emitted: &mut Emitted) -> Result<()> {
        if self.take_waiting(emitted)? {
            while self.take_waiting(emitted)? {}
            self.tell_time(emitted);
        }
        self.rejects.epoch = epoch + 1;
        Ok(())
    }

    /// When there may be something to do again, if nothing wakes the shard before.
    pub fn due(&self, reading: bool) -> Option<Duration> {
        let now = self.clock.elapsed();
        let open = self.splits.iter().filter(|split| split.reader.is_some());
        let may_read = reading && !self.account.is_over();
        // Who is held is woken.
        let free = open.clone().filter(|split| !split.held);
        let read = free.map(|split| split.due).filter(|_| may_read).min();
        let limited = self.limiter.as_ref().map(|limiter| limiter.next(now));
        let read = read.map(|due| limited.map_or(due, |limited| due.max(limited)));
        let idle_after = self.idle_after();
        let idle = open
            .filter(|_| !self.idle)
            .filter_map(|split| idle_after.map(|after| split.last_row + after))
            .filter(|at| *at > now)
            .min();
        [read, idle].into_iter().flatten().min()
    }

    /// The splits' state, for the checkpoint.
    pub fn split_states(&self) -> Vec<SplitState> {
        let state = |split: &Split| SplitState {
            split: split.id.clone(),
            offset: split.offset.clone(),
            watermark: split.watermark,
            ended: split.reader.is_none(),
            records: split.records,
            dropped: split.dropped,
        };
        self.splits.iter().map(state).collect()
    }

    /// The splits' state, for people.
    pub fn split_status(&self, shard: usize) -> Vec<SplitStatus> {
        let status = |(n, split): (usize, &Split)| SplitStatus {
            source: self.name.clone(),
            split: split.id.clone(),
            shard,
            offset: split.offset.clone(),
            watermark: Some(self.split_watermark(n)).filter(|watermark| *watermark > i64::MIN),
            records: split.records,
            dropped: split.dropped,
            progress: split.reader.as_ref().and_then(|reader| reader.progress()),
            lag: split.reader.as_ref().and_then(|reader| reader.lag()),
            idle: self.merge.is_idle(n),
            held: split.held,
            ended: split.reader.is_none(),
        };
        self.splits.iter().enumerate().map(status).collect()
    }

    fn allowed_rows(&self, now: Duration) -> usize {
        self.limiter.as_ref().map_or(self.batch_rows, |l| l.allowed(now).min(self.batch_rows))
    }

    fn idle_after(&self) -> Option<Duration> {
        match &self.node.time {
            TimeAttribute::Event { strategy, .. } => strategy.idle_after,
            _ => None,
        }
    }

    fn split_watermark(&self, n: usize) -> EventTime {
        self.splits[n].watermark_by(&self.node.time)
    }

    fn read_split(
        &mut self,
        n: usize,
        rows: usize,
        now: Duration,
        emitted: &mut Emitted,
    ) -> Result<()> {
        let split = &mut self.splits[n];
        let Some(reader) = &mut split.reader else { return Ok(()) };
        self.turns += 1;
        split.turn = self.turns;
        // Whatever is signalled from here on may come behind what this read finds.
        split.signal.ready.store(false, Ordering::Release);
        let read =
            reader.read(rows).map_err(|error| error.at(format!("{}, {}", self.name, split.id)))?;
        split.offset = reader.offset();
        match read {
            Read::Pending => {
                split.due = now + self.linger.max(POLL_MIN);
                split.gathering = Gathering::new(now);
                split.awaits = !reader.waits();
                split.silent_at = now;
                // Rows are there, and only cannot be had yet: time must not pass them by.
                if !split.awaits {
                    split.last_row = now;
                    self.wake(n, emitted);
                }
            }
            Read::End => {
                split.reader = None;
                match &mut self.backlog {
                    Some(backlog) => backlog.push_end(n),
                    None => self.end_split(n),
                }
            }
            Read::Batch(batch) => {
                let records = batch.rows.num_rows() + batch.dead_letters.len() + batch.skipped;
                split.records += records as u64;
                split.last_row = now;
                split.awaits = false;
                split.gathering.took(records);
                split.due = match records < rows && !reader.is_at_hand() {
                    true => now + split.gathering.pause(now, self.batch_rows, self.linger),
                    false => now,
                };
                self.stats.add_in(records);
                self.stats.add(Fate::Filtered, batch.skipped);
                if let Some(limiter) = &mut self.limiter {
                    limiter.take(records);
                }
                self.wake(n, emitted);
                let ReadBatch { rows, dead_letters, records, .. } = batch;
                let origin = Origin { split: self.splits[n].id.clone(), records, rows: None };
                let batch = Batch { origin: Some(origin), ..Batch::new(rows) };
                match self.drops() {
                    true => self.keep(n, batch, dead_letters),
                    false => self.take(n, batch, dead_letters, emitted)?,
                }
            }
        }
        Ok(())
    }

    fn end_split(&mut self, n: usize) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.merge.end(n);
    }

    /// Puts records into the backlog, as far as there is room.
    fn keep(&mut self, n: usize, batch: Batch, letters: Vec<DeadLetter>) {
        let Some(backlog) = &mut self.backlog else { return };
        let bytes = rows_bytes(&batch.rows) + letters_bytes(&letters);
        for Dropped { split, records } in backlog.push(n, Records::new(batch, letters, bytes)) {
            self.splits[split].dropped += records as u64;
            self.stats.add(Fate::Dropped, records);
        }
        self.account.set(backlog.bytes());
    }

    /// Judges what has waited longest in the backlog, where anything has.
    fn take_waiting(&mut self, emitted: &mut Emitted) -> Result<bool> {
        let Some(backlog) = &mut self.backlog else { return Ok(false) };
        let Some(Entry { split, waiting }) = backlog.pop() else { return Ok(false) };
        self.account.set(backlog.bytes());
        match waiting {
            Waiting::Records(Records { batch, letters, .. }) => {
                self.take(split, batch, letters, emitted)?;
            }
            Waiting::End => self.end_split(split),
        }
        Ok(true)
    }

    /// Rows come from a silent split: the shard starts at what has been promised without it.
    fn wake(&mut self, n: usize, emitted: &mut Emitted) {
        self.merge.wake(n);
        if std::mem::take(&mut self.idle) {
            let promised = self.gates.iter().map(|(gate, shard)| gate.wake(*shard)).max();
            let promised = promised.unwrap_or(i64::MIN).max(self.merge.watermark());
            emitted.push((Port::Main, Element::Watermark(promised)));
        }
    }

    /// From records to rows: computed columns, time, dead letters.
    fn take(
        &mut self,
        n: usize,
        mut batch: Batch,
        mut letters: Vec<DeadLetter>,
        emitted: &mut Emitted,
    ) -> Result<()> {
        if let Some(computed) = &self.node.computed {
            batch = match computed.apply(&batch.rows) {
                Ok(rows) => batch.with_rows(rows),
                Err(_) => {
                    let (rows, kept, bad) = isolate(computed.as_ref(), &batch.rows);
                    letters.extend(bad.into_iter().map(|(row, why)| reject(&batch, row, why)));
                    batch.filter(&kept)?.with_rows(rows)
                }
            };
        }
        batch = self.judge(n, batch, &mut letters)?;
        self.rejects.send(&self.name, &letters, &self.stats, emitted)?;
        if !batch.is_empty() {
            self.stats.add_out(batch.len());
            emitted.push((Port::Main, Element::Batch(batch)));
        }
        Ok(())
    }

    /// Sets or observes the rows' time.
    fn judge(&mut self, n: usize, batch: Batch, letters: &mut Vec<DeadLetter>) -> Result<Batch> {
        match self.node.time {
            TimeAttribute::None => Ok(batch),
            TimeAttribute::Processing { column } => {
                let now = self.clock.now().max(self.merge.watermark());
                let rows = with_constant_time(&batch.rows, column, now)?;
                Ok(batch.with_rows(rows))
            }
            TimeAttribute::Event { column, strategy } => {
                let times = micros_column(&batch.rows, column)?;
                let split = &mut self.splits[n];
                let observed = split.watermark.observe(&times, &strategy, self.clock.now());
                let known = |range| Times::new(times.values().clone(), range);
                let known = observed.range.map(known);
                let mut batch = Batch { floor: observed.floor, times: known, ..batch };
                if !observed.rejected.is_empty() {
                    let mut kept = vec![true; batch.len()];
                    for row in observed.rejected {
                        kept[row] = false;
                        let why =
                            format!("event time {} is too far in the future", times.value(row));
                        letters.push(reject(&batch, row, why));
                    }
                    batch = batch.filter(&BooleanArray::from(kept))?;
                }
                self.advance_split(n);
                Ok(batch)
            }
        }
    }

    fn advance_split(&mut self, n: usize) {
        let watermark = self.split_watermark(n);
        if watermark > i64::MIN {
            self.merge.advance(n, watermark);
        }
    }

    /// Emits the shard's watermark where it has risen, and idleness where it has set in.
    fn tell_time(&mut self, emitted: &mut Emitted) -> bool {
        if let TimeAttribute::Processing { .. } = self.node.time {
            let wall = self.clock.now();
            (0..self.splits.len()).for_each(|n| self.merge.advance(n, wall));
        }
        if let Some(after) = self.idle_after() {
            let waits = |n| self.backlog.as_ref().is_some_and(|backlog| backlog.holds(n));
            for (n, split) in self.splits.iter().enumerate() {
                if split.is_silent(after) && !waits(n) {
                    self.merge.idle(n);
                }
            }
        }
        if self.splits.is_empty() && self.grows {
            return self.sleep(emitted);
        }
        let raised = self.merge.raise().filter(|watermark| *watermark < END_OF_TIME);
        if let Some(watermark) = raised {
            self.stats.watermark.store(watermark, Ordering::Relaxed);
            emitted.push((Port::Main, Element::Watermark(watermark)));
        }
        let slept = self.merge.all_idle() && self.sleep(emitted);
        raised.is_some() || slept
    }

    /// The shard has nothing to say: it must not hold those behind it. Returns whether that is news.
    fn sleep(&mut self, emitted: &mut Emitted) -> bool {
        if std::mem::replace(&mut self.idle, true) {
            return false;
        }
        self.gates.iter().for_each(|(gate, shard)| gate.sleep(*shard));
        emitted.push((Port::Main, Element::Idle));
        true
    }
}

fn reject(batch: &Batch, row: usize, reason: String) -> DeadLetter {
    let split = batch.origin.as_ref().map(|origin| origin.split.clone());
    let record = batch.origin.as_ref().and_then(|origin| origin.record(row));
    let record = record.unwrap_or_else(|| SourceRecord {
        position: format!("row {row} of its batch"),
        ..SourceRecord::default()
    });
    DeadLetter::new(split.unwrap_or_else(|| SplitId::new("")), record, reason)
}
