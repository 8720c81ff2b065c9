//! Redis ends and comes back, again and again, while clicks are written and totals made of them. With
//! persistence nothing is lost, nothing doubled, and the job itself never ends; without it the job says
//! what was lost.
//!
//! `TIDEMILL_RESTARTS` says how often.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::job::{EXACTLY_ONCE, StreamsJob};
use super::server::{OwnServer, Server};
use super::streams::{Streams, Writer};
use crate::canaries::get;
use crate::clicks::{StopsWhenDropped, produce};
use crate::job_folder::{Running, summary};
use crate::totals::Expected;
use crate::totals_job::number;

/// For how long it is away.
const AWAY: Duration = Duration::from_millis(700);

/// Waits until there are more results than now.
fn more_results(server: &Server, job: &StreamsJob, running: &mut Running, when: &str) {
    let seen = job.output.entries_by(&mut server.wait());
    running.until(when, || job.output.entries_by(&mut server.wait()) > seen);
}

#[test]
fn restarts_with_persistence_lose_nothing_and_the_job_goes_on_by_itself() {
    let restarts = number("TIDEMILL_RESTARTS", 5);
    let mut own = OwnServer::persistent();
    let server = own.server();
    let space = server.space();
    let input = Streams::new(&space, "clicks", 4);
    let job = StreamsJob::new(&space, &input, "", EXACTLY_ONCE);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let producing = scope.spawn(|| {
            let mut writer = input.writer().persevering();
            produce(&mut writer, input.count(), &stop, Writer::send);
            writer.finish();
        });
        let stops = StopsWhenDropped(&stop);
        let mut running = job.start(job.run(2, "200ms"), 10_000_000, "log");
        for number in 1..=restarts {
            more_results(&server, &job, &mut running, "results before the restart");
            if number % 2 == 0 {
                own.shut_down()
            } else {
                own.kill()
            }
            running.let_run(AWAY);
            own.start();
            let back = Instant::now();
            more_results(&server, &job, &mut running, "results after the restart");
            println!("restart {number}: results {:?} after Redis is back", back.elapsed());
        }
        drop(stops);
        producing.join().unwrap();
        let expected = Expected::of(&input).fired();
        job.until_results(&mut running, expected.results());
        running.signal("INT");
        let (code, said) = running.wait();
        assert_eq!(code, Some(0), "{said}");
        let context = format!("{} clicks, {restarts} restarts", expected.records);
        job.assert_outputs(&expected, &context);
        assert_eq!(summary(&said)["ledgers"][0]["records_in"], expected.records, "{context}");
        println!("{context}: {} results, each of them once", expected.results());
    });
}

/// So many clicks are there when a server dies that forgets them: more than the source holds in memory, and
/// than pass through a job in seconds at this rate.
const FORGOTTEN: u64 = 200_000;
const RATE: u64 = 60_000;

/// A job that has not read everything when Redis loses all that it holds.
fn bereft(own: &mut OwnServer, source: &str) -> (StreamsJob, Running) {
    let space = own.server().space();
    let input = Streams::new(&space, "clicks", 1);
    input.fill(12, FORGOTTEN);
    let job = StreamsJob::new(&space, &input, source, EXACTLY_ONCE);
    let mut command = job.run(2, "50ms");
    command.args(["--http", "127.0.0.1:0"]);
    let mut running = job.start(command, RATE, "log");
    running.until("a checkpoint", || job.newest_epoch() > 0);
    own.kill();
    own.start();
    (job, running)
}

#[test]
fn without_persistence_the_job_ends_and_says_what_is_lost() {
    let mut own = OwnServer::forgetful();
    let (job, mut running) = bereft(&mut own, "");
    let (code, said) = running.wait();
    assert_eq!(code, Some(1), "{said}");
    let stream = format!("stream '{}' at {} is not what it was", job.input.key(0), own.place());
    assert!(said.contains(&stream) && said.contains("Redis has lost its data"), "{said}");
    let lost = said.split_once("at least ").and_then(|(_, lost)| lost.split_once(' ')).unwrap().0;
    assert!((1..FORGOTTEN).contains(&lost.parse().unwrap()), "{said}");
    assert!(said.contains("'scan.out-of-range' = 'earliest'"), "{said}");
}

/// The sum of a metric over its labels.
fn metric(running: &Running, name: &str) -> u64 {
    let metrics = String::from_utf8(get(running, "/metrics")).unwrap();
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_job_that_is_told_to_go_on_counts_what_is_lost() {
    let mut own = OwnServer::forgetful();
    let (job, mut running) = bereft(&mut own, "'scan.out-of-range' = 'earliest'");
    job.input.fill(13, 10_000);
    let read_and_lost = || {
        let read = metric(&running, "tidemill_split_records_total");
        (read, metric(&running, "tidemill_redis_entries_lost_total"))
    };
    let start = Instant::now();
    let mut counts = read_and_lost();
    while counts.0 + counts.1 != FORGOTTEN + 10_000 {
        assert!(start.elapsed() < Duration::from_secs(60), "{counts:?} read and lost");
        thread::park_timeout(Duration::from_millis(20));
        counts = read_and_lost();
    }
    assert!(counts.1 > 0, "nothing was lost");
    running.signal("INT");
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Redis has lost its data"), "{said}");
    assert_eq!(summary(&said)["ledgers"][0]["records_in"], counts.0, "{said}");
}
