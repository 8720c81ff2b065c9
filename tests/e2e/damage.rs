//! Invariant 6 for the real binary: a damaged checkpoint is never restored, the one before is, and
//! the user hears of it; a checkpoint of something else is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::job_folder::{JobFolder, assert_lines, lines};

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Truncated,
    BitFlipped,
    Missing,
}

impl Damage {
    fn inflict(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        match self {
            Self::Truncated => bytes.truncate(middle),
            Self::BitFlipped => bytes[middle] ^= 4,
            Self::Missing => return fs::remove_file(file).unwrap(),
        }
        fs::write(file, bytes).unwrap();
    }
}

fn manifest(folder: &JobFolder, epoch: u64) -> PathBuf {
    folder.path(&format!("checkpoints/recovery/manifests/{epoch:012}"))
}

/// A state file that only this epoch and later ones have.
fn state_file(folder: &JobFolder, epoch: u64) -> PathBuf {
    let of_epoch = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&format!("{epoch:012}-")) && name.ends_with(".arrow")
    };
    let files = fs::read_dir(folder.path("checkpoints/recovery/data")).unwrap();
    let found = files.map(|file| file.unwrap().path()).find(of_epoch);
    found.expect("an epoch of a busy job has state of its own")
}

/// A job that was killed in its middle and keeps three checkpoints.
fn interrupted() -> JobFolder {
    let folder = JobFolder::new(7, 2500);
    folder.interrupt(5, "200ms");
    assert!(folder.epochs().len() >= 3, "{:?}", folder.epochs());
    folder
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_damaged_checkpoint_is_passed_over_aloud_and_the_output_is_exact() {
    let interrupted = interrupted();
    let newest = interrupted.newest_epoch();
    let (of_manifest, of_state) =
        (manifest(&interrupted, newest), state_file(&interrupted, newest));
    for damage in [Damage::Truncated, Damage::BitFlipped, Damage::Missing] {
        for file in [&of_manifest, &of_state] {
            let context = format!("{damage:?} {}", file.file_name().unwrap().display());
            let folder = interrupted.copy();
            let relative = file.strip_prefix(interrupted.path("")).unwrap();
            damage.inflict(&folder.path(relative.to_str().unwrap()));
            let epoch = newest.to_string();
            let arguments =
                ["checkpoint", "verify", "checkpoints", "--job", "recovery", "--epoch", &epoch];
            let verified = folder.tidemill(&arguments).output().unwrap();
            assert_eq!(verified.status.code(), Some(1), "{context}: {}", stderr(&verified));
            let ended = folder.job(2, "50ms").output().unwrap();
            folder.assert_exact(&ended, &context);
            // A manifest that is gone was never there: the epoch does not exist.
            let gone = matches!(damage, Damage::Missing) && file == &of_manifest;
            let said = stderr(&ended);
            let aloud = said.contains("damaged") && said.contains(&format!("epoch={epoch}"));
            assert_eq!(aloud, !gone, "{context}: {said}");
        }
    }
}

#[test]
fn without_an_intact_checkpoint_the_job_refuses_until_told_to_start_afresh() {
    let folder = interrupted();
    for (epoch, damage) in
        folder.epochs().into_iter().zip([Damage::Truncated, Damage::BitFlipped].iter().cycle())
    {
        damage.inflict(&manifest(&folder, epoch));
    }
    let before = folder.output_files();
    let refused = folder.job(2, "50ms").output().unwrap();
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for epoch in folder.epochs() {
        assert!(said.contains(&format!("epoch {epoch}: ")), "{said}");
    }
    assert!(said.contains("none of the checkpoints can be restored"), "{said}");
    assert!(said.contains("--fresh"), "{said}");
    assert_eq!(folder.output_files().len(), before.len(), "nothing was touched");
    let ended = folder.job(2, "50ms").arg("--fresh").output().unwrap();
    assert!(ended.status.success(), "{}", stderr(&ended));
    let mut files = folder.output_files();
    files.retain(|file| !before.contains(file));
    assert_lines(&lines(&files), &folder.expected.lines, "afresh, beside what was there");
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() {
    let folder = JobFolder::new(8, 10_000);
    let mut first = folder.start(folder.job(2, "20ms"), 1000);
    first.until("a checkpoint", || folder.newest_epoch() > 0);
    let second = folder.job(2, "20ms").output().unwrap();
    let said = stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another instance of this job is running"), "{said}");
    let epoch = folder.newest_epoch();
    first.until("the next checkpoint", || folder.newest_epoch() > epoch);
    first.kill();
    let ended = folder.job(2, "50ms").output().unwrap();
    folder.assert_exact(&ended, "after a second instance");
}

#[test]
fn a_changed_query_is_refused_and_the_difference_named() {
    let folder = interrupted();
    let job = folder.path("job.sql");
    let query = fs::read_to_string(&job).unwrap();
    fs::write(&job, query.replace("SUM(amount)", "MAX(amount)")).unwrap();
    let refused = folder.job(2, "50ms").output().unwrap();
    let said = stderr(&refused).to_lowercase();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    for part in ["belongs to another query", "sum(", "max(", "--fresh"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    fs::write(&job, query).unwrap();
    folder.assert_exact(&folder.job(1, "50ms").output().unwrap(), "back at the old query");
}
