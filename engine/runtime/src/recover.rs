//! Recovery: opens the checkpoint folder, takes the newest intact checkpoint of this very query, and
//! lets sinks that are behind it commit again.

use tidemill_checkpoint::CheckpointFolder;
use tidemill_checkpoint::manifest::{Fingerprint, Manifest};
use tidemill_checkpoint::query::{Changes, VERSION};
use tidemill_checkpoint::recovery::{Recovery, SinkFact, SinkStep, resolve};
use tidemill_core::graph::{Graph, NodeKind, Port, SinkNode};
use tidemill_core::sink::SinkContext;
use tidemill_core::time::Clock;
use tidemill_core::{Epoch, Error, Result};

use crate::commit::until_done;
use crate::coordinate::SinkRun;
use crate::guard::Guard;
use crate::job::{JobSettings, StartFrom};
use crate::offsets;
use crate::query::query;

/// Where a run starts.
pub(crate) struct Recovered {
    pub folder: Option<CheckpointFolder>,
    pub manifest: Option<Manifest>,
    pub first_epoch: Epoch,
    /// What sinks wrote in this epoch and later ones is going to be written again. Lower than
    /// [`Self::first_epoch`] where damaged checkpoints were passed over.
    pub sinks_from: Epoch,
    pub sinks: Vec<SinkRun>,
}

pub(crate) fn recover(graph: &Graph, settings: &JobSettings) -> Result<Recovered> {
    let (folder, recovery) = match &settings.checkpoints {
        None => (None, Recovery { manifest: None, rejected: Vec::new(), next_epoch: 1 }),
        Some(checkpoints) => {
            let folder = CheckpointFolder::open(&checkpoints.url, &settings.name)?;
            if checkpoints.start == StartFrom::Beginning {
                folder.clear()?;
            }
            let recovery = folder.recover()?;
            (Some(folder), recovery)
        }
    };
    let start = settings.checkpoints.as_ref().map(|checkpoints| checkpoints.start);
    let from_offsets = start == Some(StartFrom::Offsets);
    if let Some(manifest) = &recovery.manifest {
        offsets::check_connectors(graph, manifest)?;
    }
    match &recovery.manifest {
        Some(manifest) if from_offsets => offsets::check(graph, manifest)?,
        Some(manifest) => check_query(graph, manifest)?,
        None if from_offsets => {
            return Err(Error::configuration(
                "there is no checkpoint whose offsets the job could go on from: start it without \
                 --from-offsets",
            ));
        }
        None => {}
    }
    let restored = recovery.manifest.as_ref().map(|manifest| manifest.epoch);
    let sinks_from = restored.map_or(recovery.next_epoch, |restored| restored + 1);
    let mut sinks = open_committers(graph, settings, sinks_from)?;
    let clock = settings.clock.as_ref();
    let first_epoch = commit_again(&mut sinks, folder.as_ref(), &recovery, clock)?;
    let manifest = recovery.manifest.map(|manifest| {
        if from_offsets { offsets::without_state(graph, manifest) } else { manifest }
    });
    Ok(Recovered { folder, manifest, first_epoch, sinks_from, sinks })
}

/// Whether the checkpoint's state is that of this query.
fn check_query(graph: &Graph, manifest: &Manifest) -> Result<()> {
    let changes = match &manifest.query {
        Some(then) if then.version == VERSION => then.changes(&query(graph)),
        _ => Changes {
            refused: manifest.fingerprint.differences(&fingerprint(graph)),
            accepted: Vec::new(),
        },
    };
    if changes.refused.is_empty() {
        for change in changes.accepted {
            tracing::info!(change, "the query has changed, in a way that its state allows");
        }
        return Ok(());
    }
    let also = match changes.accepted.as_slice() {
        [] => String::new(),
        accepted => format!("\nThis has changed too, and may:\n  {}", accepted.join("\n  ")),
    };
    Err(Error::configuration(format!(
        "the checkpoint of epoch {} belongs to another query:\n  {}{also}\nGo back to that query, or \
         choose:\n  --from-offsets  to go on from where it stopped reading, without its state: {}\n  \
         --fresh         to start from the beginning",
        manifest.epoch,
        changes.refused.join("\n  "),
        offsets::lost(manifest)
    )))
}

fn open_committers(graph: &Graph, settings: &JobSettings, from: Epoch) -> Result<Vec<SinkRun>> {
    let mut sinks = Vec::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        if let NodeKind::Sink(SinkNode { sink, retry }) = &node.kind {
            let context = SinkContext {
                job: settings.name.clone(),
                node: node.name.clone(),
                shard: 0,
                first_epoch: from,
                schema: graph.schema(id, Port::Main),
                waker: std::task::Waker::noop().clone(),
                checkpointed: settings.checkpoints.is_some(),
                clock: settings.clock.clone(),
                machine_output: settings.machine_output,
                retry: *retry,
            };
            let committer = sink.committer(&context).map_err(|error| error.at(&node.name))?;
            let (name, writes) = (node.name.clone(), sink.describe());
            let guard = Guard::new(&name, "commit", *retry);
            let (committer, carried) = (Some(committer), Vec::new());
            sinks.push(SinkRun {
                name,
                writes,
                committer,
                guard,
                carried,
                thread: None,
                held: None,
            });
        }
    }
    Ok(sinks)
}

/// Lets sinks that are behind the restored epoch commit it again; returns the first new epoch.
fn commit_again(
    sinks: &mut [SinkRun],
    folder: Option<&CheckpointFolder>,
    recovery: &Recovery,
    clock: &dyn Clock,
) -> Result<Epoch> {
    let mut facts = Vec::new();
    for sink in sinks.iter_mut() {
        let SinkRun { committer, guard, .. } = sink;
        let committed = match committer {
            Some(committer) => until_done(guard, clock, || committer.committed())?,
            None => None,
        };
        facts.push(SinkFact { node: sink.name.clone(), committed });
    }
    let resolution = resolve(recovery, &facts);
    if let Some(manifest) = &recovery.manifest {
        warn_of_undelivered(sinks, manifest);
    }
    for (sink, (node, step)) in sinks.iter_mut().zip(&resolution.sinks) {
        match (step, folder, &recovery.manifest) {
            (SinkStep::Recommit, Some(folder), Some(manifest)) => {
                let state = manifest.sinks.iter().find(|state| state.node == *node);
                let state = state.filter(|_| !writes_elsewhere(manifest, node, &sink.writes));
                let mut staged = Vec::new();
                for reference in state.iter().flat_map(|state| &state.staged) {
                    staged.push(folder.read_staged(reference)?);
                }
                let SinkRun { committer, guard, .. } = sink;
                if let Some(committer) = committer {
                    until_done(guard, clock, || committer.commit(manifest.epoch, &staged))?;
                }
            }
            (SinkStep::Ahead { committed }, _, _) => tracing::warn!(
                sink = node,
                committed,
                "the sink has results of epochs whose checkpoints are lost; they come again"
            ),
            _ => {}
        }
    }
    Ok(resolution.next_epoch)
}

/// Says which sinks are gone that may not have delivered what the checkpoint holds for them.
fn warn_of_undelivered(sinks: &[SinkRun], manifest: &Manifest) {
    for state in manifest.sinks.iter().filter(|state| !state.staged.is_empty()) {
        let sink = sinks.iter().find(|sink| sink.name == state.node);
        if sink.is_none_or(|sink| writes_elsewhere(manifest, &sink.name, &sink.writes)) {
            tracing::warn!(
                sink = state.node,
                epoch = manifest.epoch,
                "the sink is gone, and results of this epoch may not have been delivered to it: if \
                 the job was killed, run it once as it was, and stop it"
            );
        }
    }
}

/// Whether a sink is another connector's now: it cannot read what the old one staged.
fn writes_elsewhere(manifest: &Manifest, sink: &str, writes: &str) -> bool {
    let then = offsets::described(manifest, sink, "writes");
    then.is_some_and(|then| offsets::connector(then) != offsets::connector(writes))
}

/// What a job's state depends on, by node: for checkpoints that do not hold the query.
pub(crate) fn fingerprint(graph: &Graph) -> Fingerprint {
    let nodes = graph.nodes().iter().enumerate().map(|(id, node)| {
        let depends_on = match &node.kind {
            NodeKind::Source(source) => format!("source of {}", columns(&source.schema())),
            NodeKind::Operator(operator) => operator.fingerprint(),
            NodeKind::Keyed(keyed) => keyed.describe().fingerprint,
            NodeKind::Sink(_) => format!("sink of {}", columns(&graph.schema(id, Port::Main))),
        };
        (node.name.clone(), depends_on)
    });
    Fingerprint(nodes.collect())
}

fn columns(schema: &arrow::datatypes::Schema) -> String {
    let column = |f: &arrow::datatypes::FieldRef| format!("{} {}", f.name(), f.data_type());
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}
