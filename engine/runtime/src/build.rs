//! Builds the shards of a job: opens its splits, creates operators and writers, connects them, and
//! restores what the last checkpoint holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use tidemill_checkpoint::CheckpointFolder;
use tidemill_checkpoint::manifest::{Manifest, SplitState};
use tidemill_core::graph::{Graph, NodeKind, Port, SourceNode};
use tidemill_core::key;
use tidemill_core::operator::{Barrier, OperatorContext, StateFragment};
use tidemill_core::retry::RetrySettings;
use tidemill_core::sink::SinkContext;
use tidemill_core::source::{ReaderContext, SplitId};
use tidemill_core::{Epoch, Error, EventTime, Result};

use crate::align::Groups;
use crate::delay::DelayRecorder;
use crate::delivery::Delivery;
use crate::exchange::{Exchange, Gates, LocalQueue, Owners};
use crate::guard::{Attempts, Guard};
use crate::job::{JobSettings, StartFrom};
use crate::layout::{Layout, Role, StationPlan};
use crate::link::{Blocked, Links};
use crate::memory::{Memory, MemoryKind};
use crate::offsets;
use crate::rejects::Rejects;
use crate::shard::{Control, Event, Outlet, Shard, ShardView, Slot, Target};
use crate::source::{SourceSettings, SourceStation};
use crate::station::{Behavior, Inlet, Station};
use crate::stats::{Counts, NamedStats, StationStats};
use crate::waker::ShardWaker;

/// The shards of a job, ready to run, and what the coordinator keeps of them.
pub(crate) struct Built {
    pub shards: Vec<Shard>,
    pub handles: Vec<ShardHandle>,
    /// For each station, by shard: the node's name and its counters.
    pub stats: Vec<NamedStats>,
    pub delay: DelayRecorder,
    /// For each source node the splits of each shard.
    pub splits: HashMap<String, Vec<Vec<SplitId>>>,
}

/// The coordinator's hold on a shard.
pub(crate) struct ShardHandle {
    pub control: Sender<Control>,
    pub waker: ShardWaker,
    pub view: Arc<ShardView>,
}

/// What sources share over the shards.
struct SourcesShared {
    groups: Groups,
    /// By node: splits that have not ended.
    live: Vec<Arc<AtomicUsize>>,
}

/// Everything that building needs.
pub(crate) struct Builder<'a> {
    pub graph: &'a Graph,
    pub settings: &'a JobSettings,
    pub layout: &'a Layout,
    pub restored: Option<(&'a CheckpointFolder, &'a Manifest)>,
    pub sinks_from: Epoch,
    pub barrier: Arc<Mutex<Barrier>>,
    pub events: Sender<Event>,
    pub memory: Arc<Memory>,
    /// How the writers of each sink are called again, by the sink's name.
    pub guards: HashMap<String, Arc<Guard>>,
    pub links: Links,
}

impl Builder<'_> {
    pub fn build(&self) -> Result<Built> {
        let shards = self.settings.shards;
        let wakers: Vec<ShardWaker> = (0..shards).map(|_| ShardWaker::default()).collect();
        let exchanges = self.exchanges(&wakers);
        let assigned = self.assign_splits()?;
        let delay = DelayRecorder::new();
        let shared = SourcesShared {
            groups: Groups::new(self.graph, shards),
            live: self.graph.nodes().iter().map(|_| Arc::default()).collect(),
        };
        let (shards, handles, stats, splits) = Default::default();
        let mut built = Built { shards, handles, stats, delay, splits };
        for (id, waker) in wakers.iter().enumerate() {
            let (control, controls) = channel();
            let view = Arc::new(ShardView::default());
            let (shard, stats) = self.shard(
                id,
                waker,
                &exchanges,
                (&assigned, &shared),
                controls,
                &view,
                &built.delay,
            )?;
            built.shards.push(shard);
            built.stats.push(stats);
            built.handles.push(ShardHandle { control, waker: waker.clone(), view });
        }
        for (node, splits) in self.graph.nodes().iter().zip(assigned) {
            if let NodeKind::Source(_) = node.kind {
                built.splits.insert(node.name.clone(), splits);
            }
        }
        Ok(built)
    }

    #[allow(clippy::too_many_arguments)]
    fn shard(
        &self,
        id: usize,
        waker: &ShardWaker,
        exchanges: &[Exchange],
        (assigned, shared): (&[Vec<Vec<SplitId>>], &SourcesShared),
        control: Receiver<Control>,
        view: &Arc<ShardView>,
        delay: &DelayRecorder,
    ) -> Result<(Shard, NamedStats)> {
        let mut slots = Vec::new();
        let mut stats = Vec::new();
        for plan in &self.layout.stations {
            let counters = Arc::new(StationStats::default());
            stats.push((plan.name.clone(), counters.clone()));
            self.restore_counts(id, plan, &counters)?;
            let gates = self.gates(plan, exchanges, id);
            slots.push(match &plan.role {
                Role::Source(node) => {
                    let splits = &assigned[plan.node][id];
                    let total = assigned[plan.node].iter().map(Vec::len).sum();
                    let mut source =
                        self.source(plan, node, (splits, total), shared, counters, waker)?;
                    source.set_gates(gates);
                    Slot::Source(source)
                }
                _ => {
                    let mut station = self.station(id, plan, counters, waker, delay)?;
                    station.gates = gates;
                    Slot::Station(station)
                }
            });
        }
        let outlets = self.connect(id, &mut slots, exchanges);
        self.restore_state(&mut slots)?;
        let clock = self.settings.clock.clone();
        let events = self.events.clone();
        let context = self.reader_context(waker);
        let shard = Shard::new(
            id,
            slots,
            outlets,
            control,
            events,
            waker.clone(),
            clock,
            view.clone(),
            context,
        );
        Ok((shard, stats))
    }

    /// For each node and shard the splits that the shard reads.
    fn assign_splits(&self) -> Result<Vec<Vec<Vec<SplitId>>>> {
        let shards = self.settings.shards;
        let mut assigned = Vec::new();
        let mut next = 0;
        for node in self.graph.nodes() {
            let mut of_node = vec![Vec::new(); shards];
            if let NodeKind::Source(source) = &node.kind {
                let restored = self.restored_splits(&node.name);
                let known: Vec<SplitId> = restored.keys().cloned().collect();
                let found = match known.is_empty() {
                    true => source.source.splits(),
                    false => source.source.splits_again(&known),
                };
                let found = found.map_err(|error| error.at(&node.name))?;
                let mut splits: BTreeSet<SplitId> = found.into_iter().collect();
                self.check_splits(&node.name, source, &splits, &restored)?;
                splits
                    .extend(restored.into_iter().filter(|(_, s)| s.ended).map(|(split, _)| split));
                for split in splits {
                    of_node[next % shards].push(split);
                    next += 1;
                }
            }
            assigned.push(of_node);
        }
        Ok(assigned)
    }

    /// A source has all splits that it has offsets of, unless they have ended.
    fn check_splits(
        &self,
        node: &str,
        source: &SourceNode,
        splits: &BTreeSet<SplitId>,
        restored: &HashMap<SplitId, SplitState>,
    ) -> Result<()> {
        let Some(gone) = offsets::gone(splits, restored) else { return Ok(()) };
        let start = self.settings.checkpoints.as_ref().map(|checkpoints| checkpoints.start);
        if start == Some(StartFrom::Offsets) {
            tracing::warn!(
                source = node,
                splits = gone,
                "splits are gone, and with them their offsets"
            );
            return Ok(());
        }
        Err(Error::configuration(format!(
            "source `{node}` reads {} now, where these splits of the checkpoint are not found: {gone}. \
             Let it read what it has read before; or go on without them and without state \
             (--from-offsets); or start from the beginning (--fresh)",
            source.source.describe(),
        )))
    }

    fn exchanges(&self, wakers: &[ShardWaker]) -> Vec<Exchange> {
        let exchange = |number: usize| {
            let link = self.layout.link_of(number);
            let account = self.memory.account(MemoryKind::Queues, link);
            Exchange::new(wakers, &account)
        };
        (0..self.layout.exchanges).map(exchange).collect()
    }

    fn restored_splits(&self, node: &str) -> HashMap<SplitId, SplitState> {
        let sources = self.restored.iter().flat_map(|(_, manifest)| &manifest.sources);
        let of_node = sources.filter(|source| source.node == node);
        of_node.flat_map(|s| &s.splits).map(|s| (s.split.clone(), s.clone())).collect()
    }

    fn source(
        &self,
        plan: &StationPlan,
        node: &SourceNode,
        (splits, total): (&[SplitId], usize),
        shared: &SourcesShared,
        stats: Arc<StationStats>,
        waker: &ShardWaker,
    ) -> Result<SourceStation> {
        let clock = self.settings.clock.clone();
        let share = splits.len() as f64 / total.max(1) as f64;
        let settings = SourceSettings {
            batch_rows: self.settings.batch_rows,
            linger: self.settings.linger,
            clock: clock.clone(),
            // A shard without splits has no share, and nothing to hold back.
            rate: node.rate_limit.map(|rate| rate as f64 * share).filter(|rate| *rate > 0.0),
            live: shared.live[plan.node].clone(),
            pace: shared.groups.pace(node.alignment.as_ref(), waker),
            share,
            account: self.memory.account(MemoryKind::Buffers, &plan.name),
        };
        let mut source = SourceStation::new(
            plan.name.clone(),
            stats,
            node.clone(),
            self.rejects(plan),
            settings,
        );
        // A source that the checkpoint does not know starts where it says itself.
        let known = |(_, manifest): &(&CheckpointFolder, &Manifest)| {
            manifest.sources.iter().any(|source| source.node == plan.name)
        };
        let restored = self.restored.filter(known).map(|_| self.restored_splits(&plan.name));
        source.open(splits, restored.as_ref(), &self.reader_context(waker))?;
        Ok(source)
    }

    fn reader_context(&self, waker: &ShardWaker) -> ReaderContext {
        ReaderContext {
            waker: waker.waker(),
            clock: self.settings.clock.clone(),
            job: self.settings.name.as_str().into(),
            discovered: false,
            checkpointed: self.settings.checkpoints.is_some(),
        }
    }

    fn station(
        &self,
        shard: usize,
        plan: &StationPlan,
        stats: Arc<StationStats>,
        waker: &ShardWaker,
        delay: &DelayRecorder,
    ) -> Result<Station> {
        let shards = self.settings.shards;
        let context = OperatorContext {
            node: plan.name.as_str().into(),
            shard,
            shards,
            key_groups: key::owned(shard, shards),
            clock: self.settings.clock.clone(),
            checkpointed: self.settings.checkpoints.is_some(),
        };
        let behavior = match &plan.role {
            Role::Operator(factory) => Behavior::Operator(factory.create(&context)?),
            Role::Combiner(keyed) => Behavior::Operator(keyed.combiner(&context)?),
            Role::Merger(keyed) => Behavior::Operator(keyed.merger(&context)?),
            Role::Fused(keyed) => Behavior::Operator(keyed.fused(&context)?),
            Role::Sink(sink) => {
                let context = self.sink_context(plan, sink.retry, shard, waker);
                let writer = sink.sink.writer(&context).map_err(|error| error.at(&plan.name))?;
                let guard = self.guards[&plan.name].clone();
                Behavior::Sink(Box::new(Delivery::new(writer, Attempts::new(guard))))
            }
            Role::Source(_) => unreachable!("sources are no stations of this kind"),
        };
        let (name, barrier) = (plan.name.clone(), self.barrier.clone());
        let kind = match behavior {
            Behavior::Operator(_) => MemoryKind::State,
            Behavior::Sink(_) => MemoryKind::Sinks,
        };
        let account = self.memory.account(kind, &plan.name);
        let rejects = self.rejects(plan);
        let mut station =
            Station::new(name, stats, behavior, rejects, delay.clone(), barrier, account);
        station.counts_in = !matches!(plan.role, Role::Merger(_));
        station.counts_out = !matches!(plan.role, Role::Combiner(_));
        station.keeps_state = !matches!(plan.role, Role::Combiner(_));
        if let Role::Merger(keyed) | Role::Fused(keyed) = &plan.role {
            station.hold_back = keyed.describe().hold_back;
        }
        Ok(station)
    }

    /// What a sink's writer gets.
    fn sink_context(
        &self,
        plan: &StationPlan,
        retry: RetrySettings,
        shard: usize,
        waker: &ShardWaker,
    ) -> SinkContext {
        SinkContext {
            job: self.settings.name.clone(),
            node: plan.name.clone(),
            shard,
            first_epoch: self.sinks_from,
            schema: self.graph.schema(plan.node, Port::Main),
            waker: waker.waker(),
            checkpointed: self.settings.checkpoints.is_some(),
            clock: self.settings.clock.clone(),
            machine_output: self.settings.machine_output,
            retry,
        }
    }

    fn rejects(&self, plan: &StationPlan) -> Rejects {
        Rejects {
            job: self.settings.name.clone(),
            source: plan.source_name.clone(),
            on_error: plan.on_error,
            clock: self.settings.clock.clone(),
            epoch: self.barrier.lock().epoch,
            late_output: plan.outputs.iter().any(|output| output.port == Port::Late),
            declined_output: plan.outputs.iter().any(|output| output.port == Port::Declined),
        }
    }

    /// The exchanges that a station sends to.
    fn gates(&self, plan: &StationPlan, exchanges: &[Exchange], shard: usize) -> Gates {
        let exchanged = plan.outputs.iter().filter_map(|output| output.exchange.as_ref());
        exchanged.map(|(exchange, _)| (exchanges[*exchange].gate.clone(), shard)).collect()
    }

    /// Creates the inlets and outlets of one shard's stations.
    fn connect(&self, id: usize, slots: &mut [Slot], exchanges: &[Exchange]) -> Vec<Vec<Outlet>> {
        // First inlet of each station's inputs: local inputs have one, exchanged ones one per shard.
        let mut first_inlet: Vec<Vec<usize>> = Vec::new();
        for (slot, plan) in slots.iter_mut().zip(&self.layout.stations) {
            let mut of_inputs = Vec::new();
            for (input, from) in plan.inputs.iter().enumerate() {
                let Slot::Station(station) = slot else { continue };
                of_inputs.push(match from.exchange {
                    None => {
                        let account = self.memory.account(MemoryKind::Queues, &from.link);
                        station.add_inlet(input, Inlet::Local(LocalQueue::new(account)))
                    }
                    Some(exchange) => {
                        let exchange = &exchanges[exchange];
                        let inlets = exchange.channels.iter().enumerate().map(|(producer, to)| {
                            let (channel, gate) = (to[id].clone(), exchange.gate.clone());
                            station.add_inlet(input, Inlet::Remote { channel, gate, producer })
                        });
                        inlets.min().unwrap_or_default()
                    }
                });
            }
            first_inlet.push(of_inputs);
        }
        let outlets = self.layout.stations.iter().map(|plan| {
            let outlets = plan.outputs.iter().map(|output| Outlet {
                port: output.port,
                blocked: Blocked::new(
                    self.links.of(&plan.name, &self.layout.stations[output.to].name),
                ),
                target: match &output.exchange {
                    None => Target::Local {
                        station: output.to,
                        inlet: first_inlet[output.to][output.input],
                    },
                    Some((exchange, keys)) => {
                        let channels = exchanges[*exchange].channels[id].clone();
                        Target::Exchange(Owners::new(channels, keys.clone()))
                    }
                },
            });
            outlets.collect()
        });
        outlets.collect()
    }

    /// Counters go on from the checkpoint; the first shard carries those of all before.
    fn restore_counts(&self, shard: usize, plan: &StationPlan, stats: &StationStats) -> Result<()> {
        let Some((_, manifest)) = &self.restored else { return Ok(()) };
        if shard != 0 || matches!(plan.role, Role::Merger(_)) {
            return Ok(());
        }
        let all: BTreeMap<String, Counts> = serde_json::from_value(manifest.counts.clone())
            .map_err(|e| {
                let epoch = manifest.epoch;
                Error::corrupt(format!("the counters of epoch {epoch} cannot be read")).caused_by(e)
            })?;
        if let Some(counts) = all.get(&plan.name) {
            stats.restore(*counts);
        }
        Ok(())
    }

    /// Gives operators their state back: every fragment to every shard, which keeps its key groups.
    fn restore_state(&self, slots: &mut [Slot]) -> Result<()> {
        let Some((folder, manifest)) = &self.restored else { return Ok(()) };
        // Lowest and highest over the shards: an input that ends, or falls idle, about the time of the
        // barrier may let one owner's watermark pass and another's not.
        let mut watermarks: HashMap<&str, (EventTime, EventTime)> = HashMap::new();
        for state in &manifest.operators {
            let (lowest, highest) =
                watermarks.entry(&state.node).or_insert((state.watermark, state.watermark));
            *lowest = state.watermark.min(*lowest);
            *highest = state.watermark.max(*highest);
            for file in &state.files {
                for rows in folder.read_state(&file.file)? {
                    let (needed_until, watermark) = (file.needed_until, state.watermark);
                    let fragment = StateFragment { rows, needed_until, watermark };
                    restore_fragment(slots, &state.node, &fragment)?;
                }
            }
        }
        for slot in slots {
            let Slot::Station(station) = slot else { continue };
            // Owners go on firing where the last of them was; each fragment knows what was fired of
            // it. Rows are judged by the most that any owner may have fired.
            if let Some((lowest, highest)) = watermarks.get(station.name.as_str()) {
                station.start_at(if station.keeps_state { *lowest } else { *highest })?;
            }
        }
        Ok(())
    }
}

fn restore_fragment(slots: &mut [Slot], node: &str, fragment: &StateFragment) -> Result<()> {
    for slot in slots {
        let Slot::Station(station) = slot else { continue };
        if station.name == node
            && station.keeps_state
            && let Behavior::Operator(operator) = &mut station.behavior
        {
            operator.restore(fragment.clone()).map_err(|error| error.at(node))?;
        }
    }
    Ok(())
}
