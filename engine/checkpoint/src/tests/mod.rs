//! Tests of the crate as a whole: what users notice when disks fail, bits rot and processes die.

mod compatibility;
mod damage;
#[cfg(feature = "failpoints")]
mod failpoints;
mod faults;
mod fence;
mod protocol;
mod stores;

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use tidemill_core::element::Epoch;
use tidemill_core::error::Result;
use tidemill_core::sink::Staged;
use tidemill_core::source::{Offset, SplitId};
use tidemill_core::watermark::SplitWatermark;

use crate::folder::CheckpointFolder;
use crate::manifest::{
    FileRef, Fingerprint, Manifest, OperatorState, SinkState, SourceState, SplitState, StateFile,
    VERSION,
};

pub(crate) const JOB: &str = "per minute/é";

/// Rows whose values depend on `seed`.
pub(crate) fn rows(seed: i64) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("n", DataType::Int64, true),
    ]);
    let keys: Vec<String> = (0..200).map(|n| format!("key-{}", n * seed)).collect();
    let counts: Vec<Option<i64>> = (0..200).map(|n| (n % 7 != 0).then_some(n + seed)).collect();
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(StringArray::from(keys)), Arc::new(Int64Array::from(counts))];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// Staged output too big for a manifest.
pub(crate) fn staged(seed: u64) -> Staged {
    Staged((0..6000).map(|n| (n * seed % 251) as u8).collect())
}

pub(crate) fn manifest(epoch: Epoch) -> Manifest {
    let split = SplitState {
        split: SplitId::new("a.csv"),
        offset: Offset(format!("{}", epoch * 100)),
        watermark: SplitWatermark::default(),
        ended: false,
        records: epoch * 100,
        dropped: 0,
    };
    Manifest {
        version: VERSION,
        job: JOB.to_owned(),
        epoch,
        created_at: 1_700_000_000_000_000 + epoch as i64,
        shards: 2,
        fingerprint: Fingerprint([("agg".to_owned(), "count by key".to_owned())].into()),
        query: None,
        sources: vec![SourceState { node: "flights".to_owned(), splits: vec![split] }],
        operators: vec![],
        sinks: vec![],
        counts: serde_json::json!({ "in": epoch * 100 }),
        finished: false,
    }
}

/// Writes everything of an epoch but its manifest: state of two shards on top of `inherited`, staged
/// output in a file and inline.
pub(crate) fn write_epoch(
    folder: &CheckpointFolder,
    epoch: Epoch,
    inherited: &[StateFile],
) -> Result<Manifest> {
    let mut manifest = manifest(epoch);
    for shard in 0..2 {
        let file = folder.write_state(epoch, "agg", shard, 0, &[rows(epoch as i64)])?;
        let mut files = if shard == 0 { inherited.to_vec() } else { vec![] };
        files.push(StateFile { file, needed_until: 1000, epoch });
        manifest.operators.push(OperatorState {
            node: "agg".to_owned(),
            shard,
            watermark: 7,
            files,
        });
    }
    let big = folder.write_staged(epoch, "out", 0, 0, &staged(epoch))?;
    let small = folder.write_staged(epoch, "out", 1, 0, &Staged(epoch.to_be_bytes().to_vec()))?;
    manifest.sinks = vec![SinkState { node: "out".to_owned(), staged: vec![big, small] }];
    Ok(manifest)
}

/// Writes and publishes an epoch.
pub(crate) fn checkpoint(
    folder: &CheckpointFolder,
    epoch: Epoch,
    inherited: &[StateFile],
) -> Manifest {
    let manifest = write_epoch(folder, epoch, inherited).unwrap();
    folder.publish(&manifest).unwrap();
    manifest
}

/// Everything in a manifest's files is what was written.
pub(crate) fn assert_restores(folder: &CheckpointFolder, manifest: &Manifest) {
    for file in manifest.operators.iter().flat_map(|operator| &operator.files) {
        assert_eq!(folder.read_state(&file.file).unwrap(), [rows(file.epoch as i64)]);
    }
    for sink in &manifest.sinks {
        assert_eq!(folder.read_staged(&sink.staged[0]).unwrap(), staged(manifest.epoch));
        let small = Staged(manifest.epoch.to_be_bytes().to_vec());
        assert_eq!(folder.read_staged(&sink.staged[1]).unwrap(), small);
    }
}

/// The files of a manifest that a later one may inherit.
pub(crate) fn state_files(manifest: &Manifest) -> Vec<StateFile> {
    manifest.operators[0].files.clone()
}

pub(crate) fn paths(manifest: &Manifest) -> Vec<String> {
    manifest.files().map(|file: &FileRef| file.path.clone()).collect()
}
