//! Every failpoint with every action, each in a process of its own: what a failure, a kill or a stall
//! in any phase leaves behind is a job that can go on.

use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use super::{JOB, assert_restores, checkpoint, write_epoch};
use crate::failpoint::{self, Point};
use crate::folder::CheckpointFolder;

/// What the child does, and where: set only in children.
const TASK: &str = "TIDEMILL_TEST_FAILPOINT_TASK";
const FOLDER: &str = "TIDEMILL_TEST_FAILPOINT_FOLDER";

/// How often a run passes a point until the end of epoch 1: twice where there are two shards, or
/// where the start of the run passes it too.
fn passes(point: Point) -> usize {
    let by_shard = matches!(point, Point::WriteState | Point::WriteStaged);
    let at_start = matches!(point, Point::AfterTemp | Point::AfterRename);
    if by_shard || at_start { 2 } else { 1 }
}

/// The points that this crate passes by itself when it writes a checkpoint.
fn own_points() -> impl Iterator<Item = Point> {
    let of_the_runtime = [Point::BeforeBarrier, Point::BeforeCommit, Point::AfterCommit];
    Point::ALL.into_iter().filter(move |p| !of_the_runtime.contains(p) && *p != Point::ReadState)
}

/// Whether epoch 2 exists after a failure at this point.
fn exists_after(point: Point) -> bool {
    matches!(point, Point::AfterRename | Point::AfterPublish | Point::Retain)
}

fn run_child(task: &str, url: &str, failpoints: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tests::failpoints::child", "--nocapture"]);
    command.env(TASK, task).env(FOLDER, url).env("FAILPOINTS", failpoints);
    command.output().unwrap()
}

/// Writes epochs 1 and 2, of which the second runs into the failpoint.
#[test]
fn child() {
    let (Ok(task), Ok(url)) = (std::env::var(TASK), std::env::var(FOLDER)) else { return };
    let folder = CheckpointFolder::open(&url, JOB).unwrap();
    checkpoint(&folder, 1, &[]);
    folder.retain(2).unwrap();
    let second = move || {
        let manifest = write_epoch(&folder, 2, &[])?;
        folder.publish(&manifest)?;
        folder.retain(2)
    };
    if task != "stall" {
        let error = second().unwrap_err();
        println!("kind {:?}", error.kind());
        assert!(error.to_string().contains("as asked"), "{error}");
        return;
    }
    let point = std::env::var("FAILPOINTS").unwrap().split('=').next().unwrap().to_owned();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(second().map(drop)));
    let stalled = is_done.recv_timeout(Duration::from_millis(300));
    assert_eq!(stalled.err(), Some(mpsc::RecvTimeoutError::Timeout), "{point} does not stall");
    fail::cfg(point, "off").unwrap();
    is_done.recv().unwrap().unwrap();
}

/// After whatever happened, the job comes back and makes its next checkpoint.
fn assert_goes_on(url: &str, expected: u64, how: &str) {
    let folder = CheckpointFolder::open(url, JOB).unwrap();
    let recovery = folder.recover().unwrap();
    assert!(recovery.rejected.is_empty(), "{how}: {:?}", recovery.rejected);
    let restored = recovery.manifest.unwrap();
    assert_eq!(restored.epoch, expected, "{how}");
    assert_restores(&folder, &restored);
    let next = checkpoint(&folder, recovery.next_epoch, &[]);
    folder.retain(1).unwrap();
    assert_eq!(folder.recover().unwrap().manifest.unwrap(), next, "{how}");
}

#[test]
fn a_failure_or_a_kill_in_any_phase_leaves_an_epoch_whole_or_invisible() {
    for point in own_points() {
        for action in ["return(as asked)", "return(abort)"] {
            let dir = tempfile::tempdir().unwrap();
            let url = dir.path().to_str().unwrap();
            let failpoints = format!("{}={}*off->{action}", point.name(), passes(point));
            let output = run_child("fail", url, &failpoints);
            let killed = output.status.code().is_none();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(killed, action.contains("abort"), "{failpoints}: {text}");
            if !killed {
                assert!(output.status.success(), "{failpoints}: {text}");
                // An error of publication that leaves the manifest behind must not look harmless.
                let unknown = matches!(point, Point::AfterRename | Point::AfterPublish);
                let kind = if unknown { "kind Transient" } else { "kind External" };
                assert!(text.contains(kind), "{failpoints}: {text}");
            }
            let expected = if exists_after(point) { 2 } else { 1 };
            assert_goes_on(url, expected, &failpoints);
        }
    }
}

#[test]
fn a_stall_in_any_phase_ends_well() {
    for point in own_points() {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().to_str().unwrap();
        let failpoints = format!("{}={}*off->pause", point.name(), passes(point));
        let output = run_child("stall", url, &failpoints);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{failpoints}: {text}");
        assert_goes_on(url, 2, &failpoints);
    }
}

#[test]
fn a_mistake_in_the_variable_is_no_silent_success() {
    for failpoints in ["checkpoint::nonsense=return", "checkpoint::retain=explode"] {
        let dir = tempfile::tempdir().unwrap();
        let output = run_child("fail", dir.path().to_str().unwrap(), failpoints);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("FAILPOINTS"), "{text}");
    }
}

#[test]
fn points_are_passed_silently_unless_the_variable_says_otherwise() {
    for point in Point::ALL {
        failpoint::hit(point).unwrap();
    }
}
