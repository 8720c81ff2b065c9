//! Damaged checkpoints: found always, never restored silently.

use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemill_core::error::ErrorKind;

use super::{JOB, assert_restores, checkpoint, manifest, paths, state_files};
use crate::folder::CheckpointFolder;
use crate::manifest::{Manifest, VERSION};

/// A folder with epochs 1 and 2, and where it lies. Epoch 2 shares no file with epoch 1.
fn two_epochs() -> (tempfile::TempDir, PathBuf, CheckpointFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(dir.path().to_str().unwrap(), JOB).unwrap();
    checkpoint(&folder, 1, &[]);
    checkpoint(&folder, 2, &[]);
    let root = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    (dir, root, folder)
}

/// The files of an epoch: its manifest first.
fn files_of(root: &Path, folder: &CheckpointFolder, epoch: u64) -> Vec<PathBuf> {
    let manifest = folder.reader().manifest(epoch).unwrap();
    let mut files = vec![root.join(format!("manifests/{epoch:012}"))];
    files.extend(paths(&manifest).iter().map(|path| root.join(path)));
    files
}

/// The newest epoch is refused, with a reason that names the file; the one before is restored.
fn assert_falls_back(folder: &CheckpointFolder, damaged: &Path, how: &str) {
    let recovery = folder.recover().unwrap();
    let restored = recovery.manifest.unwrap_or_else(|| panic!("{how}: nothing restored"));
    assert_eq!(restored.epoch, 1, "{how}");
    let name = damaged.file_name().unwrap().to_str().unwrap();
    assert_eq!(recovery.rejected.len(), 1, "{how}");
    assert_eq!(recovery.rejected[0].epoch, 2);
    assert!(recovery.rejected[0].reason.contains(name), "{how}: {:?}", recovery.rejected);
    assert_eq!(recovery.next_epoch, 3, "numbers never collide with what is there");
}

#[test]
fn every_truncation_of_every_file_is_found() {
    let (_dir, root, folder) = two_epochs();
    for file in files_of(&root, &folder, 2) {
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert_falls_back(&folder, &file, &format!("{} cut to {length}", file.display()));
        }
        let mut longer = whole.clone();
        longer.push(b'\n');
        fs::write(&file, &longer).unwrap();
        assert_falls_back(&folder, &file, "one byte more");
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(folder.recover().unwrap().manifest.unwrap().epoch, 2, "all is well again");
}

#[test]
fn every_prefix_of_a_manifest_and_every_single_bit_of_it_is_checked() {
    let bytes = manifest(7).encode().unwrap();
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest(7));
    for length in 0..bytes.len() {
        assert_eq!(Manifest::decode(&bytes[..length]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = Manifest::decode(&flipped).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error}");
    }
}

#[test]
fn ten_thousand_flipped_bits_are_found() {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    println!("TIDEMILL_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (_dir, root, folder) = two_epochs();
    let files: Vec<_> = files_of(&root, &folder, 2)
        .into_iter()
        .map(|file| (fs::read(&file).unwrap(), file))
        .collect();
    for round in 0..10_000 {
        let (whole, file) = &files[random.random_range(0..files.len())];
        let mut flipped = whole.clone();
        for _ in 0..1 + random.next_u32() % 3 {
            let bit = random.random_range(0..whole.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        if flipped == *whole {
            continue;
        }
        fs::write(file, &flipped).unwrap();
        assert_falls_back(&folder, file, &format!("round {round}, {}", file.display()));
        fs::write(file, whole).unwrap();
    }
}

#[test]
fn a_missing_file_is_found_and_the_epoch_before_is_restored_whole() {
    let (_dir, root, folder) = two_epochs();
    let files = files_of(&root, &folder, 2);
    for file in &files[1..] {
        let whole = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        assert_falls_back(&folder, file, "missing");
        assert!(folder.verify(2).unwrap().problems[0].contains("missing"));
        assert!(folder.verify(1).unwrap().problems.is_empty());
        fs::write(file, whole).unwrap();
    }
    fs::remove_file(&files[0]).unwrap();
    let recovery = folder.recover().unwrap();
    let restored = recovery.manifest.unwrap();
    assert_eq!((restored.epoch, recovery.next_epoch), (1, 2), "without a manifest: no epoch");
    assert_restores(&folder, &restored);
}

#[test]
fn with_no_intact_checkpoint_left_the_job_refuses_and_says_what_to_do() {
    let (dir, root, folder) = two_epochs();
    for epoch in [1, 2] {
        let file = files_of(&root, &folder, epoch).pop().unwrap();
        fs::write(file, b"x").unwrap();
    }
    let error = folder.recover().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    for part in ["epoch 1:", "epoch 2:", "data/0000", "--fresh", dir.path().to_str().unwrap()] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    folder.clear().unwrap();
    let recovery = folder.recover().unwrap();
    assert_eq!((recovery.manifest, recovery.next_epoch), (None, 3), "--fresh is the way out");
}

#[test]
fn damage_in_a_file_shared_by_both_epochs_loses_both() {
    let dir = tempfile::tempdir().unwrap();
    let folder = CheckpointFolder::open(dir.path().to_str().unwrap(), JOB).unwrap();
    let first = checkpoint(&folder, 1, &[]);
    let second = checkpoint(&folder, 2, &state_files(&first));
    assert_restores(&folder, &second);
    let root = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(root.join(&paths(&first)[0]), b"").unwrap();
    assert_eq!(folder.recover().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_intact_manifest_of_another_version_is_no_reason_to_fall_back() {
    let (_dir, root, folder) = two_epochs();
    let newer = Manifest { version: VERSION + 1, ..manifest(3) };
    fs::write(root.join("manifests/000000000003"), newer.encode().unwrap()).unwrap();
    let error = folder.recover().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains(&format!("format version {}", VERSION + 1)), "{error}");
}

#[test]
fn a_manifest_under_another_epochs_name_or_in_another_jobs_folder_is_refused() {
    let (_dir, root, folder) = two_epochs();
    let path = root.join("manifests/000000000003");
    fs::copy(root.join("manifests/000000000002"), &path).unwrap();
    let recovery = folder.recover().unwrap();
    assert_eq!(recovery.manifest.unwrap().epoch, 2);
    assert!(recovery.rejected[0].reason.contains("of epoch 2"), "{:?}", recovery.rejected);
    let foreign = Manifest { job: "other".to_owned(), ..manifest(3) };
    fs::write(&path, foreign.encode().unwrap()).unwrap();
    assert!(folder.recover().unwrap().rejected[0].reason.contains("`other`"));
}
