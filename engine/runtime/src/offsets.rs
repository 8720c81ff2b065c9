//! Going on from the offsets of a checkpoint without its state: what is kept, and what is lost.
//!
//! On the recovery path, once sinks have committed what the checkpoint holds for them. Invariant: no record
//! before the offsets is read again, and none behind them is passed over; what their splits had
//! passed by is late, so that a window that has fired does not fire again.

use std::collections::{BTreeSet, HashMap};

use arrow::temporal_conversions::timestamp_us_to_datetime;
use tidemill_checkpoint::manifest::{Manifest, SourceState, SplitState};
use tidemill_core::graph::{Graph, NodeKind, SourceNode};
use tidemill_core::source::SplitId;
use tidemill_core::time::{BEGINNING, END_OF_TIME};
use tidemill_core::watermark::{SplitWatermark, WatermarkStrategy};
use tidemill_core::{Error, EventTime, Result};

use crate::query::query;

/// That the job reads all that the checkpoint has offsets of, but for what has ended: a source of
/// another name would start where it says itself, and read again what was read.
pub(crate) fn check(graph: &Graph, manifest: &Manifest) -> Result<()> {
    let is_read = |source: &SourceState| sources(graph).any(|(name, _)| name == source.node);
    let has_ended = |source: &SourceState| source.splits.iter().all(|split| split.ended);
    let gone = manifest.sources.iter().filter(|source| !is_read(source) && !has_ended(source));
    let gone: Vec<&str> = gone.map(|source| source.node.as_str()).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let found: Vec<&str> = sources(graph).map(|(name, _)| name).collect();
    Err(Error::configuration(format!(
        "the checkpoint of epoch {} has offsets of `{}`, which the job does not read; it reads `{}`: \
         call the source as it was called, or start from the beginning (--fresh)",
        manifest.epoch,
        gone.join("`, `"),
        found.join("`, `")
    )))
}

/// That no source goes on from offsets of another connector, which may look like its own.
pub(crate) fn check_connectors(graph: &Graph, manifest: &Manifest) -> Result<()> {
    for state in &manifest.sources {
        let Some((_, source)) = sources(graph).find(|(name, _)| *name == state.node) else {
            continue;
        };
        let (then, now) = (described(manifest, &state.node, "reads"), source.source.describe());
        if let Some(then) = then.filter(|then| connector(then) != connector(&now)) {
            return Err(Error::configuration(format!(
                "source `{}` of the checkpoint of epoch {} read another connector:\n  it was {then}\n  \
                 is now {now}\nThe offsets of one mean nothing to the other. Go back to it, or start \
                 from the beginning (--fresh)",
                state.node, manifest.epoch
            )));
        }
    }
    Ok(())
}

/// What a node of the checkpoint said of itself under the note `note`.
pub(crate) fn described<'a>(manifest: &'a Manifest, node: &str, note: &str) -> Option<&'a str> {
    let node = manifest.query.as_ref()?.nodes.get(node)?;
    node.notes.get(note)?.first().map(String::as_str)
}

/// The connector that a source or a sink is of: the first word of what it says of itself.
pub(crate) fn connector(description: &str) -> &str {
    description.split(' ').next().unwrap_or_default()
}

fn sources(graph: &Graph) -> impl Iterator<Item = (&str, &SourceNode)> {
    graph.nodes().iter().filter_map(|node| match &node.kind {
        NodeKind::Source(source) => Some((node.name.as_str(), source)),
        _ => None,
    })
}

/// The manifest without what belongs to its query: state and counters, and the watermarks of sources
/// whose time comes from another column now.
pub(crate) fn without_state(graph: &Graph, manifest: Manifest) -> Manifest {
    let lost = lost(&manifest);
    tracing::warn!(
        epoch = manifest.epoch,
        "going on from the offsets of this checkpoint, without its state: {lost}"
    );
    let now = query(graph);
    let time = |query: &tidemill_checkpoint::query::Query, source: &str| {
        let node = query.nodes.get(source)?;
        node.parts.get("time").or_else(|| node.notes.get("time")).cloned()
    };
    let mut sources = manifest.sources;
    for source in &mut sources {
        let then = manifest.query.as_ref().map(|query| time(query, &source.node));
        if then.is_some_and(|then| then != time(&now, &source.node)) {
            source.splits.iter_mut().for_each(|split| split.watermark = SplitWatermark::default());
        }
    }
    Manifest { sources, operators: Vec::new(), counts: serde_json::json!({}), ..manifest }
}

/// What results lack that are computed without a checkpoint's state, in words.
pub(crate) fn lost(manifest: &Manifest) -> String {
    if manifest.operators.iter().all(|operator| operator.files.is_empty()) {
        return "no window was open, so nothing is lost".to_owned();
    }
    let splits = manifest.sources.iter().flat_map(|source| &source.splits);
    let newest = splits.map(|split| split.watermark.watermark(&WatermarkStrategy::bounded(0)));
    let fired = manifest.operators.iter().map(|operator| operator.watermark).min();
    let fired = fired.filter(|time| ![BEGINNING, END_OF_TIME].contains(time)).and_then(shown);
    let behind = fired.map_or_else(String::new, |fired| format!(" and end after {fired}"));
    match newest.max().and_then(shown) {
        Some(newest) => format!(
            "windows that begin by {newest}{behind} lack the rows read so far; those that begin later \
             are complete"
        ),
        None => "windows that are open lack the rows read so far".to_owned(),
    }
}

/// A time as job files write it; `None` at the ends of time.
fn shown(time: EventTime) -> Option<String> {
    (time > BEGINNING).then(|| timestamp_us_to_datetime(time)).flatten().map(|t| t.to_string())
}

/// The splits, with their offsets, that a source does not have any more; but for those that have ended.
pub(crate) fn gone(
    splits: &BTreeSet<SplitId>,
    restored: &HashMap<SplitId, SplitState>,
) -> Option<String> {
    let gone = restored.values().filter(|state| !state.ended && !splits.contains(&state.split));
    let mut gone: Vec<String> =
        gone.map(|state| format!("{} (next is {})", state.split, state.offset)).collect();
    gone.sort_unstable();
    (!gone.is_empty()).then(|| gone.join(", "))
}
