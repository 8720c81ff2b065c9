//! A station: one operator or sink on one shard, with its input queues and outlets.
//!
//! It takes one element at a time, in order. Watermarks are merged over its inputs; a barrier is
//! aligned: an input that has delivered it waits until all others have.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_core::graph::Port;
use tidemill_core::operator::{Barrier, Operator, Progress, StateChange};
use tidemill_core::sink::Staged;
use tidemill_core::time::END_OF_TIME;
use tidemill_core::watermark::WatermarkMerge;
use tidemill_core::{Batch, Element, Epoch, Error, EventTime, Parcel, Result};

use crate::delay::DelayRecorder;
use crate::delivery::{Delivery, Staging};
use crate::exchange::{Channel, Envelope, Gates, IdleGate, LocalQueue};
use crate::memory::Account;
use crate::rejects::{Emitted, Rejects, StepOutput};
use crate::stats::{Counts, StationStats};

/// Elements that a queue between two stations of a shard holds before its producer waits.
pub(crate) const LOCAL_CAPACITY: usize = 2;

/// A station's input queue.
pub(crate) enum Inlet {
    /// From a station of the same shard.
    Local(LocalQueue),
    /// From a shard (its number) through an exchange.
    Remote { channel: Arc<Channel>, gate: Arc<IdleGate>, producer: usize },
}

impl Inlet {
    fn pop(&mut self) -> Option<Envelope> {
        match self {
            Self::Local(queue) => queue.pop(),
            Self::Remote { channel, .. } => channel.pop(),
        }
    }

    /// The next element, where it is a watermark.
    fn pop_watermark(&mut self) -> Option<EventTime> {
        let is_watermark = |element: &Element| matches!(element, Element::Watermark(_));
        let envelope = match self {
            Self::Local(queue) => queue.pop_if(is_watermark),
            Self::Remote { channel, .. } => channel.pop_if(is_watermark),
        };
        envelope.and_then(|envelope| match envelope.element {
            Element::Watermark(watermark) => Some(watermark),
            _ => None,
        })
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Local(queue) => queue.len(),
            Self::Remote { channel, .. } => channel.len(),
        }
    }
}

/// What runs at a station.
pub(crate) enum Behavior {
    Operator(Box<dyn Operator>),
    Sink(Box<Delivery>),
}

/// What a station hands over for an epoch.
pub(crate) enum Cut {
    State { watermark: EventTime, change: StateChange },
    Staged(Staged),
}

/// One station of a shard.
pub(crate) struct Station {
    pub name: String,
    pub stats: Arc<StationStats>,
    pub inlets: Vec<Inlet>,
    /// Logical input number of each inlet.
    pub input_of: Vec<usize>,
    pub behavior: Behavior,
    pub rejects: Rejects,
    pub delay: DelayRecorder,
    pub merge: WatermarkMerge,
    aligned: Vec<bool>,
    ended: Vec<bool>,
    /// A watermark that the operator has not finished with.
    raising: Option<EventTime>,
    next_inlet: usize,
    idle: bool,
    pub finished: bool,
    /// The barrier under way, as the coordinator announced it.
    barrier: Arc<Mutex<Barrier>>,
    /// Whether rows that enter count as the node's: not behind an exchange of its own.
    pub counts_in: bool,
    /// Whether rows that leave count as the node's: not before an exchange of its own.
    pub counts_out: bool,
    /// The exchanges that it sends to, with the number of its shard.
    pub gates: Gates,
    /// Watermarks are forwarded so much lower, in microseconds.
    pub hold_back: i64,
    /// Whether it has anything for a checkpoint: a combiner is empty at every barrier.
    pub keeps_state: bool,
    /// What is to be handed over for the epoch, once it is there.
    pub cut: Option<(Epoch, Cut)>,
    /// The counters at the last cut.
    pub counts_at_cut: Counts,
    /// What it holds: an operator its state, a sink what it has not delivered.
    account: Account,
}

impl Station {
    pub fn new(
        name: String,
        stats: Arc<StationStats>,
        behavior: Behavior,
        rejects: Rejects,
        delay: DelayRecorder,
        barrier: Arc<Mutex<Barrier>>,
        account: Account,
    ) -> Self {
        Self {
            name,
            stats,
            inlets: Vec::new(),
            input_of: Vec::new(),
            behavior,
            rejects,
            delay,
            merge: WatermarkMerge::new(0),
            aligned: Vec::new(),
            ended: Vec::new(),
            raising: None,
            next_inlet: 0,
            idle: false,
            finished: false,
            barrier,
            counts_in: true,
            counts_out: true,
            gates: Vec::new(),
            hold_back: 0,
            keeps_state: true,
            cut: None,
            counts_at_cut: Counts::default(),
            account,
        }
    }

    /// Adds an input queue; all are added before the first step.
    pub fn add_inlet(&mut self, input: usize, inlet: Inlet) -> usize {
        self.inlets.push(inlet);
        self.input_of.push(input);
        self.aligned.push(false);
        self.ended.push(false);
        self.merge = WatermarkMerge::new(self.inlets.len());
        self.inlets.len() - 1
    }

    /// Starts at the watermark that an earlier run had reached: all that it completes was emitted
    /// then.
    pub fn start_at(&mut self, watermark: EventTime) -> Result<()> {
        self.merge.start_at(watermark);
        self.stats.watermark.store(watermark, Ordering::Relaxed);
        let mut emitted = Emitted::new();
        while self.raise_operator(watermark, &mut emitted)? == Progress::More {}
        self.take_measure();
        if emitted.is_empty() {
            return Ok(());
        }
        let name = &self.name;
        Err(Error::internal(format!(
            "{name} repeats results that it emitted before its checkpoint"
        )))
    }

    /// Takes one step if there is one to take; the outlets are known to have room. Returns the
    /// cause of what was emitted, or `None` where nothing could be done.
    pub fn step(&mut self, now: u64, emitted: &mut Emitted) -> Result<Option<u64>> {
        if self.finished {
            return Ok(None);
        }
        if let Some(staged) = self.poll_staging(now, emitted)? {
            return Ok((staged || !emitted.is_empty()).then_some(now));
        }
        if let Some(watermark) = self.raising {
            self.continue_raising(watermark, emitted)?;
            return Ok(Some(self.delay.cause));
        }
        if let Behavior::Sink(sink) = &mut self.behavior {
            let is_ready = sink.is_ready(Duration::from_nanos(now))?;
            self.take_refused(emitted)?;
            if !is_ready {
                return Ok((!emitted.is_empty()).then_some(now));
            }
        }
        let cause = match self.take_again() {
            Some((batch, cause)) => {
                self.delay.cause = cause;
                self.write(batch, now)?;
                cause
            }
            None => {
                let Some((inlet, envelope)) = self.next_element() else {
                    return Ok((!emitted.is_empty()).then_some(now));
                };
                self.delay.cause = envelope.cause;
                self.accept(inlet, envelope.element, now, emitted)?;
                envelope.cause
            }
        };
        self.take_refused(emitted)?;
        self.take_measure();
        Ok(Some(cause))
    }

    /// The batch that the sink did not take the last time.
    fn take_again(&mut self) -> Option<(Batch, u64)> {
        let Behavior::Sink(sink) = &mut self.behavior else { return None };
        sink.again.take()
    }

    /// Says how much it holds now.
    fn take_measure(&self) {
        match &self.behavior {
            Behavior::Operator(operator) => {
                let bytes = operator.state_bytes();
                self.stats.state_bytes.store(bytes as u64, Ordering::Relaxed);
                self.account.set(bytes);
            }
            Behavior::Sink(sink) => self.account.set(sink.buffered_bytes()),
        }
    }

    /// Whether something waits at an input that is not blocked by a barrier.
    pub fn has_input(&self) -> bool {
        self.raising.is_some()
            || matches!(&self.behavior, Behavior::Sink(sink) if sink.again.is_some())
            || (0..self.inlets.len()).any(|n| !self.aligned[n] && self.inlets[n].len() > 0)
    }

    /// Whether it has something to do, or waits for the outside.
    pub fn is_busy(&self) -> bool {
        let stages = matches!(&self.behavior, Behavior::Sink(sink) if sink.staging.is_some());
        stages || (!self.finished && self.has_input())
    }

    /// The next element of the inputs in turn, where one may be taken.
    fn next_element(&mut self) -> Option<(usize, Envelope)> {
        let inlets = self.inlets.len();
        for n in 0..inlets {
            let inlet = (self.next_inlet + n) % inlets;
            if self.aligned[inlet] {
                continue;
            }
            if let Some(envelope) = self.inlets[inlet].pop() {
                self.next_inlet = inlet + 1;
                return Some((inlet, envelope));
            }
        }
        None
    }

    fn accept(
        &mut self,
        inlet: usize,
        element: Element,
        now: u64,
        emitted: &mut Emitted,
    ) -> Result<()> {
        match element {
            Element::Batch(batch) => {
                self.wake(inlet, emitted)?;
                if self.counts_in {
                    self.stats.add_in(batch.len());
                }
                self.process(inlet, batch, now, emitted)
            }
            Element::Parcel(parcel) => {
                self.wake(inlet, emitted)?;
                self.receive(parcel, emitted)
            }
            Element::Watermark(watermark) => {
                self.wake(inlet, emitted)?;
                self.merge.advance(inlet, watermark);
                self.take_watermarks();
                self.raise(emitted)
            }
            Element::Idle => {
                self.merge.idle(inlet);
                self.raise(emitted)?;
                self.forward_idle(emitted)
            }
            Element::Barrier(_) => {
                self.aligned[inlet] = true;
                self.cut_when_aligned(emitted)
            }
            Element::End => {
                self.ended[inlet] = true;
                self.merge.end(inlet);
                if self.aligned.iter().any(|aligned| *aligned) {
                    self.cut_when_aligned(emitted)?;
                }
                self.raise(emitted)?;
                self.forward_idle(emitted)?;
                self.finish_when_ended(emitted);
                Ok(())
            }
        }
    }

    /// An input has something again: this station is no longer idle. It starts at what owners of its
    /// rows' keys have been promised meanwhile, and downstream learns of it.
    fn wake(&mut self, inlet: usize, emitted: &mut Emitted) -> Result<()> {
        self.merge.wake(inlet);
        if !std::mem::take(&mut self.idle) {
            return Ok(());
        }
        let promised = self.gates.iter().map(|(gate, shard)| gate.wake(*shard)).max();
        if let Some(promised) = promised.filter(|promised| *promised > self.merge.watermark()) {
            self.merge.start_at(promised);
            while self.raise_operator(promised, emitted)? == Progress::More {}
        }
        let watermark = self.forwarded(self.merge.watermark());
        emitted.push((Port::Main, Element::Watermark(watermark)));
        Ok(())
    }

    /// The operator, where it is one, and where it puts things out.
    fn operator<'a>(
        &'a mut self,
        emitted: &'a mut Emitted,
    ) -> Option<(&'a mut dyn Operator, StepOutput<'a>)> {
        let Behavior::Operator(operator) = &mut self.behavior else { return None };
        let out = StepOutput {
            name: &self.name,
            stats: &self.stats,
            rejects: &self.rejects,
            counts_out: self.counts_out,
            emitted,
        };
        Some((operator.as_mut(), out))
    }

    fn process(
        &mut self,
        inlet: usize,
        batch: Batch,
        now: u64,
        emitted: &mut Emitted,
    ) -> Result<()> {
        let input = self.input_of[inlet];
        match self.operator(emitted) {
            Some((operator, mut out)) => {
                operator.process(input, batch, &mut out).map_err(|error| error.at(out.name))
            }
            None => self.write(batch, now),
        }
    }

    /// Gives the operator what its counterpart before the exchange has handed over.
    fn receive(&mut self, parcel: Parcel, emitted: &mut Emitted) -> Result<()> {
        match self.operator(emitted) {
            Some((operator, mut out)) => {
                operator.receive(parcel, &mut out).map_err(|error| error.at(out.name))
            }
            None => Err(Error::internal(format!("{parcel:?} came to a sink")).at(&self.name)),
        }
    }

    /// Gives a batch to the sink, which keeps it for another time where it cannot be written now.
    fn write(&mut self, batch: Batch, now: u64) -> Result<()> {
        let Behavior::Sink(sink) = &mut self.behavior else { return Ok(()) };
        let rows = batch.len();
        if sink.write(batch, self.delay.cause, Duration::from_nanos(now))? {
            self.delay.record(now, rows);
            self.stats.add_out(rows);
        }
        Ok(())
    }

    /// Takes what other watermarks are next at the inputs: the merged one rises once for all of them. Many
    /// shards in front of an exchange would raise it in as many small steps.
    fn take_watermarks(&mut self) {
        for inlet in 0..self.inlets.len() {
            while !self.aligned[inlet]
                && let Some(watermark) = self.inlets[inlet].pop_watermark()
            {
                self.merge.advance(inlet, watermark);
            }
        }
    }

    /// Raises the merged watermark as far as the inputs allow.
    fn raise(&mut self, emitted: &mut Emitted) -> Result<()> {
        self.settle_idle_inputs();
        match self.merge.raise() {
            Some(watermark) => self.continue_raising(watermark, emitted),
            None => Ok(()),
        }
    }

    /// Before a watermark passes idle producers of an exchange they must agree; one that has woken
    /// meanwhile counts as awake, although its first element is still on the way.
    fn settle_idle_inputs(&mut self) {
        for (n, inlet) in self.inlets.iter().enumerate() {
            let Inlet::Remote { gate, producer, .. } = inlet else { continue };
            if !self.merge.is_idle(n) {
                continue;
            }
            let candidate = self.merge.candidate();
            if candidate > self.merge.watermark() && !gate.promise(candidate, *producer) {
                self.merge.wake(n);
            }
        }
    }

    fn continue_raising(&mut self, watermark: EventTime, emitted: &mut Emitted) -> Result<()> {
        self.raising = Some(watermark);
        if self.raise_operator(watermark, emitted)? == Progress::More {
            return Ok(());
        }
        self.raising = None;
        self.stats.watermark.store(watermark, Ordering::Relaxed);
        if watermark < END_OF_TIME {
            emitted.push((Port::Main, Element::Watermark(self.forwarded(watermark))));
        }
        self.finish_when_ended(emitted);
        Ok(())
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        watermark.saturating_sub(self.hold_back)
    }

    fn raise_operator(&mut self, watermark: EventTime, emitted: &mut Emitted) -> Result<Progress> {
        match self.operator(emitted) {
            Some((operator, mut out)) => {
                operator.watermark(watermark, &mut out).map_err(|error| error.at(out.name))
            }
            None => Ok(Progress::Done),
        }
    }

    /// Nobody downstream waits for a silent input, so what a combiner has gathered goes before.
    fn forward_idle(&mut self, emitted: &mut Emitted) -> Result<()> {
        if !self.merge.all_idle() || self.idle {
            return Ok(());
        }
        if !self.keeps_state {
            let Barrier { epoch, .. } = *self.barrier.lock();
            self.pass_barrier(Barrier { epoch, full: false, checkpointed: false }, emitted)?;
        }
        self.idle = true;
        self.gates.iter().for_each(|(gate, shard)| gate.sleep(*shard));
        emitted.push((Port::Main, Element::Idle));
        Ok(())
    }

    /// Lets the operator emit what it has gathered and hand over its state.
    fn pass_barrier(&mut self, barrier: Barrier, emitted: &mut Emitted) -> Result<StateChange> {
        match self.operator(emitted) {
            Some((operator, mut out)) => {
                operator.barrier(barrier, &mut out).map_err(|error| error.at(out.name))
            }
            None => Ok(StateChange::default()),
        }
    }

    fn finish_when_ended(&mut self, emitted: &mut Emitted) {
        if !self.finished && self.raising.is_none() && self.ended.iter().all(|ended| *ended) {
            self.finished = true;
            emitted.push((Port::Main, Element::End));
        }
    }

    fn cut_when_aligned(&mut self, emitted: &mut Emitted) -> Result<()> {
        let waits = self.aligned.iter().zip(&self.ended).any(|(aligned, ended)| !aligned && !ended);
        if waits {
            return Ok(());
        }
        self.aligned.fill(false);
        self.take_cut(emitted)?;
        // A sink's barrier follows what it may still refuse.
        if let Behavior::Operator(_) = self.behavior {
            emitted.push((Port::Main, Element::Barrier(self.barrier.lock().epoch)));
        }
        Ok(())
    }

    /// Rows that the outside has refused are dead letters.
    fn take_refused(&mut self, emitted: &mut Emitted) -> Result<()> {
        let Behavior::Sink(sink) = &mut self.behavior else { return Ok(()) };
        let refused = sink.take_refused();
        self.rejects.send(&self.name, &refused, &self.stats, emitted)
    }

    /// Hands over state or staged output: at a barrier, or at any time once the station has
    /// finished.
    pub fn take_cut(&mut self, emitted: &mut Emitted) -> Result<()> {
        let barrier = *self.barrier.lock();
        if let Behavior::Sink(sink) = &mut self.behavior {
            sink.staging = Some(barrier.epoch);
            return Ok(());
        }
        let change = self.pass_barrier(barrier, emitted)?;
        self.rejects.epoch = barrier.epoch + 1;
        self.counts_at_cut = self.stats.counts();
        self.take_measure();
        let watermark = self.merge.watermark();
        self.cut = Some((barrier.epoch, Cut::State { watermark, change }));
        Ok(())
    }

    /// While a sink is staging nothing else happens to it: `None` where it is not, else whether it
    /// has come to an end. What the outside refuses goes out in front of the barrier.
    pub fn poll_staging(&mut self, now: u64, emitted: &mut Emitted) -> Result<Option<bool>> {
        let Behavior::Sink(sink) = &mut self.behavior else { return Ok(None) };
        let (epoch, staged) = match sink.poll_staging(Duration::from_nanos(now))? {
            Staging::None => return Ok(None),
            Staging::Pending => {
                self.take_refused(emitted)?;
                return Ok(Some(false));
            }
            Staging::Done(epoch, staged) => (epoch, staged),
        };
        self.take_refused(emitted)?;
        self.take_measure();
        self.cut = Some((epoch, Cut::Staged(staged)));
        self.counts_at_cut = self.stats.counts();
        self.rejects.epoch = epoch + 1;
        emitted.push((Port::Main, Element::Barrier(epoch)));
        Ok(Some(true))
    }

    /// For `/status`: how much waits at the inputs.
    pub fn queue_len(&self) -> usize {
        self.inlets.iter().map(Inlet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::dead_letter::OnError;
    use tidemill_core::operator::{Output, StateFragment};
    use tidemill_core::time::SystemClock;

    use super::*;
    use crate::memory::{Memory, MemoryKind};

    /// Has nothing to do at any element.
    struct Nothing;

    impl Operator for Nothing {
        fn process(&mut self, _: usize, _: Batch, _: &mut dyn Output) -> Result<()> {
            Ok(())
        }

        fn watermark(&mut self, _: EventTime, _: &mut dyn Output) -> Result<Progress> {
            Ok(Progress::Done)
        }

        fn barrier(&mut self, _: Barrier, _: &mut dyn Output) -> Result<StateChange> {
            Ok(StateChange::default())
        }

        fn restore(&mut self, _: StateFragment) -> Result<()> {
            Ok(())
        }

        fn state_bytes(&self) -> usize {
            0
        }
    }

    /// A station whose inputs hold these elements.
    fn station(inputs: Vec<Vec<Element>>) -> Station {
        let memory = Memory::new(None);
        let rejects = Rejects {
            job: "job".to_owned(),
            source: "source".to_owned(),
            on_error: OnError::Fail,
            clock: Arc::new(SystemClock::default()),
            epoch: 1,
            late_output: false,
            declined_output: false,
        };
        let barrier = Barrier { epoch: 1, full: true, checkpointed: true };
        let mut station = Station::new(
            "station".to_owned(),
            Arc::default(),
            Behavior::Operator(Box::new(Nothing)),
            rejects,
            DelayRecorder::new(),
            Arc::new(Mutex::new(barrier)),
            memory.account(MemoryKind::State, "station"),
        );
        for (input, elements) in inputs.into_iter().enumerate() {
            let mut queue = LocalQueue::new(memory.account(MemoryKind::Queues, "queue"));
            elements.into_iter().for_each(|element| queue.push(Envelope::new(element, 0)));
            station.add_inlet(input, Inlet::Local(queue));
        }
        station
    }

    /// What the steps emit, each in words.
    fn steps(station: &mut Station) -> Vec<String> {
        let mut steps = Vec::new();
        loop {
            let mut emitted = Emitted::new();
            if station.step(0, &mut emitted).unwrap().is_none() {
                return steps;
            }
            let elements: Vec<_> = emitted.into_iter().map(|(_, element)| element).collect();
            steps.push(format!("{elements:?}"));
        }
    }

    #[test]
    fn watermarks_that_wait_raise_the_merged_one_once_and_none_is_taken_from_behind_a_barrier() {
        let at = Element::Watermark;
        let mut station = station(vec![
            vec![at(5), at(8), Element::Barrier(1), at(50)],
            vec![at(6), at(7)],
            vec![at(40), Element::Barrier(1)],
        ]);
        assert_eq!(steps(&mut station), ["[Watermark(7)]", "[]", "[]"]);
        let Inlet::Local(queue) = &mut station.inlets[1] else { unreachable!() };
        let more = [at(9), Element::Barrier(1), at(60)];
        more.into_iter().for_each(|element| queue.push(Envelope::new(element, 0)));
        assert_eq!(steps(&mut station), ["[Watermark(8)]", "[Barrier(1)]", "[Watermark(40)]"]);
    }
}
