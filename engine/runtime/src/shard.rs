//! A shard: one thread that runs all stations of its part of the job.
//!
//! It takes one step at a time, the furthest downstream station first, and runs a station only
//! while everything it feeds has room. So nothing blocks on an exchange, a full queue stops what
//! fills it, and link by link the source. When nothing can run, the thread parks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_checkpoint::manifest::SplitState;
use tidemill_core::graph::Port;
use tidemill_core::source::{ReaderContext, SplitId};
use tidemill_core::time::Clock;
use tidemill_core::{Element, Epoch, Error, Result};
use tracing::trace_span;

use crate::exchange::{Envelope, Owners};
use crate::link::Blocked;
use crate::rejects::Emitted;
use crate::source::{SourceStation, SplitStatus};
use crate::station::{Cut, Inlet, LOCAL_CAPACITY, Station};
use crate::stats::Counts;
use crate::waker::ShardWaker;

/// The longest that a shard parks without looking around.
const PARK_MAX: Duration = Duration::from_millis(20);

/// Steps between two looks at the control channel, for which watermarks may be held back.
const STEPS_PER_ROUND: usize = 32;

/// What the coordinator tells a shard.
#[derive(Debug, Clone)]
pub(crate) enum Control {
    /// Cut the stream: an epoch ends here. With `last`, nothing is read any more.
    Epoch { epoch: Epoch, last: bool },
    /// Source `node` has got splits: read these, and `share` of what it reads is this shard's.
    Splits { node: String, splits: Vec<SplitId>, share: f64 },
    /// Leave.
    Stop,
}

/// What the coordinator hears.
pub(crate) enum Event {
    /// All stations of the shard have handed over their part of an epoch.
    Cut(ShardCut),
    /// Every station has seen the end of its input.
    Ended(usize),
    /// A sink has committed an epoch, or cannot.
    Committed { sink: usize, epoch: Epoch, result: Result<()> },
    /// A source has splits that nobody reads yet.
    Discovered { node: String, splits: Vec<SplitId> },
    /// The job cannot go on.
    Failed(Error),
    /// A user wants something.
    Command(Command),
}

/// What a user wants of a running job.
pub(crate) enum Command {
    /// A checkpoint now; the answer is its epoch.
    Checkpoint(Sender<Result<Epoch>>),
    /// Drain and leave; where patience is given, whether or not the drain is done by then.
    Stop { patience: Option<Duration> },
    /// Leave at once.
    Abort,
}

/// One shard's part of an epoch.
pub(crate) struct ShardCut {
    pub shard: usize,
    pub epoch: Epoch,
    /// Splits by source node.
    pub splits: Vec<(String, Vec<SplitState>)>,
    /// State and staged output by node.
    pub cuts: Vec<(String, Cut)>,
    /// Counters by node.
    pub counts: BTreeMap<String, Counts>,
}

/// A station of either kind.
pub(crate) enum Slot {
    Source(SourceStation),
    Station(Station),
}

/// Where a station's output goes.
pub(crate) struct Outlet {
    pub port: Port,
    pub target: Target,
    /// For how long it was full.
    pub blocked: Blocked,
}

/// The receiving end of an outlet.
pub(crate) enum Target {
    /// A queue of a station on the same shard.
    Local { station: usize, inlet: usize },
    /// The owners of the rows' keys.
    Exchange(Owners),
}

/// How a shard's time is spent, in nanoseconds.
#[derive(Default)]
pub(crate) struct ShardTimes {
    pub busy: AtomicU64,
    pub backpressured: AtomicU64,
    pub idle: AtomicU64,
}

/// What a shard shares with those who look at it.
#[derive(Default)]
pub(crate) struct ShardView {
    pub times: ShardTimes,
    pub splits: Mutex<Vec<SplitStatus>>,
    /// The furthest station downstream that has something to do: what is behind it waits for it.
    pub busy: Mutex<Option<String>>,
}

/// One shard.
pub(crate) struct Shard {
    id: usize,
    slots: Vec<Slot>,
    outlets: Vec<Vec<Outlet>>,
    control: Receiver<Control>,
    events: Sender<Event>,
    waker: ShardWaker,
    clock: Arc<dyn Clock>,
    view: Arc<ShardView>,
    /// What readers of new splits get.
    readers: ReaderContext,
    reading: bool,
    ended: bool,
    cut: Option<PendingCut>,
    /// Sources that are read whether there is room behind them or not.
    dropping: Vec<usize>,
    /// Which may take a step, in this order: stations, the furthest downstream first, then sources in turns.
    order: Vec<usize>,
    /// Stations that something holds up.
    blocked: Vec<bool>,
}

/// An epoch that is being cut.
struct PendingCut {
    report: ShardCut,
    /// Stations that have handed over.
    done: Vec<bool>,
}

impl Shard {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        id: usize,
        slots: Vec<Slot>,
        outlets: Vec<Vec<Outlet>>,
        control: Receiver<Control>,
        events: Sender<Event>,
        waker: ShardWaker,
        clock: Arc<dyn Clock>,
        view: Arc<ShardView>,
        readers: ReaderContext,
    ) -> Self {
        let (reading, ended, cut) = (true, false, None);
        let drops = |n: &usize| matches!(&slots[*n], Slot::Source(source) if source.drops());
        let mut order: Vec<usize> = (0..slots.len()).rev().collect();
        order.sort_by_key(|n| matches!(slots[*n], Slot::Source(_)));
        Self {
            order,
            dropping: (0..slots.len()).filter(drops).collect(),
            blocked: vec![false; slots.len()],
            id,
            slots,
            outlets,
            control,
            events,
            waker,
            clock,
            view,
            readers,
            reading,
            ended,
            cut,
        }
    }

    /// Runs until told to stop, or until an error.
    pub fn run(mut self) -> Result<()> {
        self.waker.bind();
        let mut looked = Duration::ZERO;
        loop {
            loop {
                match self.control.try_recv() {
                    Ok(Control::Epoch { epoch, last }) => self.begin_cut(epoch, last)?,
                    Ok(Control::Splits { node, splits, share }) => {
                        self.add_splits(&node, &splits, share)?;
                    }
                    Ok(Control::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
                    Err(TryRecvError::Empty) => break,
                }
            }
            let start = self.clock.elapsed();
            let progressed = self.run_steps()?;
            self.release_held();
            self.collect_cut()?;
            self.tell_end();
            let now = self.clock.elapsed();
            self.view.times.busy.fetch_add(nanos(now - start), Ordering::Relaxed);
            if now >= looked + Duration::from_millis(100) {
                looked = now;
                self.publish_view();
            }
            if !progressed {
                self.park(now);
            }
        }
    }

    fn add_splits(&mut self, node: &str, splits: &[SplitId], share: f64) -> Result<()> {
        for slot in &mut self.slots {
            if let Slot::Source(source) = slot
                && source.name == node
            {
                source.add(splits, share, &self.readers)?;
            }
        }
        Ok(())
    }

    fn run_steps(&mut self) -> Result<bool> {
        for n in 0..STEPS_PER_ROUND {
            if !self.step()? {
                return Ok(n > 0);
            }
        }
        Ok(true)
    }

    /// One step of the furthest station downstream that can take one, or else of the source whose turn it is; before it,
    /// sources that drop are read, however busy the shard is.
    fn step(&mut self) -> Result<bool> {
        let now = nanos(self.clock.elapsed());
        let filled = self.fill_buffers()?;
        let mut emitted = Emitted::new();
        for at in 0..self.order.len() {
            let n = self.order[at];
            if !self.has_room(n) {
                self.blocked[n] = self.blocked[n] || self.wants_room(n);
                if self.blocked[n] {
                    self.measure_blocked(n, now);
                }
                continue;
            }
            if std::mem::take(&mut self.blocked[n]) {
                self.measure_blocked(n, now);
            }
            let cause = match &mut self.slots[n] {
                Slot::Source(source) => {
                    let _span =
                        trace_span!("batch", shard = self.id, station = source.name).entered();
                    source.step(self.reading, &mut emitted)?.then_some(now)
                }
                Slot::Station(station) => {
                    let _span =
                        trace_span!("batch", shard = self.id, station = station.name).entered();
                    station.step(now, &mut emitted)?
                }
            };
            if let Some(cause) = cause {
                if matches!(self.slots[n], Slot::Source(_)) {
                    self.order[at..].rotate_left(1);
                }
                self.send(n, emitted, cause)?;
                return Ok(true);
            }
        }
        Ok(filled)
    }

    fn fill_buffers(&mut self) -> Result<bool> {
        let mut filled = false;
        for at in 0..self.dropping.len() {
            let n = self.dropping[at];
            let Slot::Source(source) = &mut self.slots[n] else { continue };
            let mut emitted = Emitted::new();
            let now = self.clock.elapsed();
            filled |= source.fill(self.reading, now, &mut emitted)?;
            self.send(n, emitted, nanos(now))?;
        }
        Ok(filled)
    }

    /// Whether a station has something for those behind it.
    fn wants_room(&self, slot: usize) -> bool {
        match &self.slots[slot] {
            Slot::Source(source) => source.has_more(self.reading),
            Slot::Station(station) => !station.finished && station.has_input(),
        }
    }

    fn measure_blocked(&mut self, slot: usize, now: u64) {
        for n in 0..self.outlets[slot].len() {
            let full = !self.outlet_has_room(&self.outlets[slot][n]);
            self.outlets[slot][n].blocked.is(full, now);
        }
    }

    fn has_room(&self, slot: usize) -> bool {
        self.outlets[slot].iter().all(|outlet| self.outlet_has_room(outlet))
    }

    fn outlet_has_room(&self, outlet: &Outlet) -> bool {
        match &outlet.target {
            Target::Local { station, inlet } => match &self.slots[*station] {
                Slot::Station(station) => station.inlets[*inlet].len() < LOCAL_CAPACITY,
                Slot::Source(_) => true,
            },
            Target::Exchange(owners) => owners.has_room(),
        }
    }

    /// Sends what a step emitted: rows and parcels to the outlets of their port, everything else to all.
    fn send(&mut self, from: usize, emitted: Emitted, cause: u64) -> Result<()> {
        let is_for_port =
            |element: &Element| matches!(element, Element::Batch(_) | Element::Parcel(_));
        let with_rows = emitted.iter().any(|(_, element)| is_for_port(element));
        for (port, element) in emitted {
            for outlet in &mut self.outlets[from] {
                if is_for_port(&element) && outlet.port != port {
                    continue;
                }
                match &mut outlet.target {
                    Target::Local { station, inlet } => {
                        let Slot::Station(station) = &mut self.slots[*station] else { continue };
                        if let Inlet::Local(queue) = &mut station.inlets[*inlet] {
                            queue.push(Envelope::new(element.clone(), cause));
                        }
                    }
                    Target::Exchange(owners) => owners.send(&element, with_rows, cause)?,
                }
            }
        }
        Ok(())
    }

    /// Sends the watermarks that were held back in this round.
    fn release_held(&mut self) {
        for outlet in self.outlets.iter_mut().flatten() {
            if let Target::Exchange(owners) = &mut outlet.target {
                owners.release();
            }
        }
    }

    fn begin_cut(&mut self, epoch: Epoch, last: bool) -> Result<()> {
        if last {
            self.reading = false;
        }
        let mut report = ShardCut {
            shard: self.id,
            epoch,
            splits: Vec::new(),
            cuts: Vec::new(),
            counts: BTreeMap::new(),
        };
        let cause = nanos(self.clock.elapsed());
        let mut done = Vec::with_capacity(self.slots.len());
        let mut reading = Vec::new();
        for (n, slot) in self.slots.iter_mut().enumerate() {
            done.push(matches!(slot, Slot::Source(_)));
            let Slot::Source(source) = slot else { continue };
            let mut emitted = Emitted::new();
            source.end_epoch(epoch, &mut emitted)?;
            report.splits.push((source.name.clone(), source.split_states()));
            *report.counts.entry(source.name.clone()).or_default() += source.stats.counts();
            if !source.finished {
                emitted.push((Port::Main, Element::Barrier(epoch)));
                reading.push((n, emitted));
            }
        }
        for (source, emitted) in reading {
            self.send(source, emitted, cause)?;
        }
        self.cut = Some(PendingCut { report, done });
        Ok(())
    }

    /// Collects what stations have handed over for the epoch under way, and reports when all have.
    fn collect_cut(&mut self) -> Result<()> {
        let Some(mut pending) = self.cut.take() else { return Ok(()) };
        for n in 0..self.slots.len() {
            if pending.done[n] {
                continue;
            }
            let upstream_done = pending.done[..n].iter().all(|done| *done);
            let mut emitted = Emitted::new();
            let Slot::Station(station) = &mut self.slots[n] else { continue };
            // A station whose inputs have all ended sees no barrier: all it did is in this epoch.
            if station.finished && station.cut.is_none() && upstream_done {
                let now = nanos(self.clock.elapsed());
                if station.poll_staging(now, &mut emitted)?.is_none() {
                    station.take_cut(&mut emitted)?;
                }
                station.poll_staging(now, &mut emitted)?;
            }
            if let Some((_, cut)) = station.cut.take_if(|(e, _)| *e == pending.report.epoch) {
                *pending.report.counts.entry(station.name.clone()).or_default() +=
                    station.counts_at_cut;
                if station.keeps_state {
                    pending.report.cuts.push((station.name.clone(), cut));
                }
                pending.done[n] = true;
            }
            self.send_last(n, emitted, &pending.done)?;
        }
        if pending.done.iter().all(|done| *done) {
            self.tell(Event::Cut(pending.report));
        } else {
            self.cut = Some(pending);
        }
        Ok(())
    }

    /// What a sink refused behind its end: those that take its dead letters go on for them.
    fn send_last(&mut self, from: usize, emitted: Emitted, done: &[bool]) -> Result<()> {
        let cause = nanos(self.clock.elapsed());
        for (port, element) in emitted.into_iter().filter(|(_, e)| matches!(e, Element::Batch(_))) {
            for outlet in self.outlets[from].iter().filter(|outlet| outlet.port == port) {
                let Target::Local { station: to, inlet } = outlet.target else { continue };
                let Slot::Station(station) = &mut self.slots[to] else { continue };
                if done[to] || station.cut.is_some() {
                    let name = &station.name;
                    return Err(Error::internal(format!("{name} gets rows behind its barrier")));
                }
                let Inlet::Local(queue) = &mut station.inlets[inlet] else { continue };
                queue.push(Envelope::new(element.clone(), cause));
                queue.push(Envelope::new(Element::End, cause));
                station.finished = false;
            }
        }
        Ok(())
    }

    fn tell_end(&mut self) {
        let finished = |slot: &Slot| match slot {
            Slot::Source(source) => source.finished,
            Slot::Station(station) => station.finished,
        };
        if !self.ended && self.slots.iter().all(finished) {
            self.ended = true;
            self.tell(Event::Ended(self.id));
        }
    }

    fn tell(&self, event: Event) {
        // A coordinator that is gone has its reasons; the control channel ends this shard then.
        let _ = self.events.send(event);
    }

    fn publish_view(&mut self) {
        let now = nanos(self.clock.elapsed());
        self.outlets.iter_mut().flatten().for_each(|outlet| outlet.blocked.tell(now));
        let mut splits = Vec::new();
        for slot in &self.slots {
            match slot {
                Slot::Source(source) => splits.extend(source.split_status(self.id)),
                Slot::Station(station) => {
                    station.stats.queue.store(station.queue_len() as u64, Ordering::Relaxed);
                }
            }
        }
        *self.view.splits.lock() = splits;
        let busy = self.slots.iter().rev().find_map(|slot| match slot {
            Slot::Station(station) if station.is_busy() => Some(station.name.clone()),
            _ => None,
        });
        *self.view.busy.lock() = busy;
    }

    fn park(&self, now: Duration) {
        // Who has no room is woken when there is some.
        let due = self.slots.iter().enumerate().filter_map(|(n, slot)| match slot {
            Slot::Source(source) if source.drops() || self.has_room(n) => source.due(self.reading),
            _ => None,
        });
        let wait = due.min().map_or(PARK_MAX, |due| due.saturating_sub(now)).min(PARK_MAX);
        let blocked = self.slots.iter().enumerate().any(|(n, slot)| match slot {
            Slot::Source(source) => !source.finished && !self.has_room(n),
            Slot::Station(station) => !station.finished && station.has_input(),
        });
        std::thread::park_timeout(wait);
        let waited = nanos(self.clock.elapsed().saturating_sub(now));
        let times = &self.view.times;
        let counter = if blocked { &times.backpressured } else { &times.idle };
        counter.fetch_add(waited, Ordering::Relaxed);
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.publish_view();
    }
}

/// What a panic said.
pub(crate) fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
