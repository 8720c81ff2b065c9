//! Every phase of a checkpoint fails, aborts and stalls under a job that transacts: after the next run
//! the output topic holds exactly the oracle's results. Between "checkpointed" and "committed" above
//! all, where an epoch exists that nobody can see.

use std::process::Output;
use std::thread;

use tidemill_checkpoint::failpoint::Point;

use super::broker::Broker;
use super::job::{EXACTLY_ONCE, TO_THE_END, TopicJob};
use crate::totals::Expected;

/// How often a run passes the point before it happens.
const PASSES: [u32; 2] = [0, 3];

/// Clicks, and how many of them are read a second: an epoch's are enough for a window to fire.
const CLICKS: u64 = 60_000;
const RATE: &str = "80000";

/// A run of the job with something happening at a point.
fn run(job: &TopicJob, setting: &str) -> Output {
    let mut command = job.run(2, "30ms");
    command.env("FAILPOINTS", setting).env("RATE", RATE).output().unwrap()
}

/// That a run was aborted, as if killed.
fn assert_aborted(ended: &Output, setting: &str) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), None, "{setting}: {said}");
}

/// Aborts at a point, then runs to the end.
fn abort(job: &TopicJob, expected: &Expected, point: Point, passes: u32) {
    let setting = format!("{}={passes}*off->return(abort)", point.name());
    if point == Point::ReadState {
        // Somebody must have written it.
        let before = format!("{}=3*off->return(abort)", Point::AfterCommit.name());
        assert_aborted(&run(job, &before), &before);
    }
    assert_aborted(&run(job, &setting), &setting);
    let ended = job.run(2, "100ms").output().unwrap();
    job.assert_exact(&ended, expected, &setting);
}

/// Fails for good at a point, which ends the job with the reason; then runs to the end.
fn fail(job: &TopicJob, expected: &Expected, point: Point) {
    let setting = format!("{}=3*off->return(disk is full)", point.name());
    let ended = run(job, &setting);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{setting}: {said}");
    assert!(said.contains("disk is full"), "{setting}: {said}");
    let ended = job.run(2, "100ms").output().unwrap();
    job.assert_exact(&ended, expected, &setting);
}

/// Is slow at a point: that changes nothing.
fn stall(job: &TopicJob, expected: &Expected, point: Point) {
    let setting = format!("{}=3*off->2*sleep(150)", point.name());
    job.assert_exact(&run(job, &setting), expected, &setting);
}

#[test]
fn a_crash_a_failure_or_a_stall_in_any_phase_loses_nothing_and_doubles_nothing() {
    let input = Broker::shared().topic("clicks", 4);
    input.fill(9, CLICKS);
    let expected = Expected::of(&*input);
    let in_two_ways = Point::ALL.into_iter().flat_map(|point| PASSES.map(|n| (point, n)));
    // State is read only when a run starts, of which every file is read once.
    let aborts: Vec<_> =
        in_two_ways.filter(|(point, n)| *point != Point::ReadState || *n == 0).collect();
    let commits = [Point::AfterPublish, Point::BeforeCommit, Point::AfterCommit];
    let new = || TopicJob::new(&input, TO_THE_END, EXACTLY_ONCE);
    thread::scope(|scope| {
        for part in aborts.chunks(aborts.len().div_ceil(2)) {
            let (expected, new) = (&expected, &new);
            scope.spawn(move || {
                for (point, passes) in part {
                    abort(&new(), expected, *point, *passes);
                }
            });
        }
    });
    for point in commits {
        fail(&new(), &expected, point);
        stall(&new(), &expected, point);
    }
}

#[test]
fn an_epoch_whose_commit_never_comes_through_is_committed_by_whoever_comes_next() {
    let input = Broker::shared().topic("clicks", 4);
    input.fill(10, CLICKS);
    let expected = Expected::of(&*input);
    let job = TopicJob::new(&input, TO_THE_END, EXACTLY_ONCE);
    for point in [Point::BeforeCommit, Point::AfterCommit].repeat(3) {
        let setting = format!("{}=return(abort)", point.name());
        assert_aborted(&run(&job, &setting), &setting);
    }
    let ended = job.run(3, "100ms").output().unwrap();
    job.assert_exact(&ended, &expected, "aborted in six commits in a row");
}
