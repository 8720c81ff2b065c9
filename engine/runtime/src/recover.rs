//! Recovery: opens the checkpoint folder, takes the newest intact checkpoint of this very query, and
//! lets sinks that are behind it commit again.

use tidemill_checkpoint::CheckpointFolder;
use tidemill_checkpoint::manifest::{Fingerprint, Manifest};
use tidemill_checkpoint::recovery::{Recovery, SinkFact, SinkStep, resolve};
use tidemill_core::graph::{Graph, NodeKind, Port, SinkNode};
use tidemill_core::sink::SinkContext;
use tidemill_core::{Epoch, Error, Result};

use crate::coordinate::SinkRun;
use crate::job::JobSettings;

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
            if checkpoints.fresh {
                folder.clear()?;
            }
            let recovery = folder.recover()?;
            (Some(folder), recovery)
        }
    };
    if let Some(manifest) = &recovery.manifest {
        let differences = manifest.fingerprint.differences(&fingerprint(graph));
        if !differences.is_empty() {
            return Err(Error::configuration(format!(
                "the checkpoint of epoch {} belongs to another query:\n  {}\nGo back to that query, \
                 or start from the beginning with --fresh",
                manifest.epoch,
                differences.join("\n  ")
            )));
        }
    }
    let restored = recovery.manifest.as_ref().map(|manifest| manifest.epoch);
    let sinks_from = restored.map_or(recovery.next_epoch, |restored| restored + 1);
    let mut sinks = open_committers(graph, settings, sinks_from)?;
    let first_epoch = commit_again(&mut sinks, folder.as_ref(), &recovery)?;
    Ok(Recovered { folder, manifest: recovery.manifest, first_epoch, sinks_from, sinks })
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
            sinks.push(SinkRun { name: node.name.clone(), committer, carried: Vec::new() });
        }
    }
    Ok(sinks)
}

/// Lets sinks that are behind the restored epoch commit it again; returns the first new epoch.
fn commit_again(
    sinks: &mut [SinkRun],
    folder: Option<&CheckpointFolder>,
    recovery: &Recovery,
) -> Result<Epoch> {
    let mut facts = Vec::new();
    for sink in sinks.iter_mut() {
        let committed = sink.committer.committed().map_err(|error| error.at(&sink.name))?;
        facts.push(SinkFact { node: sink.name.clone(), committed });
    }
    let resolution = resolve(recovery, &facts);
    for (sink, (node, step)) in sinks.iter_mut().zip(&resolution.sinks) {
        match (step, folder, &recovery.manifest) {
            (SinkStep::Recommit, Some(folder), Some(manifest)) => {
                let state = manifest.sinks.iter().find(|state| state.node == *node);
                let mut staged = Vec::new();
                for reference in state.iter().flat_map(|state| &state.staged) {
                    staged.push(folder.read_staged(reference)?);
                }
                let result = sink.committer.commit(manifest.epoch, &staged);
                result.map_err(|error| error.at(node))?;
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

/// What a job's state depends on, by node.
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
