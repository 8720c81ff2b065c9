//! A disk that fills up in the middle of a checkpoint: no epoch becomes visible, and the next one
//! works as soon as there is room again.

use std::sync::Arc;

use tidemill_core::error::{ErrorKind, Result};

use super::{JOB, assert_restores, checkpoint, write_epoch};
use crate::folder::CheckpointFolder;
use crate::store::faulty::FaultyStore;
use crate::store::{self, Fence};

fn try_checkpoint(folder: &CheckpointFolder, epoch: u64) -> Result<()> {
    folder.publish(&write_epoch(folder, epoch, &[])?)
}

#[test]
fn a_full_disk_never_makes_an_epoch_visible() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, _) = store::open(dir.path().to_str().unwrap(), "x", true).unwrap();
    let disk = Arc::new(FaultyStore::new(inner, u64::MAX));
    let folder = CheckpointFolder::on(disk.clone(), Fence::Exclusive, "/disk", JOB).unwrap();
    let first = checkpoint(&folder, 1, &[]);
    let whole = first.bytes() + first.encode().unwrap().len() as u64;
    for (round, room) in (0..whole).step_by(61).enumerate() {
        let epoch = 2 + round as u64;
        disk.make_room(room);
        let error = try_checkpoint(&folder, epoch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::External, "{room} of {whole} bytes: {error}");
        assert!(error.to_string().contains("no space left"), "{error}");
        assert_eq!(folder.list().unwrap().len(), 1, "{room} bytes: only epoch 1 is there");
        if round % 2 == 0 {
            folder.abandon(epoch).unwrap();
        }
        disk.make_room(u64::MAX);
        let recovery = folder.recover().unwrap();
        assert_eq!(recovery.manifest.as_ref(), Some(&first), "{room} bytes");
        assert!(recovery.rejected.is_empty(), "nothing half-written is taken for a checkpoint");
        assert_eq!(disk_files(&*disk), 3, "what did not fit is gone");
    }
    let last = checkpoint(&folder, 10_000, &[]);
    assert_eq!(folder.recover().unwrap().manifest.as_ref(), Some(&last));
    assert_restores(&folder, &last);
}

#[test]
fn a_full_disk_costs_the_file_that_does_not_fit_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, _) = store::open(dir.path().to_str().unwrap(), "x", true).unwrap();
    let disk = Arc::new(FaultyStore::new(inner, u64::MAX));
    let folder = CheckpointFolder::on(disk.clone(), Fence::Exclusive, "/disk", JOB).unwrap();
    let first = checkpoint(&folder, 1, &[]);
    disk.make_room(first.operators[0].files[0].file.bytes + 1);
    assert!(try_checkpoint(&folder, 2).is_err());
    assert!(folder.abandon(2).unwrap().files >= 1);
    disk.make_room(u64::MAX);
    let third = checkpoint(&folder, 3, &[]);
    assert_restores(&folder, &third);
    assert_restores(&folder, &first);
}

fn disk_files(disk: &dyn store::Store) -> usize {
    let temporary = disk.list("manifests").unwrap();
    assert!(temporary.iter().all(|file| !file.name.ends_with(".tmp")));
    disk.list("data").unwrap().len()
}
