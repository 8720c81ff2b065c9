//! The manifest: the one file whose existence makes an epoch exist.
//!
//! On disk it is a header line and a JSON body:
//!
//! ```text
//! tidemill-manifest 2 xxh3 <32 hex digits of the body's XXH3-128> <length of the body>\n
//! {"version":2,"job":"per-minute","epoch":7,…}
//! ```
//!
//! Invariant: [`Manifest::decode`] accepts a header only when it equals, byte for byte, the one that
//! its body would get. So every truncation and every flipped bit is found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_core::element::Epoch;
use tidemill_core::error::{Error, Result};
use tidemill_core::source::{Offset, SplitId};
use tidemill_core::time::EventTime;
use tidemill_core::watermark::SplitWatermark;

use crate::codec::checksum;
use crate::query::Query;

/// The version of the format that this crate writes: with 2, state files leave out columns that equal another.
pub const VERSION: u32 = 2;

/// The first version, which it reads as well.
const FIRST_VERSION: u32 = 1;

const MAGIC: &str = "tidemill-manifest";

/// All that it takes to resume a job behind one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format: [`VERSION`], where it is newly written.
    pub version: u32,
    /// The job's name.
    pub job: String,
    /// The epoch that exists by this manifest.
    pub epoch: Epoch,
    /// Wall-clock time of its making, in microseconds.
    pub created_at: EventTime,
    /// How many shards wrote it. It can be restored on any number.
    pub shards: usize,
    /// What the state in it depends on.
    pub fingerprint: Fingerprint,
    /// The query in words, by which a changed one is judged. The first manifests have none, and are
    /// judged by their fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Query>,
    /// Where the sources stand.
    pub sources: Vec<SourceState>,
    /// The state of each operator on each shard.
    pub operators: Vec<OperatorState>,
    /// What the sinks have to commit for this epoch.
    pub sinks: Vec<SinkState>,
    /// Counters of the runtime, opaque here.
    pub counts: serde_json::Value,
    /// The job ended with this epoch: there is nothing to resume.
    pub finished: bool,
}

/// What a job's state depends on, by node name. State is restored only into an equal fingerprint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub BTreeMap<String, String>);

/// Where one source stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// The source's node.
    pub node: String,
    /// Its splits.
    pub splits: Vec<SplitState>,
}

/// Where one split stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitState {
    /// The split.
    pub split: SplitId,
    /// The next record to read.
    pub offset: Offset,
    /// What lateness of its next rows is judged by.
    pub watermark: SplitWatermark,
    /// Nothing will come from it any more.
    pub ended: bool,
    /// How many records were read from it, since the job's first epoch.
    pub records: u64,
    /// Records of them that were dropped, since they came faster than they were processed.
    #[serde(default)]
    pub dropped: u64,
}

/// The state of one operator on one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// The operator's node.
    pub node: String,
    /// The shard that wrote it.
    pub shard: usize,
    /// The operator's watermark at the barrier: what it completes has been emitted.
    pub watermark: EventTime,
    /// Its files, oldest first.
    pub files: Vec<StateFile>,
}

/// One file of an operator's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// Where it is.
    pub file: FileRef,
    /// The file may be dropped once the operator's watermark has reached this.
    pub needed_until: EventTime,
    /// The epoch that wrote it.
    pub epoch: Epoch,
}

/// A file of a checkpoint, and how to tell that it is what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Path below the job's folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// XXH3-128 of its bytes, 32 hex digits.
    pub checksum: String,
}

/// What one sink has to commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    /// The sink's node.
    pub node: String,
    /// What its writers handed over, in the order in which it is committed. A shard has several
    /// where epochs before this one were abandoned after their barrier.
    pub staged: Vec<StagedRef>,
}

/// What one shard's writer handed over at a barrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedRef {
    /// The writer's shard.
    pub shard: usize,
    /// The bytes.
    pub output: StagedOutput,
}

/// Where staged bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagedOutput {
    /// In the manifest, two hex digits a byte.
    Inline(String),
    /// In a file of their own.
    File(FileRef),
}

impl Fingerprint {
    /// How `now` differs from this fingerprint of a checkpoint, one readable line for each node.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (node, then) in &self.0 {
            match now.0.get(node) {
                None => lines.push(format!("`{node}` is gone (it was: {then})")),
                Some(now) if now != then => {
                    lines.push(format!("`{node}` was: {then}; is now: {now}"));
                }
                Some(_) => {}
            }
        }
        for (node, now) in &now.0 {
            if !self.0.contains_key(node) {
                lines.push(format!("`{node}` is new: {now}"));
            }
        }
        lines
    }
}

impl Manifest {
    /// Every file that the manifest refers to.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        let state = self.operators.iter().flat_map(|operator| &operator.files).map(|f| &f.file);
        let staged = self.sinks.iter().flat_map(|sink| &sink.staged);
        state.chain(staged.filter_map(|staged| match &staged.output {
            StagedOutput::File(file) => Some(file),
            StagedOutput::Inline(_) => None,
        }))
    }

    /// Bytes in the files that the manifest refers to.
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// The manifest as it is stored.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let body = serde_json::to_vec(self)
            .map_err(|e| Error::internal("the manifest cannot be written as JSON").caused_by(e))?;
        let mut bytes = header(self.version, &body).into_bytes();
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// Reads what [`Manifest::encode`] wrote.
    ///
    /// # Errors
    /// `Corrupt` where the bytes are not what was written; `Configuration` where they are, in a
    /// version of the format that this crate does not read.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |why: &str| Error::corrupt(format!("the manifest is damaged: {why}"));
        let line = bytes.iter().take(128).position(|byte| *byte == b'\n');
        let (head, body) = bytes.split_at(line.ok_or_else(|| corrupt("it has no header"))? + 1);
        let version = written_version(head).ok_or_else(|| corrupt("its header is unreadable"))?;
        if header(version, body).as_bytes() != head {
            return Err(corrupt("its body is not what its header says"));
        }
        let json = |e: serde_json::Error| corrupt("its body is not a manifest").caused_by(e);
        let probe: Version = serde_json::from_slice(body).map_err(json)?;
        if probe.version != version {
            return Err(corrupt("header and body name different versions"));
        }
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(Error::configuration(format!(
                "the manifest has format version {version}, and this Tidemill reads versions \
                 {FIRST_VERSION} to {VERSION}: use the Tidemill that wrote it, or start anew with --fresh"
            )));
        }
        serde_json::from_slice(body).map_err(json)
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn header(version: u32, body: &[u8]) -> String {
    format!("{MAGIC} {version} xxh3 {} {}\n", checksum(body), body.len())
}

fn written_version(head: &[u8]) -> Option<u32> {
    let head = std::str::from_utf8(head).ok()?;
    head.strip_prefix(MAGIC)?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_nodes_and_what_changed() {
        let print = |nodes: &[(&str, &str)]| {
            let own = |(node, what): &(&str, &str)| ((*node).to_owned(), (*what).to_owned());
            Fingerprint(nodes.iter().map(own).collect())
        };
        let then = print(&[("a", "count"), ("b", "sum"), ("c", "max")]);
        let now = print(&[("a", "count"), ("c", "min"), ("d", "avg")]);
        let lines = then.differences(&now);
        assert_eq!(
            lines,
            ["`b` is gone (it was: sum)", "`c` was: max; is now: min", "`d` is new: avg"]
        );
        assert!(then.differences(&then).is_empty());
    }
}
