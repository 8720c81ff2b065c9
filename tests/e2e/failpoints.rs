//! Every phase of a checkpoint fails, aborts and stalls in the real binary: the job goes on or ends
//! with the reason, no damaged epoch can be seen, and in the end the output is exactly the oracle's.

use std::process::{Command, Output};
use std::thread;

use tidemill_checkpoint::failpoint::Point;

use crate::job_folder::JobFolder;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Action {
    FailsOnce,
    FailsAlways,
    Aborts,
    Stalls,
}

const ACTIONS: [Action; 4] =
    [Action::FailsOnce, Action::FailsAlways, Action::Aborts, Action::Stalls];

impl Action {
    /// In the notation of `FAILPOINTS`. Where a run passes a point often, it passes it once first.
    fn setting(self, point: Point) -> String {
        let action = match self {
            Self::FailsOnce => "1*return(disk is full)",
            Self::FailsAlways => "return(disk is full)",
            Self::Aborts => "return(abort)",
            Self::Stalls => "1*sleep(200)",
        };
        let first = if point == Point::ReadState { "" } else { "1*off->" };
        format!("{}={first}{action}", point.name())
    }
}

/// Whether the job survives a failure here.
fn survives(point: Point, action: Action) -> bool {
    match action {
        Action::Stalls => true,
        Action::Aborts => false,
        // An epoch that cannot be written is abandoned, an unknown outcome is tried again.
        Action::FailsOnce => !matches!(
            point,
            Point::BeforeBarrier | Point::BeforeCommit | Point::AfterCommit | Point::ReadState
        ),
        // Old checkpoints that stay do no harm, and what has its name once is found by the next try.
        Action::FailsAlways => matches!(point, Point::Retain | Point::AfterRename),
    }
}

fn attempt(interrupted: &JobFolder, point: Point, action: Action) {
    let folder = interrupted.copy();
    let setting = action.setting(point);
    let mut command = folder.job(2, "40ms");
    command.env("FAILPOINTS", &setting).env("RATE", "15000");
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.success(), survives(point, action), "{setting}: {said}");
    let killed = ended.status.code().is_none();
    assert_eq!(killed, action == Action::Aborts, "{setting}: {said}");
    if matches!(action, Action::FailsOnce | Action::FailsAlways)
        && !repeated_silently(point, action)
    {
        assert!(said.contains("disk is full"), "{setting}: {said}");
    }
    folder.assert_epochs_intact(&setting);
    let ended =
        if ended.status.success() { ended } else { folder.job(2, "50ms").output().unwrap() };
    folder.assert_exact(&ended, &setting);
}

/// A publication whose outcome is unknown is repeated: nothing is lost, and nothing is said.
fn repeated_silently(point: Point, action: Action) -> bool {
    match point {
        Point::AfterRename => true,
        Point::AfterPublish => action == Action::FailsOnce,
        _ => false,
    }
}

#[test]
fn a_failure_an_abort_or_a_stall_in_any_phase_changes_nothing_in_the_output() {
    let interrupted = JobFolder::new(5, 1500);
    interrupted.interrupt(3, "20ms");
    let cases: Vec<(Point, Action)> =
        Point::ALL.into_iter().flat_map(|point| ACTIONS.map(|action| (point, action))).collect();
    thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(2)) {
            let interrupted = &interrupted;
            scope.spawn(move || {
                for (point, action) in part {
                    attempt(interrupted, *point, *action);
                }
            });
        }
    });
}

/// The same command, with files limited to so many blocks of 512 bytes: writes beyond fail as on a
/// full disk.
fn with_limited_files(command: &Command, blocks: u32) -> Output {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -f {blocks}; trap '' XFSZ; exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    shell.current_dir(command.get_current_dir().unwrap());
    shell.env_remove("FAILPOINTS").env("RATE", "15000").output().unwrap()
}

#[test]
fn a_disk_that_is_full_ends_the_job_with_the_reason_and_leaves_no_damaged_epoch() {
    let interrupted = JobFolder::new(6, 1500);
    interrupted.interrupt(3, "20ms");
    for blocks in [0, 1, 4] {
        let folder = interrupted.copy();
        let context = format!("files of at most {blocks} blocks");
        let ended = with_limited_files(&folder.job(2, "10ms"), blocks);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{context}: {said}");
        assert!(said.contains("File too large"), "{context}: {said}");
        folder.assert_epochs_intact(&context);
        folder.assert_exact(&folder.job(2, "50ms").output().unwrap(), &context);
    }
}
