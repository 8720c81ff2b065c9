//! Two instances of a job: one of them is refused or fenced, never merged.

use std::process::Command;

use tidemill_core::error::ErrorKind;

use super::{JOB, checkpoint, write_epoch};
use crate::folder::CheckpointFolder;

/// Where the child process finds the folder.
const FOLDER: &str = "TIDEMILL_TEST_FENCED_FOLDER";

#[test]
fn a_second_instance_on_a_file_system_is_refused_and_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().to_str().unwrap();
    let first = CheckpointFolder::open(url, JOB).unwrap();
    let Err(error) = CheckpointFolder::open(url, JOB) else { panic!("two instances") };
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("pipeline.name"), "{error}");
    CheckpointFolder::open(url, "another job").unwrap();
    checkpoint(&first, 1, &[]);
    drop(first);
    CheckpointFolder::open(url, JOB).unwrap();
}

/// The child of the next test; by itself it does nothing.
#[test]
fn child_that_dies_with_the_lock() {
    let Ok(url) = std::env::var(FOLDER) else { return };
    match CheckpointFolder::open(&url, JOB) {
        Ok(folder) => {
            checkpoint(&folder, 1, &[]);
            write_epoch(&folder, 2, &[]).unwrap();
            std::process::abort();
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Fenced);
            std::process::exit(42);
        }
    }
}

#[test]
fn another_process_is_refused_and_a_dead_one_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().to_str().unwrap();
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tests::fence::child_that_dies_with_the_lock"]).env(FOLDER, url);
        command.output().unwrap().status.code()
    };
    let held = CheckpointFolder::open(url, JOB).unwrap();
    assert_eq!(child(), Some(42), "refused while we hold it");
    drop(held);
    assert_eq!(child(), None, "killed while it held the lock");
    let folder = CheckpointFolder::open(url, JOB).unwrap();
    assert_eq!(folder.recover().unwrap().manifest.unwrap().epoch, 1);
}

#[test]
fn on_an_object_store_the_newest_instance_wins() {
    let old = CheckpointFolder::open("memory://fence", JOB).unwrap();
    checkpoint(&old, 1, &[]);
    let late = write_epoch(&old, 2, &[]).unwrap();
    let new = CheckpointFolder::open("memory://fence", JOB).unwrap();
    assert_eq!(new.recover().unwrap().manifest.unwrap().epoch, 1);
    let error = old.publish(&late).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let second = checkpoint(&new, 2, &[]);
    old.abandon(2).unwrap();
    new.retain(1).unwrap();
    assert_eq!(new.recover().unwrap().manifest.unwrap(), second, "the loser harms nothing");
}

#[test]
fn a_rival_that_publishes_between_recovery_and_publication_is_noticed() {
    let old = CheckpointFolder::open("memory://race", JOB).unwrap();
    checkpoint(&old, 1, &[]);
    let newer = CheckpointFolder::open("memory://race", JOB).unwrap();
    checkpoint(&newer, 2, &[]);
    let mine = write_epoch(&old, 2, &[]).unwrap();
    assert_eq!(old.publish(&mine).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(newer.recover().unwrap().manifest.unwrap().epoch, 2);
}
