//! Going on from the offsets of a checkpoint without its state: what is kept, and what is lost.
//!
//! On the recovery path, once sinks have committed what the checkpoint holds for them. Invariant: no record
//! before the offsets is read again, and none behind them is passed over; what their splits had
//! passed by is late, so that a window that has fired does not fire again.

use std::collections::{BTreeSet, HashMap};

use arrow::temporal_conversions::timestamp_us_to_datetime;
use tidemill_checkpoint::manifest::{Manifest, SourceState, SplitState};
use tidemill_core::graph::{Graph, NodeKind};
use tidemill_core::source::SplitId;
use tidemill_core::time::{BEGINNING, END_OF_TIME};
use tidemill_core::watermark::{SplitWatermark, WatermarkStrategy};
use tidemill_core::{Error, EventTime, Result};

use crate::query::query;

/// That the job reads something that the checkpoint has offsets of.
pub(crate) fn check(graph: &Graph, manifest: &Manifest) -> Result<()> {
    let is_read = |source: &SourceState| {
        let mut nodes = graph.nodes().iter();
        nodes.any(|n| n.name == source.node && matches!(n.kind, NodeKind::Source(_)))
    };
    let (read, gone): (Vec<_>, Vec<_>) =
        manifest.sources.iter().partition(|source| is_read(source));
    let names: Vec<&str> = gone.iter().map(|source| source.node.as_str()).collect();
    if read.is_empty() {
        return Err(Error::configuration(format!(
            "the checkpoint of epoch {} has offsets of `{}`, none of which the job reads: start from \
             the beginning (--fresh)",
            manifest.epoch,
            names.join("`, `")
        )));
    }
    for source in names {
        tracing::warn!(source, "the source is gone, and with it its offsets");
    }
    Ok(())
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
