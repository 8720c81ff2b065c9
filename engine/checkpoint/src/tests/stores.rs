//! What every store must do: the same tests over a file system and an object store.

use tidemill_core::error::ErrorKind;

use super::{JOB, assert_restores, checkpoint, manifest, paths, rows, state_files, write_epoch};
use crate::folder::CheckpointFolder;
use crate::manifest::Manifest;
use crate::reader::{self, CheckpointReader};
use crate::store::{self, Created};

/// Runs a test on a file system and on an object store in memory.
fn on_every_store(test: impl Fn(&str)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    test(path);
    test(&format!("file://{path}/by-url"));
    test(&format!("memory://{}", path.trim_start_matches('/')));
}

#[test]
fn a_checkpoint_comes_back_as_it_was_written() {
    on_every_store(|url| {
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        let nothing = folder.recover().unwrap();
        assert_eq!((nothing.manifest, nothing.next_epoch), (None, 1), "{url}");
        let first = checkpoint(&folder, 1, &[]);
        let second = checkpoint(&folder, 2, &state_files(&first));
        drop(folder);

        let folder = CheckpointFolder::open(url, JOB).unwrap();
        let recovery = folder.recover().unwrap();
        assert_eq!(recovery.next_epoch, 3);
        assert!(recovery.rejected.is_empty());
        let restored = recovery.manifest.unwrap();
        assert_eq!(restored, second);
        assert_restores(&folder, &restored);
        assert!(folder.verify(2).unwrap().problems.is_empty());
        assert_eq!(reader::jobs(url).unwrap(), [JOB]);
    });
}

#[test]
fn an_epoch_exists_only_with_its_manifest() {
    on_every_store(|url| {
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        checkpoint(&folder, 1, &[]);
        write_epoch(&folder, 2, &[]).unwrap();
        drop(folder);
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        let recovery = folder.recover().unwrap();
        assert_eq!(recovery.manifest.unwrap().epoch, 1);
        assert_eq!(recovery.next_epoch, 2);
        let again = checkpoint(&folder, 2, &[]);
        folder.retain(1).unwrap();
        assert_restores(&folder, &again);
        assert_eq!(data_files(url), sorted(paths(&again)), "what the crash left behind is gone");
    });
}

#[test]
fn create_is_atomic_and_never_replaces() {
    on_every_store(|url| {
        let (store, _) = store::open(url, "x", true).unwrap();
        assert_eq!(store.create("a/b", b"one").unwrap(), Created::Yes);
        assert_eq!(store.create("a/b", b"two").unwrap(), Created::Taken);
        assert_eq!(store.create("a/b", b"one").unwrap(), Created::Taken);
        assert_eq!(store.get("a/b").unwrap().unwrap(), b"one");
        store.put("a/b", b"three").unwrap();
        assert_eq!(store.get("a/b").unwrap().unwrap(), b"three");
        let listed = store.list("a").unwrap();
        assert_eq!((listed.len(), &*listed[0].name, listed[0].bytes), (1, "b", 5));
        store.delete("a/b").unwrap();
        store.delete("a/b").unwrap();
        assert_eq!(store.get("a/b").unwrap(), None);
        assert!(store.list("a").unwrap().is_empty() && store.list("none").unwrap().is_empty());
        assert!(store.put("../a", b"").is_err() && store.get("a/../../b").is_err());
    });
}

#[test]
fn publishing_twice_is_as_good_as_once_but_another_manifest_is_fenced() {
    on_every_store(|url| {
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        let first = checkpoint(&folder, 1, &[]);
        folder.publish(&first).unwrap();
        let rival = Manifest { shards: 9, ..first.clone() };
        assert_eq!(folder.publish(&rival).unwrap_err().kind(), ErrorKind::Fenced);
        checkpoint(&folder, 3, &[]);
        assert_eq!(folder.publish(&manifest(2)).unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(folder.reader().manifest(1).unwrap(), first, "untouched");
    });
}

#[test]
fn retain_keeps_what_kept_manifests_refer_to_and_epochs_in_progress() {
    on_every_store(|url| {
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        let mut inherited = vec![];
        let mut manifests = vec![];
        for epoch in 1..=6 {
            let manifest = checkpoint(&folder, epoch, &inherited);
            // Every other epoch starts anew, so that some files become needless.
            inherited = if epoch % 2 == 0 { vec![] } else { state_files(&manifest) };
            manifests.push(manifest);
        }
        let progress = write_epoch(&folder, 7, &inherited).unwrap();
        let removed = folder.retain(3).unwrap();
        assert_eq!(removed.manifests, 3);
        let mut expected = paths(&progress);
        expected.extend(manifests[3..].iter().flat_map(paths));
        assert_eq!(data_files(url), sorted(expected), "{url}");
        for manifest in &manifests[3..] {
            assert!(folder.verify(manifest.epoch).unwrap().problems.is_empty());
            assert_restores(&folder, manifest);
        }
        folder.publish(&progress).unwrap();
        assert_restores(&folder, &progress);
        assert_eq!(folder.retain(0).unwrap().manifests, 3, "the newest always stays");
        assert_eq!(data_files(url), sorted(paths(&progress)));
    });
}

#[test]
fn an_abandoned_epoch_leaves_nothing_behind() {
    on_every_store(|url| {
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        let first = checkpoint(&folder, 1, &[]);
        let abandoned = write_epoch(&folder, 2, &[]).unwrap();
        let removed = folder.abandon(2).unwrap();
        assert_eq!((removed.files, removed.bytes), (3, abandoned.bytes()));
        assert_eq!(data_files(url), sorted(paths(&first)));
        let next = checkpoint(&folder, 3, &[]);
        assert_eq!(folder.recover().unwrap().manifest.unwrap(), next);
    });
}

#[test]
fn a_fresh_start_leaves_old_checkpoints_behind_for_good_and_numbers_on() {
    on_every_store(|url| {
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        folder.clear().unwrap();
        assert_eq!(folder.recover().unwrap().next_epoch, 1, "nothing to leave behind");
        checkpoint(&folder, 1, &[]);
        checkpoint(&folder, 2, &[]);
        folder.clear().unwrap();
        drop(folder);
        // Killed before its first checkpoint, and started without --fresh.
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        let recovery = folder.recover().unwrap();
        assert_eq!((recovery.manifest, recovery.next_epoch), (None, 3));
        let listed = folder.list().unwrap();
        assert!(listed.iter().all(|summary| summary.superseded && summary.problem.is_none()));
        checkpoint(&folder, 3, &[]);
        assert_eq!(folder.recover().unwrap().manifest.unwrap().epoch, 3);
        folder.retain(1).unwrap();
        let epochs: Vec<_> =
            folder.list().unwrap().iter().map(|s| (s.epoch, s.superseded)).collect();
        assert_eq!(epochs, [(3, false)]);
    });
}

#[test]
fn a_listing_shows_each_checkpoint_and_disturbs_nobody() {
    on_every_store(|url| {
        let folder = CheckpointFolder::open(url, JOB).unwrap();
        let first = checkpoint(&folder, 1, &[]);
        let last = Manifest { finished: true, ..write_epoch(&folder, 2, &[]).unwrap() };
        folder.publish(&last).unwrap();
        let reader = CheckpointReader::open(url, JOB).unwrap();
        let listed = reader.list().unwrap();
        let seen: Vec<_> = listed.iter().map(|s| (s.epoch, s.bytes, s.finished)).collect();
        assert_eq!(seen, [(2, last.bytes(), true), (1, first.bytes(), false)]);
        assert_eq!(listed[0].created_at, last.created_at);
        assert!(reader.manifest(9).is_err());
        checkpoint(&folder, 3, &[]);
        assert!(CheckpointReader::open(url, "no such job").unwrap().list().unwrap().is_empty());
    });
}

#[test]
fn rows_of_any_shape_come_back() {
    let folder = CheckpointFolder::open("memory://rows", "rows").unwrap();
    let empty = rows(1).slice(0, 0);
    let parts = [rows(3).slice(5, 50), empty.clone(), rows(4)];
    let file = folder.write_state(1, "a", 0, 0, &parts).unwrap();
    assert_eq!(folder.read_state(&file).unwrap(), parts);
    let file = folder.write_state(1, "a", 0, 1, std::slice::from_ref(&empty)).unwrap();
    assert_eq!(folder.read_state(&file).unwrap(), [empty]);
    let file = folder.write_state(1, "a", 0, 2, &[]).unwrap();
    assert!(folder.read_state(&file).unwrap().is_empty());
    let other = rows(1).project(&[0]).unwrap();
    assert!(folder.write_state(1, "a", 0, 3, &[rows(1), other]).is_err());
}

#[test]
fn a_wrong_url_says_what_would_be_right_and_tells_no_secret() {
    for url in ["", "nosuch://user:hunter2@host/x", "file://relative"] {
        let Err(error) = CheckpointFolder::open(url, JOB) else { panic!("{url} opened") };
        assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
        let text = error.to_string();
        assert!(text.contains("path") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn an_object_store_can_be_used_from_async_code() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let folder = CheckpointFolder::open("memory://async", JOB).unwrap();
        checkpoint(&folder, 1, &[]);
        assert_eq!(folder.recover().unwrap().manifest.unwrap().epoch, 1);
    });
}

/// All data files that there are.
fn data_files(url: &str) -> Vec<String> {
    let (store, _) = store::open(url, &crate::names::to_name(JOB), false).unwrap();
    sorted(store.list("data").unwrap().iter().map(|file| format!("data/{}", file.name)).collect())
}

fn sorted(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    paths.dedup();
    paths
}
